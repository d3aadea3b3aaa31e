"""Rules that unmask the positions that the model is most sure of. Shapes: B rows, L canvas positions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.noise import WHETHER
from conv_dlm.generation.parts.rules import (
    UNMASKING_RULES,
    ConfidenceBased,
    Decision,
    FixedStepsRule,
    RankedRule,
    StepState,
    UnmaskingRule,
    best_per_row,
)
from conv_dlm.generation.settings import setting

REMASKING = ("low_confidence", "random")


def quota(masks: Tensor, rounds_left: Tensor) -> Tensor:
    """ceil(masks / steps left): LLaDA's equal shares, the larger ones first (arXiv 2502.09992), without a
    plan made beforehand, so that a step which could unmask too few is made up for. LongTensors [B]."""
    return -(-masks // rounds_left)


def above_threshold(score: Tensor, eligible: Tensor, threshold: float) -> Tensor:
    """The `eligible` [B, L] positions with a `score` [B, L] of at least `threshold`, and each row's best one:
    BoolTensor [B, L]. arXiv 2505.22618."""
    sure = eligible & (score >= threshold)
    best = score.masked_fill(~eligible, -torch.inf).argmax(1, keepdim=True)
    return sure | (torch.zeros_like(sure).scatter(1, best, True) & eligible)


def within_factor(confidence: Tensor, eligible: Tensor, factor: float) -> Tensor:
    """The n most confident `eligible` [B, L] positions, n the largest with c_(n) >= 1 - factor / (n + 1), at least 1:
    BoolTensor [B, L]. confidence: FloatTensor [B, L] in [0, 1]. arXiv 2505.22618."""
    ranked = confidence.masked_fill(~eligible, -torch.inf).sort(dim=1, descending=True).values
    n = torch.arange(1, confidence.shape[1] + 1, device=confidence.device)
    count = torch.where(ranked >= 1 - factor / (n + 1), n, 1).amax(1)
    return best_per_row(confidence, eligible, count)


def within_entropy_bound(entropy: Tensor, eligible: Tensor, bound: float) -> Tensor:
    """The n least uncertain `eligible` [B, L] positions, n the largest whose entropies less the greatest of them sum up
    to at most `bound`, at least 1: BoolTensor [B, L]. entropy: FloatTensor [B, L] in nats. arXiv 2505.24857."""
    ranked = entropy.masked_fill(~eligible, torch.inf).sort(dim=1).values
    together = ranked.cumsum(1) - ranked  # those before, of which none is greater
    count = ((together <= bound) & ranked.isfinite()).sum(1)
    return best_per_row(-entropy, eligible, count.clamp(min=1))


@UNMASKING_RULES.register("confidence")
@dataclass(frozen=True)
class ConfidenceRule(ConfidenceBased, RankedRule, FixedStepsRule):
    """LLaDA's rule (arXiv 2502.09992): a quota of the block's masks, those that the model is most sure of, by
    confidence times s_i or, as in Dream (arXiv 2508.15487), by entropy or margin."""

    remasking: str = setting(
        "low_confidence", "what the quota ranks by", choices=REMASKING, source="arXiv 2502.09992"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ranked_by not in (None, "confidence") and (self.remasking == "random" or self.confidence_eos_eot_inf):
            name = "remasking" if self.remasking == "random" else "confidence_eos_eot_inf"
            raise SettingError(
                "ranked_by", f"has no effect with `{name}={getattr(self, name)!r}`", "drop one of them", self.ranked_by
            )

    def __call__(self, now: StepState) -> Decision:
        score = now.uniform(WHETHER) * now.weights if self.remasking == "random" else self.weighted(now)
        return Decision(best_per_row(score, now.eligible, quota(now.masks.sum(1), now.step.rounds_left)))


@dataclass(frozen=True)
class ThresholdBased(ConfidenceBased):
    """Base of rules that unmask what is confident enough."""

    threshold: float = setting(
        0.9, "confidence, times s_i, from which a position is unmasked", low=0, high=1, source="arXiv 2505.22618"
    )


@UNMASKING_RULES.register("threshold")
@dataclass(frozen=True)
class ThresholdRule(ThresholdBased):
    """Every position whose confidence, times s_i, reaches `threshold`, and the best one, as in Fast-dLLM
    (arXiv 2505.22618), or the `min_per_step` best ones, as in SDAR (arXiv 2510.06303) and LLaDA2."""

    min_per_step: int = setting(
        1, "tokens that a step unmasks at least, as far as there are masks", low=1,
        source="arXiv 2510.06303, LLaDA2, arXiv 2602.08676",
    )  # fmt: skip

    def __call__(self, now: StepState) -> Decision:
        score = now.statistics["confidence"] * now.weights
        chosen = above_threshold(score, now.eligible, self.threshold)
        if self.min_per_step > 1:
            chosen = chosen | best_per_row(score, now.eligible, torch.full_like(now.canvas.size, self.min_per_step))
        return Decision(chosen)


@UNMASKING_RULES.register("factor")
@dataclass(frozen=True)
class FactorRule(ConfidenceBased):
    """As many of the most confident positions, by confidence times s_i, as are the safer the more they are: the factor
    rule of Fast-dLLM (arXiv 2505.22618)."""

    factor: float = setting(
        1.0, "f: n positions are unmasked at once if the least confident has at least 1 - f / (n + 1)", low=0,
        source="arXiv 2505.22618",
    )  # fmt: skip

    def __call__(self, now: StepState) -> Decision:
        return Decision(within_factor(now.statistics["confidence"] * now.weights, now.eligible, self.factor))


@UNMASKING_RULES.register("entropy")
@dataclass(frozen=True)
class EntropyRule(UnmaskingRule):
    """As many of the least uncertain positions, by entropy over s_i, as have a bounded error together: EB-sampler
    (arXiv 2505.24857)."""

    statistics = ("entropy",)
    entropy_bound: float = setting(
        0.1, "nats that the entropies, over s_i, of all but the most uncertain of them may have together", low=0,
        source="arXiv 2505.24857",
    )  # fmt: skip

    def __call__(self, now: StepState) -> Decision:
        entropy = now.statistics["entropy"] / now.weights
        return Decision(within_entropy_bound(entropy, now.eligible, self.entropy_bound))
