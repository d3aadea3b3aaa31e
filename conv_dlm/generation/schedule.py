"""Times and blocks of the steps, for each row of its own.

Shapes: S steps, B rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas

LAST_TIME = 1e-5  # the time that the reverse process ends at, as in MDLM's sampler


class Step(NamedTuple):
    """One step of the reverse process.

    number: number of the step in the run, from 0.
    steps: number of steps S in the run; None where nobody can say.
    t, s: FloatTensor [B]; the step goes from time t to time s.
    block: LongTensor [B]; the block that the row is at.
    rounds_left: LongTensor [B]; steps left for this block, this one included.
    progress: FloatTensor [B]; how much of the run is over, from 0 in the first step to 1 in the last.
    """

    number: int
    steps: int | None
    t: Tensor
    s: Tensor
    block: Tensor
    rounds_left: Tensor
    progress: Tensor


class FixedSchedule:
    """S steps shared out over the blocks of each row; in each block time runs from 1 to `LAST_TIME` (linear schedule:
    a token is masked at time t with probability t).

    Where S is no multiple of the number of blocks, block b takes the steps from ceil(b S / blocks) on: of 7 steps and 3
    blocks these are 0..2, 3..4, 5..6.

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
        self.progress = (index / max(1, steps - 1)).float().expand_as(self.t)

    def step(self, index: int, canvas: Canvas) -> Step:
        rows = (self.t, self.s, self.block, self.rounds_left, self.progress)
        return Step(index, self.steps, *(values[index] for values in rows))


class AdaptiveSchedule:
    """Steps for rules that unmask as many positions as they can answer for, at least one a row: there are as many as
    that takes, a row's time is the share of its positions that are still masked, and it goes on to the next block when
    one is complete.

    current_block: from the canvas to the block that each row is at, LongTensor [B].
    """

    def __init__(self, current_block: Callable[[Canvas], Tensor]) -> None:
        self.current_block = current_block

    def step(self, index: int, canvas: Canvas) -> Step:
        masks = canvas.masked.sum(1)
        t = masks / canvas.size.clamp(min=1)
        return Step(index, None, t, t, self.current_block(canvas), masks, 1 - t)
