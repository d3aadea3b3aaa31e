"""The random draws of training, each a hash of only (seed, step, row of the global batch, slot).

So a resumed run draws the same numbers as an uninterrupted one, and neither the number of processes nor the split of
the global batch into micro-batches changes a draw. The hash is that of `conv_dlm.generation.noise`.
Shapes: B rows, N slots.
"""

import random
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from conv_dlm.generation import noise

LEVEL, MASK, PADDING, CORRUPTION, WINDOW = range(5)  # what a draw is for


def row_seeds(seed: int, step: int, rows_B: Tensor) -> Tensor:
    """Seeds of the rows with the indices `rows_B` in the global batch of a step: `LongTensor` [B]."""
    # Rows are further apart than the few draws taken from each.
    return random.Random(f"{seed} {step}").getrandbits(61) + (rows_B.long() << 8)


def uniform(seeds_B: Tensor, purpose: int, slots: int) -> Tensor:
    """Uniform draws in [0, 1), one for each slot: `FloatTensor` [B, N]; the first do not depend on N."""
    slots_BN = torch.arange(slots, device=seeds_B.device).expand(len(seeds_B), slots)
    return noise.uniform(seeds_B, purpose, slots_BN, 0)


def strata(seed: int, step: int, rows_B: Tensor, total: int) -> Tensor:
    """Assign `total` strata to the rows of a step at random: `LongTensor` [B].

    At random, because the rows of a batch may be ordered by length.
    """
    return _dealt_strata(seed, step, total).to(rows_B.device)[rows_B % total]


@lru_cache(maxsize=2)  # called many times in a row for a step, and for the evaluation set, which may be long
def _dealt_strata(seed: int, step: int, total: int) -> Tensor:
    dealt = list(range(total))
    random.Random(f"{seed} {step} strata").shuffle(dealt)
    return torch.tensor(dealt)


@dataclass(frozen=True)
class Rows:
    """Which rows of the global batch a forward pass has; determines their noise.

    Attributes:
        seed, step (`int`): those of the run, or fixed ones at evaluation.
        index_B (`LongTensor` [B]): index in the step's global batch, or in the evaluation set.
        total (`int`): the number of rows in that batch or set.
        weight_B (`FloatTensor` [B]): 1, or 0 for rows that only fill the last batch of an evaluation.
    """

    seed: int
    step: int
    index_B: Tensor
    total: int
    weight_B: Tensor

    def uniform(self, purpose: int, slots: int) -> Tensor:
        """Draws in [0, 1) that belong to these rows: `FloatTensor` [B, slots]."""
        return uniform(row_seeds(self.seed, self.step, self.index_B), purpose, slots)

    def strata(self) -> Tensor:
        """Each row's stratum among `total`: `LongTensor` [B]."""
        return strata(self.seed, self.step, self.index_B, self.total)
