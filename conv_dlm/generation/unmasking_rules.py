"""Unmasking rules: which candidates are committed in a step, and which positions are masked again.

The mathematics are functions of tensors; a rule reads its settings and puts them together. Suffixes: B rows, L canvas
positions. A position weighs its tokens p(v) s_i N gain against the mask's weight; arXiv 2509.15188.
"""

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.candidates import Candidates
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.noise import REMASK, WHETHER, uniform
from conv_dlm.generation.schedule import Step

if TYPE_CHECKING:
    from conv_dlm.generation.configuration import DiffusionGenerationConfig


def global_norm(mass: Tensor, weights: Tensor, undecided: Tensor) -> Tensor:
    """N = |U| / sum over U of s_i sum_k p_ik: keeps the total token weight of a step at |U| (t - s).

    arXiv 2509.15188, equations of p_GN (s_i = 1) and s_norm. mass, weights: FloatTensor [B, L]; undecided: BoolTensor
    [B, L], the set U of each row. Returns FloatTensor [B].
    """
    kept = (mass * weights * undecided).sum(1)
    return undecided.sum(1) / kept.clamp(min=torch.finfo(kept.dtype).tiny)


def decide_probability(token_weight: Tensor, mask_weight: Tensor, temperature: float) -> Tensor:
    """Probability that a position takes a token rather than the mask: w^(1/T) / (w^(1/T) + m^(1/T)).

    token_weight: FloatTensor [B, L], (sum_k q^(1/T))^T. mask_weight: Tensor, broadcast against it. At T = 0 the
    heavier one is certain. Positions with token weight 0 stay masked. Returns FloatTensor [B, L].
    """
    if temperature == 0:
        return (token_weight > mask_weight).float()
    odds = (token_weight.log() - mask_weight.log()) / temperature
    return torch.where(token_weight > 0, odds.sigmoid(), 0.0)


def quota(masks: Tensor, rounds_left: Tensor) -> Tensor:
    """ceil(masks / steps left): LLaDA's equal shares, the larger ones first (arXiv 2502.09992), without a
    plan made beforehand, so that a step which could decide too few is made up for. LongTensors [B]."""
    return -(-masks // rounds_left)


def best_per_row(score: Tensor, eligible: Tensor, count: Tensor) -> Tensor:
    """The `count` [B] highest-scoring `eligible` [B, L] positions of each row, or all of them: BoolTensor [B, L]."""
    order = score.masked_fill(~eligible, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(score.shape[1], device=score.device).expand_as(order)
    )
    return eligible & (rank < count[:, None])


def above_threshold(score: Tensor, eligible: Tensor, threshold: float) -> Tensor:
    """The `eligible` [B, L] positions with a `score` [B, L] of at least `threshold`, and each row's best one:
    BoolTensor [B, L]. arXiv 2505.22618."""
    count = (eligible & (score >= threshold)).sum(1)
    return best_per_row(score, eligible, count.clamp(min=1))


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


def remdm_weights(
    t: Tensor, s: Tensor, alpha_on: float, t_on: float, t_off: float, eta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """ReMDM's loop (arXiv 2503.00307): (gain of tokens, weight of the mask, probability of masking again).

    Before the loop (t > t_on) the share of decided tokens grows to alpha_on; in it, tokens are masked again with
    probability eta and others decided in their stead; after it (t <= t_off) the rest is decided. t, s: FloatTensor
    [B], times of the step. Returns three FloatTensors [B].
    """

    def before(time: Tensor) -> Tensor:
        return 1 - (1 - time) * alpha_on / (1 - t_on)

    def after(time: Tensor) -> Tensor:
        return time * (1 - alpha_on) / t_off

    in_loop, done = (t <= t_on) & (t > t_off), t <= t_off
    masked_t, masked_s = torch.where(done, after(t), before(t)), torch.where(done, after(s), before(s))
    gain = torch.where(in_loop, alpha_on * eta / (1 - alpha_on), masked_t - masked_s)
    stay = torch.where(in_loop, (1 - alpha_on - alpha_on * eta) / (1 - alpha_on), masked_s)
    return gain, stay, torch.where(in_loop, eta, 0.0)


class Situation(NamedTuple):
    """All that a rule may look at in a step. Fields but `step` and `seeds` are [B, L]."""

    canvas: Canvas
    candidates: Candidates
    weights: Tensor
    scope: Tensor
    step: Step
    seeds: Tensor

    @property
    def eligible(self) -> Tensor:
        return self.canvas.undecided & (self.weights > 0)

    def uniform(self, purpose: int) -> Tensor:
        return uniform(self.seeds, self.step.number, self.canvas.slot, purpose)


class Decision(NamedTuple):
    """commit: BoolTensor [B, L], decided now. remask: BoolTensor [B, L] or None, masked again."""

    commit: Tensor
    remask: Tensor | None = None


class UnmaskingRule:
    """Base of all kinds.

    fields: names of the config's fields that the rule reads.
    revocable: whether it masks decided positions again.
    paced: whether it shares the canvas out over `steps`; else it decides as much as it can answer for, at least one
        position of a row, until nothing is left.
    measures: what it looks at beside the token, its confidence and the masses; see `draw_candidates`.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    revocable: ClassVar[bool] = False
    paced: ClassVar[bool] = True
    measures: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        raise NotImplementedError

    def __call__(self, now: Situation) -> Decision:
        raise NotImplementedError


class AncestralRule(UnmaskingRule):
    """MDLM's reverse step (arXiv 2406.07524), with position weights and the global normaliser of arXiv 2509.15188:
    tokens weigh p s_i N (t - s), the mask weighs s. The last step of a process leaves no mask within reach."""

    fields: ClassVar[tuple[str, ...]] = ("steps", "reference_normalizer")

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        self.temperature = config.temperature

    def __call__(self, now: Situation) -> Decision:
        s = torch.where(now.step.rounds_left == 1, 0.0, now.step.s)
        return Decision(self.decide(now, gain=now.step.t - now.step.s, stay=s))

    def decide(self, now: Situation, gain: Tensor, stay: Tensor) -> Tensor:
        norm = global_norm(now.candidates.mass, now.weights, now.canvas.undecided & now.scope)
        token_weight = now.candidates.tempered_mass * now.weights * (norm * gain)[:, None]
        probability = decide_probability(token_weight, stay[:, None], self.temperature)
        return now.eligible & (now.uniform(WHETHER) < probability)


class ConfidenceRule(UnmaskingRule):
    """LLaDA's rule (arXiv 2502.09992): a quota of the block's masks, those with the highest confidence
    times s_i."""

    fields = ("steps", "remasking", "confidence_eos_eot_inf")

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        self.at_random = config.remasking == "random"

    def __call__(self, now: Situation) -> Decision:
        confidence = now.uniform(WHETHER) if self.at_random else now.candidates.confidence
        masks = (now.canvas.undecided & now.scope).sum(1)
        return Decision(best_per_row(confidence * now.weights, now.eligible, quota(masks, now.step.rounds_left)))


class RemaskingRule(AncestralRule):
    """ReMDM's loop (arXiv 2503.00307): an ancestral rule that also masks again. The last step takes the best tokens."""

    fields = (*AncestralRule.fields, "alpha_on", "t_on", "t_off", "eta")
    revocable = True

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        super().__init__(config)
        self.loop = (config.alpha_on, config.t_on, config.t_off, config.eta)

    def __call__(self, now: Situation) -> Decision:
        gain, stay, again = remdm_weights(now.step.t, now.step.s, *self.loop)
        chance = decide_probability(again, 1 - again, self.temperature)[:, None]
        decided = (now.canvas.slot >= 0) & ~now.canvas.undecided
        return Decision(self.decide(now, gain, stay), decided & (now.uniform(REMASK) < chance))


class SlideRule(AncestralRule):
    """Slide annealing of the code released with arXiv 2509.15188: the window's front, 1/S of the slots in each step, is
    always decided, its rear by the ancestral rule."""

    def __call__(self, now: Situation) -> Decision:
        step = now.step
        front_end = -(-now.canvas.size * (step.number + 1) // step.steps)
        front = now.canvas.slot < front_end[:, None]
        rear = now._replace(weights=now.weights * ~front, scope=now.scope & ~front)
        return Decision(super().__call__(rear).commit | (now.eligible & front))


class ThresholdRule(UnmaskingRule):
    """Every position whose confidence, times s_i, reaches `threshold`, and the best one, as in Fast-dLLM
    (arXiv 2505.22618)."""

    fields = ("threshold", "confidence_eos_eot_inf")
    paced = False

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        self.threshold = config.threshold

    def __call__(self, now: Situation) -> Decision:
        return Decision(above_threshold(now.candidates.confidence * now.weights, now.eligible, self.threshold))


class FactorRule(UnmaskingRule):
    """As many of the most confident positions, by confidence times s_i, as are the safer the more they are: the factor
    rule of Fast-dLLM (arXiv 2505.22618)."""

    fields = ("factor", "confidence_eos_eot_inf")
    paced = False

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        self.factor = config.factor

    def __call__(self, now: Situation) -> Decision:
        return Decision(within_factor(now.candidates.confidence * now.weights, now.eligible, self.factor))


class EntropyRule(UnmaskingRule):
    """As many of the least uncertain positions, by entropy over s_i, as have a bounded error together: EB-sampler
    (arXiv 2505.24857)."""

    fields = ("entropy_bound",)
    paced = False
    measures = frozenset({"entropy"})

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        self.bound = config.entropy_bound

    def __call__(self, now: Situation) -> Decision:
        return Decision(within_entropy_bound(now.candidates.entropy / now.weights, now.eligible, self.bound))


UNMASKING_RULES: dict[str, type[UnmaskingRule]] = {
    "ancestral": AncestralRule,
    "confidence": ConfidenceRule,
    "remasking": RemaskingRule,
    "slide": SlideRule,
    "threshold": ThresholdRule,
    "factor": FactorRule,
    "entropy": EntropyRule,
}
