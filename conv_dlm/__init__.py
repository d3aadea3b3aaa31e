"""Masked diffusion language models on Transformers.

Importing this package registers its models with Transformers' Auto classes; their `generate` denoises.
"""

from conv_dlm.utils import interrupts  # noqa: F401  # first: the others take seconds

# isort: split
from conv_dlm import models
from conv_dlm.answering.embedded import embedded_checkpoint
from conv_dlm.constraints.languages import Choice, JSONSchema, Regex
from conv_dlm.generation import (
    DECODE_TYPES,
    DecodeType,
    DiffusionGenerateOutput,
    DiffusionGenerationConfig,
    DiffusionGenerationMixin,
    Past,
    SettingError,
    enable_diffusion,
)
from conv_dlm.generation.row_streamers import RowStreamers
from conv_dlm.generation.streaming import TextDiffusionStreamer

__version__ = "0.1.0"

__all__ = [
    "DECODE_TYPES",
    "Choice",
    "DecodeType",
    "DiffusionGenerateOutput",
    "DiffusionGenerationConfig",
    "DiffusionGenerationMixin",
    "JSONSchema",
    "Past",
    "Regex",
    "RowStreamers",
    "SettingError",
    "TextDiffusionStreamer",
    "embedded_checkpoint",
    "enable_diffusion",
    "models",
]
