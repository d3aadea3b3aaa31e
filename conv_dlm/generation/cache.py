"""Keys and values of a canvas, so that a forward computes the positions that matter and reads the others.

Attention goes both ways: what is kept was right when it was computed, and grows stale as text is decided. So a cache
trades exactness for speed, and is opt-in; `cache_policies` says what is computed anew and when everything is.
Suffixes: B rows, L canvas positions, R rows of a forward, A computed positions, H key heads, D head size.
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
    positions: LongTensor [R, A], None for all positions before `end`. One that stands twice is computed twice.
    end: positions from here on are out of sight.
    """

    rows: Tensor | None = None
    positions: Tensor | None = None
    end: int = 0


class CanvasLayer(CacheLayerMixin):
    """A layer's keys and values, each [B, H, L, D]; written where the forward computes, read before `end`."""

    is_compileable = True

    def __init__(self, selection: Selection, rows: int, length: int) -> None:
        super().__init__()
        self.selection, self.rows, self.length = selection, rows, length

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        for name, states in (("keys", key_states), ("values", value_states)):
            shape = (self.rows, states.shape[1], self.length, states.shape[3])
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
        rows, positions, end = self.selection.rows, self.selection.positions, self.selection.end
        rows = None if rows is None else rows.to(kept.device)
        if positions is None:
            if rows is None:
                kept[:, :, :end] = states
            else:
                kept[rows, :, :end] = states
            return states  # as it is: a forward over everything is that of a model without cache
        every_row = torch.arange(kept.shape[0], device=kept.device) if rows is None else rows
        kept[every_row[:, None], :, positions.to(kept.device)] = states.transpose(1, 2)
        return kept[:, :, :end] if rows is None else kept[rows, :, :end]

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
    compiled: whether the forward is compiled: then rows are always named, which spares it a graph for all rows.
    """

    def __init__(
        self, model: PreTrainedModel, rows: int, length: int, copies: int = 1, compiled: bool = False
    ) -> None:
        self.selection, self.copies, self.compiled = Selection(), copies, compiled
        self.held = list(range(rows))
        layers = model.config.get_text_config().num_hidden_layers
        super().__init__(layers=[CanvasLayer(self.selection, copies * rows, length) for _ in range(layers)])

    def select(self, rows: Sequence[int], positions: Tensor | None, end: int) -> None:
        """Say what the next forward computes: of `rows` the `positions` [R, A], or all; see `Selection`."""
        place = {row: index for index, row in enumerate(self.held)}
        local = [place[row] for row in rows]
        of_copies = [len(self.held) * copy + index for copy in range(self.copies) for index in local]
        everything = of_copies == list(range(self.copies * len(self.held))) and not self.compiled
        device = None if positions is None else positions.device
        self.selection.rows = None if everything else torch.tensor(of_copies, device=device)
        self.selection.positions = None if positions is None else positions.repeat(self.copies, 1)
        self.selection.end = end

    def forget_all_but(self, rows: Sequence[int]) -> None:
        """Let go of rows that are finished; `rows` are the others."""
        left = set(rows)
        staying = [index for index, row in enumerate(self.held) if row in left]
        if len(staying) < len(self.held):
            copies = [len(self.held) * copy + index for copy in range(self.copies) for index in staying]
            for layer in self.layers:
                assert isinstance(layer, CanvasLayer)
                layer.keep_rows(torch.tensor(copies))
            self.held = [self.held[index] for index in staying]
