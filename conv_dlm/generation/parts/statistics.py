"""Statistics of the scores: what a rule wants to know of a position beyond its candidate.

Scores are as wide as the vocabulary, and only a part of them is there at a time, so a statistic is computed inside of
that part and comes out narrow. Shapes: N positions (of any rows) of one part, B rows, L canvas positions, V vocabulary.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conv_dlm.generation.settings import Part, Registry


class Places:
    """Where scores [N, V] are from, and what was computed there before.

    step (`int`): of the run, from 0.
    """

    def __init__(
        self, rows: Tensor, window: Tensor, part: slice, step: int, values: Mapping[str, Tensor], predicted: Tensor
    ) -> None:
        self.step = step
        self._rows, self._window, self._part, self._values, self._predicted = rows, window, part, values, predicted

    @functools.cached_property
    def rows(self) -> Tensor:
        """LongTensor [N]: rows of the batch."""
        return self._rows[:, None].expand_as(self._window).flatten()[self._part]

    @functools.cached_property
    def positions(self) -> Tensor:
        """LongTensor [N]: positions of the canvas. One may stand several times, to fill a row up to a size."""
        return self._window.flatten()[self._part]

    def before(self, name: str) -> Tensor | None:
        """What a statistic gave as `name` at these positions when they were predicted the last time, [N, ...]; nothing
        sensible where they never were. None before the first forward."""
        values = self._values.get(name)
        return None if values is None else values[self.rows, self.positions]

    @property
    def predicted_before(self) -> Tensor:
        """BoolTensor [N]: positions that were predicted in a step before."""
        return self._predicted[self.rows, self.positions]


@dataclass(frozen=True)
class Statistic(Part):
    """Base of all kinds.

    remembers: whether it reads `Places.predicted_before`.
    """

    remembers: ClassVar[bool] = False

    def __call__(self, scores: Tensor, at: Places) -> dict[str, Tensor]:
        """Values for N positions, each [N, ...], by name; the loop keeps them as [B, L, ...].

        scores: FloatTensor [N, V], float32, as processors left them; -inf for tokens that can't be chosen.
        at: where they are from. State from step to step is what was returned before: `at.before(name)`.
        """
        raise NotImplementedError


STATISTICS: Registry[type[Statistic]] = Registry("statistic")


@STATISTICS.register("entropy")
@dataclass(frozen=True)
class Entropy(Statistic):
    """Entropy in nats of p over the whole vocabulary: `entropy`."""

    def __call__(self, scores: Tensor, at: Places) -> dict[str, Tensor]:
        return {"entropy": score_entropy(scores)}


@STATISTICS.register("margin")
@dataclass(frozen=True)
class Margin(Statistic):
    """The most likely token, `best`, its log-probability, `best_log_prob`, and its score less that of the next,
    `margin`."""

    def __call__(self, scores: Tensor, at: Places) -> dict[str, Tensor]:
        top = scores.topk(2, dim=-1)
        first, second = top.values.unbind(-1)
        return {"best": top.indices[:, 0], "best_log_prob": first - scores.logsumexp(-1), "margin": first - second}


def score_entropy(scores: Tensor) -> Tensor:
    """Entropy in nats of the softmax of `scores` [N, V] (-inf: never): FloatTensor [N]."""
    return torch.special.entr(scores.softmax(-1)).sum(-1)
