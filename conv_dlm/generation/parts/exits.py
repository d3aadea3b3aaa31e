"""Leaving the process early: a row all of whose masks are clear takes their best tokens at once.

SchED (arXiv 2512.02892): the mean margin of the best token's score over the next, over all masks of the row, has to
reach a threshold that falls as the run goes on; staged, it is Prophet's (arXiv 2508.19982).
Shapes: B rows, L canvas positions.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.settings import Part, Registry, setting

PROPHET_STAGES = ((0.33, 1.0), (0.67, 0.5))  # until this progress the height above `exit_low` has this share


@dataclass(frozen=True)
class ExitSchedule(Part):
    """Base of all kinds; a kind defines `share`."""

    statistics: ClassVar[tuple[str, ...]] = ("margin",)
    exit_high: float = setting(7.5, "margin that is asked for at the start, in logits", source="arXiv 2512.02892")
    exit_low: float = setting(2.5, "and at the end", source="arXiv 2512.02892")
    exit_patience: bool = setting(
        False, "whether the best tokens have to be those of the step before, too", source="SchED's released code"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exit_low > self.exit_high:
            raise SettingError(
                "exit_low", f"is above `exit_high`={self.exit_high}: the threshold falls", "swap them", self.exit_low
            )

    def share(self, progress: Tensor) -> Tensor:
        """How far the threshold still is from `exit_low` (0) to `exit_high` (1), for `progress` [B] from 0 to 1."""
        raise NotImplementedError

    def required_margin(self, progress: Tensor) -> Tensor:
        """tau = low + (high - low) share(progress): FloatTensor [B], in logits."""
        return self.exit_low + (self.exit_high - self.exit_low) * self.share(progress)

    def is_clear(
        self, margin: Tensor, best: Tensor, best_before: Tensor | None, masked: Tensor, progress: Tensor
    ) -> Tensor:
        """BoolTensor [B]: rows that may take the best tokens at all their masks now.

        margin: FloatTensor [B, L]; see `Margin`. best, best_before: LongTensor [B, L]; best tokens now and in the step
        before. masked: BoolTensor [B, L]. progress: FloatTensor [B].
        """
        clear = (mean_margin(margin, masked) >= self.required_margin(progress)) & masked.any(1)
        if not self.exit_patience:
            return clear
        if best_before is None:
            return torch.zeros_like(clear)
        return clear & ((best == best_before) | ~masked).all(1)


def mean_margin(margin: Tensor, masked: Tensor) -> Tensor:
    """Mean of `margin` [B, L] over the masks `masked` [B, L]: FloatTensor [B], 0 where there are none."""
    return (margin * masked).sum(1) / masked.sum(1).clamp(min=1)


EXIT_SCHEDULES: Registry[type[ExitSchedule]] = Registry("exit schedule")


@EXIT_SCHEDULES.register("linear")
@dataclass(frozen=True)
class LinearExit(ExitSchedule):
    """Falls evenly. arXiv 2512.02892."""

    def share(self, progress: Tensor) -> Tensor:
        return 1 - progress


@EXIT_SCHEDULES.register("cosine")
@dataclass(frozen=True)
class CosineExit(ExitSchedule):
    """Falls along half a cosine. arXiv 2512.02892."""

    def share(self, progress: Tensor) -> Tensor:
        return (1 + torch.cos(math.pi * progress)) / 2


@EXIT_SCHEDULES.register("exponential")
@dataclass(frozen=True)
class ExponentialExit(ExitSchedule):
    """Falls fast at first. arXiv 2512.02892."""

    exit_decay: float = setting(
        4.0, "k of the exponential schedule: exit_low + (exit_high - exit_low) exp(-k progress)", low=0,
        source="arXiv 2512.02892",
    )  # fmt: skip

    def share(self, progress: Tensor) -> Tensor:
        return torch.exp(-self.exit_decay * progress)


@EXIT_SCHEDULES.register("staged")
@dataclass(frozen=True)
class StagedExit(ExitSchedule):
    """Falls in thirds: Prophet, arXiv 2508.19982."""

    def share(self, progress: Tensor) -> Tensor:
        share = torch.zeros_like(progress)
        for end, height in reversed(PROPHET_STAGES):
            share = torch.where(progress < end, height, share)
        return share
