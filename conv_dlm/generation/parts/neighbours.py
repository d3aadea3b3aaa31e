"""Rules that ask how sure the model is of a position, and where the sure ones lie.

Shapes: B rows, L canvas positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.confidence import ThresholdBased, above_threshold
from conv_dlm.generation.parts.position_weights import count_known
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, best_per_row, in_block
from conv_dlm.generation.settings import setting


def near_anchors(score: Tensor, eligible: Tensor, threshold: float, relaxed: float, radius: int) -> Tensor:
    """The anchors, `eligible` [B, L] positions with a `score` [B, L] of at least `threshold`; those within `radius`
    positions of one that reach `relaxed`; and each row's best one: BoolTensor [B, L]. arXiv 2510.07081."""
    anchors = eligible & (score >= threshold)
    near = count_known(anchors, 2 * radius + 1) > 0
    return above_threshold(score, eligible, threshold) | (eligible & near & (score >= relaxed))


def best_of_runs(score: Tensor, eligible: Tensor, low: float) -> Tensor:
    """The best of every run of neighbouring `eligible` [B, L] positions, if its `score` [B, L] is above `low`; all of
    them where scores are equal: BoolTensor [B, L]."""
    score = score.masked_fill(~eligible, -torch.inf)
    starts = eligible & ~torch.nn.functional.pad(eligible[:, :-1], (1, 0))
    run = starts.cumsum(1)
    best = torch.full_like(torch.nn.functional.pad(score, (1, 0)), -torch.inf).scatter_reduce(1, run, score, "amax")
    return eligible & (score == best.gather(1, run)) & (score > low)


@UNMASKING_RULES.register("localleap")
@dataclass(frozen=True)
class LocalLeapRule(ThresholdBased):
    """LocalLeap (arXiv 2510.07081): a sure position makes its neighbours easier; what is within `leap_radius` of one
    whose confidence, times s_i, reaches `threshold` needs `relaxed_threshold` only. And the best one."""

    relaxed_threshold: float = setting(
        0.75, "confidence, times s_i, that is enough close to a position that reaches `threshold`", low=0, high=1,
        source="arXiv 2510.07081",
    )  # fmt: skip
    leap_radius: int = setting(
        4, "positions to both sides that a sure position makes easier", low=0, source="arXiv 2510.07081"
    )

    def __call__(self, now: StepState) -> Decision:
        score = now.statistics["confidence"] * now.weights
        return Decision(near_anchors(score, now.eligible, self.threshold, self.relaxed_threshold, self.leap_radius))


@UNMASKING_RULES.register("hierarchical")
@dataclass(frozen=True)
class HierarchicalRule(ThresholdBased):
    """Divides every run of masks in two: the best of each, if its confidence, times s_i, is above `low_threshold`; what
    reaches `threshold`; and the best one in any case. dInfer (arXiv 2510.08666)."""

    low_threshold: float = setting(
        0.4, "confidence, times s_i, above which the best position of a run of masks is unmasked", low=0, high=1,
        source="dInfer, arXiv 2510.08666",
    )  # fmt: skip

    def __call__(self, now: StepState) -> Decision:
        score = now.statistics["confidence"] * now.weights
        sure = above_threshold(score, now.eligible, self.threshold)
        return Decision(sure | best_of_runs(score, now.eligible, self.low_threshold))


@UNMASKING_RULES.register("hierarchical_remask")
@dataclass(frozen=True)
class HierarchicalRemaskRule(HierarchicalRule):
    """`hierarchical` that takes back what has become doubtful (dInfer, arXiv 2510.08666): a token of the block where
    the model is less sure of its best one than `remask_threshold` counts as a mask. Of all of these at least one more
    than the doubtful get a token, which may be another one, and the others are masked: so masks become fewer."""

    remasks = True
    within_block = True
    remask_threshold: float = setting(
        0.4, "probability of the best token below which the one that is there is doubtful", low=0, high=1,
        source="dInfer, arXiv 2510.08666",
    )  # fmt: skip

    def max_steps(self, canvas: Canvas) -> int | None:
        return int(canvas.size.max())

    def tokens(self, now: StepState) -> Tensor:
        """BoolTensor [B, L]: those of the block that it may take back."""
        its = in_block(now) & ~now.canvas.masked & (now.canvas.positions < now.canvas.end[:, None])
        return its & now.masks.any(1, keepdim=True)

    def wants(self, now: StepState) -> Tensor:
        return now.eligible | self.tokens(now)

    def __call__(self, now: StepState) -> Decision:
        confidence = now.statistics["confidence"]
        score = confidence * now.weights
        doubtful = self.tokens(now) & (confidence < self.remask_threshold)
        open_ = now.eligible | doubtful
        sure = (open_ & (score > self.threshold)) | best_of_runs(score, open_, self.low_threshold)
        least = torch.where(now.eligible.any(1), doubtful.sum(1) + 1, 0)
        more = best_per_row(score, open_ & ~sure, (least - sure.sum(1)).clamp(min=0))
        commit = sure | more
        again = doubtful & ~commit
        left = ((now.masks & ~commit) | again).any(1, keepdim=True)
        return Decision(commit, again, open=in_block(now) & left)
