"""Rules that remember what the model said in the steps before. Shapes: N positions, V vocabulary, K remembered ids, B
rows, L canvas positions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.parts.confidence import above_threshold
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, UnmaskingRule, or_best
from conv_dlm.generation.parts.statistics import STATISTICS, Places, Statistic
from conv_dlm.generation.settings import setting

SMALL = 1e-12  # added to probabilities inside of logarithms, as in KLASS's code
REMEMBERED = 8  # ids of a position that have credit; the one with the least gives way to a new one


@STATISTICS.register("steadiness")
@dataclass(frozen=True)
class Steadiness(Statistic):
    """For how many forwards on end the Kullback-Leibler divergence D(p || p'), p' of the forward before, has been
    below `kl_threshold`: `steady`. 0 where there was no forward before."""

    wide = ("p_before",)
    kl_threshold: float = setting(
        0.01, "nats by which a prediction may change from one step to the next and count as steady", low=0,
        source="KLASS, arXiv 2511.05664",
    )  # fmt: skip

    def __call__(self, scores: Tensor, at: Places) -> dict[str, Tensor]:
        p, before = scores.softmax(-1), at.before("p_before")
        if before is None:
            return {"steady": torch.zeros_like(at.positions), "p_before": p}
        change = (p * ((p + SMALL).log() - (before + SMALL).log())).sum(-1)
        steady, count = at.kept & (change < self.kl_threshold), at.before("steady")
        assert count is not None
        return {"steady": torch.where(steady, torch.where(at.kept, count, 0) + 1, 0), "p_before": p}


@UNMASKING_RULES.register("klass")
@dataclass(frozen=True)
class KlassRule(UnmaskingRule):
    """KLASS (arXiv 2511.05664): every position whose confidence, times s_i, is above `klass_threshold` and whose
    prediction has been steady for `history_length` forwards; else the most confident one."""

    statistics = ("confidence", "steadiness")
    klass_threshold: float = setting(
        0.9, "confidence, times s_i, above which a steady position is unmasked", low=0, high=1,
        source="arXiv 2511.05664",
    )  # fmt: skip
    history_length: int = setting(
        2, "forwards for which a prediction has to be steady", low=1, source="arXiv 2511.05664"
    )

    def __call__(self, now: StepState) -> Decision:
        score = now.statistics["confidence"] * now.weights
        steady = now.statistics["steady"] >= self.history_length
        ready = now.eligible & steady & (score > self.klass_threshold)
        return Decision(or_best(ready, score, now.eligible))


@STATISTICS.register("credit")
@dataclass(frozen=True)
class Credit(Statistic):
    """CreditDecoding (arXiv 2510.06133): the best token of each forward earns credit, old credit fades, and credit adds
    to the scores: their best token, `credited`, its probability in them, `credited_confidence`, and its log-probability
    without credit, `credited_log_prob`. `credit_ids` and `credit` [N, K] are kept, never a value for each token."""

    remembers = True
    credit_weight: float = setting(
        0.7, "alpha: what the logarithm of 1 + credit counts among the logits", low=0, source="arXiv 2510.06133"
    )
    credit_decay: float = setting(
        0.8, "beta: share of its credit that a token keeps from one forward to the next", low=0, high=1,
        source="arXiv 2510.06133",
    )  # fmt: skip
    credit_power: float = setting(
        0.2, "gamma: the best token earns its probability to this power", low=0, source="arXiv 2510.06133"
    )

    def __call__(self, scores: Tensor, at: Places) -> dict[str, Tensor]:
        score, best = scores.max(-1)
        normalizer = scores.logsumexp(-1)
        ids, credit = at.before("credit_ids"), at.before("credit")
        if ids is None or credit is None:
            ids = best.new_zeros(len(best), REMEMBERED)
            credit = scores.new_zeros(ids.shape)
        else:
            credit = credit.masked_fill(~at.predicted_before[:, None], 0.0) * self.credit_decay
        same = (ids == best[:, None]) & (credit > 0)
        known = same.any(1, keepdim=True)
        slot = torch.where(known, same.int().argmax(1, keepdim=True), credit.argmin(1, keepdim=True))
        earned = (score - normalizer).exp()[:, None] ** self.credit_power
        credit = credit.scatter(1, slot, torch.where(known, credit.gather(1, slot), 0.0) + earned)
        ids = ids.scatter(1, slot, best[:, None])
        fused = scores.scatter_add(1, ids, self.credit_weight * credit.log1p())
        top, token = fused.max(-1)
        return {
            "credited": token,
            "credited_confidence": (top - fused.logsumexp(-1)).exp(),
            "credited_log_prob": scores.gather(1, token[:, None])[:, 0] - normalizer,
            "credit_ids": ids,
            "credit": credit,
        }


@UNMASKING_RULES.register("credit")
@dataclass(frozen=True)
class CreditRule(UnmaskingRule):
    """CreditDecoding (arXiv 2510.06133): tokens and confidences from scores to which the evidence of earlier steps is
    added; every position that reaches `threshold`, times s_i, and the best one."""

    statistics = ("credit",)
    greedy = True
    threshold: float = UNMASKING_RULES["threshold"].settings()["threshold"].field()

    def __call__(self, now: StepState) -> Decision:
        its = now.statistics
        sure = above_threshold(its["credited_confidence"] * now.weights, now.eligible, self.threshold)
        return Decision(sure, tokens=its["credited"], log_probs=its["credited_log_prob"])
