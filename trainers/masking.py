"""Masks, noise levels and weights of a batch in a step of masked diffusion.

Every draw belongs to its row (`trainers.noise`); the mathematics is in `trainers.losses`. Shapes: B rows, L positions.
"""

from dataclasses import dataclass

from torch import Tensor

from trainers.losses import draw_masks, noise_levels
from trainers.noise import LEVEL, MASK, PADDING, Rows


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


def eos_padding(covered_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
    """Positions after the last covered one: EOS that fill the canvas and have no loss. `BoolTensor` [B, L]."""
    covered_behind_BL = covered_BL.flip(1).cumsum(1).flip(1) > 0
    return attention_mask_BL.bool() & ~covered_behind_BL
