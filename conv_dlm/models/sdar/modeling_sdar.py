"""SDAR (arXiv 2510.06303) and TraDo: Qwen3 and Qwen3-MoE that see block by block; logits are for the same position.

Files are the published ones: model types `sdar` and `sdar_moe`, tensor names of Qwen3. Blocks are counted from the
first token of the prompt; their length belongs to the checkpoint (`block_size`, 4 unless its config says so).
"""

from typing import Any, ClassVar

from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.adapted import AdaptedConfig, AdaptedLM
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.self_contained import SelfContained

# A checkpoint holds each expert by itself, the model all of a layer in one tensor.
register_checkpoint_conversion_mapping("sdar_moe", get_checkpoint_conversion_mapping("qwen3_moe"), overwrite=True)

_MASK = 151669  # `<|MASK|>`
_PUBLISHED_SETTINGS: dict[str, Any] = {"decode_type": "threshold", "threshold": 0.9}  # of the authors' evaluation


class SDARConfig(AdaptedConfig, Qwen3Config):
    """Configuration of an [`SDARForCausalLM`]: Qwen3's fields, and those of [`AdaptedConfig`]."""

    model_type = "sdar"
    attribute_map: ClassVar[dict[str, str]] = {"block_length": "block_size"}
    published_mask_token_id = _MASK
    published_settings = _PUBLISHED_SETTINGS

    attention_pattern: str = "block_causal"
    block_size: int = 4
    mask_token_id: int | None = None


class SDARMoeConfig(AdaptedConfig, Qwen3MoeConfig):
    """Configuration of an [`SDARMoeForCausalLM`]: Qwen3-MoE's fields, and those of [`AdaptedConfig`]."""

    model_type = "sdar_moe"
    attribute_map: ClassVar[dict[str, str]] = {"block_length": "block_size", "num_local_experts": "num_experts"}
    published_mask_token_id = _MASK
    published_settings = _PUBLISHED_SETTINGS

    attention_pattern: str = "block_causal"
    block_size: int = 4
    mask_token_id: int | None = None
    head_dim: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        super().__post_init__(**kwargs)


class SDARForCausalLM(CompleteWeights, SelfContained, AdaptedLM, Qwen3ForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """SDAR with its output head: ids, some of them masked, to logits for every position."""

    config_class = SDARConfig


class SDARMoeForCausalLM(CompleteWeights, SelfContained, AdaptedLM, Qwen3MoeForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """SDAR with a mixture of experts and its output head."""

    config_class = SDARMoeConfig
