"""LLaDA2.0 and 2.1 (arXiv 2512.15745): Glm4-MoE under other names that sees block by block, 32 positions each.

Logits are for the same position. Files are the published ones: model type `llada2_moe`, with one matrix for queries,
keys and values, and each expert by itself.
"""

from typing import Any, ClassVar

from transformers import Glm4MoeConfig, Glm4MoeForCausalLM, TorchAoConfig
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.core_model_loading import Split, WeightConverter, WeightRenaming

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.adapted import AdaptedConfig, AdaptedLM
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.self_contained import SelfContained

# Original name -> name here, backwards when saving.
WEIGHT_NAMES: list[WeightConverter | WeightRenaming] = [
    WeightRenaming(r"^model\.word_embeddings\.", "^model.embed_tokens."),
    WeightRenaming(r"\.attention\.dense\.", ".self_attn.o_proj."),
    WeightRenaming(r"\.attention\.query_layernorm\.", ".self_attn.q_norm."),
    WeightRenaming(r"\.attention\.key_layernorm\.", ".self_attn.k_norm."),
    WeightRenaming(r"\.gate\.expert_bias", ".gate.e_score_correction_bias"),
    WeightConverter(
        "attention.query_key_value.weight", [f"self_attn.{x}_proj.weight" for x in "qkv"], operations=[Split(dim=0)]
    ),
    *(get_checkpoint_conversion_mapping("glm4_moe") or []),
]
register_checkpoint_conversion_mapping("llada2_moe", WEIGHT_NAMES, overwrite=True)


class LLaDA2MoeConfig(AdaptedConfig, Glm4MoeConfig):
    """Configuration of an [`LLaDA2MoeModelLM`]: the published keys, and those of [`AdaptedConfig`].

    Keys that have no effect in the original (`score_function`, `router_dtype`, `rotary_dim`, ...) are kept.

    Raises:
        `ValueError`: biases, which no published checkpoint has.
    """

    model_type = "llada2_moe"
    published_mask_token_id = 156895  # `<|mask|>`
    published_settings: ClassVar[dict[str, Any]] = {"decode_type": "threshold", "threshold": 0.95}
    attribute_map: ClassVar[dict[str, str]] = {
        "n_routed_experts": "num_experts",
        "num_local_experts": "num_experts",
        "n_shared_experts": "num_shared_experts",
        "num_mtp_layers": "num_nextn_predict_layers",
    }

    attention_pattern: str = "block_causal"
    block_length: int | None = 32
    mask_token_id: int | None = None
    num_experts: int = 256
    num_shared_experts: int = 1
    head_dim: int | None = None
    num_nextn_predict_layers: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        for key in ("use_bias", "use_qkv_bias"):
            if kwargs.get(key):
                raise ValueError(f"`{key}=True` is not supported: published LLaDA2 checkpoints have no biases.")
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        self.use_qk_norm = True  # whatever the config says, as in the original
        self.norm_topk_prob = self.num_experts_per_tok > 1
        if not kwargs.get("use_sliding_window"):
            kwargs["sliding_window"] = None  # Transformers' caches would take it for a limit
        super().__post_init__(**kwargs)


class LLaDA2MoeModelLM(CompleteWeights, SelfContained, AdaptedLM, Glm4MoeForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """LLaDA2 with its output head: ids, some of them masked, to logits for every position."""

    config_class = LLaDA2MoeConfig

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As [`~transformers.PreTrainedModel.from_pretrained`].

        Raises:
            `ValueError`: weights are missing; or torchao is asked for, of whose matrices Transformers would keep the
                first where one of a file becomes three.
        """
        if isinstance(kwargs.get("quantization_config"), TorchAoConfig):
            raise ValueError(
                "torchao can't quantise LLaDA2 while it is loaded, for its queries, keys and values are one matrix in "
                "files: load it without `quantization_config`, then call `torchao.quantization.quantize_(model, ...)`."
            )
        return super().from_pretrained(*args, **kwargs)
