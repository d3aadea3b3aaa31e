"""Ancestral rules: steps of MDLM's reverse process, which draw *whether* a position is unmasked.

A position weighs its tokens p(v) s_i N gain against the mask's weight; arXiv 2509.15188. Shapes: B rows, L positions.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.noise import REMASK, WHETHER
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, FixedStepsRule, StepState
from conv_dlm.generation.settings import setting


def global_norm(mass: Tensor, weights: Tensor, masks: Tensor) -> Tensor:
    """N = |U| / sum over U of s_i sum_k p_ik: keeps the total token weight of a step at |U| (t - s).

    arXiv 2509.15188, equations of p_GN (s_i = 1) and s_norm. mass, weights: FloatTensor [B, L]; masks: BoolTensor
    [B, L], the set U of each row. Returns FloatTensor [B].
    """
    kept = (mass * weights * masks).sum(1)
    return masks.sum(1) / kept.clamp(min=torch.finfo(kept.dtype).tiny)


def unmask_probability(token_weight: Tensor, mask_weight: Tensor, temperature: float) -> Tensor:
    """Probability that a position takes a token rather than the mask: w^(1/T) / (w^(1/T) + m^(1/T)).

    token_weight: FloatTensor [B, L], (sum_k q^(1/T))^T. mask_weight: Tensor, broadcast against it. At T = 0 the
    heavier one is certain. Positions with token weight 0 stay masked. Returns FloatTensor [B, L].
    """
    if temperature == 0:
        return (token_weight > mask_weight).float()
    odds = token_weight.log() - mask_weight.log()
    if temperature != 1:
        odds = odds / temperature
    return torch.where(token_weight > 0, odds.sigmoid(), 0.0)


def remdm_weights(
    t: Tensor, s: Tensor, alpha_on: float, t_on: float, t_off: float, eta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """ReMDM's loop (arXiv 2503.00307): (gain of tokens, weight of the mask, probability of masking again).

    Before the loop (t > t_on) the share of unmasked tokens grows to alpha_on; in it, tokens are masked again with
    probability eta and others unmasked in their stead; after it (t <= t_off) the rest is unmasked. t, s: FloatTensor
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


@UNMASKING_RULES.register("ancestral")
@dataclass(frozen=True)
class AncestralRule(FixedStepsRule):
    """MDLM's reverse step (arXiv 2406.07524), with position weights and the global normaliser of arXiv 2509.15188:
    tokens weigh p s_i N (t - s), the mask weighs s. The last step of a block leaves no mask within reach."""

    statistics = ("mass", "tempered_mass")
    reference_normalizer: bool = setting(
        False, "count k + 1 candidates in the normaliser, of which k can be committed; the paper's formula counts k",
        source="code released with arXiv 2509.15188",
    )  # fmt: skip

    def __call__(self, now: StepState) -> Decision:
        s = torch.where(now.step.rounds_left == 1, 0.0, now.step.s)
        return Decision(self.unmask(now, gain=now.step.t - now.step.s, stay=s))

    def unmask(self, now: StepState, gain: Tensor, stay: Tensor) -> Tensor:
        """BoolTensor [B, L]: the positions that take their token; `gain` and `stay` are FloatTensors [B]."""
        norm = global_norm(now.statistics["mass"], now.weights, now.masks)
        token_weight = now.statistics["tempered_mass"] * now.weights * (norm * gain)[:, None]
        probability = unmask_probability(token_weight, stay[:, None], now.temperature)
        return now.eligible & (now.uniform(WHETHER) < probability)


@UNMASKING_RULES.register("remasking")
@dataclass(frozen=True)
class RemaskingRule(AncestralRule):
    """ReMDM's loop (arXiv 2503.00307): an ancestral rule that also masks again. The last step takes the best tokens."""

    alpha_on: float = setting(
        0.9, "share of tokens that ReMDM's loop keeps unmasked", low=0, high=1, inside=True, source="arXiv 2503.00307"
    )
    t_on: float = setting(
        0.55, "time at which ReMDM's loop begins", low=0, high=1, inside=True, source="arXiv 2503.00307"
    )
    t_off: float = setting(0.05, "time at which it ends", low=0, high=1, inside=True, source="arXiv 2503.00307")
    eta: float = setting(
        0.04, "probability that a token is masked again in a step of ReMDM's loop", low=0, high=1, inside=True,
        source="arXiv 2503.00307",
    )  # fmt: skip
    remasks = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.t_off >= self.t_on:
            raise SettingError(
                "t_off", f"must be below `t_on`={self.t_on}: time runs from 1 to 0, and nothing would ever be masked "
                "again", "lower it", self.t_off,
            )  # fmt: skip
        if self.alpha_on * (1 + self.eta) > 1:
            raise SettingError(
                "eta", f"must be at most (1 - alpha_on) / alpha_on with `alpha_on`={self.alpha_on}",
                "lower one of them", self.eta,
            )  # fmt: skip

    def __call__(self, now: StepState) -> Decision:
        gain, stay, again = remdm_weights(now.step.t, now.step.s, self.alpha_on, self.t_on, self.t_off, self.eta)
        chance = unmask_probability(again, 1 - again, now.temperature)[:, None]
        unmasked = (now.canvas.mask_index >= 0) & ~now.canvas.masked
        if now.scope is not None:
            unmasked = unmasked & now.scope
        return Decision(self.unmask(now, gain, stay), unmasked & (now.uniform(REMASK) < chance))

    def finished(self, now: StepState) -> Tensor:
        return torch.zeros_like(now.canvas.masked[:, 0])

    def max_steps(self, canvas: Canvas) -> int | None:
        return self.steps - 1  # the last one is the final fill, so that no token is masked again after it


@UNMASKING_RULES.register("slide")
@dataclass(frozen=True)
class SlideRule(AncestralRule):
    """Slide annealing of the code released with arXiv 2509.15188: the window's front, 1/S of the masks in each step, is
    always unmasked, its rear by the ancestral rule."""

    def __call__(self, now: StepState) -> Decision:
        step = now.step
        assert step.steps is not None
        front_end = -(-now.canvas.size * (step.number + 1) // step.steps)
        front = now.canvas.mask_index < front_end[:, None]
        behind = ~front if now.scope is None else now.scope & ~front
        rear = dataclasses.replace(now, weights=now.weights * ~front, scope=behind, eligible=now.eligible & ~front)
        return Decision(super().__call__(rear).commit | (now.eligible & front))
