"""Masks, noise levels and weights of a batch in a step of masked diffusion.

Every draw belongs to its row (`trainers.noise`); the mathematics is in `trainers.losses`. Shapes: B rows, L positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses import draw_masks, noise_levels
from trainers.noise import LEVEL, MASK, PADDING, WINDOW, Rows


@dataclass(frozen=True)
class Masking:
    """The noise of a batch.

    Attributes:
        noise_B (`FloatTensor` [B]): noise levels t.
        masked_BL (`BoolTensor` [B, L]): masks with a loss, at least one in each row.
        weight_B (`FloatTensor` [B]): weight of each row's masks in the bound.
        hidden_BL (`BoolTensor` [B, L]): everything that the model sees as masks: those, and EOS padding without a loss.
    """

    noise_B: Tensor
    masked_BL: Tensor
    weight_B: Tensor
    hidden_BL: Tensor


def mask_rows(rows: Rows, covered_BL: Tensor, attention_mask_BL: Tensor, min_noise: float) -> Masking:
    """Draw noise levels, stratified over the global batch, and masks with these probabilities.

    Args:
        rows ([`~trainers.noise.Rows`]): which rows of the global batch these are.
        covered_BL (`BoolTensor` [B, L]): tokens with a loss; at least one in each row.
        attention_mask_BL (`LongTensor` [B, L]): 0 where batches are padded.
        min_noise (`float`): the lowest noise level.
    """
    length = covered_BL.shape[1]
    noise_B = noise_levels(rows.uniform(LEVEL, 1).squeeze(1), rows.strata(), rows.total, min_noise)
    masked_BL, weight_B = draw_masks(covered_BL, noise_B, rows.uniform(MASK, length))
    padding_BL = eos_padding(covered_BL, attention_mask_BL)
    hidden_BL = masked_BL | (padding_BL & (rows.uniform(PADDING, length) < noise_B[:, None]))
    return Masking(noise_B, masked_BL, weight_B, hidden_BL)


def mask_windows(
    rows: Rows, covered_BL: Tensor, attention_mask_BL: Tensor, min_noise: float, size: int, share: float
) -> Masking:
    """In a share of the rows, masks as decoding by blocks or by Conv meets them; the others are masked anywhere.

    What stands before a window is known, the window's tokens are masked with probability t, and everything behind it is
    hidden, without a loss. The window has 1 to `size` tokens and begins anywhere, even partly outside the response, so
    that it holds each token equally often; the weight makes up for the tokens outside of it. The loss bounds the
    likelihood of decoding in such windows, as that of blocks does in arXiv 2503.09573.

    Args:
        size (`int`): the longest window.
        share (`float`): probability of a row to have a window.

    The others as in [`mask_rows`].
    """
    anywhere = mask_rows(rows, covered_BL, attention_mask_BL, min_noise)
    size_draw_B, place_draw_B, share_draw_B = rows.uniform(WINDOW, 3).unbind(1)
    count_B = covered_BL.sum(1)
    size_B = 1 + (size_draw_B * size).long()
    places_B = count_B + size_B - 1
    start_B = (place_draw_B * places_B).long() - size_B + 1
    rank_BL = covered_BL.cumsum(1) - 1  # among the covered positions; of those behind them, the last one's
    end_B1 = (start_B + size_B)[:, None]
    window_BL = covered_BL & (rank_BL >= start_B[:, None]) & (rank_BL < end_B1)
    masked_BL, weight_B = draw_masks(window_BL, anywhere.noise_B, rows.uniform(MASK, covered_BL.shape[1]))
    behind_BL = (covered_BL & (rank_BL >= end_B1)) | eos_padding(covered_BL, attention_mask_BL)
    chosen_B = share_draw_B < share
    chosen_B1 = chosen_B[:, None]
    return Masking(
        anywhere.noise_B,
        torch.where(chosen_B1, masked_BL, anywhere.masked_BL),
        torch.where(chosen_B, weight_B * places_B / size_B, anywhere.weight_B),
        torch.where(chosen_B1, masked_BL | behind_BL, anywhere.hidden_BL),
    )


def eos_padding(covered_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
    """Positions after the last covered one: EOS that fill the canvas and have no loss. `BoolTensor` [B, L]."""
    covered_behind_BL = covered_BL.flip(1).cumsum(1).flip(1) > 0
    return attention_mask_BL.bool() & ~covered_behind_BL
