"""A rule that goes on rewriting what it has unmasked. Shapes: B rows, L canvas positions."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.confidence import ThresholdRule
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, UnmaskingRule, best_per_row
from conv_dlm.generation.settings import setting


class Edited(NamedTuple):
    """What the rule remembers of the block that each row is at.

    block: LongTensor [B].
    masked_rounds, rounds: LongTensors [B]; forwards made while it had masks, and since there was none.
    open: BoolTensor [B, L]; its positions, until it is done.
    """

    block: Tensor
    masked_rounds: Tensor
    rounds: Tensor
    open: Tensor

    def still_open(self, canvas: Canvas) -> Tensor:
        """BoolTensor [B, L]: what is open and has not been cut off."""
        return self.open & (canvas.positions < canvas.end[:, None])


@UNMASKING_RULES.register("editing")
@dataclass(frozen=True)
class EditingRule(UnmaskingRule):
    """Token editing, LLaDA2.1's joint threshold (arXiv 2602.08676): a forward unmasks what reaches `threshold`, and
    rewrites tokens of the block for which the model is surer of another one than `editing_threshold`. Where no mask is
    left, it goes on until nothing changes, `max_post_steps` forwards at most. For models that are trained to edit."""

    statistics = ("confidence",)
    remasks = True
    within_block = True
    threshold: float = ThresholdRule.settings()["threshold"].field()
    editing_threshold: float = setting(
        0.9, "probability of another token above which it takes the place of the one that is there", low=0, high=1,
        source="LLaDA2.1, arXiv 2602.08676",
    )  # fmt: skip
    editing_tokens: int = setting(
        1, "tokens that a step of `editing` unmasks at least, as far as there are masks", low=1,
        source="LLaDA2.1, arXiv 2602.08676",
    )  # fmt: skip
    editing_steps: int | None = setting(
        None, "forwards in which `editing` unmasks all of a block: each an equal share of its length at least", low=1,
        source="Diffusers' pipeline of LLaDA2",
    )  # fmt: skip
    max_post_steps: int = setting(
        16, "forwards that a block gets at most when it has no mask left", low=0, source="LLaDA2.1, arXiv 2602.08676"
    )

    def start(self, canvas: Canvas) -> Edited:
        none = torch.zeros_like(canvas.size)
        return Edited(none, none, none, torch.zeros_like(canvas.masked))

    def block(self, canvas: Canvas, memory: Edited, first: Tensor) -> Tensor:
        return torch.where(memory.still_open(canvas).any(1), memory.block, first)

    def its_block(self, now: StepState) -> Tensor:
        """BoolTensor [B, L]: positions of the block that are no prompt."""
        free = (now.canvas.mask_index >= 0) & (now.canvas.positions < now.canvas.end[:, None])
        return free if now.scope is None else free & now.scope

    def wants(self, now: StepState) -> Tensor:
        return self.its_block(now) & (now.weights > 0)

    def finished(self, now: StepState) -> Tensor:
        return ~(now.canvas.masked | now.memory.still_open(now.canvas)).any(1)

    def least(self, now: StepState, round_: Tensor) -> Tensor:
        """LongTensor [B]: how many masks a forward unmasks at least, of the `round_` [B] in its block."""
        least = torch.full_like(round_, self.editing_tokens)
        if self.editing_steps is None:
            return least
        length = now.canvas.size.clamp(max=now.scope_length)
        return least.maximum(length // self.editing_steps + (round_ < length % self.editing_steps).long())

    def __call__(self, now: StepState) -> Decision:
        its, confidence = self.its_block(now), now.statistics["confidence"]
        score = confidence * now.weights
        before, has_masks = now.memory, now.masks.any(1)
        masked_rounds = torch.where(before.block == now.step.block, before.masked_rounds, 0)
        sure = now.eligible & (score >= self.threshold)
        unmasked = sure | best_per_row(score, now.eligible, self.least(now, masked_rounds))
        other = (now.token != now.canvas.ids) & (confidence > self.editing_threshold)
        edited = its & ~now.canvas.masked & other
        rounds = torch.where(has_masks, 0, before.rounds + 1)
        calm = ~has_masks & ~edited.any(1)
        done = ~(now.masks & ~unmasked).any(1) & (calm | (rounds >= self.max_post_steps))
        left = its & ~done[:, None]
        memory = Edited(now.step.block, masked_rounds + has_masks, rounds, left)
        return Decision(unmasked | edited, memory=memory, open=left)
