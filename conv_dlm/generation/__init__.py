"""What happens inside `generate`: canvas, candidates, position weights, unmasking rules, schedule."""

from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.decode_types import DECODE_TYPES, DecodeType, register_decode_type
from conv_dlm.generation.enable import enable_diffusion
from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.generation.output import DiffusionGenerateOutput
from conv_dlm.generation.position_weights import (
    BlockWeights,
    ConvolutionWeights,
    PositionWeights,
    SlideWeights,
    UniformWeights,
)

__all__ = [
    "DECODE_TYPES",
    "BlockWeights",
    "ConvolutionWeights",
    "DecodeType",
    "DiffusionGenerateOutput",
    "DiffusionGenerationConfig",
    "DiffusionGenerationMixin",
    "PositionWeights",
    "SlideWeights",
    "UniformWeights",
    "enable_diffusion",
    "register_decode_type",
]
