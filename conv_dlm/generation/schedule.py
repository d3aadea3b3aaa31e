"""Times and blocks of the steps, for each row of its own.

Suffixes: S steps, B rows.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas

if TYPE_CHECKING:
    from conv_dlm.generation.position_weights import PositionWeights

LAST_TIME = 1e-5  # the time that the reverse process ends at, as in MDLM's sampler


class Step(NamedTuple):
    """One step of the reverse process.

    number: number of the step in the run, from 0.
    steps: number of steps S in the run.
    t, s: FloatTensor [B]; the step goes from time t to time s.
    block: LongTensor [B]; the block that the row is at.
    rounds_left: LongTensor [B]; steps left in this block's process, this one included.
    progress: FloatTensor [B]; how much of the run is over, from 0 in the first step to 1 in the last.
    """

    number: int
    steps: int
    t: Tensor
    s: Tensor
    block: Tensor
    rounds_left: Tensor
    progress: Tensor


class Schedule:
    """S steps shared out over the blocks of each row; in each block time runs from 1 to `LAST_TIME` (linear schedule:
    a token is masked at time t with probability t).

    Where S is no multiple of the number of blocks, block b takes the steps from ceil(b S / blocks) on.

    steps: S.
    blocks: LongTensor [B]; number of blocks of each row, at most S.
    """

    def __init__(self, steps: int, blocks: Tensor) -> None:
        self.steps = steps
        index = torch.arange(steps, device=blocks.device)[:, None]
        self.block = index * blocks // steps
        first = -(-self.block * steps // blocks)  # ceil
        after_last = -(-(self.block + 1) * steps // blocks)
        rounds = after_last - first
        dt = (1 - LAST_TIME) / rounds.double()
        t = 1 - (index - first) * dt
        self.t, self.s = t.float(), (t - dt).float()
        self.rounds_left = after_last - index

    def step(self, index: int, canvas: Canvas) -> Step:
        rows = (self.t[index], self.s[index], self.block[index], self.rounds_left[index])
        return Step(index, self.steps, *rows, torch.full_like(self.t[index], index / max(1, self.steps - 1)))


class OwnPace:
    """Steps for rules that decide as many positions as they can answer for, at least one a row: there are as many as
    that takes, a row's time is the share of its positions that are still masked, and it goes on to the next block when
    one is decided.

    steps: no row can need more.
    weights: know the blocks.
    """

    def __init__(self, steps: int, weights: "PositionWeights") -> None:
        self.steps, self.weights = steps, weights

    def step(self, index: int, canvas: Canvas) -> Step:
        masks = canvas.undecided.sum(1)
        t = masks / canvas.size.clamp(min=1)
        return Step(index, self.steps, t, t, self.weights.current_block(canvas), masks, 1 - t)
