"""The queue of waiting rows, and the thread that denoises them in batches."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from conv_dlm.answering.batching import pad_left, row_generator
from conv_dlm.cost.out_of_memory import explain_out_of_memory
from conv_dlm.generation.row_streamers import RowStreamers
from conv_dlm.serving.errors import Refused
from conv_dlm.serving.text import RowText

log = logging.getLogger(__name__)
SHUTTING_DOWN = "The server is shutting down."


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
        finish (callable): called with the number of forward passes when the text is complete.
        fail (callable): called with a `Refused` if the row fails.
    """

    ids: list[int]
    options: dict[str, Any]
    settings: str
    seed: tuple[int, ...]
    text: RowText
    wanted: Callable[[], bool]
    finish: Callable[[int], None]
    fail: Callable[[Refused], None]


class Worker:
    """Denoises rows on its own thread: the oldest row, together with rows of the same settings.

    Args:
        model: a model with the `generate` of `conv_dlm`, and a pad token in its generation config.
        max_batch_size (`int`): the most rows per batch.
        max_queue (`int`): the most rows that may wait.
    """

    def __init__(self, model: Any, max_batch_size: int, max_queue: int) -> None:
        self.model, self.max_batch_size, self.max_queue = model, max_batch_size, max_queue
        self._rows: list[QueuedRow] = []
        self.closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="denoising", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of waiting rows."""
        return sum(row.wanted() for row in self._rows)

    def submit(self, rows: Sequence[QueuedRow]) -> None:
        """Queue all of the `rows`. Raises Refused if the queue has no room for them, or after `close`."""
        with self._changed:
            self._rows = [row for row in self._rows if row.wanted()]
            if self.closed:
                raise Refused(SHUTTING_DOWN, 503)
            if len(rows) > self.max_queue:
                raise Refused(f"The request asks for {len(rows)} answers; at most {self.max_queue} can wait.")
            if len(self._rows) + len(rows) > self.max_queue:
                raise Refused(
                    f"{len(self._rows)} of at most {self.max_queue} answers are being waited for already; ask again "
                    "later.",
                    429,
                    code="queue_full",
                )
            self._rows += rows
            self._changed.notify()

    def close(self) -> None:
        """Stop after the current step; unfinished rows fail. Returns immediately."""
        self.closed = True
        with self._changed:
            self._changed.notify()

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
                _fail(batch, Refused(str(error), 500, code="out_of_memory"))
            except Exception:
                log.exception("A batch of %d failed", len(batch))
                _fail(batch, Refused("The generation failed; the server's log has the reason.", 500))
        _fail(self._rows, Refused(SHUTTING_DOWN, 503))

    def _next_batch(self) -> list[QueuedRow]:
        """Wait for the next batch; empty after `close`."""
        with self._changed:
            while not self.closed:
                self._rows = [row for row in self._rows if row.wanted()]
                if self._rows:
                    same = [row for row in self._rows if row.settings == self._rows[0].settings]
                    batch = same[: self.max_batch_size]
                    chosen = set(map(id, batch))
                    self._rows = [row for row in self._rows if id(row) not in chosen]
                    return batch
                self._changed.wait()
        return []

    def _denoise(self, batch: list[QueuedRow]) -> None:
        ids, attention_mask = pad_left([row.ids for row in batch], self.model.generation_config.pad_token_id)
        with explain_out_of_memory(self.model, len(batch), ids.shape[1], batch[0].options):
            output = self.model.generate(
                ids.to(self.model.device),
                attention_mask=attention_mask.to(self.model.device),
                generator=[row_generator(*row.seed) for row in batch],
                streamer=RowStreamers([row.text for row in batch]),
                callback_on_step_end=lambda _: self.closed or not any(row.wanted() for row in batch),
                return_dict_in_generate=True,
                **batch[0].options,
            )
        for row, forwards, reason in zip(batch, output.forwards.tolist(), output.finish_reason, strict=True):
            if reason == "callback":
                row.fail(Refused(SHUTTING_DOWN, 503))
            else:
                row.finish(forwards)


def _fail(rows: Sequence[QueuedRow], error: Refused) -> None:
    for row in rows:
        row.fail(error)
