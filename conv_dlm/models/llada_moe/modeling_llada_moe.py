"""LLaDA-MoE (arXiv 2509.24389): Qwen3-MoE without the causal mask and without renormalised weights of the experts.

Files are the published ones. Their `model_type` is LLaDA's, `llada`, with other keys; `num_experts` tells them apart.
"""

from typing import Any, ClassVar

from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.adapted import AdaptedConfig, AdaptedLM
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.llada.configuration_llada import LLaDAConfig
from conv_dlm.models.self_contained import SelfContained

# A checkpoint holds each expert by itself, the model all of a layer in one tensor.
register_checkpoint_conversion_mapping("llada_moe", get_checkpoint_conversion_mapping("qwen3_moe"), overwrite=True)

# Keys that change what is computed, with the one value that published checkpoints have. The original could do more.
_ONLY: dict[str, Any] = {
    "qk_layernorm": True,
    "partial_rotary_factor": 1,
    "clip_qkv": None,
    "shared_expert_intermediate_size": None,
    "moe_router_enable_expert_bias": False,
}


class LLaDAMoEConfig(AdaptedConfig, Qwen3MoeConfig):
    """Configuration of an [`LLaDAMoEModelLM`]: the published keys, and those of [`AdaptedConfig`].

    `norm_topk_prob`, `router_num_group`, `router_topk_group`, `routed_scaling_factor` and `moe_router_score_function`
    are kept for the original code, where they have no effect.

    Raises:
        `ValueError`: a value that this implementation does not compute.
    """

    model_type = "llada_moe"  # `llada` in files
    published_mask_token_id = 156895  # `<|mask|>`
    published_settings: ClassVar[dict[str, Any]] = {"decode_type": "llada", "block_length": 32}
    attribute_map: ClassVar[dict[str, str]] = {
        "moe_intermediate_size": "expert_intermediate_size",
        "intermediate_size": "dense_intermediate_size",
        "num_local_experts": "num_experts",
    }

    mask_token_id: int | None = None
    expert_intermediate_size: int = 1024
    dense_intermediate_size: int = 8192
    qk_layernorm: bool = True
    clip_qkv: float | None = None
    shared_expert_intermediate_size: int | None = None
    moe_router_enable_expert_bias: bool = False
    moe_layer_freq: list[int] | int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)  # names of tensors are looked up by it
        self.head_dim = self.hidden_size // self.num_attention_heads
        self.norm_topk_prob = False
        if isinstance(self.moe_layer_freq, list):
            self.mlp_only_layers = [layer for layer, experts in enumerate(self.moe_layer_freq) if not experts]
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Raise a `ValueError` if the original code would compute something else than this implementation."""
        super().validate_architecture()
        rotated = (self.rope_parameters or {}).get("partial_rotary_factor", 1)
        for key, only in _ONLY.items():
            value = rotated if key == "partial_rotary_factor" else getattr(self, key)
            if value != only and (value or only):  # None means "off" in the original
                raise ValueError(
                    f"`{key}={value!r}` is not supported: published LLaDA-MoE checkpoints have {only!r}. Set it to "
                    "that, or load the checkpoint with its own code (`trust_remote_code=True` without conv_dlm)."
                )

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As Transformers does it; `norm_topk_prob`, which may be null in files, is left out."""
        return super().from_dict({k: v for k, v in config_dict.items() if k != "norm_topk_prob"}, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"model_type": LLaDAConfig.model_type}


LLaDAConfig.other_layouts["num_experts"] = LLaDAMoEConfig


class LLaDAMoEModelLM(CompleteWeights, SelfContained, AdaptedLM, Qwen3MoeForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """LLaDA-MoE with its output head: ids, some of them masked, to logits for every position."""

    config_class = LLaDAMoEConfig
