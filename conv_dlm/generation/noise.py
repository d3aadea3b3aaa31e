"""Uniform noise that belongs to a row, a step and a mask of the row, and to nothing else.

A generator that is drawn from in every step ties a row's noise to the shape of the batch, and one generator for each
row needs a loop over rows. So each row's generator gives one seed, and the noise is a hash of (seed, step, index of the
mask, purpose): the same whatever the batch, the padding or the device, without state and without a loop. The hash is
the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). Shapes: B rows, L canvas positions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from conv_dlm.generation.errors import SettingError

WHETHER, WHICH, REMASK = range(3)  # purposes: is a position unmasked, which token does it get, is it masked again
GOLDEN = -7046029254386353131  # the golden ratio's odd multiple, 0x9E3779B97F4A7C15
SECOND = 1 << 40  # beyond all indices of positions
KEYS_AT_ONCE = 64  # steps whose keys are made together


def row_seeds(generator: Generator | Sequence[Generator] | None, rows: int, device: torch.device) -> Tensor:
    """One seed for each row: LongTensor [B].

    `generator`: one generator, which gives the rows their seeds in turn; a list of `rows` generators, one seed each;
    or None for torch's global generator of the CPU (`torch.manual_seed`, `transformers.set_seed`).
    Raises SettingError if a list has another length.
    """

    def draw(count: int, source: Generator | None) -> Tensor:
        source_device = "cpu" if source is None else source.device
        return torch.randint(2**62, (count,), generator=source, device=source_device).to(device)

    if generator is None or isinstance(generator, Generator):
        return draw(rows, generator)
    check_generators(generator, rows)
    return torch.cat([draw(1, row) for row in generator])


def check_generators(generator: Generator | Sequence[Generator] | None, rows: int) -> None:
    """Raise SettingError for what is no generator, and for a list of another length than there are rows."""
    several: Any = generator if isinstance(generator, list | tuple) else [] if generator is None else [generator]
    for one in several:
        if not isinstance(one, Generator):
            raise SettingError("generator", f"holds a {type(one).__name__}", "pass a torch.Generator for each row")
    if isinstance(generator, Sequence) and len(generator) != rows:
        raise SettingError(
            "generator", f"holds {len(generator)} generators for {rows} rows", "pass one, or one for each row"
        )


class Noise:
    """The draws of a run.

    seeds: LongTensor [B].
    index: LongTensor [B, L]; the positions' `Canvas.mask_index`.
    """

    def __init__(self, seeds: Tensor, index: Tensor) -> None:
        self.seeds = seeds
        self.index = index
        self.scaled_index = index * GOLDEN
        self.first, self.keys = -1, seeds

    def uniform(self, step: int, purpose: int) -> Tensor:
        """In [0, 1): FloatTensor [B, L]."""
        return self.by_keys(self.keys_of(step), purpose)

    def by_keys(self, keys: Tensor, purpose: int) -> Tensor:
        """The same, by the `keys` of a step: tensors alone, so that compiled code is the same in every step."""
        return _uniform(_mix(keys[purpose] + self.scaled_index))

    def keys_of(self, step: int) -> Tensor:
        """LongTensor [purposes, B, 1] of a step."""
        first = step - step % KEYS_AT_ONCE
        if first != self.first:  # [steps, purposes, B, 1], the golden ratio's multiple taken already
            steps = torch.arange(first, first + KEYS_AT_ONCE, device=self.seeds.device)
            purposes = torch.arange(3, device=self.seeds.device)
            counted = self.seeds + (3 * steps[:, None] + purposes)[..., None]
            self.first, self.keys = first, (_mix(counted * GOLDEN) * GOLDEN)[..., None]
        return self.keys[step - first]


    def again(self, step: int, purpose: int) -> Tensor:
        """A second draw beside `uniform`, for what may not depend on the first: FloatTensor [B, L]."""
        return uniform(self.seeds, step, self.index + SECOND, purpose)

    def of_tokens(self, at: Any, vocabulary: int) -> Tensor:
        """In (0, 1), one for each token of each of N positions: FloatTensor [N, V]."""
        index = self.index[at.rows, at.positions][:, None] * vocabulary
        tokens = torch.arange(vocabulary, device=index.device)
        found = uniform(self.seeds[at.rows], at.step, index + tokens + 2 * SECOND, WHICH)
        return found.clamp(min=2.0**-25)


def uniform(seeds: Tensor, step: int, index: Tensor, purpose: int) -> Tensor:
    """Uniform in [0, 1): FloatTensor [B, L] for `seeds` [B] and `index` [B, L]."""
    key = _mix((seeds + 3 * step + purpose) * GOLDEN)
    return _uniform(_mix((key[:, None] + index) * GOLDEN))


def _uniform(bits: Tensor) -> Tensor:
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap around as uint64's do; its first product is made before."""
    x = (x ^ _logical_shift(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _logical_shift(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _logical_shift(x, 31)


def _logical_shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)
