"""Positions that a forward computes beside the canvas, where a rule asks for them.

They stand where positions of the canvas stand, and see what the rule says; no position of the canvas sees them. So a
rule can ask what the model would say without a token (WINO's shadow positions), or of other canvases of the same row
(drafts of FreeDave, branches of LoPA), within the step's own forward.
Shapes: B rows, L canvas positions, E extra positions, K of them with logits, D branches.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas


def read_at(positions: Tensor, start: Tensor) -> Tensor:
    """LongTensor [B, W]: where shifted logits stand that predict the tokens at `positions` [B, W]: at their left. The
    first position of a row's text, at its `start` [B], has nothing there, whatever padding stands before it."""
    return torch.maximum(positions - 1, start[:, None])


class Extra(NamedTuple):
    """What a forward computes beside each row's canvas. E and K are the same in all steps of a run.

    ids: LongTensor [B, E].
    positions: LongTensor [B, E]; where on the canvas they stand: their position ids are those of these positions.
    visible: BoolTensor [B, E, L + E]; what each of them sees, of the canvas and of the extra positions. Padding, and
        what is out of the row's sight, is seen by none whatever stands here, nor are later blocks where a model sees
        block by block.
    wanted: LongTensor [B, K]; which of them get logits, as indices below E. None for all.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    wanted: Tensor | None = None

    def of(self, rows: Tensor) -> "Extra":
        """Those of some rows [R]."""
        return Extra(*(None if value is None else value[rows] for value in self))  # type: ignore[arg-type]

    def indices(self) -> Tensor:
        """LongTensor [B, K]: those that get logits."""
        if self.wanted is not None:
            return self.wanted
        return torch.arange(self.ids.shape[1], device=self.ids.device).expand_as(self.ids)


def branches(
    canvas: Canvas, ids: Tensor, wanted: Tensor | None = None, ends: Tensor | None = None, shifted: bool = False
) -> Extra:
    """Other canvases of each row, each of which sees itself alone: where attention goes both ways, the logits are those
    of a forward of its own.

    ids: LongTensor [B, D, L].
    wanted: LongTensor [B, D, W], positions of the canvas that are to be predicted in each branch, None for all.
    ends: LongTensor [B, D], where each branch's sight ends; None for the canvas's end.
    shifted: whether the logits at a position predict the token at its right, `StepState.shifted`.
    Logits come in the order of branches: [B, D * W, V].
    """
    rows, count, length = ids.shape
    branch = torch.arange(count, device=ids.device).repeat_interleave(length)
    own = (branch[:, None] == branch) & ~canvas.padding.repeat(1, count)[:, None]
    if ends is not None:
        own = own & (canvas.positions < ends[..., None]).flatten(1)[:, None]
    others = torch.zeros(rows, count * length, length, dtype=torch.bool, device=ids.device)
    if wanted is None and shifted:
        wanted = canvas.positions.expand(rows, count, -1)
    if wanted is not None:
        first = torch.arange(count, device=ids.device)[:, None] * length
        read = read_at(wanted.flatten(1), canvas.start).view_as(wanted) if shifted else wanted
        wanted = (read + first).flatten(1)
    positions = canvas.positions.repeat(count).expand(rows, -1)
    return Extra(ids.flatten(1), positions, torch.cat([others, own], -1), wanted)
