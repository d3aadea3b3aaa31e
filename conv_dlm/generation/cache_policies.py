"""What a forward with a cache computes anew, and when it computes everything.

A row's forward is either *full*, over its whole canvas, or *partial*: over the positions of its policy, which read the
kept keys and values of the others. Everything is counted for each row by itself. Suffixes: B rows, L canvas positions.
"""

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.position_weights import count_known
from conv_dlm.generation.schedule import Step

if TYPE_CHECKING:
    from conv_dlm.generation.configuration import DiffusionGenerationConfig

NEVER = 1 << 30  # forwards since a full one, before the first


class Kept(NamedTuple):
    """What a row's cache is of.

    ids: LongTensor [B, L]; the token that stood at a position when its keys and values were computed; -1 if never.
    age: LongTensor [B]; forwards since the last full one, itself included.
    block: LongTensor [B]; the block that the row was at in its last full forward.
    """

    ids: Tensor
    age: Tensor
    block: Tensor

    @classmethod
    def nothing(cls, ids: Tensor) -> "Kept":
        return cls(torch.full_like(ids, -1), torch.full_like(ids[:, 0], NEVER), torch.full_like(ids[:, 0], -1))

    def after(
        self, ids: Tensor, seen: Tensor, computed: Tensor, full: Tensor, partial: Tensor, block: Tensor
    ) -> "Kept":
        """After forwards of the rows `full` and `partial` [B], the latter over `computed` [B, L], on `ids` [B, L] of
        which `seen` [B, L] was in sight."""
        of_full = torch.where(full[:, None], torch.where(seen, ids, -1), self.ids)
        kept_ids = torch.where(partial[:, None] & computed, ids, of_full)
        age = torch.where(full, 1, self.age + partial)
        return Kept(kept_ids, age, torch.where(full, block, self.block))


class CachePolicy:
    """Base of all kinds. `fields` names the config's fields that it reads; `needs_blocks` whether it is only for types
    that decide block by block; `frozen` whether text may change without being computed anew."""

    fields: ClassVar[tuple[str, ...]] = ()
    needs_blocks: ClassVar[bool] = False
    frozen: ClassVar[bool] = False

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        pass

    def is_due(self, kept: Kept, step: Step) -> Tensor:
        """BoolTensor [B]: whether a row's next forward is a full one."""
        raise NotImplementedError

    def computed(self, ids: Tensor, seen: Tensor, predicted: Tensor, scope: Tensor, kept: Kept) -> Tensor:
        """BoolTensor [B, L]: what a partial forward computes.

        ids: LongTensor [B, L]. seen: BoolTensor [B, L], positions in sight. predicted: BoolTensor [B, L], those whose
        logits are wanted, always among the result. scope: BoolTensor [B, L], positions of the block.
        """
        raise NotImplementedError


class PrefixPolicy(CachePolicy):
    """Keys and values before the block are kept while it is decided (Fast-dLLM, arXiv 2505.22618): a full forward on
    entering it, then the block and everything behind it."""

    needs_blocks = True
    frozen = True

    def is_due(self, kept: Kept, step: Step) -> Tensor:
        return kept.block != step.block

    def computed(self, ids: Tensor, seen: Tensor, predicted: Tensor, scope: Tensor, kept: Kept) -> Tensor:
        return ((predicted | scope).cumsum(1) > 0) & seen


class DualPolicy(PrefixPolicy):
    """Those behind the block are kept too (DualCache of arXiv 2505.22618): the block alone is computed, and its keys
    and values are replaced in place."""

    def computed(self, ids: Tensor, seen: Tensor, predicted: Tensor, scope: Tensor, kept: Kept) -> Tensor:
        return (predicted | scope) & seen


class WindowPolicy(CachePolicy):
    """Keys and values away from the window are kept: computed are the positions to be predicted, those whose token has
    changed since they were, and `cache_margin` positions on either side of both. Every `cache_refresh_interval`-th
    forward of a row is full: with 1 nothing is ever read from the cache, and the result is that of a run without."""

    fields = ("cache_refresh_interval", "cache_margin")

    def __init__(self, config: "DiffusionGenerationConfig") -> None:
        self.interval, self.margin = config.cache_refresh_interval, config.cache_margin

    def is_due(self, kept: Kept, step: Step) -> Tensor:
        return kept.age >= self.interval

    def computed(self, ids: Tensor, seen: Tensor, predicted: Tensor, scope: Tensor, kept: Kept) -> Tensor:
        changed = (ids != kept.ids) & seen
        return (count_known(predicted | changed, 2 * self.margin + 1) > 0) & seen


CACHE_POLICIES: dict[str, type[CachePolicy]] = {
    "prefix": PrefixPolicy,
    "dual": DualPolicy,
    "window": WindowPolicy,
}
