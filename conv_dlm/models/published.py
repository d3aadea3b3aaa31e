"""Published checkpoints that load natively, by family; what `conv-dlm models` and docs/models.md show."""

from typing import Any, NamedTuple

from conv_dlm import models


class Size(NamedTuple):
    """Billions of weights.

    weights: all, an untied head included.
    quantised: those that bitsandbytes and torchao quantise, which are the matrices of linear layers without the head;
        not a mixture's experts, which are one tensor in Transformers 5. None where the layers' sizes aren't known.
    """

    weights: float
    quantised: float | None


class Family(NamedTuple):
    """Checkpoints of one layout.

    name: what people call it.
    model_class: class in `conv_dlm.models`.
    checkpoints: names on the Hub, and their sizes.
    attention: what a position sees.
    predicts: whose token the logits at a position are.
    mask_token_id: the mask's id.
    own_settings: those of the published sampler where `generate` has others by default; see `settings`.
    """

    name: str
    model_class: str
    checkpoints: dict[str, Size]
    attention: str
    predicts: str
    mask_token_id: int | None
    own_settings: dict[str, Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Of `generate`, those of the published sampler in this package's words."""
        if self.own_settings is not None:
            return self.own_settings
        config: Any = getattr(models, self.model_class.split(", ")[0]).config_class
        exact = {"cache_implementation": "block"} if config.attention_pattern == "block_causal" else {}
        return config.published_settings | exact


FAMILIES = (
    Family(
        "LLaDA", "LLaDAModelLM",
        {"GSAI-ML/LLaDA-8B-Base": Size(8.02, 6.98),
         "GSAI-ML/LLaDA-8B-Instruct": Size(8.02, 6.98),
         "GSAI-ML/LLaDA-1.5": Size(8.02, 6.98),
         "d3LLM/d3LLM_LLaDA": Size(8.02, 6.98),
         "Zigeng/dParallel-LLaDA-8B": Size(8.02, 6.98)},
        "full", "same", 126336, {"decode_type": "llada", "block_length": 32},
    ),
    Family(
        "MDLM", "MDLM",
        {"kuleshov-group/mdlm-owt": Size(0.17, 0.08)},
        "full", "same", 50257, {"decode_type": "categorical"},
    ),
    Family(
        "Dream", "DreamModel",
        {"Dream-org/Dream-v0-Base-7B": Size(7.62, 6.53),
         "Dream-org/Dream-v0-Instruct-7B": Size(7.62, 6.53),
         "Dream-org/Dream-Coder-v0-Instruct-7B": Size(7.62, 6.53),
         "apple/DiffuCoder-7B-Base": Size(7.62, 6.53),
         "apple/DiffuCoder-7B-cpGRPO": Size(7.62, 6.53),
         "d3LLM/d3LLM_Dream": Size(7.62, 6.53)},
        "full", "next", 151666,
    ),
    Family(
        "A2D", "A2DQwen3LMHeadModel, A2DQwen2LMHeadModel, A2DLlamaLMHeadModel",
        {"dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1": Size(0.75, 0.44),
         "dllm-hub/Qwen3-0.6B-diffusion-bd3lm-v0.1": Size(0.75, 0.44),
         "dllm-hub/Qwen2.5-Coder-0.5B-Instruct-diffusion-mdlm-v0.1": Size(0.63, 0.36),
         "dllm-hub/Qwen2.5-Coder-0.5B-Instruct-diffusion-bd3lm-v0.1": Size(0.63, 0.36)},
        "full; bd3lm: say blocks of 32", "same", 151669,
    ),
    Family(
        "SDAR, TraDo", "SDARForCausalLM, SDARMoeForCausalLM",
        {"JetLM/SDAR-1.7B-Chat": Size(2.03, 1.41),
         "JetLM/SDAR-4B-Chat": Size(4.41, 3.63),
         "JetLM/SDAR-8B-Chat": Size(8.19, 6.95),
         "JetLM/SDAR-30B-A3B-Chat": Size(30.53, 0.91),
         "Gen-Verse/TraDo-4B-Instruct": Size(4.41, 3.63),
         "Gen-Verse/TraDo-8B-Instruct": Size(8.19, 6.95)},
        "blocks of 4", "same", 151669,
    ),
    Family(
        "Fast-dLLM v2", "Fast_dLLM_QwenForCausalLM",
        {"Efficient-Large-Model/Fast_dLLM_v2_1.5B": Size(1.54, 1.31),
         "Efficient-Large-Model/Fast_dLLM_v2_7B": Size(7.62, 6.53)},
        "blocks of 32", "next", 151665,
    ),
    Family(
        "LLaDA-MoE", "LLaDAMoEModelLM",
        {"inclusionAI/LLaDA-MoE-7B-A1B-Base": Size(7.0, None),
         "inclusionAI/LLaDA-MoE-7B-A1B-Instruct": Size(7.0, None)},
        "full", "same", 156895,
    ),
    Family(
        "LLaDA2", "LLaDA2MoeModelLM",
        {"inclusionAI/LLaDA2.0-mini": Size(16.26, 0.3),
         "inclusionAI/LLaDA2.1-mini": Size(16.26, 0.3),
         "inclusionAI/LLaDA2.0-flash": Size(102.89, 1.71)},
        "blocks of 32", "same", 156895,
    ),
)  # fmt: skip
