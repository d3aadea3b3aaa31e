"""A rule that first finds out how far it can go. Shapes: B rows, L canvas positions, E estimates."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.confidence import ThresholdRule, above_threshold
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, UnmaskingRule, in_block, or_best
from conv_dlm.generation.settings import setting


class Cycle(NamedTuple):
    """What the rule remembers of the cycle that each row is in.

    block: LongTensor [B]; the block that it is of.
    start: LongTensor [B]; places of the block before it.
    end: LongTensor [B]; where it ends, as far as is known.
    found: BoolTensor [B]; whether that is settled.
    forwards: LongTensor [B]; made in it.
    estimates: FloatTensor [B, E]; the last ones of its end, not a number for none.
    """

    block: Tensor
    start: Tensor
    end: Tensor
    found: Tensor
    forwards: Tensor
    estimates: Tensor


def by_row(which: Tensor, these: Cycle, others: Cycle) -> Cycle:
    """`these` in the rows of `which` [B], `others` elsewhere."""
    pairs = zip(these, others, strict=True)
    return Cycle(*(torch.where(which.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in pairs))


@UNMASKING_RULES.register("slowfast")
@dataclass(frozen=True)
class SlowFastRule(UnmaskingRule):
    """SlowFast sampling (arXiv 2506.10848), in cycles: a few forwards unmask in all of the block, and see up to where
    the model is fairly sure; then all up to there is unmasked, without looking behind it from the second forward on.
    Always what reaches `threshold`, times s_i, and the best one."""

    statistics = ("confidence",)
    threshold: float = ThresholdRule.settings()["threshold"].field()
    exploration_steps: int = setting(
        6, "forwards of a cycle of `slowfast` in which it looks at all of the block", low=1, source="arXiv 2506.10848"
    )
    cycle_threshold: float = setting(
        0.3, "confidence up to whose last position a cycle may go", low=0, high=1, source="arXiv 2506.10848"
    )
    cycle_estimates: int = setting(
        2, "estimates of a cycle's end that have to agree", low=1, source="arXiv 2506.10848"
    )
    cycle_deviation: float = setting(
        1.0, "standard deviation in positions below which they do", low=0, source="arXiv 2506.10848"
    )

    def start(self, canvas: Canvas) -> Cycle:
        none = torch.zeros_like(canvas.size)
        estimates = torch.full((len(none), self.cycle_estimates), torch.nan, device=none.device)
        return Cycle(none - 1, none, none, none > 0, none, estimates)

    def cycle(self, now: StepState) -> Cycle:
        """The cycle of this step: the one before, or a block's first."""
        fresh = self.start(now.canvas)._replace(block=now.step.block)
        return by_row(now.memory.block != now.step.block, fresh, now.memory)

    def places(self, now: StepState) -> Tensor:
        """LongTensor [B, L]: each position's place in its block, -1 for those of none."""
        its = in_block(now)
        return torch.where(its, its.cumsum(1) - 1, -1)

    def sight(self, now: StepState) -> Tensor:
        its = self.cycle(now)
        inside = (self.places(now) < its.end[:, None]) | (its.forwards <= self.exploration_steps)[:, None]
        length = now.canvas.ids.shape[1]
        behind = torch.where(inside | (self.places(now) < 0), length, now.canvas.positions)
        return behind.amin(1)

    def __call__(self, now: StepState) -> Decision:
        its, places = self.cycle(now), self.places(now)
        confidence, size = now.statistics["confidence"], (places >= 0).sum(1)
        explores = its.forwards < self.exploration_steps
        reached = torch.where(explores, size, its.end)
        ahead = now.eligible & (places >= its.start[:, None])
        score = confidence * now.weights
        sure = above_threshold(score, ahead & (places < reached[:, None]), self.threshold)
        commit = or_best(sure, score, now.eligible)

        last = torch.where(ahead & (confidence >= self.cycle_threshold), places, its.start[:, None]).amax(1)
        estimate = torch.where(ahead.any(1), (last + 1).clamp(min=1), its.start)
        estimates = torch.cat([its.estimates[:, 1:], estimate[:, None].float()], 1)
        estimates = torch.where((explores & ~its.found)[:, None], estimates, its.estimates)
        kept = ~estimates.isnan()
        mean = estimates.nansum(1) / kept.sum(1).clamp(min=1)
        deviation = ((estimates - mean[:, None]) ** 2).mean(1).sqrt()  # not a number while estimates are missing
        agree = deviation < self.cycle_deviation
        end = torch.where(its.found, its.end, torch.where(agree, estimate, mean.floor().long()))

        forwards = its.forwards + 1
        left = now.eligible & ~commit & (places >= its.start[:, None]) & (places < end[:, None])
        over = (forwards >= self.exploration_steps) & ~left.any(1)
        after = Cycle(its.block, end, end, explores & False, torch.zeros_like(forwards), estimates * torch.nan)
        goes_on = Cycle(its.block, its.start, end, its.found | agree, forwards, estimates)
        return Decision(commit, memory=by_row(over, after, goes_on))
