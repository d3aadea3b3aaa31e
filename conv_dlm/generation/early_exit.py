"""Leaving the process early: a row whose undecided tokens are all clear takes them at once.

SchED (arXiv 2512.02892): the mean margin of the best token's score over the next, over all masks of the row, has to
reach a threshold that falls as the run goes on; staged, it is Prophet's (arXiv 2508.19982). Suffix: B rows.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from conv_dlm.generation.candidates import Candidates

if TYPE_CHECKING:
    from conv_dlm.generation.configuration import DiffusionGenerationConfig

PROPHET_STAGES = ((0.33, 1.0), (0.67, 0.5))  # until this progress the height above `low` has this share


def _staged(progress: Tensor, decay: float) -> Tensor:
    share = torch.zeros_like(progress)
    for end, height in reversed(PROPHET_STAGES):
        share = torch.where(progress < end, height, share)
    return share


# progress [B] in [0, 1], decay -> share [B] of the way from low (0) to high (1)
EXIT_SCHEDULES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "linear": lambda progress, decay: 1 - progress,
    "cosine": lambda progress, decay: (1 + torch.cos(math.pi * progress)) / 2,
    "exponential": lambda progress, decay: torch.exp(-decay * progress),
    "staged": _staged,
}


def required_margin(progress: Tensor, schedule: str, high: float, low: float, decay: float) -> Tensor:
    """tau = low + (high - low) share(progress): FloatTensor [B] for `progress` [B] from 0 to 1, in logits."""
    return low + (high - low) * EXIT_SCHEDULES[schedule](progress, decay)


def mean_margin(margin: Tensor, undecided: Tensor) -> Tensor:
    """Mean of `margin` [B, L] over the masks `undecided` [B, L]: FloatTensor [B], 0 where there are none."""
    return (margin * undecided).sum(1) / undecided.sum(1).clamp(min=1)


class EarlyExit:
    """The gate of a run. Settings are the config's `exit_*` fields."""

    measures = frozenset({"margin"})

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        assert config.exit_schedule is not None
        self.settings = (config.exit_schedule, config.exit_high, config.exit_low, config.exit_decay)
        self.patient = config.exit_patience
        self.before: Tensor | None = None  # best tokens in the last step

    def __call__(self, candidates: Candidates, undecided: Tensor, progress: Tensor) -> Tensor:
        """BoolTensor [B]: rows that may take the best tokens at all their masks `undecided` [B, L] now."""
        clear = mean_margin(candidates.margin, undecided) >= required_margin(progress, *self.settings)
        if self.patient:
            same = (candidates.best == self.before) | ~undecided if self.before is not None else undecided & False
            clear = clear & same.all(1)
            self.before = candidates.best
        return clear & undecided.any(1)
