"""The objectives as pure functions of tensors: noise levels, masks and their weights, log-probabilities, R2FT's loss.

Masked diffusion: MDLM, arXiv 2406.07524, with the linear schedule, where a token is masked at time t with probability
t and its loss is weighted by 1/t. The sum over a response, averaged over t, bounds its negative log-likelihood; LLaDA,
arXiv 2502.09992, trains on the same bound. R2FT: arXiv 2509.15188.
Shapes: B rows, L positions, M masked positions of all rows, K targets, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def noise_levels(uniform_B: Tensor, strata_B: Tensor, total: int, min_noise: float) -> Tensor:
    """Noise levels t in [min_noise, 1), one for each row, stratified over a global batch of `total` rows.

    [min_noise, 1) is cut into `total` equal strata and each row draws from its own, so that a batch always holds low
    and high noise (the low-discrepancy sampler of arXiv 2107.00630).

    Args:
        uniform_B (`FloatTensor` [B]): draws from [0, 1).
        strata_B (`LongTensor` [B]): each row's stratum, from 0 to `total - 1`.

    Returns:
        `FloatTensor` [B].
    """
    return (min_noise + (1 - min_noise) * (uniform_B.double() + strata_B) / total).float()


def draw_masks(maskable_BL: Tensor, noise_B: Tensor, uniform_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Mask each maskable position with probability t, given that at least one in the row is.

    A row without masks would teach nothing, and leave a rank's gradients empty. Drawing under the condition that
    there is one, and multiplying the weight 1/t by the probability of the condition, 1 - (1-t)^n for n maskable
    positions, leaves the expected loss unchanged; the weight then never exceeds n, however small t is.

    Args:
        maskable_BL (`BoolTensor` [B, L]): positions that may be masked; at least one in each row.
        noise_B (`FloatTensor` [B]): noise levels t in (0, 1].
        uniform_BL (`FloatTensor` [B, L]): draws from [0, 1).

    Returns:
        `BoolTensor` [B, L], the masked positions, and `FloatTensor` [B], the weight of each row's masked tokens.
    """
    count_B1 = maskable_BL.sum(1, keepdim=True).double()
    noise_B1 = noise_B[:, None].double()
    draws_BL = uniform_BL.double().masked_fill(~maskable_BL, 2.0)

    # The smallest of n uniform draws has the distribution 1 - (1-x)^n. Bring it below t by inverse transform; given
    # the smallest, the other draws are uniform above it.
    some_masked_B1 = -torch.expm1(count_B1 * torch.log1p(-noise_B1))
    smallest_B1, where_B1 = draws_BL.min(1, keepdim=True)
    quantile_B1 = -torch.expm1(count_B1 * torch.log1p(-smallest_B1))
    new_smallest_B1 = -torch.expm1(torch.log1p(-quantile_B1 * some_masked_B1) / count_B1)
    others_BL = new_smallest_B1 + (draws_BL - smallest_B1) * (1 - new_smallest_B1) / (1 - smallest_B1)
    masked_BL = ((others_BL < noise_B1) & maskable_BL).scatter(1, where_B1, True)
    return masked_BL, (some_masked_B1 / noise_B1).squeeze(1).float()


def token_log_probs(logits_MV: Tensor, targets_MK: Tensor, mask_token_id: int | None) -> Tensor:
    """Log-probabilities of K targets at each masked position: `FloatTensor` [M, K], in float32 at least.

    The mask itself is never predicted: the zero masking probability of MDLM's SUBS parameterisation. That unmasked
    tokens are carried over, its other half, needs no code, because only masked positions come here. Autoregressive
    models have no mask token: `None`.
    """
    log_p_MK: Tensor = _TokenLogProbs.apply(logits_MV, targets_MK, mask_token_id)
    return log_p_MK


class _TokenLogProbs(torch.autograd.Function):
    """Keeps no tensor of [M, V] but the logits, and makes only their gradient: softmax works in chunks of rows."""

    CHUNK = 2**22  # logits: 16 MB in float32; smaller is no faster on a CPU, and 64 MB is slower

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, targets_MK: Tensor, mask_token_id: int | None) -> Tensor:
        dtype = torch.promote_types(logits_MV.dtype, torch.float32)
        norm_M1 = torch.empty(len(logits_MV), 1, dtype=dtype, device=logits_MV.device)
        for rows, logits in _in_chunks(logits_MV, mask_token_id, dtype):
            norm_M1[rows] = logits.logsumexp(1, keepdim=True)
        ctx.save_for_backward(logits_MV, targets_MK, norm_M1)
        ctx.mask_token_id = mask_token_id
        chosen_MK = logits_MV.gather(1, targets_MK).to(dtype)
        if mask_token_id is not None:
            chosen_MK = chosen_MK.masked_fill(targets_MK == mask_token_id, -torch.inf)
        return chosen_MK - norm_M1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_MK: Tensor) -> tuple[Tensor, None, None]:
        logits_MV, targets_MK, norm_M1 = ctx.saved_tensors
        grad_MV = torch.empty_like(logits_MV)
        for rows, logits in _in_chunks(logits_MV, ctx.mask_token_id, norm_M1.dtype):
            # d log p(target) / d logits = onehot(target) - softmax
            softmax = logits.sub_(norm_M1[rows]).exp_()
            grad = softmax.mul_(-grad_MK[rows].sum(1, keepdim=True)).scatter_add_(1, targets_MK[rows], grad_MK[rows])
            if ctx.mask_token_id is not None:
                grad[:, ctx.mask_token_id] = 0
            grad_MV[rows] = grad
        return grad_MV, None, None


@torch.no_grad()
def token_entropies(logits_MV: Tensor, mask_token_id: int | None) -> Tensor:
    """Entropy in nats of what each position predicts, the mask excluded: `FloatTensor` [M], without gradients."""
    entropy_M = torch.empty(len(logits_MV), dtype=torch.promote_types(logits_MV.dtype, torch.float32),
                            device=logits_MV.device)  # fmt: skip
    for rows, logits in _in_chunks(logits_MV, mask_token_id, entropy_M.dtype):
        log_p = logits.log_softmax(1)
        entropy_M[rows] = -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0.0)).sum(1)
    return entropy_M


def _in_chunks(logits_MV: Tensor, mask_token_id: int | None, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Yield copies of some rows at a time, with -inf for the mask token if there is one."""
    count = max(1, _TokenLogProbs.CHUNK // logits_MV.shape[1])
    for start in range(0, len(logits_MV), count):
        rows = slice(start, start + count)
        logits = logits_MV[rows].to(dtype, copy=True)
        if mask_token_id is not None:
            logits[:, mask_token_id] = -torch.inf
        yield rows, logits


def r2ft_margins(logp_w_B: Tensor, logp_l_B: Tensor, beta_w: float, beta_l: float, gamma: float) -> Tensor:
    """How far each row prefers its clean tokens: beta_w logp_w - beta_l logp_l - gamma, `FloatTensor` [B].

    Args:
        logp_w_B (`FloatTensor` [B]): log-probability of the clean tokens (w), per token.
        logp_l_B (`FloatTensor` [B]): log-probability of the repetitive tokens (l), per token.
    """
    return beta_w * logp_w_B - beta_l * logp_l_B - gamma


def r2ft_losses(margin_B: Tensor, logp_w_B: Tensor, beta_a: float) -> tuple[Tensor, Tensor]:
    """The two terms of each row's R2FT loss (arXiv 2509.15188), preference and anchor; the loss is their sum.

        -log sigmoid(margin)  and  -beta_a logp_w

    There is no reference model: the anchor keeps the clean response likely instead.

    Returns:
        Two `FloatTensor` [B].
    """
    return -F.logsigmoid(margin_B), -beta_a * logp_w_B


def are_top(logits_MV: Tensor, targets_M: Tensor) -> Tensor:
    """Whether each target is its position's most probable token: `BoolTensor` [M]."""
    # A maximum costs less than its index.
    return logits_MV.gather(1, targets_M[:, None]).squeeze(1) == logits_MV.amax(1)


def row_sums(values_M: Tensor, kept_BL: Tensor) -> Tensor:
    """Sum values over each row's marked positions: `FloatTensor` [B]."""
    empty_BL = torch.zeros(kept_BL.shape, dtype=values_M.dtype, device=values_M.device)
    return empty_BL.masked_scatter(kept_BL, values_M).sum(1)
