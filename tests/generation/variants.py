"""Variants of rules that published code has beside the one that is offered here, as rules of one's own: their recorded
runs follow from the parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from conv_dlm import DECODE_TYPES, DecodeType
from conv_dlm.generation import STATISTICS, UNMASKING_RULES
from conv_dlm.generation.parts.memory import SMALL, KlassRule, Steadiness
from conv_dlm.generation.parts.neighbours import LocalLeapRule
from conv_dlm.generation.parts.position_weights import count_known
from conv_dlm.generation.parts.rules import Decision, best_per_row


@dataclass(frozen=True)
class Change(Steadiness):
    """With the divergence itself."""

    def __call__(self, scores: Any, at: Any) -> dict[str, Any]:
        found, before = super().__call__(scores, at), at.before("p_before")
        p = found["p_before"]
        change = torch.zeros_like(p[:, 0]) if before is None else (p * ((p + SMALL) / (before + SMALL)).log()).sum(-1)
        return found | {"change": change}


@dataclass(frozen=True)
class Klass(KlassRule):
    """One of what is ready, or several best ones where nothing is."""

    statistics = ("confidence", "change")
    strategy = "all"
    quota = 1

    def __call__(self, now: Any) -> Decision:
        score, one = now.statistics["confidence"], torch.ones_like(now.canvas.size)
        steady = now.statistics["steady"] >= self.history_length
        ready = now.eligible & steady & (score > self.klass_threshold)
        if self.strategy != "all":
            ready = best_per_row(score if self.strategy == "max_conf" else -now.statistics["change"], ready, one)
        best = best_per_row(score, now.eligible, self.quota * one)
        return Decision(torch.where(ready.any(1, keepdim=True), ready, best))


@dataclass(frozen=True)
class MostConfident(Klass):
    strategy = "max_conf"


@dataclass(frozen=True)
class MostSteady(Klass):
    strategy = "min_kl"


@dataclass(frozen=True)
class TwoAtOnce(Klass):
    quota = 2


@dataclass(frozen=True)
class OneAnchor(LocalLeapRule):
    """dlmserve's LocalLeap: the best position of a step, and its neighbours if it is sure enough to be an anchor."""

    def __call__(self, now: Any) -> Decision:
        score = now.statistics["confidence"]
        best = best_per_row(score, now.eligible, torch.ones_like(now.canvas.size))
        near = count_known(best & (score >= self.threshold), 2 * self.leap_radius + 1) > 0
        return Decision(best | (now.eligible & near & (score >= self.relaxed_threshold)))


VARIANTS = {
    "klass.04": MostConfident, "klass.05": MostSteady, "klass.06": TwoAtOnce, "localleap.05": OneAnchor,
    "localleap.06": OneAnchor,
}  # fmt: skip
"""Recorded runs, and the rules that they are of."""


@contextmanager
def registered(name: str) -> Iterator[str]:
    """The name of the decode type of a run."""
    STATISTICS.register("change", Change)
    UNMASKING_RULES.register("variant", VARIANTS[name])
    DECODE_TYPES.register("variant", DecodeType("block", "variant", "as published elsewhere", do_sample=False))
    try:
        yield "variant"
    finally:
        del DECODE_TYPES["variant"], UNMASKING_RULES["variant"], STATISTICS["change"]
