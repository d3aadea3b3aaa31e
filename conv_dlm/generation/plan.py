"""Which forwards a step makes, and of what shape.

Shapes come from few sizes, so that kernels, compiled code and CUDA graphs are used again and again. Short rows are
padded by repeating one of their own positions, so no row's result depends on another row's length.
Shapes: B rows, L canvas positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas

SMALLEST = 16  # positions; sizes are multiples of it
SIZES_AN_OCTAVE = 4  # and of an eighth to a quarter of themselves: at most that much of a forward is filling
LOOKAHEAD_STEP = 64  # positions by which the end of a row's sight moves on


class ForwardRequest(NamedTuple):
    """The forward passes that a step needs, on the device.

    finished: BoolTensor [B]; rows that need no further step.
    wanted: BoolTensor [B, L]; positions that the rule wants predicted: what a partial forward predicts.
    predicted: BoolTensor [B, L]; what a full forward predicts, `wanted` among it.
    changed: BoolTensor [B, L]; positions whose id, or whether they are wanted, changed since the row's last forward.
    due: BoolTensor [B]; rows whose next forward is a full one; None for all.
    computed: BoolTensor [B, L]; what a partial forward computes, `wanted` among it.
    seen: BoolTensor [B, L]; what is in sight, where a partial forward may be made.
    end: LongTensor [B]; nothing is seen from here on; None for the canvas's end.
    sick: BoolTensor [1]; whether a forward so far left nothing to choose from; asked with the rest.
    """

    finished: Tensor
    wanted: Tensor
    predicted: Tensor
    changed: Tensor
    due: Tensor | None = None
    computed: Tensor | None = None
    seen: Tensor | None = None
    end: Tensor | None = None
    sick: Tensor | None = None


class Forward(NamedTuple):
    """A forward that is to be made.

    rows: of the canvas.
    predicted: BoolTensor [B, L]; positions to predict, `window` of them at most in any of these rows.
    computed: BoolTensor [B, L], positions to compute, `size` of them at most; None for all in sight.
    uneven: whether these rows' sights end at different positions.
    end: nothing from here on is seen in any of these rows.
    """

    rows: list[int]
    predicted: Tensor
    window: int
    computed: Tensor | None
    size: int
    uneven: bool
    end: int


class Plan(NamedTuple):
    """What a step does, known to Python.

    forwards: to be made, two at most: a full one and a partial one.
    unfinished: rows that are not finished.
    sick: whether a forward so far left nothing to choose from.
    """

    forwards: list[Forward]
    unfinished: list[int]
    sick: bool = False

    @property
    def rows(self) -> list[int]:
        """Rows that take part in a forward."""
        return sorted(row for forward in self.forwards for row in forward.rows)


def plan(request: ForwardRequest) -> Plan:
    """The forwards of a step.

    Python has to know the sizes, and whether anything is left to do: the step's one synchronisation with the device.
    """
    told = _read(request)
    rows = zip(told["wanted"], told["changed"], told["finished"], strict=True)
    stale = [row for row, (wanted, changed, done) in enumerate(rows) if wanted and changed and not done]
    if request.due is None:
        full, partial = stale, []
    else:
        # a forward over most of what is in sight costs about as much as one over all of it
        due = [bool(d) or 2 * c > s for d, c, s in zip(told["due"], told["computed"], told["seen"], strict=True)]
        full, partial = [row for row in stale if due[row]], [row for row in stale if not due[row]]
    forwards = []
    if full:
        forwards.append(_forward(request, told, full, "predicted", None))
    if partial:
        forwards.append(_forward(request, told, partial, "wanted", request.computed))
    unfinished = [row for row, finished in enumerate(told["finished"]) if not finished]
    return Plan(forwards, unfinished, any(told.get("sick", ())))


def _read(request: ForwardRequest) -> dict[str, list[int]]:
    """What a request says of each row: counts of positions, and values; by name."""
    positions = {"wanted": request.wanted, "changed": request.changed}
    if request.predicted is not request.wanted:
        positions["predicted"] = request.predicted
    if request.computed is not None and request.seen is not None:
        positions |= {"computed": request.computed, "seen": request.seen}
    rows = {"finished": request.finished}
    rows |= {} if request.due is None else {"due": request.due}
    rows |= {} if request.end is None else {"end": request.end}
    rows |= {} if request.sick is None else {"sick": request.sick.expand_as(request.finished)}
    counts = torch.stack(list(positions.values())).sum(-1)
    told = torch.cat([counts, *(value[None] for value in rows.values())]).tolist()
    named = dict(zip([*positions, *rows], told, strict=True))
    return {"predicted": named["wanted"]} | named


def _forward(
    request: ForwardRequest, told: dict[str, list[int]], rows: list[int], predicted: str, computed: Tensor | None
) -> Forward:
    length = request.wanted.shape[1]
    ends = {told["end"][row] for row in rows} if "end" in told else {length}
    last = max(ends)
    return Forward(
        rows=rows,
        predicted=getattr(request, predicted),
        window=bucket(max(told[predicted][row] for row in rows), last),
        computed=computed,
        size=0 if computed is None else bucket(max(told["computed"][row] for row in rows), last),
        uneven=len(ends) > 1,
        end=last,
    )


def bucket(count: int, limit: int) -> int:
    """`count`, rounded up to one of few sizes, at most `limit`."""
    step = max(SMALLEST, (1 << count.bit_length()) // (2 * SIZES_AN_OCTAVE))
    return min(limit, -(-count // step) * step)


def positions_of(where: Tensor, size: int) -> Tensor:
    """The positions `where` [R, L], in order: LongTensor [R, size]. In a row of fewer, the last one stands before them
    over again; `size` is at least every row's count.

    Before, and the true ones at the end: flash attention takes the queries of a left-padded row from its last ones.
    """
    position = torch.arange(where.shape[1], device=where.device)
    found = torch.where(where, position, -1).sort(1).values[:, -size:]
    return torch.where(found < 0, found[:, -1:], found)


def visible_end(canvas: Canvas, lookahead: int) -> Tensor:
    """Where a row's sight ends: `lookahead` positions behind its last known one, and up to the next multiple of
    `LOOKAHEAD_STEP`, counted without padding, or where the text is cut off. LongTensor [B]."""
    length = canvas.ids.shape[1]
    last_known = length - 1 - canvas.known.flip(1).to(torch.uint8).argmax(1)
    wanted = last_known + 1 + lookahead - canvas.start
    return torch.minimum(canvas.start + -(-wanted // LOOKAHEAD_STEP) * LOOKAHEAD_STEP, canvas.end)


def repeated(rows: Sequence[int], count: int) -> list[int]:
    """`rows`, with the last one over again up to `count`."""
    return [*rows, *[rows[-1]] * (count - len(rows))]
