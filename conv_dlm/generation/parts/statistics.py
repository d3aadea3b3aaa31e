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
        self,
        rows: Tensor,
        window: Tensor,
        part: slice,
        step: int,
        values: Mapping[str, Tensor],
        predicted: Tensor,
        last: "LastForwards | None" = None,
    ) -> None:
        self.step = step
        self._rows, self._window, self._part, self._values, self._predicted = rows, window, part, values, predicted
        self._last = last

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
        sensible where they never were. None before the first forward. Of what is `wide`, see `kept`."""
        if self._last is not None and name in self._last.values:
            return self._last.values[name][self._slot.clamp(min=0)]
        values = self._values.get(name)
        return None if values is None else values[self.rows, self.positions]

    @property
    def predicted_before(self) -> Tensor:
        """BoolTensor [N]: positions that were predicted in a step before."""
        return self._predicted[self.rows, self.positions]

    @functools.cached_property
    def _slot(self) -> Tensor:
        assert self._last is not None
        return self._last.slot[self.rows, self.positions]

    @property
    def kept(self) -> Tensor:
        """BoolTensor [N]: positions of which the `wide` values of the step before are there."""
        return self._slot >= 0


class LastForwards:
    """What is as wide as the vocabulary, of the positions alone that the last step's forwards have predicted.

    slot: LongTensor [B, L]; where a position's values are, -1 for nowhere.
    values: by name, each [M, V].
    """

    def __init__(self, ids: Tensor) -> None:
        self.slot, self.values = torch.full_like(ids, -1), dict[str, Tensor]()
        self._coming: list[tuple[Tensor, Tensor, Tensor | None, dict[str, Tensor]]] = []

    def add(self, rows: Tensor, window: Tensor, active: Tensor | None, values: dict[str, Tensor]) -> None:
        """`values` by name, each [R * W, V], of the positions `window` [R, W] of `rows` [R, 1], or of those rows that
        are `active` [R]. They are there after the step."""
        self._coming.append((rows, window, active, values))

    def renew(self) -> None:
        """Let what was added in the step take the place of what was there."""
        slot, count = torch.full_like(self.slot, -1), 0
        for rows, window, active, _ in self._coming:
            its = torch.arange(count, count + window.numel(), device=window.device).view(window.shape)
            if active is not None:
                its = torch.where(active[:, None], its, slot[rows, window])
            slot, count = slot.index_put((rows, window), its), count + window.numel()
        if self._coming:
            first = self._coming[0][3]
            self.values = {name: torch.cat([values[name] for *_, values in self._coming]) for name in first}
        self.slot, self._coming = slot, []


@dataclass(frozen=True)
class Statistic(Part):
    """Base of all kinds.

    remembers: whether it reads `Places.predicted_before`.
    wide: names of values [N, V], as wide as the vocabulary. They are kept for one step, and no rule sees them.
    """

    remembers: ClassVar[bool] = False
    wide: ClassVar[tuple[str, ...]] = ()

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
