"""Dream (arXiv 2508.15487), DiffuCoder, Dream-Coder: Qwen2 without the causal mask; logits predict the next token.

Files are the published ones: `config.json` of model type `Dream`, tensor names of Qwen2.
"""

from typing import Any, ClassVar

from transformers import Qwen2Config, Qwen2ForCausalLM

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.adapted import AdaptedConfig, AdaptedLM
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.self_contained import SelfContained


class DreamConfig(AdaptedConfig, Qwen2Config):
    """Configuration of a [`DreamModel`]: Qwen2's fields, and those of [`AdaptedConfig`]."""

    model_type = "Dream"
    # of the authors' examples
    published_settings: ClassVar[dict[str, Any]] = {"decode_type": "llada", "ranked_by": "entropy"}

    mask_token_id: int | None = None
    shift_logits: bool = True


class DreamModel(CompleteWeights, SelfContained, AdaptedLM, Qwen2ForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """Dream with its output head: ids, some of them masked, to logits for the position at the right of each."""

    config_class = DreamConfig
