"""The families whose models are made of Transformers' classes, with their golden checkpoints."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from conv_dlm import models

FIXTURES = Path(__file__).parents[1] / "fixtures"
# folder -> class, and how much logits of the original and of Transformers' operations differ
FAMILIES = {
    "dream_tiny": (models.DreamModel, 5e-5),
    "a2d_qwen3_tiny": (models.A2DQwen3LMHeadModel, 5e-5),
    "a2d_qwen2_tiny": (models.A2DQwen2LMHeadModel, 5e-5),
    "a2d_llama_tiny": (models.A2DLlamaLMHeadModel, 5e-5),
    "sdar_tiny": (models.SDARForCausalLM, 1e-4),
    "sdar_moe_tiny": (models.SDARMoeForCausalLM, 1e-4),
    "fast_dllm_v2_tiny": (models.Fast_dLLM_QwenForCausalLM, 1e-4),
    "llada_moe_tiny": (models.LLaDAMoEModelLM, 5e-5),
    "llada_moe_general_tiny": (models.LLaDAMoEModelLM, 5e-5),
    "llada2_tiny": (models.LLaDA2MoeModelLM, 1e-4),
}
# what the fixtures' block masks were made with
BLOCK_LENGTHS = {"sdar_tiny": 4, "sdar_moe_tiny": 4, "fast_dllm_v2_tiny": 8, "llada2_tiny": 8}
SHIFTED = ("dream_tiny", "fast_dllm_v2_tiny")


def load(family: str, **kwargs: Any) -> Any:
    if family in BLOCK_LENGTHS:
        kwargs.setdefault("block_length", BLOCK_LENGTHS[family])
    return AutoModelForCausalLM.from_pretrained(FIXTURES / family, **kwargs)


# classes by name: tiny ones, 64 wide, since bitsandbytes packs so many columns; for the tests' tokenizer of 260 tokens
MODELS = {model.__name__: model for model in models.MODELS}
_IDS = dict(vocab_size=260, pad_token_id=0, bos_token_id=1, eos_token_id=2, mask_token_id=3)
_SIZE = dict(
    hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    head_dim=16, max_position_embeddings=256,
)  # fmt: skip
_EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
_SIZES: dict[str, dict[str, Any]] = {
    "LLaDAModelLM": dict(d_model=64, n_layers=1, n_heads=4, mlp_hidden_size=64, max_sequence_length=256),
    "MDLM": dict(hidden_dim=64, n_blocks=1, n_heads=4, cond_dim=64, model_length=256),
    "SDARMoeForCausalLM": _SIZE | _EXPERTS,
    "LLaDAMoEModelLM": {name: value for name, value in _SIZE.items() if name not in ("intermediate_size", "head_dim")}
    | dict(num_experts=4, num_experts_per_tok=2, expert_intermediate_size=32, dense_intermediate_size=64),
    "LLaDA2MoeModelLM": _SIZE
    | _EXPERTS
    | dict(n_group=2, topk_group=1, first_k_dense_replace=1, block_length=8, num_hidden_layers=2),
    "Fast_dLLM_QwenForCausalLM": {name: value for name, value in _SIZE.items() if name != "head_dim"} | dict(bd_size=8),
}


def tiny(name: str, **size: Any) -> Any:
    """A random model of the class of that name; `size` replaces keys of its config."""
    cls: Any = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = cls(cls.config_class(**_IDS, **_SIZES.get(name, _SIZE) | size))
        for weight in model.parameters():
            if weight.dim() > 1:  # wide enough that logits differ by more than rounding
                torch.nn.init.normal_(weight, std=0.5)
    return model.eval()
