"""Rules with several blocks in flight at once. Shapes: B rows, L canvas positions, N blocks."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.confidence import ThresholdRule
from conv_dlm.generation.parts.rules import (
    UNMASKING_RULES,
    Decision,
    RankedRule,
    StepState,
    UnmaskingRule,
    best_per_row,
)
from conv_dlm.generation.settings import setting


class Flight(NamedTuple):
    """Which blocks are in flight.

    opened: LongTensor [B]; how many, from the first one on.
    full: BoolTensor [B, N]; those that unmask something in each step.
    """

    opened: Tensor
    full: Tensor


def masks_of_blocks(canvas: Canvas, block: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Masks that each block has, and had at first, both LongTensor [B, N]; `block` [B, L] is -1 outside of all."""
    none = torch.zeros(len(block), count, dtype=torch.long, device=block.device)
    cells, its = block.clamp(min=0), block >= 0
    return none.scatter_add(1, cells, (canvas.masked & its).long()), none.scatter_add(1, cells, its.long())


def best_of_blocks(score: Tensor, eligible: Tensor, block: Tensor, count: int) -> Tensor:
    """The `eligible` position of each block with the highest `score`, of equal ones the first; all [B, L]."""
    cells, length = block.clamp(min=0), score.shape[1]
    score = score.masked_fill(~eligible, -torch.inf)
    top = score.new_full((len(score), count), -torch.inf).scatter_reduce(1, cells, score, "amax")
    place = torch.arange(length, device=score.device).expand_as(block)
    among = torch.where(eligible & (score == top.gather(1, cells)), place, length)
    first = torch.full_like(top, length, dtype=torch.long).scatter_reduce(1, cells, among, "amin")
    return eligible & (place == first.gather(1, cells))


@dataclass(frozen=True)
class FlightRule(UnmaskingRule):
    """Base of both kinds: a block opens when the one before it has come far enough, and is *full* when it has come
    farther. A block that isn't full may wait.

    open_at_first: blocks that are open before the first step.
    """

    open_at_first: ClassVar[int] = 1
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
        index = canvas.mask_index if canvas.block_index is None else canvas.block_index
        return torch.where(canvas.mask_index >= 0, index.div(self.flight_length, rounding_mode="floor"), -1)

    def start(self, canvas: Canvas) -> Any:
        return self.flight_at_first(canvas)

    def flight_at_first(self, canvas: Canvas) -> Flight:
        """The blocks that are in flight before the first step."""
        count = -(-canvas.ids.shape[1] // self.flight_length) + 1
        full = torch.zeros(len(canvas.ids), count, dtype=torch.bool, device=canvas.ids.device)
        return Flight(torch.full_like(canvas.size, self.open_at_first), full)

    def begin(self, now: StepState) -> Any:
        return self.next_flight(now, now.memory)

    def flight(self, now: StepState) -> Flight:
        """The blocks that are in flight in this step."""
        assert isinstance(now.memory, Flight)
        return now.memory

    def next_flight(self, now: StepState, before: Flight) -> Flight:
        """The blocks that are in flight in this step, after those `before`."""
        (opened, full), block = before, self.blocks(now.canvas)
        masks, size = masks_of_blocks(now.canvas, block, full.shape[1])
        progress = 1 - masks / size.clamp(min=1)
        left = torch.nn.functional.pad(progress, (1, 0), value=1.0)  # the text before the first block is there
        more = left.gather(1, opened[:, None])[:, 0] >= self.block_add_threshold
        more = more & (opened <= block.amax(1)) & ~now.canvas.end_of_text(now.end_token_ids).any(1)
        opened = torch.maximum(opened + more, (masks > 0).int().argmax(1) + 1)
        number = torch.arange(full.shape[1], device=full.device)
        return Flight(opened, (left[:, :-1] >= self.decoded_token_threshold) & (number < opened[:, None]))

    def wants(self, now: StepState) -> Tensor:
        return now.eligible & (self.blocks(now.canvas) < self.flight(now).opened[:, None])


@UNMASKING_RULES.register("multiblock")
@dataclass(frozen=True)
class MultiblockRule(FlightRule):
    """Entropy multi-block of d3LLM (arXiv 2601.07568), with full attention: a step unmasks what is certain enough in
    all opened blocks, the most certain of them, and one of the first full block that is not complete."""

    statistics = ("entropy",)
    whole_canvas = True
    multiblock_entropy: float = setting(
        0.5, "nats of entropy, over s_i, up to which a position of an opened block is unmasked", low=0,
        source="arXiv 2601.07568",
    )  # fmt: skip

    def __call__(self, now: StepState) -> Decision:
        flight, block = self.flight(now), self.blocks(now.canvas)
        eligible = now.eligible & (block < flight.opened[:, None])
        entropy = now.statistics["entropy"] / now.weights
        one = torch.ones_like(flight.opened)
        commit = eligible & (entropy <= self.multiblock_entropy) | best_per_row(-entropy, eligible, one)
        waiting = flight.full & (masks_of_blocks(now.canvas, block, flight.full.shape[1])[0] > 0)
        first = torch.where(waiting.any(1), waiting.int().argmax(1), -2)
        its = eligible & (block == first[:, None])
        forced = best_per_row(-entropy, its, one) & ~(commit & its).any(1, keepdim=True)
        return Decision(commit | forced, memory=flight)


@UNMASKING_RULES.register("d2f")
@dataclass(frozen=True)
class D2fRule(RankedRule, FlightRule):
    """D2F (arXiv 2508.09192): a step unmasks what reaches `threshold`, times s_i, in all opened blocks, and the best
    one of each full block that has nothing else. Blocks that aren't open are out of sight. For models that see block by
    block, whose blocks these are; others see all that is open."""

    several_blocks = True
    open_at_first = 0
    threshold: float = ThresholdRule.settings()["threshold"].field()

    def asks(self) -> tuple[str, ...]:
        return ("confidence", *super().asks())

    def sight(self, now: StepState) -> Tensor:
        return self.end_of_flight(now.canvas, self.flight(now))

    def end_of_flight(self, canvas: Canvas, flight: Flight) -> Tensor:
        """LongTensor [B]: where the first block that isn't open begins."""
        closed = self.blocks(canvas) >= flight.opened[:, None]
        return torch.where(closed, canvas.positions, canvas.ids.shape[1]).amin(1)

    def commits(self, now: StepState, flight: Flight) -> Tensor:
        """BoolTensor [B, L]: what the step unmasks."""
        block = self.blocks(now.canvas)
        eligible = now.eligible & (block < flight.opened[:, None])
        sure = eligible & (now.statistics["confidence"] * now.weights >= self.threshold)
        count = flight.full.shape[1]
        some = torch.zeros_like(flight.full, dtype=torch.long).scatter_add(1, block.clamp(min=0), sure.long()) > 0
        its = eligible & (flight.full & ~some).gather(1, block.clamp(min=0))
        return sure | best_of_blocks(self.weighted(now), its, block, count)

    def __call__(self, now: StepState) -> Decision:
        flight = self.flight(now)
        return Decision(self.commits(now, flight), memory=flight)
