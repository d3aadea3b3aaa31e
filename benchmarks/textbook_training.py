"""Training losses as their papers' code has them, written plainly: the other side of the training benchmark.

All positions are projected to the vocabulary and put through a softmax in float32, and what has no loss is dropped
afterwards. Suffixes: B rows, L positions, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LogitsFunction = Callable[[Tensor], Tensor]  # ids [B, L] -> logits [B, L, V]
NEVER = -1e6


def subs(logits_BLV: Tensor, noisy_BL: Tensor, mask_token_id: int) -> Tensor:
    """MDLM's SUBS parameterisation, arXiv 2406.07524: log p, never the mask, and what is no mask stays as it is."""
    logits_BLV = logits_BLV.float()
    logits_BLV[..., mask_token_id] += NEVER
    log_p_BLV = logits_BLV - logits_BLV.logsumexp(-1, keepdim=True)
    known_BL = noisy_BL != mask_token_id
    log_p_BLV[known_BL] = NEVER
    log_p_BLV[known_BL, noisy_BL[known_BL]] = 0.0
    return log_p_BLV


def mdlm_loss(
    forward: LogitsFunction,
    clean_BL: Tensor,
    noisy_BL: Tensor,
    covered_BL: Tensor,
    weight_B: Tensor,
    mask_token_id: int,
) -> Tensor:
    """The bound with SUBS, a covered token."""
    log_p_BLV = subs(forward(noisy_BL), noisy_BL, mask_token_id)
    log_p_BL = log_p_BLV.gather(-1, clean_BL[..., None])[..., 0]
    return -(log_p_BL * weight_B[:, None] * covered_BL).sum() / covered_BL.sum()


def llada_loss(
    forward: LogitsFunction,
    clean_BL: Tensor,
    noisy_BL: Tensor,
    covered_BL: Tensor,
    weight_B: Tensor,
    mask_token_id: int,
) -> Tensor:
    """The same bound as LLaDA's guidelines have it, arXiv 2502.09992: cross-entropy of the masked among all logits."""
    logits_BLV = forward(noisy_BL)
    masked_BL = (noisy_BL == mask_token_id) & covered_BL
    loss_M = F.cross_entropy(logits_BLV[masked_BL].float(), clean_BL[masked_BL], reduction="none")
    return (loss_M * weight_B[:, None].expand_as(clean_BL)[masked_BL]).sum() / covered_BL.sum()


def r2ft_loss(
    forward: LogitsFunction,
    clean_BL: Tensor,
    noisy_BL: Tensor,
    response_BL: Tensor,
    repeated_BL: Tensor,
    rejects_BL: Tensor,
    mask_token_id: int,
    beta_a: float,
) -> Tensor:
    """R2FT, arXiv 2509.15188, with beta_w = beta_l = 1 and gamma = 0, averaged over rows."""
    log_p_BLV = subs(forward(noisy_BL), noisy_BL, mask_token_id)
    chosen_BL = log_p_BLV.gather(-1, clean_BL[..., None])[..., 0] * response_BL
    rejected_BL = log_p_BLV.gather(-1, repeated_BL[..., None])[..., 0] * rejects_BL
    chosen_B = chosen_BL.sum(1) / response_BL.sum(1)
    rejected_B = rejected_BL.sum(1) / rejects_BL.sum(1)
    return (-torch.log(torch.sigmoid(chosen_B - rejected_B)) - beta_a * chosen_B).mean()
