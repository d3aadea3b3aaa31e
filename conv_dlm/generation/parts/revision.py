"""Rules that take back what they have unmasked. Shapes: B rows, L canvas positions, E shadow positions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.extra import Extra, read_at
from conv_dlm.generation.parts.position_weights import BlockWeights
from conv_dlm.generation.parts.rules import (
    UNMASKING_RULES,
    Decision,
    FixedStepsRule,
    RankedRule,
    StepState,
    UnmaskingRule,
    best_per_row,
    or_best,
)
from conv_dlm.generation.settings import setting

BLOCK_LENGTH = BlockWeights.settings()["block_length"]
AT_FIRST = 30  # tokens that WINO's code takes for accepted before a block's first step
RCR_SCHEDULES = {"linear": lambda r: 1 - r, "cosine": lambda r: (torch.pi * r / 2).cos(), "pow2": lambda r: 1 - r**2}


@UNMASKING_RULES.register("wino")
@dataclass(frozen=True)
class WinoRule(UnmaskingRule):
    """WINO (arXiv 2507.18578): drafts everything above `wino_threshold`, and verifies the block's earlier tokens by
    *shadow positions*: masks that stand where they stand and see all but them. What has less than `verify_threshold`
    there is masked again, fewer than were accepted in the step before, so that every block ends.

    Where logits predict the token at the right, a copy of the token at its left is asked for each, which sees the
    shadows, and neither the token in question nor itself on the canvas."""

    statistics = ("confidence",)
    remasks = True
    within_block = True
    wino_threshold: float = setting(
        0.6, "confidence above which a token is drafted", low=0, high=1, source="arXiv 2507.18578"
    )
    verify_threshold: float = setting(
        0.9, "probability, seen from everywhere else, below which a token is masked again", low=0, high=1,
        source="arXiv 2507.18578",
    )  # fmt: skip

    def start(self, canvas: Canvas) -> tuple[Tensor, Tensor]:
        return torch.full_like(canvas.size, -1), torch.zeros_like(canvas.size)  # block; tokens accepted the step before

    def places(self, now: StepState) -> tuple[Tensor, Tensor]:
        """Positions of the block, LongTensor [B, E], and which of them are some, where it is shorter."""
        length = now.canvas.ids.shape[1]
        inside = now.canvas.mask_index >= 0
        inside = inside if now.scope is None else inside & now.scope
        places = torch.where(inside, now.canvas.positions, length).sort(1).values[:, : now.scope_length]
        return places.clamp(max=length - 1), places < length

    def extra(self, now: StepState) -> Extra:
        places, some = self.places(now)
        canvas = torch.ones(*places.shape, now.canvas.ids.shape[1], dtype=torch.bool, device=places.device)
        canvas = canvas.scatter(2, places[..., None], False)
        shadows = some[:, None].expand(-1, places.shape[1], -1)
        masks = torch.full_like(places, now.canvas.mask_token_id)
        if not now.shifted:
            return Extra(masks, places, torch.cat([canvas, shadows], 2))
        count = places.shape[1]
        readers, itself = read_at(places, now.canvas.start), torch.eye(count, device=places.device).bool()
        its = torch.where(readers == places, masks, now.canvas.ids.gather(1, readers))
        seen = torch.cat([canvas.scatter(2, readers[..., None], False), shadows, itself.expand_as(shadows)], 2)
        visible = torch.cat([torch.nn.functional.pad(torch.cat([canvas, shadows], 2), (0, count)), seen], 1)
        asked = torch.arange(count, 2 * count, device=places.device).expand_as(places)
        return Extra(torch.cat([masks, its], 1), torch.cat([places, readers], 1), visible, asked)

    def __call__(self, now: StepState) -> Decision:
        assert now.extra_logits is not None
        block, accepted = now.memory
        accepted = torch.where(block == now.step.block, accepted, AT_FIRST)
        confidence = now.statistics["confidence"]
        cap = (7 * now.masks.sum(1) // 10).clamp(5, 20)
        sure = best_per_row(confidence, now.masks & (confidence > self.wino_threshold), cap)
        commit = or_best(sure, confidence, now.masks)
        places, some = self.places(now)
        scores = now.extra_logits.float()
        its = scores.gather(2, now.canvas.ids.gather(1, places)[..., None])[..., 0]
        belief = (its - scores.logsumexp(-1)).exp()
        doubted = some & ~now.canvas.masked.gather(1, places) & (belief < self.verify_threshold)
        doubted = doubted & (commit.sum(1) > 1)[:, None]
        doubted = best_per_row(-belief, doubted, torch.minimum(doubted.sum(1), accepted - 1))
        again = torch.zeros_like(commit, dtype=torch.int).scatter_add(1, places, doubted.int()) > 0
        left = ((now.masks & ~commit) | again).any(1, keepdim=True)
        open_ = left.expand_as(commit) if now.scope is None else now.scope & left
        return Decision(commit, again, memory=(now.step.block, commit.sum(1)), open=open_)


@UNMASKING_RULES.register("rcr")
@dataclass(frozen=True)
class RcrRule(RankedRule, FixedStepsRule):
    """Running confidence remasking of MDPO (arXiv 2508.13148): each step unmasks everything up to the block's end, and
    masks again, of the whole row, the positions that were unmasked with the least confidence; by `rcr_schedule` fewer
    from step to step."""

    remasks = True
    rcr_schedule: str = setting(
        "linear", "how the masks that a step leaves become fewer", choices=tuple(RCR_SCHEDULES),
        source="arXiv 2508.13148",
    )  # fmt: skip

    def start(self, canvas: Canvas) -> tuple[Tensor, Tensor, Tensor]:
        none = torch.full_like(canvas.size, -1)
        return none, none, torch.zeros(canvas.ids.shape, device=canvas.ids.device)  # block, its steps, r

    def reached(self, now: StepState) -> Tensor:
        """BoolTensor [B, L]: the response up to the block's end."""
        free = now.canvas.mask_index >= 0
        if now.scope is None:
            return free
        return free & (now.canvas.positions <= torch.where(now.scope, now.canvas.positions, -1).amax(1, keepdim=True))

    def wants(self, now: StepState) -> Tensor:
        return now.canvas.masked & self.reached(now)

    def __call__(self, now: StepState) -> Decision:
        block, steps, running = now.memory
        left = now.step.rounds_left
        steps = torch.where(block == now.step.block, steps, left)
        reached = self.reached(now)
        commit = now.canvas.masked & reached
        running = torch.where(commit, self.certainty(now), running)
        size = reached if now.scope is None else reached & now.scope
        share = RCR_SCHEDULES[self.rcr_schedule]((steps - left + 1).double() / steps).clamp(1e-6, 1)
        count = torch.where(left > 1, (size.sum(1) * share).floor().long(), 0)
        return Decision(commit, best_per_row(-running, reached, count), memory=(now.step.block, steps, running))


@UNMASKING_RULES.register("saber")
@dataclass(frozen=True)
class SaberRule(UnmaskingRule):
    """Saber (arXiv 2510.18165): what is more confident than the tokens were on average when they were unmasked, or at
    least `saber_tokens`; then masks again the tokens whose confidence has fallen most, fewer than were unmasked. Goes
    on to the next block when all before its end is there, and may mask earlier blocks' tokens again."""

    statistics = ("confidence",)
    remasks = True
    whole_canvas = True
    saber_tokens: int = setting(
        2, "tokens that a step unmasks at least, as far as there are masks", low=1, source="arXiv 2510.18165"
    )
    block_length: int | None = BLOCK_LENGTH.field()

    def start(self, canvas: Canvas) -> tuple[Tensor, Tensor, Tensor]:
        none = torch.full(canvas.ids.shape, torch.nan, device=canvas.ids.device)
        return torch.zeros_like(canvas.size), none, torch.zeros_like(none)  # block; k, when unmasked; d, a step before

    def reached(self, now: StepState) -> Tensor:
        """BoolTensor [B, L]: the response up to the block's end."""
        index, length = now.canvas.mask_index, self.block_length or now.canvas.ids.shape[1]
        return (index >= 0) & (index < (now.memory[0] + 1)[:, None] * length)

    def wants(self, now: StepState) -> Tensor:
        return self.reached(now) & now.canvas.masked.any(1, keepdim=True)

    def __call__(self, now: StepState) -> Decision:
        block, unmasked_with, before = now.memory
        reached, masked, confidence = self.reached(now), now.canvas.masked, now.statistics["confidence"]
        scope, had = masked & reached, reached & ~unmasked_with.isnan()
        mean = torch.where(had, unmasked_with, 0).sum(1) / had.sum(1)
        enough = torch.where(had.any(1), mean, 1.0)[:, None]
        least = torch.full_like(block, self.saber_tokens)
        commit = (scope & (confidence > enough)) | best_per_row(confidence, scope, least)
        unmasked_with = torch.where(commit, confidence, unmasked_with)
        left = (scope & ~commit).any(1)
        count = torch.maximum(least, commit.sum(1))
        count = torch.minimum((least // 2).maximum(-(-count // 8)), count - 1)
        risen = confidence - before
        candidates = reached & (commit | ~masked) & risen.isfinite()
        again = best_per_row(-risen, candidates, torch.where(left, count, 0))
        before = torch.where(reached, confidence, -torch.inf)
        return Decision(commit, again, memory=(torch.where(left, block, block + 1), unmasked_with, before))
