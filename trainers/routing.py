"""The load-balancing loss of mixtures of experts (Switch Transformer, arXiv 2101.03961, equations 4 to 6).

Shapes: B rows, L positions of a forward; N = B L; E experts.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from conv_dlm.models.adapted import AdaptedLM


def check_balanced(model: Any, coefficient: float) -> None:
    """Raise ValueError for a model whose router has no such loss, if it is asked for."""
    if coefficient and not (isinstance(model, AdaptedLM) and hasattr(model.config, "router_aux_loss_coef")):
        raise ValueError(
            f"`router_aux_loss_coef={coefficient}` is for mixtures of experts that are balanced by a loss (SDAR-MoE, "
            f"LLaDA-MoE), and {type(model).__name__} is none. Drop it."
        )


def balancing_loss(outputs: Any, config: Any, text_BL: Tensor) -> Tensor:
    """The loss of a forward's routers, averaged over layers and text; at best the number of experts used for a token.

    Args:
        outputs: with `router_logits`, a tuple of `Tensor` [N, E], one for each layer with experts.
        config: the model's.
        text_BL (`Tensor` [B, L]): 0 for padding, of the rows and positions of that forward.
    """
    loss: Any = load_balancing_loss_func(outputs.router_logits, config.num_experts, config.num_experts_per_tok, text_BL)
    assert isinstance(loss, torch.Tensor)
    return loss
