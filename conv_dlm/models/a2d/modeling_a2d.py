"""A2D (dllm-hub): Qwen3, Qwen2 and Llama without the causal mask; logits are for the same position.

Files are the published ones: model types `a2d-qwen3`, `a2d-qwen2`, `a2d-llama`, tensor names of the base models. Two
kinds are published that their configs don't tell apart: MDLM, with full attention, and BD3LM, which is block-causal;
say so for the latter: `from_pretrained(..., attention_pattern="block_causal", block_length=32)`.
"""

from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.adapted import AdaptedConfig, AdaptedLM
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.self_contained import SelfContained

_PUBLISHED_SETTINGS: dict[str, Any] = {"decode_type": "llada", "block_length": 32}


class A2DQwen3Config(AdaptedConfig, Qwen3Config):
    """Configuration of an [`A2DQwen3LMHeadModel`]: Qwen3's fields, and those of [`AdaptedConfig`]."""

    model_type = "a2d-qwen3"
    published_mask_token_id = 151669  # `<|mask|>`, added to Qwen3's tokenizer
    published_settings = _PUBLISHED_SETTINGS

    attention_pattern: str = "full"
    block_length: int | None = None
    shift_logits: bool = False
    mask_token_id: int | None = None


class A2DQwen2Config(AdaptedConfig, Qwen2Config):
    """Configuration of an [`A2DQwen2LMHeadModel`]: Qwen2's fields, and those of [`AdaptedConfig`]."""

    model_type = "a2d-qwen2"
    published_settings = _PUBLISHED_SETTINGS

    attention_pattern: str = "full"
    block_length: int | None = None
    shift_logits: bool = False
    mask_token_id: int | None = None


class A2DLlamaConfig(AdaptedConfig, LlamaConfig):
    """Configuration of an [`A2DLlamaLMHeadModel`]: Llama's fields, and those of [`AdaptedConfig`]."""

    model_type = "a2d-llama"
    published_settings = _PUBLISHED_SETTINGS

    attention_pattern: str = "full"
    block_length: int | None = None
    shift_logits: bool = False
    mask_token_id: int | None = None


class A2DQwen3LMHeadModel(CompleteWeights, SelfContained, AdaptedLM, Qwen3ForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """Qwen3 as a denoiser: ids, some of them masked, to logits for every position."""

    config_class = A2DQwen3Config


class A2DQwen2LMHeadModel(CompleteWeights, SelfContained, AdaptedLM, Qwen2ForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """Qwen2 as a denoiser: ids, some of them masked, to logits for every position."""

    config_class = A2DQwen2Config


class A2DLlamaLMHeadModel(CompleteWeights, SelfContained, AdaptedLM, LlamaForCausalLM, DiffusionGenerationMixin):  # type: ignore[misc]
    """Llama as a denoiser: ids, some of them masked, to logits for every position."""

    config_class = A2DLlamaConfig
