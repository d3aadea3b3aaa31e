"""What a forward with a cache computes anew, and when it computes everything.

A row's forward is either *full*, over its whole canvas, or *partial*: over the positions of its policy, which read the
kept keys and values of the others. Everything is counted for each row by itself. Shapes: B rows, L canvas positions.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.parts.position_weights import BlockWeights, count_known
from conv_dlm.generation.schedule import Step
from conv_dlm.generation.settings import Part, Registry, setting

NEVER = 1 << 30  # forwards since a full one, before the first


class CacheState(NamedTuple):
    """What each row's cache currently holds.

    ids: LongTensor [B, L]; the token that stood at a position when its keys and values were computed; -1 if never.
    age: LongTensor [B]; forwards since the last full one, itself included.
    block: LongTensor [B]; the block that the row was at in its last full forward.
    """

    ids: Tensor
    age: Tensor
    block: Tensor

    @classmethod
    def empty(cls, ids: Tensor) -> "CacheState":
        return cls(torch.full_like(ids, -1), torch.full_like(ids[:, 0], NEVER), torch.full_like(ids[:, 0], -1))


class Situation(NamedTuple):
    """What a policy may look at before a step's forwards.

    ids: LongTensor [B, L].
    seen: BoolTensor [B, L]; positions in the model's sight.
    predicted: BoolTensor [B, L]; those whose logits are wanted.
    scope: BoolTensor [B, L]; positions of the block, None for all.
    kept: what the cache holds.
    step: the step.
    blocks: LongTensor [B, L]; with block-causal attention, the block of each position, -1 for padding; else None.
    places: LongTensor [B, L]; and its place in that block, from 0.
    masked: BoolTensor [B, L]; masks.
    """

    ids: Tensor
    seen: Tensor
    predicted: Tensor
    scope: Tensor | None
    kept: CacheState
    step: Step
    blocks: Tensor | None
    places: Tensor | None
    masked: Tensor


@dataclass(frozen=True)
class CachePolicy(Part):
    """Base of all kinds.

    needs_blocks: whether it is only for types that unmask block by block.
    frozen: whether text may change without being computed anew.
    block_causal: whether it is for block-causal models alone.
    exact: whether it changes no result.
    """

    needs_blocks: ClassVar[bool] = False
    frozen: ClassVar[bool] = False
    block_causal: ClassVar[bool] = False
    exact: ClassVar[bool] = False

    def is_due(self, now: Situation) -> Tensor:
        """BoolTensor [B]: whether a row's next forward is a full one."""
        raise NotImplementedError

    def computed(self, now: Situation) -> Tensor:
        """BoolTensor [B, L]: what a partial forward computes, the predicted positions among it."""
        raise NotImplementedError


CACHE_POLICIES: Registry[type[CachePolicy]] = Registry("cache policy")


def _with_scope(now: Situation) -> Tensor:
    return now.predicted if now.scope is None else now.predicted | now.scope


@CACHE_POLICIES.register("prefix")
@dataclass(frozen=True)
class PrefixPolicy(CachePolicy):
    """Keys and values before the block are kept while it is denoised (Fast-dLLM, arXiv 2505.22618): a full forward on
    entering it, then the block and everything behind it."""

    needs_blocks = True
    frozen = True

    def is_due(self, now: Situation) -> Tensor:
        return now.kept.block != now.step.block

    def computed(self, now: Situation) -> Tensor:
        if now.scope is None:
            return now.seen
        return (_with_scope(now).cumsum(1) > 0) & now.seen


@CACHE_POLICIES.register("dual")
@dataclass(frozen=True)
class DualPolicy(PrefixPolicy):
    """Those behind the block are kept too (DualCache of arXiv 2505.22618): the block alone is computed, and its keys
    and values are replaced in place."""

    def computed(self, now: Situation) -> Tensor:
        if now.scope is None:
            return now.seen
        # what has come into sight since the block was entered was never computed
        return (_with_scope(now) | (now.kept.ids == -1)) & now.seen


@CACHE_POLICIES.register("window")
@dataclass(frozen=True)
class WindowPolicy(CachePolicy):
    """Keys and values away from the window are kept: computed are the positions to be predicted, those whose token has
    changed since they were, and `cache_margin` positions on either side of both. Every `cache_refresh_interval`-th
    forward of a row is full: with 1 nothing is ever read from the cache, and the result is that of a run without."""

    cache_refresh_interval: int = setting(
        16, "recompute the whole canvas every N forwards of a row; 1 is exact, and saves nothing", low=1
    )
    cache_margin: int = setting(
        0, "positions on either side of what a forward has to compute that are computed too", low=0
    )

    def is_due(self, now: Situation) -> Tensor:
        return now.kept.age >= self.cache_refresh_interval

    def computed(self, now: Situation) -> Tensor:
        near = now.predicted | ((now.ids != now.kept.ids) & now.seen)
        if self.cache_margin:
            near = count_known(near, 2 * self.cache_margin + 1) > 0
        return near & now.seen


@CACHE_POLICIES.register("block")
@dataclass(frozen=True)
class BlockPolicy(CachePolicy):
    """The prefix cache of block-causal models: a forward computes the blocks from the first changed token on, and reads
    those before, which nothing can have changed. Exact."""

    block_causal = True
    exact = True

    def is_due(self, now: Situation) -> Tensor:
        return torch.zeros_like(now.kept.age, dtype=torch.bool)

    def computed(self, now: Situation) -> Tensor:
        assert now.blocks is not None
        stale = (now.predicted | (now.ids != now.kept.ids)) & now.seen
        first = torch.where(stale, now.blocks, now.blocks.amax() + 1).amin(1, keepdim=True)
        return (now.blocks >= first) & now.seen


@CACHE_POLICIES.register("sub_block")
@dataclass(frozen=True)
class SubBlockPolicy(BlockPolicy):
    """The sub-block cache of Fast-dLLM v2 (arXiv 2509.26328), beside that of finished blocks: a forward computes the
    sub-block that is being unmasked, of `block_length` positions, and reads the rest of its block as it was; all of the
    block on entering it, and as long as the first position of the sub-block is masked."""

    needs_blocks = True
    frozen = True
    exact = False
    block_length: int | None = BlockWeights.settings()["block_length"].field()

    def computed(self, now: Situation) -> Tensor:
        whole, size = super().computed(now), self.block_length
        if now.scope is None or size is None:
            return whole
        assert now.blocks is not None and now.places is not None
        part = now.places // size
        block, its_part = (torch.where(now.scope, x, -1).amax(1, keepdim=True) for x in (now.blocks, part))
        current = (now.blocks == block) & (part == its_part)
        new = (now.kept.ids == -1) | (~now.masked & (now.ids != now.kept.ids))
        unknown = current & now.masked & (now.places % size == 0)
        others = ~current | (now.places == 0)  # a block's first token comes from the block before it
        outdated = unknown | (new & others & (now.blocks <= block) & now.seen)
        return torch.where(outdated.any(1, keepdim=True), whole, current & now.seen)
