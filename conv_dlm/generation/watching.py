"""Those who watch a run step by step: a streamer, stopping criteria, the history."""

import torch
from torch import Tensor
from transformers import MaxTimeCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from conv_dlm.generation.candidates import Candidates
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.row_streamers import RowStreamers


class Watcher:
    """Called after each step by the loop.

    Streamers and criteria think left to right: they get what is decided without a gap from the prompt on, in order.

    prompt_length: P, where the response begins.
    settled: whether a decided token stays (False for revocable rules: their text is streamed when it is finished, and
        criteria see it then).
    """

    def __init__(
        self,
        canvas: Canvas,
        prompt_length: int,
        criteria: StoppingCriteriaList,
        streamer: BaseStreamer | None,
        keep_history: bool,
        settled: bool,
        eos_token_ids: Tensor | None,
    ) -> None:
        self.timers = StoppingCriteriaList(c for c in criteria if isinstance(c, MaxTimeCriteria))
        self.criteria = StoppingCriteriaList(c for c in criteria if not isinstance(c, MaxTimeCriteria))
        self.streamer, self.settled, self.eos_token_ids = streamer, settled, eos_token_ids
        self.rows_may_end = isinstance(streamer, RowStreamers)
        self.row_streamers = streamer.rows if isinstance(streamer, RowStreamers) else [streamer]
        self.history = [canvas.ids] if keep_history else None
        rows, length = canvas.ids.shape
        self.checked = [prompt_length] * rows
        # what follows the first mask of the prompt is streamed when it is reached
        self.streamed = [min(prompt_length, first_open) for first_open in _first_undecided(canvas)]
        self.cut = torch.full((rows,), length)  # where a criterion or its streamer ended a row

    @property
    def idle(self) -> bool:
        return not (self.timers or self.criteria or self.streamer is not None or self.history is not None)

    def __call__(self, canvas: Canvas, candidates: Candidates, step: int) -> bool:
        if self.settled and self.criteria:
            self._apply_criteria(canvas, step)
        if self.history is not None:
            self.history.append(canvas.ids)
        if self.streamer is not None:
            self._stream(canvas, candidates, step)
        return bool(self.timers) and bool(self.timers(canvas.ids[:1], None).all())

    def finish(self, canvas: Canvas, step: int) -> None:
        """The last look, at the complete canvas."""
        self.settled = True
        if self.criteria:
            self._apply_criteria(canvas, step)
        if self.history is not None and not torch.equal(self.history[-1], canvas.ids):
            self.history.append(canvas.ids)
        if self.streamer is not None:
            self._stream(canvas, None, step)
            self.streamer.end()

    def _apply_criteria(self, canvas: Canvas, step: int) -> None:
        length = canvas.ids.shape[1]
        for row, first_open in enumerate(_first_undecided(canvas)):
            # several tokens may have joined the prefix, and a criterion looks at the last one only
            for end in range(self.checked[row] + 1, first_open + 1):
                start = int(canvas.padding[row].sum())
                if self.cut[row] == length and bool(self.criteria(canvas.ids[row : row + 1, start:end], None).all()):
                    self.cut[row] = end
            self.checked[row] = max(self.checked[row], first_open)
        self._leave_behind_cut(canvas, step)

    def _leave_behind_cut(self, canvas: Canvas, step: int) -> None:
        """Nothing behind the cut is looked at again."""
        position = torch.arange(canvas.ids.shape[1], device=canvas.ids.device)
        stopped = canvas.undecided & (position >= self.cut.to(canvas.ids.device)[:, None])
        canvas.commit(stopped, canvas.ids, step)

    def _stream(self, canvas: Canvas, drafts: Candidates | None, step: int) -> None:
        ends = self._text_ends(canvas)
        for row, (first_open, end) in enumerate(zip(_first_undecided(canvas), ends, strict=True)):
            if (streamer := self.row_streamers[row]) is None:
                continue
            start = self.streamed[row]
            committed = min(first_open, end) if self.settled else start
            if committed > start:
                enough = streamer.put(canvas.ids[row, start:committed].cpu())
                self.streamed[row] = committed
                if self.rows_may_end and enough:
                    self.cut[row] = committed
            if drafts is not None and first_open < canvas.ids.shape[1] and hasattr(streamer, "put_draft"):
                rest = slice(self.streamed[row], end)
                shown = torch.where(canvas.undecided, drafts.token, canvas.ids)[row, rest]
                streamer.put_draft(shown.cpu(), decided=~canvas.undecided[row, rest].cpu())
        if self.rows_may_end:
            self._leave_behind_cut(canvas, step)

    def _text_ends(self, canvas: Canvas) -> list[int]:
        """Behind the first end token of each row, if any, or where the row was cut."""
        end = canvas.end_of_text(self.eos_token_ids)
        behind = torch.where(end.any(1), end.int().argmax(1) + 1, canvas.ids.shape[1])
        return torch.minimum(behind.cpu(), self.cut).tolist()


def _first_undecided(canvas: Canvas) -> list[int]:
    length = canvas.ids.shape[1]
    return torch.where(canvas.undecided.any(1), canvas.undecided.int().argmax(1), length).tolist()
