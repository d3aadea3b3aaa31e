"""The masked-diffusion objective as pure functions of tensors: noise levels, masks, weights, token losses.

Source: MDLM, arXiv 2406.07524, eq. 10 and 11 with the linear schedule, where a token is masked at time t with
probability t and its loss is weighted by 1/t; LLaDA, arXiv 2502.09992, eq. 3 and 5. The sum over a response,
averaged over t, bounds its negative log-likelihood.
Shapes: B rows, L positions, M masked positions of all rows, V vocabulary.
"""

import torch
import torch.nn.functional as F


def noise_levels(
    rows: int, min_noise: float, *, rank: int = 0, ranks: int = 1, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Noise levels t in [min_noise, 1), one for each row, stratified over the global batch.

    [min_noise, 1) is cut into `rows * ranks` equal strata; each row of each rank draws from one of its own, so that
    a batch always holds low and high noise (the low-discrepancy sampler of arXiv 2107.00630, appendix I.1).
    Strata are dealt to rows at random: rows of a batch may be ordered by length.

    Returns:
        `FloatTensor` [B].
    """
    strata = torch.randperm(rows, generator=generator) * ranks + rank
    uniform = (strata + torch.rand(rows, generator=generator)) / (rows * ranks)
    return min_noise + (1 - min_noise) * uniform


def draw_masks(
    maskable_BL: torch.Tensor, noise_B: torch.Tensor, *, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask each maskable position with probability t, given that at least one in the row is.

    A row without masks would teach nothing, and leave a rank's gradients empty. Drawing under the condition that
    there is one, and multiplying the weight 1/t by the probability of the condition, 1 - (1-t)^n for n maskable
    positions, leaves the expected loss unchanged; the weight then never exceeds n, however small t is.

    Args:
        maskable_BL (`BoolTensor` [B, L]): positions that may be masked; at least one in each row.
        noise_B (`FloatTensor` [B]): noise levels t in (0, 1].

    Returns:
        `BoolTensor` [B, L], the masked positions, and `FloatTensor` [B], the weight of each row's masked tokens.
    """
    count_B1 = maskable_BL.sum(1, keepdim=True).double()
    noise_B1 = noise_B[:, None].double()
    draws_BL = torch.rand(maskable_BL.shape, generator=generator, dtype=torch.float64).masked_fill(~maskable_BL, 2.0)

    # The smallest of n uniform draws has the distribution 1 - (1-x)^n. Bring it below t by inverse transform; given
    # the smallest, the other draws are uniform above it.
    some_masked_B1 = -torch.expm1(count_B1 * torch.log1p(-noise_B1))
    smallest_B1, where_B1 = draws_BL.min(1, keepdim=True)
    quantile_B1 = -torch.expm1(count_B1 * torch.log1p(-smallest_B1))
    new_smallest_B1 = -torch.expm1(torch.log1p(-quantile_B1 * some_masked_B1) / count_B1)
    others_BL = new_smallest_B1 + (draws_BL - smallest_B1) * (1 - new_smallest_B1) / (1 - smallest_B1)
    masked_BL = ((others_BL < noise_B1) & maskable_BL).scatter(1, where_B1, True)
    return masked_BL, (some_masked_B1 / noise_B1).squeeze(1).float()


def token_losses(logits_MV: torch.Tensor, targets_M: torch.Tensor, mask_token_id: int) -> torch.Tensor:
    """Cross-entropy of masked positions in float32 [M], where the mask itself is never predicted (SUBS).

    The zero probability of the mask is the substitution of arXiv 2406.07524, section 3.2.3; that unmasked tokens
    are carried over needs no code, because only masked positions come here.
    """
    logits_MV = logits_MV.float().index_fill(1, torch.tensor([mask_token_id], device=logits_MV.device), -torch.inf)
    return F.cross_entropy(logits_MV, targets_M, reduction="none")
