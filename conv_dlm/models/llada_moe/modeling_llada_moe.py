"""LLaDA-MoE (arXiv 2509.24389): Qwen3-MoE without the causal mask and without renormalised weights of the experts.

Files are the published ones. Their `model_type` is LLaDA's, `llada`, with other keys; `num_experts` tells them apart.
"""

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.core_model_loading import WeightRenaming
from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeAttention, Glm4MoeRotaryEmbedding
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeMLP, Qwen3MoeSparseMoeBlock, Qwen3MoeTopKRouter

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.adapted import AdaptedConfig, AdaptedLM
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.llada.configuration_llada import LLaDAConfig
from conv_dlm.models.self_contained import SelfContained

# A checkpoint holds each expert by itself, the model all of a layer in one tensor.
register_checkpoint_conversion_mapping(
    "llada_moe",
    [
        WeightRenaming(r"(?<!mlp)\.shared_expert\.", ".mlp.shared_expert."),
        WeightRenaming(r"\.mlp\.expert_bias", ".mlp.gate.expert_bias"),
        *(get_checkpoint_conversion_mapping("qwen3_moe") or []),
    ],
    overwrite=True,
)

# Keys that change what is computed, with the one value that published checkpoints have. The original could do more.
_ONLY: dict[str, Any] = {"qk_layernorm": True, "clip_qkv": None}


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
        self.use_qk_norm = True  # read where a part of each head is rotated
        if isinstance(self.moe_layer_freq, list):
            self.mlp_only_layers = [layer for layer, experts in enumerate(self.moe_layer_freq) if not experts]
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Raise a `ValueError` if the original code would compute something else than this implementation."""
        super().validate_architecture()
        for key, only in _ONLY.items():
            value = getattr(self, key)
            if value != only and (value or only):  # None means "off" in the original
                raise ValueError(
                    f"`{key}={value!r}` is not supported: published LLaDA-MoE checkpoints have {only!r}. Set it to "
                    "that, or load the checkpoint with its own code (`trust_remote_code=True` without conv_dlm)."
                )

    @property
    def rotated_share(self) -> float:
        """Of each head, by the rotary embedding."""
        rope: Any = self.rope_parameters or {}
        return float(rope.get("partial_rotary_factor", 1))

    @property
    def is_general(self) -> bool:
        """Whether there is more beside the experts than in published checkpoints."""
        return bool(self.shared_expert_intermediate_size or self.moe_router_enable_expert_bias)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As Transformers does it; `norm_topk_prob`, which may be null in files, is left out."""
        return super().from_dict({k: v for k, v in config_dict.items() if k != "norm_topk_prob"}, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        fields = super().to_dict() | {"model_type": LLaDAConfig.model_type}
        fields.pop("use_qk_norm", None)
        return fields


LLaDAConfig.other_layouts["num_experts"] = LLaDAMoEConfig


class BiasedRouter(Qwen3MoeTopKRouter):
    """A bias beside the router's probabilities, in the choice of experts and in their weights."""

    def __init__(self, config: LLaDAMoEConfig) -> None:
        super().__init__(config)
        self.expert_bias: torch.Tensor
        self.register_buffer("expert_bias", torch.zeros(config.num_experts))

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = nn.functional.linear(hidden_states.reshape(-1, self.hidden_dim), self.weight)
        weights, chosen = (logits.softmax(-1, dtype=torch.float) + self.expert_bias).topk(self.top_k, dim=-1)
        return logits, weights.to(logits.dtype), chosen


class GeneralMoeBlock(Qwen3MoeSparseMoeBlock):
    """Experts with what the original class can have beside them: a bias of the router, an expert of all tokens."""

    def __init__(self, config: LLaDAMoEConfig) -> None:
        super().__init__(config)
        if config.moe_router_enable_expert_bias:
            self.gate = BiasedRouter(config)
        size = config.shared_expert_intermediate_size
        self.shared_expert: Any = Qwen3MoeMLP(config, intermediate_size=size) if size else None

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = super().forward(hidden_states)
        if self.shared_expert is not None:
            output = output + self.shared_expert(hidden_states)
        return output


class LLaDAMoEModelLM(CompleteWeights, SelfContained, AdaptedLM, Qwen3MoeForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """LLaDA-MoE with its output head: ids, some of them masked, to logits for every position."""

    config_class = LLaDAMoEConfig

    def __init__(self, config: LLaDAMoEConfig) -> None:
        super().__init__(config)
        as_glm: Any = config  # has the fields that its attention reads
        if config.rotated_share != 1:
            self.model.rotary_emb = Glm4MoeRotaryEmbedding(as_glm)
        for index, layer in enumerate(self.model.layers):
            if config.rotated_share != 1:
                layer.self_attn = Glm4MoeAttention(as_glm, index)
                layer.self_attn.is_causal = config.is_causal
            if config.is_general and isinstance(layer.mlp, Qwen3MoeSparseMoeBlock):
                layer.mlp = GeneralMoeBlock(config)
        self.post_init()  # of what is new
