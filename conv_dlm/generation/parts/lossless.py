"""FreeDave for any rule: as many of its steps in one forward as drafts foresee, the text unchanged (arXiv 2510.00294).

A draft is what the rule would do next if predictions stayed as they were. A step's forward computes the canvas and its
drafts side by side; a draft that is what the rule really does saves the forward of that step, for its own predictions
are there already. Shapes: B rows, L canvas positions, D drafts, W positions of a block.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.candidates import draw_candidates
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.extra import Extra, branches
from conv_dlm.generation.parts.confidence import EntropyRule, ThresholdRule
from conv_dlm.generation.parts.neighbours import LocalLeapRule
from conv_dlm.generation.parts.rules import (
    UNMASKING_RULES,
    Decision,
    FixedStepsRule,
    Statistics,
    StepState,
    UnmaskingRule,
    best_per_row,
)
from conv_dlm.generation.parts.statistics import STATISTICS
from conv_dlm.generation.settings import setting


class Known(NamedTuple):
    """What is predicted for a canvas, each [B, L]."""

    token: Tensor
    log_prob: Tensor
    statistics: dict[str, Tensor]


def with_ids(canvas: Canvas, ids: Tensor) -> Canvas:
    """A copy of `canvas` with other `ids` [B, L], of which its masks are no tokens yet."""
    canvas, masked = copy.copy(canvas), canvas.masked & (ids == canvas.mask_token_id)
    canvas.ids, canvas.masked = ids, masked
    return canvas


def on_branch(now: StepState, ids: Tensor, known: Known) -> StepState:
    """What a rule would look at if `ids` [B, L] were the canvas, of which that much is `known`."""
    canvas = with_ids(now.canvas, ids)
    weights = now.weigh(canvas)
    return dataclasses.replace(
        now, canvas=canvas, weights=weights, eligible=canvas.masked & (weights > 0), token=known.token,
        log_prob=known.log_prob, statistics=Statistics(known.statistics),
    )  # fmt: skip


def known_of_branches(now: StepState, places: Tensor, asked: Sequence[str]) -> list[Known]:
    """What the step's forward predicts in each branch beside the canvas, whose logits were wanted at the positions
    `places` [B, W], -1 for none: the best tokens, and the statistics that are `asked` for, which are of the scores
    alone."""
    assert now.extra_logits is not None
    length = now.canvas.ids.shape[1]
    cells = torch.where(places < 0, length, places)

    def spread(values: Tensor) -> Tensor:
        values = values.view(places.shape)
        return values.new_zeros(len(values), length + 1).scatter(1, cells, values)[:, :-1]

    found = []
    for logits in now.extra_logits.split(places.shape[1], 1):
        scores = logits.float().flatten(0, 1)
        best = draw_candidates(scores, 1, 0.0)
        values = {name: getattr(best, name) for name in asked if hasattr(best, name)}
        for name in asked:
            if name not in values:
                values |= STATISTICS[name]()(scores, None)  # type: ignore[arg-type]  # of the scores alone
        its = {name: spread(value) for name, value in values.items()}
        found.append(Known(spread(best.token), spread(best.log_prob), its))
    return found


@dataclass(frozen=True)
class OneRule(UnmaskingRule):
    """The most confident position, by confidence times s_i."""

    statistics = ("confidence",)

    def __call__(self, now: StepState) -> Decision:
        score = now.statistics["confidence"] * now.weights
        return Decision(best_per_row(score, now.eligible, torch.ones_like(now.canvas.size)))


@dataclass(frozen=True)
class LosslessRule(UnmaskingRule):
    """FreeDave (arXiv 2510.00294): the text of another rule, with fewer forwards; see `lossless`."""

    greedy = True
    own_scores = True
    fills_ends = True
    base: ClassVar[type[UnmaskingRule]]
    draft_steps: int = setting(
        3, "steps of the rule that are drafted beside the canvas in each forward", low=1, source="arXiv 2510.00294"
    )

    def decide(self, now: StepState) -> Decision:
        """What the rule itself does."""
        return self.base.__call__(self, now)

    def wants(self, now: StepState) -> Tensor:
        return now.masks

    def places(self, now: StepState) -> Tensor:
        """LongTensor [B, W]: positions whose logits a draft is asked for, -1 where there are fewer."""
        found = torch.where(now.masks, now.canvas.positions, -1)
        return found.topk(min(now.scope_length, found.shape[1]), dim=1).values

    def after(self, now: StepState, ids: Tensor, known: Known) -> Tensor:
        """The canvas [B, L] that the rule makes of `ids` [B, L] by what is `known`."""
        ids = torch.where(self.decide(on_branch(now, ids, known)).commit, known.token, ids)
        if not now.eos_fill or now.end_token_ids is None:
            return ids
        canvas = with_ids(now.canvas, ids)
        behind = canvas.behind(canvas.end_of_text(now.end_token_ids), now.end_token_ids)
        return torch.where(behind, now.end_token_ids[0], ids)

    def drafts(self, now: StepState) -> list[Tensor]:
        """The next D canvases if nothing that is predicted changed, each [B, L]; before the first forward, no news."""
        found, ids = [], now.canvas.ids
        for _ in range(self.draft_steps):
            ids = ids if now.memory is None else self.after(now, ids, now.memory)
            found.append(ids)
        return found

    def extra(self, now: StepState) -> Extra:
        ids = torch.stack(self.drafts(now), 1)
        wanted = self.places(now).clamp(min=0)[:, None].expand(-1, self.draft_steps, -1)
        return branches(now.canvas, ids, wanted, shifted=now.shifted)

    def predicted(self, now: StepState) -> list[Known]:
        """What each draft's forward predicts."""
        return known_of_branches(now, self.places(now), self.statistics)

    def __call__(self, now: StepState) -> Decision:
        known = Known(now.token, now.log_prob, dict(now.statistics))
        right = torch.ones_like(now.canvas.masked[:, :1])
        reached, log_probs = now.canvas.ids, torch.zeros_like(now.log_prob)
        for draft, its in zip([None, *self.drafts(now)], [known, *self.predicted(now)], strict=True):
            if draft is not None:
                right = right & (draft == reached).all(1, keepdim=True)
                known = _where(right, its, known)
            ahead = torch.where(right, self.after(now, reached, known), reached)
            its_own = torch.where(ahead == known.token, known.log_prob, 0.0)  # of end tokens that follow, nothing
            log_probs = torch.where(ahead != reached, its_own, log_probs)
            reached = ahead
        return Decision(reached != now.canvas.ids, tokens=reached, log_probs=log_probs, memory=known)


def _where(rows: Tensor, yes: Known, no: Known) -> Known:
    statistics = {name: torch.where(rows, value, no.statistics[name]) for name, value in yes.statistics.items()}
    return Known(torch.where(rows, yes.token, no.token), torch.where(rows, yes.log_prob, no.log_prob), statistics)


def lossless(base: type[UnmaskingRule]) -> type[UnmaskingRule]:
    """The rule that gives the text of `base` token for token, with fewer forwards; to be registered under a name.

    base: goes at its own pace, masks nothing again, and remembers nothing; its statistics are of the scores alone.

    Raises:
        ValueError: it is another kind of rule.
    """
    plain = not any(
        STATISTICS[name].settings() or STATISTICS[name].remembers or STATISTICS[name].wide
        for name in base.statistics
        if name in STATISTICS
    )
    if issubclass(base, FixedStepsRule) or base.remasks or base.extra is not UnmaskingRule.extra or not plain:
        raise ValueError(
            f"{base.__name__} can't be drafted: give `lossless` a rule that has no `steps`, masks nothing again and "
            "remembers nothing."
        )
    name = f"Lossless{base.__name__}"
    namespace: dict[str, Any] = {"base": base, "__doc__": f"{LosslessRule.__doc__} Of: {base.__doc__}"}
    return dataclass(frozen=True)(type(name, (LosslessRule, base), {**namespace, "statistics": base.statistics}))


UNMASKING_RULES.register("freedave", lossless(OneRule))
UNMASKING_RULES.register("freedave_threshold", lossless(ThresholdRule))
UNMASKING_RULES.register("freedave_entropy", lossless(EntropyRule))
UNMASKING_RULES.register("freedave_localleap", lossless(LocalLeapRule))
