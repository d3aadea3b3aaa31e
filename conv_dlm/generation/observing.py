"""Those who follow a run step by step: a callback, a streamer, stopping criteria, the history."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import MaxTimeCriteria, StoppingCriteriaList

from conv_dlm.generation.canvas import CALLBACK, CRITERION, EOS, STREAMER, Canvas
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.loop import Denoising
from conv_dlm.generation.row_streamers import RowStreamers


@dataclass(frozen=True)
class StepEnd:
    """What `callback_on_step_end` gets. Tensors are on the run's device, and must not be written to.

    Args:
        step (`int`): number of the step, from 0.
        ids (`torch.LongTensor` of shape `[B, L]`): the canvas after the step, the mask at masked positions.
        masked (`torch.BoolTensor` of shape `[B, L]`): what is still to be unmasked.
        draft (`torch.LongTensor` of shape `[B, L]`): the token that each position would get next; the mask where the
            model was not asked yet.
        unmasked_at (`torch.LongTensor` of shape `[B, L]`): as in the output.
        forwards (`list[int]`): forwards that each row took part in until now.
    """

    step: int
    ids: Tensor
    masked: Tensor
    draft: Tensor
    unmasked_at: Tensor
    forwards: list[int]


Callback = Callable[[StepEnd], bool | None]
CLOCK = torch.zeros(1, 1, dtype=torch.long)  # what a criterion of time is asked with: it looks at no text


@dataclass
class Seen:
    """A canvas as Python sees it: one copy from the device for all who follow the run."""

    ids: Tensor
    masked: Tensor
    draft: Tensor
    first_open: list[int]
    ends: list[int]

    @classmethod
    def of(
        cls, canvas: Canvas, draft: Tensor, eos_token_ids: Tensor | None, open_: Tensor | None = None
    ) -> "Seen":
        """`first_open`: the first position of each row that is a mask, or `open_` [B, L] to changes. `ends`: behind the
        first end token of each row, if any, or where the row was ended."""
        length = canvas.ids.shape[1]
        end = canvas.end_of_text(eos_token_ids)
        stopped = torch.where(canvas.reason != EOS, canvas.end, length)
        ends = torch.minimum(torch.where(end, canvas.positions + 1, length).amin(1), stopped)
        unsettled = canvas.masked
        if open_ is not None:
            unsettled = unsettled | (open_ & (canvas.positions < canvas.end[:, None]))
        first = torch.where(unsettled, canvas.positions, length).amin(1)
        shown = torch.where(canvas.masked, draft, canvas.ids)
        packed = torch.cat([canvas.ids, canvas.masked.long(), shown, first[:, None], ends[:, None]], 1).cpu()
        ids, masked, shown, first, ends = packed.split([length, length, length, 1, 1], dim=1)
        return cls(ids, masked.bool(), shown, first[:, 0].tolist(), ends[:, 0].tolist())


class Observer:
    """Called after each step by the loop.

    Streamers and criteria think left to right: they get what is unmasked without a gap from the prompt on, in order.

    What a rule may still mask again or rewrite, and what follows it, is neither streamed nor shown to criteria.

    prompt_length: P, where the response begins.
    """

    def __init__(
        self,
        canvas: Canvas,
        prompt_length: int,
        criteria: StoppingCriteriaList,
        streamer: Any,
        callback: Callback | None,
        keep_history: bool,
        eos_token_ids: Tensor | None,
    ) -> None:
        self.timers = StoppingCriteriaList(c for c in criteria if isinstance(c, MaxTimeCriteria))
        self.criteria = StoppingCriteriaList(c for c in criteria if not isinstance(c, MaxTimeCriteria))
        self.streamer, self.callback, self.eos_token_ids = streamer, callback, eos_token_ids
        self.rows_may_end = isinstance(streamer, RowStreamers)
        self.row_streamers = streamer.rows if isinstance(streamer, RowStreamers) else [streamer]
        self.history = [canvas.ids] if keep_history else None
        self.device = canvas.ids.device
        self.starts: list[int] = []
        if self.criteria or streamer is not None:
            first = Seen.of(canvas, canvas.ids, None).first_open
            self.starts = canvas.padding.sum(1).tolist()
            self.checked = [prompt_length] * len(first)
            # what follows the first mask of the prompt is streamed when it is reached
            self.streamed = [min(prompt_length, first_mask) for first_mask in first]

    @property
    def idle(self) -> bool:
        """Whether nobody follows."""
        followers = (self.timers, self.criteria, self.callback)
        return not any(followers) and self.streamer is None and self.history is None

    def __call__(self, run: Denoising, step: int) -> bool:
        canvas = run.canvas
        if self.history is not None:
            self.history.append(canvas.ids)
        if self.criteria or self.streamer is not None:
            seen = Seen.of(canvas, run.token, self.eos_token_ids, run.open)
            if self.criteria:
                self._apply_criteria(canvas, seen)
            if self.streamer is not None:
                self._stream(canvas, seen, drafts=True)
        return self._call_back(run, step) or (bool(self.timers) and bool(self.timers(CLOCK, None).all()))

    def finish(self, run: Denoising) -> None:
        """The last look, at the complete canvas."""
        canvas = run.canvas
        if self.criteria or self.streamer is not None:
            seen = Seen.of(canvas, run.token, self.eos_token_ids)
            if self.criteria:
                self._apply_criteria(canvas, seen)
            if self.streamer is not None:
                self._stream(canvas, seen, drafts=False)
                self.streamer.end()
        if self.history is not None and not torch.equal(self.history[-1], canvas.ids):
            self.history.append(canvas.ids)

    def _call_back(self, run: Denoising, step: int) -> bool:
        canvas = run.canvas
        if self.callback is None:
            return False
        told = StepEnd(step, canvas.ids, canvas.masked, run.token, canvas.unmasked_at, list(run.forwards))
        if not self.callback(told):
            return False
        length = canvas.ids.shape[1]
        canvas.end_rows(torch.where(canvas.masked, canvas.positions, length).amin(1), CALLBACK)
        return True

    def _apply_criteria(self, canvas: Canvas, seen: Seen) -> None:
        ended: dict[int, int] = {}
        for row, first_open in enumerate(seen.first_open):
            # several tokens may have joined the prefix, and a criterion looks at the last one only
            for end in range(self.checked[row] + 1, min(first_open, seen.ends[row]) + 1):
                prefix = seen.ids[row : row + 1, self.starts[row] : end].to(self.device)
                if any(_says_stop(criterion, prefix) for criterion in self.criteria):
                    seen.ends[row] = ended[row] = end
                    break
            self.checked[row] = max(self.checked[row], first_open)
        self._end(canvas, ended, CRITERION)

    def _stream(self, canvas: Canvas, seen: Seen, drafts: bool) -> None:
        ended: dict[int, int] = {}
        for row, (first_open, end) in enumerate(zip(seen.first_open, seen.ends, strict=True)):
            if (streamer := self.row_streamers[row]) is None:
                continue
            start = self.streamed[row]
            committed = min(first_open, end)
            if committed > start:
                enough = streamer.put(seen.ids[row, start:committed])
                self.streamed[row] = committed
                if self.rows_may_end and enough:
                    ended[row] = committed
            if drafts and first_open < canvas.ids.shape[1] and hasattr(streamer, "put_draft"):
                rest = slice(self.streamed[row], end)
                streamer.put_draft(seen.draft[row, rest], unmasked=~seen.masked[row, rest])
        self._end(canvas, ended, STREAMER)

    def _end(self, canvas: Canvas, ended: dict[int, int], reason: int) -> None:
        """End rows at these positions."""
        if ended:
            length = canvas.ids.shape[1]
            ends = [ended.get(row, length) for row in range(len(canvas.ids))]
            canvas.end_rows(torch.tensor(ends, device=self.device), reason)


def _says_stop(criterion: Any, prefix: Tensor) -> bool:
    """What a criterion says of one row's text: LongTensor [1, T]."""
    said = criterion(prefix, None)
    if isinstance(said, Tensor) and said.numel() == 1:
        said = said.item()
    if isinstance(said, bool | int):
        return bool(said)
    what = f"a tensor of shape {tuple(said.shape)}" if isinstance(said, Tensor) else repr(said)
    name = getattr(criterion, "__name__", type(criterion).__name__)
    raise SettingError("stopping_criteria", f"({name}) returned {what} for one row", "return True or False for each")
