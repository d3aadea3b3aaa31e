"""Several blocks in flight at once. Shapes: B rows, L canvas positions, N blocks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, UnmaskingRule, best_per_row
from conv_dlm.generation.settings import setting


@UNMASKING_RULES.register("multiblock")
@dataclass(frozen=True)
class MultiblockRule(UnmaskingRule):
    """Entropy multi-block of D2F and d3LLM (arXiv 2508.09192, 2601.07568), with full attention: a block opens when the
    one before it has come far enough, and is *full* when it has come farther; a step unmasks what is certain enough in
    all opened blocks, the most certain of them, and one of the first full block that is not complete."""

    statistics = ("entropy",)
    whole_canvas = True
    multiblock_entropy: float = setting(
        0.5, "nats of entropy, over s_i, up to which a position of an opened block is unmasked", low=0,
        source="arXiv 2601.07568",
    )  # fmt: skip
    block_add_threshold: float = setting(
        0.5, "share of the last opened block that is there when the next one opens", low=0, high=1,
        source="arXiv 2601.07568",
    )  # fmt: skip
    decoded_token_threshold: float = setting(
        0.5, "share of a block that is there when the one behind it becomes full", low=0, high=1,
        source="arXiv 2601.07568",
    )  # fmt: skip
    flight_length: int = setting(32, "positions of each of the blocks in flight", low=1, source="arXiv 2601.07568")

    def blocks(self, canvas: Canvas) -> Tensor:
        """LongTensor [B, L]: each position's block, -1 for none."""
        return canvas.mask_index.div(self.flight_length, rounding_mode="floor")

    def start(self, canvas: Canvas) -> tuple[Tensor, Tensor]:
        count = -(-canvas.ids.shape[1] // self.flight_length)
        full = torch.zeros(len(canvas.ids), count, dtype=torch.bool, device=canvas.ids.device)
        full[:, 0] = True
        return torch.ones_like(canvas.size), full  # opened blocks

    def opened(self, now: StepState) -> tuple[Tensor, Tensor, Tensor]:
        """How many blocks are open in this step, LongTensor [B]; which of them are full, and masks of all, [B, N]."""
        opened, full = now.memory
        block = self.blocks(now.canvas)
        free = torch.zeros_like(full, dtype=torch.long)
        masks = free.scatter_add(1, block.clamp(min=0), (now.canvas.masked & (block >= 0)).long())
        size = free.scatter_add(1, block.clamp(min=0), (block >= 0).long())
        progress = 1 - masks / size.clamp(min=1)
        number = torch.arange(full.shape[1], device=full.device)
        last = progress.gather(1, opened[:, None] - 1)[:, 0]
        more = (opened * self.flight_length < now.canvas.size) & (last >= self.block_add_threshold)
        opened = opened + more
        left = torch.nn.functional.pad(progress[:, :-1], (1, 0), value=1.0)
        full = full | ((left >= self.decoded_token_threshold) & (number < opened[:, None]))
        return opened, full, masks

    def wants(self, now: StepState) -> Tensor:
        return now.eligible & (self.blocks(now.canvas) < self.opened(now)[0][:, None])

    def __call__(self, now: StepState) -> Decision:
        opened, full, masks = self.opened(now)
        block = self.blocks(now.canvas)
        eligible = now.eligible & (block < opened[:, None])
        entropy = now.statistics["entropy"] / now.weights
        one = torch.ones_like(opened)
        commit = eligible & (entropy <= self.multiblock_entropy) | best_per_row(-entropy, eligible, one)
        waiting = full & (masks > 0)
        first = torch.where(waiting.any(1), waiting.int().argmax(1), -2)
        its = eligible & (block == first[:, None])
        forced = best_per_row(-entropy, its, one) & ~(commit & its).any(1, keepdim=True)
        return Decision(commit | forced, memory=(opened, full))
