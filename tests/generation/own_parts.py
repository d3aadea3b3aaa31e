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
    Extra,
    Places,
    Statistic,
    StepState,
    UnmaskingRule,
    branches,
    setting,
)
from conv_dlm.generation.parts.rules import best_per_row


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


@UNMASKING_RULES.register("growing")
@dataclass(frozen=True)
class GrowingRule(UnmaskingRule):
    """The most confident token in each step, on a canvas that gets longer wherever that confidence is low."""

    statistics = ("confidence",)
    unsure: float = setting(0.02, "confidence below which a row gets longer", low=0, high=1)
    growth: int = setting(3, "positions by which it does", low=1)

    def first_end(self, canvas):
        return canvas.ids.shape[1] - canvas.size + 4

    def __call__(self, now: StepState) -> Decision:
        confidence = now.statistics["confidence"]
        best = best_per_row(confidence, now.eligible, torch.ones_like(now.canvas.size))
        unsure = confidence.masked_fill(~best, 1.0).amin(1) < self.unsure
        return Decision(best, end=now.canvas.end + self.growth * unsure)


DECODE_TYPES.register("growing", DecodeType("uniform", "growing", "as long as it is unsure", do_sample=False))


@UNMASKING_RULES.register("drafted")
@dataclass(frozen=True)
class DraftedRule(UnmaskingRule):
    """FreeDave: the most confident token of the block in each step, and as many steps at once as drafts, made of
    the last predictions, turn out to be what the rule itself would have done. The text is that of one token at a
    time."""

    statistics = ("confidence",)
    drafts: int = setting(3, "steps that are drafted", low=1)

    def start(self, canvas):
        return torch.zeros_like(canvas.ids), torch.zeros(canvas.ids.shape, device=canvas.ids.device)

    def wants(self, now: StepState) -> Tensor:
        return now.canvas.masked

    def drafted(self, now: StepState) -> Tensor:
        """LongTensor [B, drafts, L]: the canvas with the first, the first two, ... of the last predictions."""
        token, confidence = now.memory
        counts = range(1, self.drafts + 1)
        sets = [best_per_row(confidence, now.masks, torch.full_like(now.canvas.size, k)) for k in counts]
        return torch.stack([torch.where(chosen, token, now.canvas.ids) for chosen in sets], 1)

    def extra(self, now: StepState) -> Extra:
        return branches(now.canvas, self.drafted(now))

    def __call__(self, now: StepState) -> Decision:
        drafts = self.drafted(now)
        best = now.extra_logits.float().softmax(-1).max(-1)
        confidences, tokens = (x.view(drafts.shape) for x in best)
        one = torch.ones_like(now.canvas.size)

        def target(ids: Tensor, token: Tensor, confidence: Tensor) -> Tensor:
            masks = now.masks & (ids == now.canvas.mask_token_id)
            return torch.where(best_per_row(confidence, masks, one), token, ids)

        known = now.token, now.statistics["confidence"]
        reached, right = target(now.canvas.ids, *known), torch.ones_like(one, dtype=torch.bool)
        for draft, *its in zip(drafts.unbind(1), tokens.unbind(1), confidences.unbind(1), strict=True):
            right = right & (draft == reached).all(1)
            reached = torch.where(right[:, None], target(draft, *its), reached)
            known = tuple(torch.where(right[:, None], new, old) for new, old in zip(its, known, strict=True))
        return Decision(reached != now.canvas.ids, tokens=reached, memory=known)


DECODE_TYPES.register("drafted", DecodeType("block", "drafted", "as many as drafts foresee", do_sample=False))
