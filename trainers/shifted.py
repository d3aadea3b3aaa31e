"""Where the logits are that predict a position: at the position itself, or, with shifted logits, at its left neighbour.

Shapes: B rows, L positions.
"""

from typing import Any

from torch import Tensor
from transformers.integrations import is_deepspeed_zero3_enabled

from conv_dlm.generation.attention import sees_only_left


def predicting(model: Any, target_BL: Tensor) -> Tensor:
    """The positions whose logits predict the targets, in their order.

    Args:
        model (`PreTrainedModel` or `PeftModel`): with `shift_logits`, logits are for the position at the right of each,
            and nothing predicts the first: it must not be a target.
        target_BL (`BoolTensor` [B, L]): positions to be predicted.

    Returns:
        `BoolTensor` [B, L].
    """
    return target_BL.roll(-1, dims=1) if shifts(model) else target_BL


def predictable(model: Any, target_BL: Tensor) -> Tensor:
    """The targets that something predicts: with shifted logits all but the first position. `BoolTensor` [B, L]."""
    if not shifts(model):
        return target_BL
    target_BL = target_BL.clone()
    target_BL[:, 0] = False
    return target_BL


def shifts(model: Any) -> bool:
    return bool(getattr(model, "shift_logits", False))


def check_attention(model: Any) -> None:
    """Raise ValueError for a model that the objective doesn't fit: it sees block by block, or only to the left."""
    pattern = getattr(model.config, "attention_pattern", "full")
    if pattern == "block_causal":
        raise ValueError(
            f"{type(model).__name__} has `attention_pattern='block_causal'`, and this objective masks the whole canvas "
            "at once: it would train what the model never sees. SFT has `objective: bd3lm` for it; else train one with "
            "full attention (LLaDA, MDLM, Dream, A2D, LLaDA-MoE)."
        )
    if pattern == "causal" or (not is_deepspeed_zero3_enabled() and sees_only_left(model)):
        raise ValueError(
            f"{type(model).__name__} is causal: no position sees text at its right, and this objective trains to fill "
            "masks in from both sides. Turn it into a denoiser first: `python -m trainers.causal_to_diffusion` does it "
            "for a Llama, Qwen2 or Qwen3."
        )
