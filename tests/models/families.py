"""The families whose models are made of Transformers' classes, with their golden checkpoints."""

from pathlib import Path
from typing import Any

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
    "llada2_tiny": (models.LLaDA2MoeModelLM, 1e-4),
}
# what the fixtures' block masks were made with
BLOCK_LENGTHS = {"sdar_tiny": 4, "sdar_moe_tiny": 4, "fast_dllm_v2_tiny": 8, "llada2_tiny": 8}
SHIFTED = ("dream_tiny", "fast_dllm_v2_tiny")


def load(family: str, **kwargs: Any) -> Any:
    if family in BLOCK_LENGTHS:
        kwargs.setdefault("block_length", BLOCK_LENGTHS[family])
    return AutoModelForCausalLM.from_pretrained(FIXTURES / family, **kwargs)
