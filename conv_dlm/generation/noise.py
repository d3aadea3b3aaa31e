"""Uniform noise that belongs to a row, a step and a slot, and to nothing else.

A generator that is drawn from in every step ties a row's noise to the shape of the batch, and one generator for each
row needs a loop over rows. So each row's generator gives one seed, and the noise is a hash of (seed, step, slot,
purpose): the same whatever the batch, the padding or the device, without state and without a loop. The hash is the
finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

WHETHER, WHICH, REMASK = range(3)  # purposes: is a position decided, which token does it get, is it masked again


def row_seeds(generator: Generator | Sequence[Generator] | None, rows: int, device: torch.device) -> Tensor:
    """One seed for each row: LongTensor [B].

    `generator`: one generator, which gives the rows their seeds in turn; a list of `rows` generators, one seed each;
    or None for torch's global generator of the CPU (`torch.manual_seed`, `transformers.set_seed`).
    Raises ValueError if a list has another length.
    """

    def draw(count: int, source: Generator | None) -> Tensor:
        source_device = "cpu" if source is None else source.device
        return torch.randint(2**62, (count,), generator=source, device=source_device).to(device)

    if generator is None or isinstance(generator, Generator):
        return draw(rows, generator)
    if len(generator) != rows:
        raise ValueError(
            f"`generator` holds {len(generator)} generators for {rows} rows; pass one, or one for each row."
        )
    return torch.cat([draw(1, row) for row in generator])


def uniform(seeds: Tensor, step: int, slot: Tensor, purpose: int) -> Tensor:
    """Uniform in [0, 1): FloatTensor [B, L] for `seeds` [B] and `slot` [B, L]."""
    key = _mix(seeds + 3 * step + purpose)
    bits = _mix(key[:, None] + slot)
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32) / (1 << 24)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose product wraps around as uint64's does."""
    x = x * -7046029254386353131  # the golden ratio's odd multiple, 0x9E3779B97F4A7C15
    x = (x ^ _logical_shift(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _logical_shift(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _logical_shift(x, 31)


def _logical_shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)
