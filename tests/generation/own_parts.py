"""Parts of one's own, as somebody writes them outside of the package: the tests load a copy that lies elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation import (
    DECODE_TYPES,
    STATISTICS,
    UNMASKING_RULES,
    Decision,
    DecodeType,
    Places,
    Statistic,
    StepState,
    UnmaskingRule,
    setting,
)


@STATISTICS.register("change")
@dataclass(frozen=True)
class Change(Statistic):
    """Kullback-Leibler divergence of p from that of the last forward; infinite at first."""

    remembers = True

    def __call__(self, scores: Tensor, at: Places) -> dict[str, Tensor]:
        log_p = scores.log_softmax(-1)
        before = at.before("log_p")
        if before is None:
            return {"change": torch.full_like(scores[:, 0], torch.inf), "log_p": log_p}
        terms = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - before), 0.0)
        return {"change": terms.sum(-1).masked_fill(~at.predicted_before, torch.inf), "log_p": log_p}


@UNMASKING_RULES.register("settled")
@dataclass(frozen=True)
class SettledRule(UnmaskingRule):
    """Every position whose prediction has changed by less than `my_bound`, and the most confident one."""

    statistics = ("confidence", "change")
    my_bound: float = setting(0.05, "nats by which a settled prediction may change", low=0, source="nowhere")

    def __call__(self, now: StepState) -> Decision:
        best = now.statistics["confidence"].masked_fill(~now.eligible, -1).argmax(1, keepdim=True)
        settled = now.eligible & (now.statistics["change"] < self.my_bound)
        return Decision(settled.scatter(1, best, True) & now.eligible)


DECODE_TYPES.register("mine", DecodeType("block", "settled", "what has settled, in blocks", do_sample=False))


@STATISTICS.register("second")
@dataclass(frozen=True)
class Second(Statistic):
    """The second most likely token and its log-probability."""

    def __call__(self, scores: Tensor, at: Places) -> dict[str, Tensor]:
        top = scores.log_softmax(-1).topk(2, dim=-1)
        return {"second": top.indices[:, 1], "second_log_p": top.values[:, 1]}


fresh: list[bool] = []  # whether a step's fresh positions were those that it had to be


@UNMASKING_RULES.register("second")
@dataclass(frozen=True)
class SecondRule(UnmaskingRule):
    """Left to right, each position its second most likely token: a decision that says tokens."""

    statistics = ("second",)

    def __call__(self, now: StepState) -> Decision:
        first = now.eligible & (now.eligible.cumsum(1) == 1)
        if now.step.number == 1:  # a step that commits nothing, after which there is no forward
            first = first & False
        fresh.append(torch.equal(now.fresh, now.eligible) if now.step.number != 2 else not now.fresh.any())
        return Decision(first, tokens=now.statistics["second"], log_probs=now.statistics["second_log_p"])


DECODE_TYPES.register("second", DecodeType("uniform", "second", "the second best tokens", do_sample=False))


@UNMASKING_RULES.register("again")
@dataclass(frozen=True)
class AgainRule(UnmaskingRule):
    """All masks at once, of which the least confident are masked again: one less in each of `rounds` times the masks.

    It looks at unmasked positions too, has no schedule, and says by itself when a row is finished.
    """

    statistics = ("confidence",)
    remasks = True
    rounds: int = setting(2, "times the number of masks that a row takes steps", low=1)

    def start(self, canvas):
        return torch.zeros_like(canvas.size)  # steps of each row

    def wants(self, now: StepState) -> Tensor:
        return (now.canvas.mask_index >= 0) & ~self.finished(now)[:, None]

    def finished(self, now: StepState) -> Tensor:
        return now.memory > self.rounds * now.canvas.size

    def __call__(self, now: StepState) -> Decision:
        free = now.canvas.mask_index >= 0
        count = now.canvas.size - now.memory.div(self.rounds, rounding_mode="floor")
        order = now.statistics["confidence"].masked_fill(~free, 2).argsort(dim=1, stable=True).argsort(1)
        done = self.finished(now)[:, None]
        again = free & (order < count[:, None]) & (now.memory < self.rounds * now.canvas.size)[:, None]
        return Decision(free & ~done, remask=again & ~done, memory=now.memory + 1)


DECODE_TYPES.register("again", DecodeType("uniform", "again", "again and again", do_sample=False))
