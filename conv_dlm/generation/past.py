"""Keys and values of finished text, handed from one call of `generate` to the next.

In a model that sees block by block, what stands in a block depends on no later text, so keys and values of whole blocks
are as right in the next call as in this one: a chat's next turn computes what is new.
Shapes: B rows, L canvas positions, H key heads, D head size, N kept positions of a row.
"""

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor

from conv_dlm.generation.cache import CanvasCache, CanvasLayer
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.errors import SettingError


class Past:
    """Keys and values of the text that calls of `generate` have seen so far; empty at first.

    For models with block-causal attention and their exact cache, `cache_implementation="block"`. Each call takes over
    the longest beginning of its prompts that is kept here, and leaves what it has finished:

    ```python
    past = conv_dlm.Past()
    output = model.generate(**first_turn, past=past)
    output = model.generate(**both_turns, past=past)  # computes what the first call has not
    ```

    The text is that of a call without it, whatever the prompts: where they differ from what is kept, nothing is taken.
    Rows are those of the batch, in its order. Weights and adapters have to stay as they are; begin anew after a change.

    Attributes:
        ids (`list[list[int]]`): the tokens of each row that are kept, whole blocks of them.
    """

    def __init__(self) -> None:
        self.ids: list[list[int]] = []
        self._kept: list[list[tuple[Tensor, Tensor]]] = []  # of each row, of each layer, [H, N, D]
        self._before: list[int] = []  # positions that each row's first block lacks
        self._model: Any = None

    def check(self, model: Any, rows: int) -> None:
        """Raise SettingError where it is of another model, or of another number of rows."""
        if self._model is not None and self._model() is not model:
            raise SettingError("past", "is of another model", "begin with an empty `conv_dlm.Past()`")
        if self.ids and len(self.ids) != rows:
            raise SettingError(
                "past", f"has {len(self.ids)} rows, and the batch has {rows}",
                "pass the same rows in the same order, or an empty `conv_dlm.Past()`",
            )  # fmt: skip

    def give(self, cache: CanvasCache, canvas: Canvas, size: int) -> Tensor:
        """Put what is kept of the canvas's rows into a new `cache`; its blocks have that `size`.

        Returns LongTensor [B, L]: the tokens whose keys and values are there, -1 elsewhere.
        """
        known, starts, before = torch.full_like(canvas.ids, -1), canvas.start.tolist(), _before(canvas)
        for row, ids in enumerate(self.ids):
            start = starts[row]
            pairs = zip(ids, canvas.ids[row, start:].tolist(), strict=False)
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            count = 0 if before[row] != self._before[row] else _whole_blocks(same, before[row], size)
            if count:
                place = slice(start, start + count)
                known[row, place] = canvas.ids[row, place]
                for layer, (keys, values) in zip(cache.layers, self._kept[row], strict=True):
                    assert isinstance(layer, CanvasLayer)
                    layer.start_with(row, place, keys[:, :count], values[:, :count])
        return known

    def take(self, model: Any, cache: CanvasCache, canvas: Canvas, known: Tensor, size: int) -> None:
        """Keep what a run leaves: of each row the whole blocks up to the first position whose token in `known` [B, L]
        is not the one that stands there now."""
        if not cache.is_initialized:  # nothing was computed
            return
        self._model, self._before = weakref.ref(model), _before(canvas)
        self.ids, self._kept, before = [], [], self._before
        starts, right = canvas.start.tolist(), (known == canvas.ids) | canvas.padding
        for row, (start, stop) in enumerate(zip(starts, right.long().cumprod(1).sum(1).tolist(), strict=True)):
            stop = start + _whole_blocks(stop - start, before[row], size)
            self.ids.append(canvas.ids[row, start:stop].tolist())
            layers = [layer for layer in cache.layers if isinstance(layer, CanvasLayer)]
            self._kept.append([layer.copy_of(row, slice(start, stop)) for layer in layers])


def _before(canvas: Canvas) -> list[int]:
    """Positions that the first block of each row lacks."""
    return [0] * len(canvas.ids) if canvas.before is None else canvas.before.tolist()


def _whole_blocks(count: int, before: int, size: int) -> int:
    """Of the first `count` positions of a text, those that make whole blocks."""
    return max(0, (count + before) // size * size - before)
