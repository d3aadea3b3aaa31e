"""One forward: from the canvas to the scores of the positions that the step may decide.

Suffixes: B rows, L canvas positions, R rows of this forward, A positions that it computes, W window positions of a row,
V vocabulary.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import CompileConfig, PreTrainedModel

from conv_dlm.generation.cache import CanvasCache
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.capabilities import cache_argument, supports_window_logits

# shapes that may be compiled, each to a graph of its own: the sizes of `plan.bucket`, and those of full forwards;
# dynamo's own limit of 8 guards against shapes that never come back
COMPILED_SHAPES = 64


class Denoiser:
    """Calls the model on some rows of a canvas and returns logits at a window of positions.

    Positions beyond the window never reach the vocabulary projection of a model that `supports_window_logits`.

    model: any model that maps ids to logits.
    padding: BoolTensor [B, L] or None if no row is padded.
    guidance_scale: classifier-free guidance, 1 = off.
    shift_logits: whether the logits at a position predict the token at its right, as in models adapted from
        autoregressive ones (Dream).
    cache: keys and values of the canvas, where forwards may be partial.
    compile_config: how the model is compiled; None = not at all.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        padding: Tensor | None,
        guidance_scale: float,
        shift_logits: bool,
        cache: CanvasCache | None = None,
        compile_config: CompileConfig | None = None,
    ) -> None:
        self.model: Callable[..., Any] = model
        self.compiled = compile_config is not None
        self.forward = self.model if compile_config is None else model.get_compiled_call(compile_config)
        self.guidance_scale = guidance_scale
        self.shift_logits = shift_logits
        self.cache = cache
        parameters = inspect.signature(model.forward).parameters
        self.projects_window = supports_window_logits(model)
        self.cache_inputs = {} if cache is None else {cache_argument(model): cache}
        self.padded = padding is not None
        self.position_ids: Tensor | None = None  # [B, L]; None where the model counts by itself
        if padding is not None and "position_ids" in parameters:
            self.position_ids = ((~padding).cumsum(1) - 1).clamp(min=0)

    def __call__(
        self,
        canvas: Canvas,
        rows: Sequence[int] | None,
        window: Tensor,
        seen: Tensor | None = None,
        end: int | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits [R, W, V] of the `rows` (None: all) at the positions `window` [R, W], without the mask token.

        seen: BoolTensor [B, L], what the model may see; None for everything but padding.
        end: nothing from here on is seen in any of these rows; None for the canvas's end.
        positions: LongTensor [R, A], to be computed, `window` among them; the cache has the others. None for all.
        """
        if rows is not None and len(rows) == canvas.ids.shape[0] and list(rows) == list(range(len(rows))):
            rows = None
        which = None if rows is None else torch.tensor(rows, device=canvas.ids.device)

        def pick(x: Tensor) -> Tensor:
            x = x if which is None else x[which]
            return x[:, :end] if positions is None else x.gather(1, positions)

        ids, inputs = pick(canvas.ids), self._inputs(canvas, which, seen, end, positions)
        if self.cache is not None:
            every = range(canvas.ids.shape[0]) if rows is None else rows
            self.cache.select(every, positions, canvas.ids.shape[1] if end is None else end)
        predicted = (window - 1).clamp(min=0) if self.shift_logits else window
        kept = predicted if positions is None else _places(predicted, positions, canvas.ids.shape[1])
        if self.guidance_scale == 1:
            logits = self._logits(ids, kept, inputs)
        else:
            unconditional = ids.masked_fill(pick(canvas.given), canvas.mask_token_id)
            doubled = {name: value.repeat(2, 1) for name, value in inputs.items()}
            both = self._logits(torch.cat([ids, unconditional]), kept.repeat(2, 1), doubled)
            with_prompt, without = both.chunk(2)
            logits = without + self.guidance_scale * (with_prompt - without)
        logits[..., canvas.mask_token_id] = -torch.inf  # SUBS: the mask is never predicted, arXiv 2406.07524
        return logits

    def _inputs(
        self, canvas: Canvas, which: Tensor | None, seen: Tensor | None, end: int | None, positions: Tensor | None
    ) -> dict[str, Tensor]:
        """Attention mask over the keys, where some are hidden, and position ids, where they don't count from 0."""
        inputs = {}
        if self.padded or seen is not None:
            mask = ~canvas.padding if seen is None else seen
            inputs["attention_mask"] = (mask if which is None else mask[which])[:, :end].long()
        position_ids = self.position_ids
        if positions is not None and position_ids is None:
            inputs["position_ids"] = positions
        elif position_ids is not None:
            of_rows = position_ids if which is None else position_ids[which]
            inputs["position_ids"] = of_rows[:, :end] if positions is None else of_rows.gather(1, positions)
        return inputs

    def _logits(self, ids: Tensor, kept: Tensor, inputs: dict[str, Any]) -> Tensor:
        forward = self.forward
        if self.cache is not None:
            inputs = inputs | self.cache_inputs
            if not self.cache.is_initialized:
                forward = self.model  # what it allocates outlives a compiled call
        if self.projects_window:
            inputs = inputs | {"logits_to_keep": kept}
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()  # the last forward's output is used up
        with torch._dynamo.config.patch(recompile_limit=COMPILED_SHAPES) if self.compiled else nullcontext():
            logits = forward(input_ids=ids, **inputs).logits
        if self.projects_window:
            return logits
        row = torch.arange(ids.shape[0], device=ids.device)[:, None]
        return logits[row, kept]


def _places(wanted: Tensor, positions: Tensor, length: int) -> Tensor:
    """Where the positions `wanted` [R, W] stand among `positions` [R, A]: LongTensor [R, W]."""
    count = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
    place = torch.zeros(positions.shape[0], length, dtype=torch.long, device=positions.device)
    return place.scatter_(1, positions, count).gather(1, wanted)
