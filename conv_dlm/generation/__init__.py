"""What happens inside `generate`: canvas, candidates, schedule, loop, and the parts that a decoder is made of.

Parts are public, each kind with a registry: a part of one's own is a frozen dataclass with its settings, and one
registration (`UNMASKING_RULES.register`, ...).
"""

from conv_dlm.generation.attention import BlockCausal
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.enable import enable_diffusion
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.extra import Extra, branches
from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.generation.observing import StepEnd
from conv_dlm.generation.output import DiffusionGenerateOutput
from conv_dlm.generation.parts.cache_policies import CACHE_POLICIES, CachePolicy
from conv_dlm.generation.parts.decode_types import DECODE_TYPES, DecodeType
from conv_dlm.generation.parts.exits import EXIT_SCHEDULES, ExitSchedule
from conv_dlm.generation.parts.lossless import lossless
from conv_dlm.generation.parts.position_weights import (
    POSITION_WEIGHTS,
    BlockWeights,
    ConvolutionWeights,
    PositionWeights,
    PositionWeightsProcessor,
    SlideWeights,
    UniformWeights,
)
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, FixedStepsRule, StepState, UnmaskingRule
from conv_dlm.generation.parts.statistics import STATISTICS, Places, Statistic
from conv_dlm.generation.past import Past
from conv_dlm.generation.settings import setting

__all__ = [
    "CACHE_POLICIES",
    "DECODE_TYPES",
    "EXIT_SCHEDULES",
    "POSITION_WEIGHTS",
    "STATISTICS",
    "UNMASKING_RULES",
    "BlockCausal",
    "BlockWeights",
    "CachePolicy",
    "ConvolutionWeights",
    "Decision",
    "DecodeType",
    "DiffusionGenerateOutput",
    "DiffusionGenerationConfig",
    "DiffusionGenerationMixin",
    "ExitSchedule",
    "Extra",
    "FixedStepsRule",
    "Past",
    "Places",
    "PositionWeights",
    "PositionWeightsProcessor",
    "SettingError",
    "SlideWeights",
    "Statistic",
    "StepEnd",
    "StepState",
    "UniformWeights",
    "UnmaskingRule",
    "branches",
    "enable_diffusion",
    "lossless",
    "setting",
]
