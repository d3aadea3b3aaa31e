"""A rule that unmasks at once what the model has said twice. Shapes: B rows, L canvas positions."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.rules import (
    UNMASKING_RULES,
    Decision,
    FixedStepsRule,
    RankedRule,
    StepState,
    best_per_row,
)
from conv_dlm.generation.settings import setting

WARM_UP = 5  # steps that unmask the quota alone, as in CCD's code


class Consistent(NamedTuple):
    """What the rule remembers.

    buffer: BoolTensor [B, L]; the best positions that the step before did not unmask.
    token: LongTensor [B, L]; their candidates.
    width: LongTensor [B]; how many positions the step before looked at.
    """

    buffer: Tensor
    token: Tensor
    width: Tensor


@UNMASKING_RULES.register("ccd")
@dataclass(frozen=True)
class CcdRule(RankedRule, FixedStepsRule):
    """Coherent contextual decoding (arXiv 2512.02044), as in its code: the least uncertain positions of which the step
    before said the same token, where they are as many as a step's equal share at least; else that share. By entropy
    over s_i, or as `ranked_by` says. A step looks at more and more positions, up to 1 + `expand_ratio` shares."""

    measure = "entropy"
    whole_canvas = True
    expand_ratio: float = setting(
        4.0, "shares beyond a step's own among which it looks for tokens that were said twice", low=0,
        source="arXiv 2512.02044",
    )  # fmt: skip
    all_consistent: bool = setting(
        True, "unmask all tokens that were said twice, not a step's share of them", source="arXiv 2512.02044"
    )

    def start(self, canvas: Canvas) -> Consistent:
        return Consistent(torch.zeros_like(canvas.masked), canvas.ids, torch.ones_like(canvas.size))

    def __call__(self, now: StepState) -> Decision:
        number, size, before = now.step.number, now.canvas.size, now.memory
        score, left = self.weighted(now), now.eligible.sum(1)
        share = -(-size // self.steps)
        width = torch.where(left <= 0.1 * size, 1, before.width) + 1
        width = torch.minimum(width, share + (share.double() * self.expand_ratio).floor().long())
        if number < WARM_UP - 1:
            width = torch.ones_like(width)
        first = best_per_row(score, now.eligible, share)
        twice = best_per_row(score, now.eligible, width) & before.buffer & (now.token == before.token)
        wanted = twice if self.all_consistent else best_per_row(score, twice, share)
        enough = (first & before.buffer).any(1) & (twice.sum(1) >= torch.minimum(share, left))
        if number < WARM_UP or now.step.steps == number + 1:
            enough = torch.zeros_like(enough)
        commit = torch.where(enough[:, None], wanted, first)
        buffer = best_per_row(score, now.eligible & ~commit, width)
        if number < WARM_UP - 2:
            buffer = torch.zeros_like(buffer)
        return Decision(commit, memory=Consistent(buffer, now.token, width))
