"""One forward: from the canvas to the scores of the positions that the step may unmask.

Shapes: B rows, L canvas positions, R rows of this forward, A positions that it computes, W window positions of a row,
V vocabulary.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import CompileConfig, PreTrainedModel

from conv_dlm.generation.attention import BIDIRECTIONAL, AttentionPattern, BlockCausal
from conv_dlm.generation.cache import CanvasCache, upload
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.capabilities import cache_argument, supports_canvas_cache, supports_window_logits
from conv_dlm.generation.compiling import COMPILED_SHAPES
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.extra import Extra, read_at
from conv_dlm.generation.row_adapters import RowAdapters


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
    pattern: what positions see of each other.
    adapters: PEFT's adapters of the rows, where each has its own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        padding: Tensor | None,
        guidance_scale: float = 1.0,
        shift_logits: bool = False,
        cache: CanvasCache | None = None,
        compile_config: CompileConfig | None = None,
        pattern: AttentionPattern = BIDIRECTIONAL,
        adapters: RowAdapters | None = None,
    ) -> None:
        self.model: Callable[..., Any] = model
        self.compile_config = compile_config
        self.compiled = compile_config is not None
        self.forward = self.model if compile_config is None else model.get_compiled_call(compile_config)
        self.guidance_scale = guidance_scale
        self.shift_logits = shift_logits
        self.cache = cache
        self.projects_window = supports_window_logits(model)
        self.cache_inputs = {} if cache is None else {cache_argument(model): cache}
        self.pattern = pattern
        self.adapters = adapters
        self.masks = KeyMasks(model, padding)
        self.padded = padding is not None
        self.position_ids: Tensor | None = None  # [B, L]; None where the model counts by itself
        if padding is not None and "position_ids" in inspect.signature(model.forward).parameters:
            self.position_ids = ((~padding).cumsum(1) - 1).clamp(min=0)
        self._uploaded: dict[tuple[int, ...], Tensor] = {}

    def on_device(self, rows: Sequence[int], device: torch.device) -> Tensor:
        """LongTensor [R]: the `rows`, uploaded once for all steps that they take part in."""
        key = tuple(rows)
        if key not in self._uploaded:
            self._uploaded[key] = upload(key, device)
        return self._uploaded[key]

    def __call__(
        self,
        canvas: Canvas,
        rows: Sequence[int] | None,
        window: Tensor,
        seen: Tensor | None = None,
        end: int | None = None,
        positions: Tensor | None = None,
        active: Tensor | None = None,
        extra: Extra | None = None,
    ) -> Tensor:
        """Logits [R, W, V] of the `rows` (None: all) at the positions `window` [R, W], without the mask token.

        seen: BoolTensor [B, L], what the model may see; None for everything but padding.
        end: nothing from here on is seen in any of these rows; None for the canvas's end.
        positions: LongTensor [R, A], to be computed, `window` among them; the cache has the others. None for all.
        active: BoolTensor [R], rows whose keys and values are kept; None for all.
        extra: what is computed beside the canvas of these R rows, without a cache; the logits are [R, W + K, V] then.
        """
        device, (count, length) = canvas.ids.device, canvas.ids.shape
        end = length if end is None else end
        if rows is not None and len(rows) == count and list(rows) == list(range(count)):
            rows = None
        which = None if rows is None else self.on_device(rows, device)

        def pick(x: Tensor) -> Tensor:
            x = x if which is None else x[which]
            return x[:, :end] if positions is None else x.gather(1, positions)

        ids, inputs = pick(canvas.ids), self._inputs(canvas, which, pick, seen, end, positions)
        if self.cache is not None:
            self.cache.select(range(count) if rows is None else rows, positions, end, device, active)
        predicted = window
        if self.shift_logits:
            predicted = read_at(window, canvas.start if which is None else canvas.start[which])
        kept = predicted if positions is None else _places(predicted, positions, length)
        given = pick(canvas.given) if self.guidance_scale != 1 else None
        if extra is not None:
            ids, kept = torch.cat([ids, extra.ids], 1), torch.cat([kept, end + extra.indices()], 1)
            given = None if given is None else torch.nn.functional.pad(given, (0, extra.ids.shape[1]))
            inputs = self._inputs_beside(canvas, which, pick, seen, end, extra)
        if self.adapters is not None:
            self.adapters.choose(rows, 1 if given is None else 2)
        if given is None:
            logits = self._logits(ids, kept, inputs)
        else:
            logits = self._guided_logits(ids, given, kept, inputs, canvas.mask_token_id)
        return _never_the_mask(logits, canvas.mask_token_id)

    def _guided_logits(
        self, ids: Tensor, given: Tensor, kept: Tensor, inputs: dict[str, Tensor], mask_token_id: int
    ) -> Tensor:
        """Classifier-free guidance: u + scale (c - u), u without the prompt, whose tokens are masked in it."""
        both_ids = torch.cat([ids, ids.masked_fill(given, mask_token_id)])
        doubled = {name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in inputs.items()}
        with_prompt, without = self._logits(both_ids, kept.repeat(2, 1), doubled).chunk(2)
        return without + self.guidance_scale * (with_prompt - without)

    def _inputs(
        self,
        canvas: Canvas,
        which: Tensor | None,
        pick: Callable[[Tensor], Tensor],
        seen: Tensor | None,
        end: int,
        positions: Tensor | None,
    ) -> dict[str, Tensor]:
        """Attention mask over the keys, where some are hidden, and position ids, where they don't count from 0."""
        inputs = {}
        if isinstance(self.pattern, BlockCausal):
            inputs["attention_mask"] = self._block_causal_mask(self.pattern, canvas, which, pick, end)
        elif self.padded or seen is not None:
            mask = self.masks.padding if seen is None else self.masks.of(seen)
            assert mask is not None
            inputs["attention_mask"] = (mask if which is None else mask[which])[..., :end]
        if self.position_ids is not None:
            inputs["position_ids"] = pick(self.position_ids)
        elif positions is not None:
            inputs["position_ids"] = positions
        return inputs

    def _inputs_beside(
        self,
        canvas: Canvas,
        which: Tensor | None,
        pick: Callable[[Tensor], Tensor],
        seen: Tensor | None,
        end: int,
        extra: Extra,
    ) -> dict[str, Tensor]:
        """Position ids, and a mask for each query: the canvas before `end` first, then what is `extra`."""
        places = canvas.positions.expand_as(canvas.ids) if self.position_ids is None else self.position_ids
        here = places if which is None else places[which]
        known = ~canvas.padding if seen is None else seen
        known = (known if which is None else known[which])[:, None, :end]
        of_canvas = known.expand(-1, end, -1)
        if isinstance(self.pattern, BlockCausal):
            text = pick(canvas.block_positions)
            of_canvas = of_canvas & self.pattern.visible(text, text)[:, 0]
        of_canvas = torch.nn.functional.pad(of_canvas, (0, extra.ids.shape[1]))
        beside = torch.cat([extra.visible[..., :end] & known, extra.visible[..., canvas.ids.shape[1] :]], -1)
        if isinstance(self.pattern, BlockCausal):
            every = canvas.block_positions if which is None else canvas.block_positions[which]
            stand = every.gather(1, extra.positions)
            beside = beside & self.pattern.visible(stand, torch.cat([every[:, :end], stand], 1))[:, 0]
        return {
            "position_ids": torch.cat([here[:, :end], here.gather(1, extra.positions)], 1),
            "attention_mask": self.masks.form(torch.cat([of_canvas, beside], 1)[:, None]),
        }

    def _block_causal_mask(
        self,
        pattern: BlockCausal,
        canvas: Canvas,
        which: Tensor | None,
        pick: Callable[[Tensor], Tensor],
        end: int,
    ) -> Tensor:
        """The pattern over text, for the queries of this forward; in the form that the model's attention takes."""
        text = canvas.block_positions
        keys, known = (x if which is None else x[which] for x in (text, ~canvas.padding))
        visible = pattern.visible(pick(text), keys[:, :end]) & known[:, None, None, :end]
        return self.masks.form(visible)

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
            output = forward(input_ids=ids, **inputs)
        if not hasattr(output, "logits"):
            raise SettingError(
                "model", f"is a {type(self.model).__name__}, whose forward returns no logits", "take one with a head"
            )
        logits: Tensor = output.logits
        if self.projects_window:
            return logits
        row = torch.arange(ids.shape[0], device=ids.device)[:, None]
        return logits[row, kept]


class KeyMasks:
    """Attention masks over keys in the form that a model takes.

    Transformers makes a mask [B, 1, Q, K] of one [B, K] in every forward, and looks at its values for that. Every query
    sees the same keys, so [B, 1, 1, K] does for SDPA and eager attention, which take it as it is. What makes its own of
    it, flash attention among others, gets [B, K].
    """

    def __init__(self, model: PreTrainedModel, padding: Tensor | None) -> None:
        attention = getattr(model.config, "_attn_implementation", None)
        self.kind = attention if supports_canvas_cache(model) and attention in ("sdpa", "eager") else None
        self.dtype = model.dtype if self.kind == "eager" else torch.bool
        self.padding = None if padding is None else self.of(~padding)

    def of(self, seen: Tensor) -> Tensor:
        """For the keys `seen` [B, K]."""
        return seen.long() if self.kind is None else self.form(seen[:, None, None])

    def form(self, visible: Tensor) -> Tensor:
        """For what is `visible` [B, 1, Q, K]: as it is, or for eager attention what is added to the scores."""
        if self.kind != "eager":
            return visible
        return torch.zeros_like(visible, dtype=self.dtype).masked_fill(~visible, torch.finfo(self.dtype).min)


def _never_the_mask(logits: Tensor, mask_token_id: int) -> Tensor:
    """SUBS: the mask is never predicted, arXiv 2406.07524. In place."""
    logits[..., mask_token_id] = -torch.inf
    return logits


def _places(wanted: Tensor, positions: Tensor, length: int) -> Tensor:
    """Where the positions `wanted` [R, W] stand among `positions` [R, A]: LongTensor [R, W]."""
    count = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
    place = torch.zeros(positions.shape[0], length, dtype=torch.long, device=positions.device)
    return place.scatter_(1, positions, count).gather(1, wanted)
