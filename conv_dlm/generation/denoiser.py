"""One forward: from the canvas to the scores of the positions that the step may decide.

Suffixes: R rows of this forward, W window positions of a row, V vocabulary.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from conv_dlm.generation.canvas import Canvas


class Denoiser:
    """Calls the model on some rows of a canvas and returns logits at a window of positions.

    Positions beyond the window never reach the vocabulary projection if the model's `forward` takes `logits_to_keep`,
    which in Transformers may hold positions of each row; older remote code with such an argument doesn't know that.

    model: any model that maps ids to logits.
    padding: BoolTensor [B, L] or None if no row is padded.
    guidance_scale: classifier-free guidance, 1 = off.
    shift_logits: whether the logits at a position predict the token at its right, as in models adapted from
        autoregressive ones (Dream).
    """

    def __init__(
        self, model: PreTrainedModel, padding: Tensor | None, guidance_scale: float, shift_logits: bool
    ) -> None:
        self.model = model
        self.guidance_scale = guidance_scale
        self.shift_logits = shift_logits
        parameters = inspect.signature(model.forward).parameters
        is_remote_code = type(model).__module__.startswith("transformers_modules.")
        self.projects_window = "logits_to_keep" in parameters and not is_remote_code
        self.inputs: dict[str, Tensor] = {}
        if padding is not None:
            mask = (~padding).long()
            self.inputs["attention_mask"] = mask
            if "position_ids" in parameters:
                self.inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)

    def __call__(self, canvas: Canvas, rows: Tensor | None, window: Tensor) -> Tensor:
        """Logits [R, W, V] of the `rows` [R] (None: all) at the positions `window` [R, W], without the mask token."""
        pick: Callable[[Tensor], Tensor] = (lambda x: x) if rows is None else (lambda x: x[rows])
        ids, inputs = pick(canvas.ids), {name: pick(value) for name, value in self.inputs.items()}
        if self.guidance_scale == 1:
            logits = self._logits(ids, window, inputs)
        else:
            unconditional = ids.masked_fill(pick(canvas.given), canvas.mask_token_id)
            doubled = {name: value.repeat(2, 1) for name, value in inputs.items()}
            both = self._logits(torch.cat([ids, unconditional]), window.repeat(2, 1), doubled)
            with_prompt, without = both.chunk(2)
            logits = without + self.guidance_scale * (with_prompt - without)
        logits[..., canvas.mask_token_id] = -torch.inf  # SUBS: the mask is never predicted, arXiv 2406.07524
        return logits

    def _logits(self, ids: Tensor, window: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        if self.shift_logits:
            window = (window - 1).clamp(min=0)
        if self.projects_window:
            return self.model(input_ids=ids, logits_to_keep=window, **inputs).logits
        logits = self.model(input_ids=ids, **inputs).logits
        row = torch.arange(ids.shape[0], device=ids.device)[:, None]
        return logits[row, window]
