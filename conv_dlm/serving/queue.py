"""The queue of waiting rows, and the thread that denoises them in batches."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from conv_dlm.answering.batching import pad_left, row_generator
from conv_dlm.cost.out_of_memory import explain_out_of_memory
from conv_dlm.generation.placement import canvas_device
from conv_dlm.generation.row_streamers import RowStreamers
from conv_dlm.serving.errors import Refused
from conv_dlm.serving.metrics import Metrics
from conv_dlm.serving.text import RowText
from conv_dlm.serving.token_scores import TokenScores, TopTokens

log = logging.getLogger(__name__)
SHUTTING_DOWN = "The server is shutting down."
LOOKS = 0.2  # seconds between two looks whether to stop, where nothing else wakes the worker


@dataclass
class QueuedRow:
    """A row that waits to be denoised.

    Attributes:
        ids (`list[int]`): the prompt.
        options (`dict`): keyword arguments of `generate`.
        settings (`str`): the effective settings; rows with equal settings can share a batch.
        seed (`tuple` of `int`): seed of the row's random numbers.
        text (`RowText`): receives the tokens.
        wanted (callable): whether a client still waits for the row.
        finish (callable): called when the text is complete, with the number of forward passes and, if they are asked
            for, the log-probabilities of its tokens (`TokenScores`).
        fail (callable): called with a `Refused` if the row fails.
        top (`int`, *optional*): how many of the most likely tokens of each position are kept; None for no
            log-probabilities.
    """

    ids: list[int]
    options: dict[str, Any]
    settings: str
    seed: tuple[int, ...]
    text: RowText
    wanted: Callable[[], bool]
    finish: Callable[[int, TokenScores | None], None]
    fail: Callable[[Refused], None]
    top: int | None = None


class Worker:
    """Denoises rows on its own thread: the oldest row, together with rows of the same settings.

    Args:
        model: a model with the `generate` of `conv_dlm`, and a pad token in its generation config.
        max_batch_size (`int`): the most rows per batch.
        max_queue (`int`): the most rows that may wait.
    """

    def __init__(self, model: Any, max_batch_size: int, max_queue: int) -> None:
        self.model, self.max_batch_size, self.max_queue = model, max_batch_size, max_queue
        self.metrics = Metrics()
        self._rows: list[QueuedRow] = []
        self.running = 0
        self.closed = False
        self._deadline = math.inf  # after `drain`
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="denoising", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of waiting rows."""
        return sum(row.wanted() for row in self._rows)

    def check_room(self, count: int) -> None:
        """Raise Refused if `count` rows have no room, or after `close` or `drain`."""
        if self.stopping:
            raise Refused(SHUTTING_DOWN, 503)
        if count > self.max_queue:
            raise Refused(f"The request asks for {count} answers; at most {self.max_queue} can wait.")
        waiting = self.waiting
        if waiting + count > self.max_queue:
            raise Refused(
                f"{waiting} of at most {self.max_queue} answers are being waited for already; ask again later.",
                429,
                code="queue_full",
            )

    def submit(self, rows: Sequence[QueuedRow]) -> None:
        """Queue all of the `rows`. Raises Refused as `check_room` does."""
        with self._changed:
            self._rows = [row for row in self._rows if row.wanted()]
            self.check_room(len(rows))
            self._rows += rows
            self._changed.notify()

    def drain(self, seconds: float) -> None:
        """Take no more rows, and stop when those that are here are finished, or in so many seconds at the latest.

        Returns immediately. Takes no lock, since a signal's handler may call it while the lock is held.
        """
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def close(self) -> None:
        """Stop after the current step; unfinished rows fail. Returns immediately."""
        self.closed = True

    @property
    def stopping(self) -> bool:
        """Whether it takes no more rows."""
        return self.closed or self._deadline < math.inf

    @property
    def _must_stop(self) -> bool:
        return self.closed or time.monotonic() > self._deadline

    def join(self, timeout: float) -> None:
        """After `close`, wait at most `timeout` seconds for the thread to end; a running step can't be interrupted."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._denoise(batch)
            except torch.OutOfMemoryError as error:
                log.error("%s", error)
                self.metrics.add("conv_dlm_failures_total")
                _fail(batch, Refused(str(error), 500, code="out_of_memory"))
            except Exception:
                log.exception("A batch of %d failed", len(batch))
                self.metrics.add("conv_dlm_failures_total")
                _fail(batch, Refused("The generation failed; the server's log has the reason.", 500))
            self.running = 0
        self.closed = True
        with self._changed:
            _fail(self._rows, Refused(SHUTTING_DOWN, 503))
            self._rows = []

    def _next_batch(self) -> list[QueuedRow]:
        """Wait for the next batch; empty when there is none any more."""
        with self._changed:
            while not self._must_stop:
                self._rows = [row for row in self._rows if row.wanted()]
                if self._rows:
                    same = [row for row in self._rows if row.settings == self._rows[0].settings]
                    batch = same[: self.max_batch_size]
                    chosen = set(map(id, batch))
                    self._rows = [row for row in self._rows if id(row) not in chosen]
                    self.running = len(batch)
                    return batch
                if self._deadline < math.inf:  # and nothing is left
                    return []
                self._changed.wait(LOOKS)
        return []

    def _denoise(self, batch: list[QueuedRow]) -> None:
        ids, attention_mask = pad_left([row.ids for row in batch], self.model.generation_config.pad_token_id)
        options = dict(batch[0].options)
        tops = None
        if batch[0].top is not None:
            tops = TopTokens(batch[0].top)
            options["logits_processor"] = [tops]
        with explain_out_of_memory(self.model, len(batch), ids.shape[1], batch[0].options):
            output = self.model.generate(
                ids.to(canvas_device(self.model)),
                attention_mask=attention_mask.to(canvas_device(self.model)),
                generator=[row_generator(*row.seed) for row in batch],
                streamer=RowStreamers([row.text for row in batch]),
                callback_on_step_end=lambda _: self._must_stop or not any(row.wanted() for row in batch),
                return_dict_in_generate=True,
                **options,
            )
        self.metrics.add("conv_dlm_batches_total")
        for index, (row, forwards, reason) in enumerate(
            zip(batch, output.forwards.tolist(), output.finish_reason, strict=True)
        ):
            if reason == "callback":
                row.fail(Refused(SHUTTING_DOWN, 503))
                continue
            self.metrics.add("conv_dlm_forwards_total", forwards)
            self.metrics.add("conv_dlm_generated_tokens_total", len(row.text.ids))
            self.metrics.add("conv_dlm_prompt_tokens_total", len(row.ids))
            scores = None
            if tops is not None:
                mask = self.model.generation_config.mask_token_id
                start = ids.shape[1] - len(row.ids)
                start += row.ids.index(mask) if mask in row.ids else len(row.ids)
                scores = tops.of(index, start, row.text.ids, output.log_probs[index])
            row.finish(forwards, scores)


def _fail(rows: Sequence[QueuedRow], error: Refused) -> None:
    for row in rows:
        row.fail(error)
