"""What an unmasking rule is: from what is known after a step's forwards to what is committed, and what masked again.

Shapes: B rows, L canvas positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.extra import Extra
from conv_dlm.generation.noise import Noise
from conv_dlm.generation.schedule import Step
from conv_dlm.generation.settings import Part, Registry, setting

RANKINGS = ("confidence", "margin", "entropy")
Head = dict[str, Tensor]  # weights of a rule's own, by name


class Statistics(dict[str, Tensor]):
    """Values by name, each [B, L, ...], of the last forward that predicted a position."""

    def __missing__(self, name: str) -> Tensor:
        raise KeyError(f"{name!r} was computed by nobody; name what gives it in the rule's `statistics`.")


@dataclass
class StepState:
    """All that a rule may look at in a step.

    canvas: as it was when the step began.
    step: its number, times and blocks.
    weights: FloatTensor [B, L]; s_i of the position weights.
    scope: BoolTensor [B, L]; positions of the block that the step belongs to; None for all.
    eligible: BoolTensor [B, L]; masks that the position weights let a step unmask.
    temperature: of the draws.
    noise, noise_keys: the draws of the run, and what they depend on in this step; for `uniform`.
    memory: what the rule said to be remembered in the step before, at first `UnmaskingRule.start`.
    token: LongTensor [B, L]; each position's candidate. Like all that follows, from the last forward that predicted
        a position, which need not be one of this step.
    log_prob: FloatTensor [B, L]; its log-probability.
    statistics: what the rule asks for by name, each [B, L, ...].
    find_fresh: makes `fresh`.
    extra_logits: Tensor [B, K, V], of the model's float type; of what the rule asked for by `UnmaskingRule.extra` at
        each row's last forward. None where it asked for nothing.
    end_token_ids: LongTensor [E]; None for none.
    assistant_logits: Tensor [B, K, V]; the causal model's, of what the rule asked it (`AssistedRule`).
    head: the weights of the rule's own, where it has any (`UnmaskingRule.head`).
    scope_length: masks that a block has at most.
    weigh: the position weights of this step, FloatTensor [B, L], on another canvas.
    shifted: whether the model's logits at a position predict the token at its right.
    eos_fill: whether end tokens follow as soon as a row has one.
    """

    canvas: Canvas
    step: Step
    weights: Tensor
    scope: Tensor | None
    eligible: Tensor
    temperature: float
    noise: Noise
    noise_keys: Tensor
    memory: Any
    token: Tensor
    log_prob: Tensor
    statistics: Statistics
    find_fresh: Callable[[], Tensor]
    extra_logits: Tensor | None = None
    end_token_ids: Tensor | None = None
    assistant_logits: Tensor | None = None
    head: Head | None = None
    scope_length: int = 0
    weigh: Callable[[Canvas], Tensor] = lambda canvas: canvas.ones
    shifted: bool = False
    eos_fill: bool = False

    @property
    def fresh(self) -> Tensor:
        """BoolTensor [B, L]: positions that a forward of this very step has predicted. None is before the forwards."""
        return self.find_fresh()

    @property
    def masks(self) -> Tensor:
        """BoolTensor [B, L]: masks of the block that the step belongs to."""
        return self.canvas.masked if self.scope is None else self.canvas.masked & self.scope

    def uniform(self, purpose: int) -> Tensor:
        """Draws in [0, 1), FloatTensor [B, L], that belong to row, step, position and `purpose`."""
        return self.noise.by_keys(self.noise_keys, purpose)


class Decision(NamedTuple):
    """What a rule makes of a step. What is masked again is so after the commit, and may be among it.

    commit: BoolTensor [B, L]; positions that get a token now. They may hold one already, which is rewritten.
    remask: BoolTensor [B, L]; positions that are masked again.
    tokens: LongTensor [B, L]; what is committed, where that is not each position's candidate.
    log_probs: FloatTensor [B, L]; log-probabilities of `tokens`, for the output; not a number where left out.
    memory: what `StepState.memory` is to be in the next step.
    end: LongTensor [B]; where rows end from now on, if farther than before; see `UnmaskingRule.first_end`.
    moved: LongTensor [B, L]; the position whose token, or mask, each position takes over after all that, where a rule
        inserts: tokens may stand elsewhere then.
    open: BoolTensor [B, L]; of a rule that masks again or rewrites, where it still may. What stands before all masks
        and open positions stays for good. None for the whole response.
    """

    commit: Tensor
    remask: Tensor | None = None
    tokens: Tensor | None = None
    log_probs: Tensor | None = None
    memory: Any = None
    end: Tensor | None = None
    moved: Tensor | None = None
    open: Tensor | None = None


@dataclass(frozen=True)
class UnmaskingRule(Part):
    """Base of all kinds. Everything is for each row by itself, in tensors of the run's device.

    statistics: names of what it looks at beside each position's candidate: "confidence", "mass" and "tempered_mass" of
        `Candidates`, or keys of `STATISTICS`.
    remasks: whether it masks positions again, or rewrites them. Then no token stays for sure before its row is
        finished, or `Decision.open` says so.
    within_block: whether it does so in the current block alone, where its type has blocks.
    greedy: whether it says the tokens by itself, so that nothing can be drawn at random.
    whole_canvas: whether it has blocks of its own, so that a model which sees block by block can't be denoised by it.
    several_blocks: whether it unmasks in several blocks of such a model at once; they are its `flight_length` then.
    reads_end: whether it has to know the end token.
    assisted: whether a causal model reads its drafts; see `parts.assisted`.
    moves: whether it may take positions out of the text, or put some in, so that tokens come to stand elsewhere.
    own_scores: whether it takes several steps at once, by scores that nothing but the model may have made.
    fills_ends: of those, whether it takes `eos_fill` into account in each of them (`StepState.eos_fill`).
    head: name of weights of its own, which lie beside the model's; see `parts.learned`.
    """

    statistics: ClassVar[tuple[str, ...]] = ()
    remasks: ClassVar[bool] = False
    within_block: ClassVar[bool] = False
    greedy: ClassVar[bool] = False
    whole_canvas: ClassVar[bool] = False
    several_blocks: ClassVar[bool] = False
    reads_end: ClassVar[bool] = False
    assisted: ClassVar[bool] = False
    moves: ClassVar[bool] = False
    own_scores: ClassVar[bool] = False
    fills_ends: ClassVar[bool] = False
    head: ClassVar[str | None] = None

    @classmethod
    def is_alone(cls) -> bool:
        """Whether a model is all that it needs: no assistant, and no weights of its own."""
        return not cls.assisted and cls.head is None

    def __call__(self, now: StepState) -> Decision:
        """What is committed, and masked again, after the forwards of a step."""
        raise NotImplementedError

    def asks(self) -> tuple[str, ...]:
        """The `statistics` that it looks at as it is set."""
        return self.statistics

    def block(self, canvas: Canvas, memory: Any, first: Tensor) -> Tensor:
        """LongTensor [B]: the block that each row is at, of its `memory` and the `first` block that has a mask."""
        return first

    def begin(self, now: StepState) -> Any:
        """What the step makes of `StepState.memory` before anything else is asked; the rest of the step finds that
        there. As it was by default."""
        return now.memory

    def wants(self, now: StepState) -> Tensor:
        """BoolTensor [B, L]: the positions that the step wants predicted, before its forwards. A row none of whose ids
        and wanted positions have changed since its last forward gets no new one."""
        return now.eligible

    def sight(self, now: StepState) -> Tensor | None:
        """LongTensor [B]: the positions from which on this step's forwards see nothing, as far as attention goes both
        ways. None for rules that look at all of the canvas."""
        return None

    def extra(self, now: StepState) -> Extra | None:
        """Positions to compute beside the canvas, in the step's own forward, before it: shadow positions, drafts,
        branches (see `branches`). Asked for in steps with a forward; rows that need none keep their last logits. The
        model has to take position ids and a mask for each query, and there can be no cache."""
        return None

    def finished(self, now: StepState) -> Tensor:
        """BoolTensor [B]: rows that need no further step; they change no more."""
        return ~now.canvas.masked.any(1)

    def max_steps(self, canvas: Canvas) -> int | None:
        """Steps that a run may take at most, after which what is left is filled; None for as many as it takes.

        By default none can take more than there are masks, for each step unmasks one, unless it masks some again.
        """
        return None if self.remasks else int(canvas.size.max())

    def start(self, canvas: Canvas) -> Any:
        """`StepState.memory` of the first step."""
        return None

    def first_end(self, canvas: Canvas) -> Tensor | None:
        """LongTensor [B]: where each row ends at first, for rules that choose the length of the text. What follows is
        out of the model's sight and no mask to be unmasked, until a decision says another `end`; the canvas's own end
        is the farthest. None for rules whose rows are as long as the canvas."""
        return None

    def check_head(self, head: Head, block: int) -> None:
        """Raise SettingError if these weights don't fit blocks of up to so many masks."""

    def processors(self) -> list[LogitsProcessor]:
        """What changes the scores before anything else looks at them, made anew for each run. One whose `__call__`
        takes `rows`, `positions` or `step` gets them."""
        return []


@dataclass(frozen=True)
class FixedStepsRule(UnmaskingRule):
    """Base of rules that share the canvas out over a number of steps."""

    steps: int = setting(128, "denoising steps, at most one forward each", low=1, source="arXiv 2509.15188")

    def max_steps(self, canvas: Canvas) -> int | None:
        return self.steps


@dataclass(frozen=True)
class ConfidenceBased(UnmaskingRule):
    """Base of rules that rank by confidence."""

    statistics = ("confidence",)
    confidence_eos_eot_inf: bool = setting(
        False, "unmask end tokens last: they get no confidence, and the others' is taken among the rest",
        source="LLaDA's released code",
    )  # fmt: skip


@dataclass(frozen=True)
class RankedRule(UnmaskingRule):
    """Base of rules that rank positions by how sure the model is of them, by `measure` where nobody says another."""

    measure: ClassVar[str] = "confidence"
    ranked_by: str | None = setting(
        None, "how sure the model is of a position: the probability of its token, what the best one's is above the "
        "next one's, or the entropy; by default confidence, for `ccd` entropy", choices=RANKINGS,
        source="Dream, arXiv 2508.15487",
    )  # fmt: skip

    def asks(self) -> tuple[str, ...]:
        return (self.ranked_by or self.measure,)

    def certainty(self, now: StepState) -> Tensor:
        """FloatTensor [B, L]: the greater the surer."""
        known, ranked_by = now.statistics, self.ranked_by or self.measure
        if ranked_by == "entropy":
            return -known["entropy"]
        if ranked_by == "margin":
            return -known["best_log_prob"].exp() * (-known["margin"]).expm1()
        return known["confidence"]

    def weighted(self, now: StepState) -> Tensor:
        """FloatTensor [B, L]: the same with s_i."""
        certainty = self.certainty(now)
        return torch.where(certainty < 0, certainty / now.weights, certainty * now.weights)


UNMASKING_RULES: Registry[type[UnmaskingRule]] = Registry("unmasking rule")


def best_per_row(score: Tensor, eligible: Tensor, count: Tensor) -> Tensor:
    """The `count` [B] highest-scoring `eligible` [B, L] positions of each row, or all of them: BoolTensor [B, L].

    Of equal scores those at the left.
    """
    order = score.masked_fill(~eligible, -torch.inf).argsort(dim=1, descending=True, stable=True)
    place = torch.arange(score.shape[1], device=score.device) < count[:, None]
    return eligible & torch.zeros_like(eligible).scatter(1, order, place)


def in_block(now: StepState) -> Tensor:
    """BoolTensor [B, L]: the positions of the step's block that were masks at first."""
    masks = now.canvas.mask_index >= 0
    return masks if now.scope is None else masks & now.scope


def or_best(chosen: Tensor, score: Tensor, among: Tensor) -> Tensor:
    """`chosen` [B, L]; in rows where it is empty, the position `among` [B, L] with the highest `score` [B, L]."""
    best = best_per_row(score, among, torch.ones_like(among[:, 0], dtype=torch.long))
    return torch.where(chosen.any(1, keepdim=True), chosen, best)
