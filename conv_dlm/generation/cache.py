"""Keys and values of a canvas, so that a forward computes the positions that matter and reads the others.

Attention goes both ways: what is kept was right when it was computed, and grows stale as text is unmasked. So a cache
trades exactness for speed, and is opt-in; `cache_policies` says what is computed anew and when everything is.
Shapes: B rows, L canvas positions, R rows of a forward, A computed positions, H key heads, D head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin


class Selection:
    """What the forward that is running computes; one for all layers.

    rows: LongTensor [R] of the cache's rows, None for all.
    column: LongTensor [R, 1]; the same as an index beside positions.
    positions: LongTensor [R, A], None for all positions before `end`. One that stands twice is computed twice.
    active: BoolTensor [R, 1, 1, 1]; rows whose keys and values are kept, None for all. The others only make up the
        number, so that compiled code sees one shape, and no part of the cache has to be copied out for it.
    end: positions from here on are out of sight.
    """

    rows: Tensor | None = None
    column: Tensor | None = None
    positions: Tensor | None = None
    active: Tensor | None = None
    end: int = 0


class CanvasLayer(CacheLayerMixin):
    """A layer's keys and values, each [B, H, L, D]; written where the forward computes, read before `end`."""

    is_compileable = True

    def __init__(self, selection: Selection, rows: int, length: int) -> None:
        super().__init__()
        self.selection, self.rows, self.length = selection, rows, length

    @torch.compiler.disable  # for a model compiled in place: what is made here outlives the compiled call
    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        for name, states in (("keys", key_states), ("values", value_states)):
            shape = (self.rows, states.shape[1], self.length + 1, states.shape[3])  # the last one is for `active`
            kept = torch.zeros(shape, dtype=states.dtype, device=states.device)
            torch._dynamo.mark_static_address(kept)  # a CUDA graph may write to it in place
            setattr(self, name, kept)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keep keys and values [R, H, A, D] of the selected positions; returns those of all positions in sight."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _write(self, kept: Tensor, states: Tensor) -> Tensor:
        now = self.selection
        rows = None if now.rows is None else now.rows.to(kept.device)
        if now.positions is None:
            if now.active is not None:
                kept[:, :, : now.end] = torch.where(now.active.to(kept.device), states, kept[:, :, : now.end])
            elif rows is None:
                kept[:, :, : now.end] = states
            else:
                kept[rows, :, : now.end] = states
            return states  # as it is: a forward over everything is that of a model without cache
        assert now.column is not None
        kept[now.column.to(kept.device), :, now.positions.to(kept.device)] = states.transpose(1, 2)
        return kept[:, :, : now.end] if rows is None else kept[rows, :, : now.end]

    def start_with(self, row: int, place: slice, keys: Tensor, values: Tensor) -> None:
        """Have `keys` and `values` [H, N, D] at positions of a row, before the first forward."""
        if not self.is_initialized:
            self.lazy_initialization(keys[None], values[None])
        assert self.keys is not None and self.values is not None
        self.keys[row, :, place], self.values[row, :, place] = keys, values

    def copy_of(self, row: int, place: slice) -> tuple[Tensor, Tensor]:
        """Keys and values [H, N, D] at positions of a row."""
        assert self.keys is not None and self.values is not None
        return self.keys[row, :, place].clone(), self.values[row, :, place].clone()

    def keep_rows(self, rows: Tensor) -> None:
        if self.is_initialized:
            assert self.keys is not None and self.values is not None
            self.keys, self.values = self.keys[rows.to(self.keys.device)], self.values[rows.to(self.values.device)]
        self.rows = len(rows)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.selection.end, 0

    def get_seq_length(self) -> int:
        return 0  # nothing comes before the canvas

    def get_max_length(self) -> int:
        return self.length


class CanvasCache(Cache):
    """Keys and values of the rows that are not finished yet.

    model: one that supports a canvas cache; see `capabilities`.
    rows: B.
    length: L.
    copies: canvases of each row, 2 with classifier-free guidance; those of one kind follow each other.
    """

    def __init__(self, model: PreTrainedModel, rows: int, length: int, copies: int = 1) -> None:
        self.selection, self.copies, self.length = Selection(), copies, length
        self.held = list(range(rows))
        self._uploaded: dict[tuple[int, ...], Tensor] = {}
        layers = model.config.get_text_config().num_hidden_layers
        super().__init__(layers=[CanvasLayer(self.selection, copies * rows, length) for _ in range(layers)])

    def select(
        self,
        rows: Sequence[int],
        positions: Tensor | None,
        end: int,
        device: torch.device,
        active: Tensor | None = None,
    ) -> None:
        """Say what the next forward computes: of `rows` the `positions` [R, A], or all; see `Selection`.

        active: BoolTensor [R]; None for all.
        """
        now = self.selection
        place = {row: index for index, row in enumerate(self.held)}
        local = tuple(len(self.held) * copy + place[row] for copy in range(self.copies) for row in rows)
        everything = local == tuple(range(self.copies * len(self.held)))
        if local not in self._uploaded:
            self._uploaded[local] = upload(local, device)
        index = self._uploaded[local]
        now.rows, now.column, now.end = None if everything else index, index[:, None], end
        now.active = None if active is None else active.repeat(self.copies)[:, None, None, None]
        if positions is not None and active is not None:
            positions = torch.where(active[:, None], positions, self.length)
        now.positions = positions if positions is None or self.copies == 1 else positions.repeat(self.copies, 1)

    def forget_all_but(self, rows: Sequence[int], device: torch.device) -> None:
        """Let go of rows that are finished; `rows` are the others."""
        left = set(rows)
        staying = [index for index, row in enumerate(self.held) if row in left]
        if len(staying) < len(self.held):
            index = upload([len(self.held) * copy + kept for copy in range(self.copies) for kept in staying], device)
            for layer in self.layers:
                assert isinstance(layer, CanvasLayer)
                layer.keep_rows(index)
            self.held = [self.held[index] for index in staying]


def upload(values: Sequence[int], device: torch.device) -> Tensor:
    """LongTensor [N] of numbers that Python knows, on a device that doesn't wait for them."""
    tensor = torch.tensor(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
