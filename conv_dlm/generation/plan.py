"""Which forwards a step makes, and of what shape.

Shapes come from few sizes, so that kernels, compiled code and CUDA graphs are used again and again; what fills a row up
to its size is one of its positions over again, so that no row depends on the size of another.
Suffixes: B rows, L canvas positions, W window.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas

SMALLEST = 16  # positions; sizes are multiples of it
SIZES_AN_OCTAVE = 4  # and of an eighth to a quarter of themselves: at most that much of a forward is filling
HORIZON_STEP = 64  # positions by which a row's sight moves on


class Demand(NamedTuple):
    """What the rows want of the model in a step, on the device.

    full, partial: BoolTensor [B]; rows that need a forward over everything in sight, or over `computed` alone.
    predicted: BoolTensor [B, L]; positions whose candidates a full forward renews.
    eligible: BoolTensor [B, L]; those of a partial one.
    computed: BoolTensor [B, L]; what a partial forward computes, `eligible` among it.
    end: LongTensor [B]; nothing is seen from here on.
    """

    full: Tensor
    partial: Tensor
    predicted: Tensor
    eligible: Tensor
    computed: Tensor
    end: Tensor


class Forward(NamedTuple):
    """A forward that is to be made.

    rows: of the canvas.
    predicted: BoolTensor [B, L]; positions to predict, `window` of them at most in any of these rows.
    computed: BoolTensor [B, L], positions to compute, `size` of them at most; None for all in sight.
    seen: BoolTensor [B, L]; what the model may see, None for everything before `end` that is no padding.
    """

    rows: list[int]
    predicted: Tensor
    window: int
    computed: Tensor | None
    size: int
    seen: Tensor | None
    end: int


def plan(demand: Demand, canvas: Canvas) -> tuple[list[Forward], list[int]]:
    """The forwards of a step, two at most, and the rows that are not finished.

    Python has to know the sizes, and whether anything is left to do: the step's one synchronisation with the device.
    """
    undecided, full, partial, predicted, eligible, computed, end = torch.stack(
        [
            canvas.undecided.sum(1),
            demand.full.long(),
            demand.partial.long(),
            demand.predicted.sum(1),
            demand.eligible.sum(1),
            demand.computed.sum(1),
            demand.end,
        ]
    ).tolist()

    def make(wants: list[int], where: Tensor, window: list[int], only: Tensor | None) -> Forward | None:
        rows = [row for row, wanted in enumerate(wants) if wanted]
        if not rows:
            return None
        ends = {end[row] for row in rows}
        last = max(ends)
        return Forward(
            rows=rows,
            predicted=where,
            window=bucket(max(window[row] for row in rows), last),
            computed=only,
            size=bucket(max(computed[row] for row in rows), last),
            seen=canvas.seen(demand.end) if len(ends) > 1 else None,
            end=last,
        )

    made = (make(full, demand.predicted, predicted, None), make(partial, demand.eligible, eligible, demand.computed))
    return [forward for forward in made if forward is not None], [row for row, count in enumerate(undecided) if count]


def bucket(count: int, limit: int) -> int:
    """`count`, rounded up to one of few sizes, at most `limit`."""
    step = max(SMALLEST, (1 << count.bit_length()) // (2 * SIZES_AN_OCTAVE))
    return min(limit, -(-count // step) * step)


def positions_of(where: Tensor, size: int) -> Tensor:
    """The positions `where` [R, L], in order: LongTensor [R, size]. In a row of fewer, the first one stands before
    them over again; `size` is at least every row's count.

    Behind, as the true ones are: flash attention takes the queries of a left-padded row from its last ones.
    """
    order = where.to(torch.uint8).argsort(dim=1, stable=True)[:, -size:]
    first = where.to(torch.uint8).argmax(1, keepdim=True)
    return torch.where(where.gather(1, order), order, first)


def sight(canvas: Canvas, horizon: int) -> Tensor:
    """Where a row's sight ends: `horizon` positions behind its last known one, and up to the next multiple of
    `HORIZON_STEP`, counted without padding, or where the text is cut off. LongTensor [B]."""
    length = canvas.ids.shape[1]
    last_known = length - 1 - canvas.known.flip(1).to(torch.uint8).argmax(1)
    start = canvas.padding.sum(1)
    wanted = last_known + 1 + horizon - start
    return torch.minimum(start + -(-wanted // HORIZON_STEP) * HORIZON_STEP, canvas.end)


def repeated(rows: Sequence[int], count: int) -> list[int]:
    """`rows`, with the last one over again up to `count`."""
    return [*rows, *[rows[-1]] * (count - len(rows))]
