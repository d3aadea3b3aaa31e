"""Fast-dLLM v2 (arXiv 2509.26328): Qwen2 that sees block by block, whose logits predict the next token.

Files are the published ones: model type `Fast_dLLM_Qwen`, tensor names of Qwen2, `bd_size` for the length of a block.
The first token of a block is predicted from the last position of the block before, as of any other from its neighbour.
"""

from typing import Any, ClassVar

from transformers import Qwen2Config, Qwen2ForCausalLM

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.adapted import AdaptedConfig, AdaptedLM
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.self_contained import SelfContained


class FastDLLMQwenConfig(AdaptedConfig, Qwen2Config):
    """Configuration of a [`Fast_dLLM_QwenForCausalLM`]: Qwen2's fields, and those of [`AdaptedConfig`]."""

    model_type = "Fast_dLLM_Qwen"
    attribute_map: ClassVar[dict[str, str]] = {"block_length": "bd_size"}
    published_mask_token_id = 151665  # `|<MASK>|`
    # of the authors' examples; `block_length` is that of sub-blocks
    published_settings: ClassVar[dict[str, Any]] = {"decode_type": "threshold", "threshold": 0.9, "block_length": 8}

    attention_pattern: str = "block_causal"
    bd_size: int = 32
    shift_logits: bool = True
    mask_token_id: int | None = None


class Fast_dLLM_QwenForCausalLM(  # type: ignore[misc]  # the name that published configs have
    CompleteWeights, SelfContained, AdaptedLM, Qwen2ForCausalLM, DiffusionGenerationMixin
):
    """Fast-dLLM v2 with its output head: ids, some of them masked, to logits for the position at the right of each."""

    config_class = FastDLLMQwenConfig
