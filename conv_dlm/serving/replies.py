"""Turn a request into rows for the worker, and their events into answers in OpenAI's shape."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from conv_dlm.serving.errors import Refused
from conv_dlm.serving.queue import QueuedRow
from conv_dlm.serving.requests import Request
from conv_dlm.serving.served import ServedModel
from conv_dlm.serving.text import RowText


@dataclass(frozen=True)
class Piece:
    """New text of answer number `index`."""

    index: int
    text: str


@dataclass(frozen=True)
class Finished:
    """Answer number `index` is complete: why it ended, its number of tokens, and its forward passes."""

    index: int
    reason: str
    tokens: int
    forwards: int


class Reply:
    """The answers to a request, as they arrive from the worker's thread.

    Create it inside the event loop that receives the events.

    Args:
        served (`ServedModel`): the model that answers.
        request (`Request`): the request.
        endpoint (`str`): "chat" or "completion".

    Attributes:
        rows (`list[QueuedRow]`): the rows to denoise.

    Raises:
        Refused: the model can't do what was asked.
    """

    def __init__(self, served: ServedModel, request: Request, endpoint: str) -> None:
        self.request, self.chat, self.model = request, endpoint == "chat", served.name
        self.id, self.created = f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}", int(time.time())
        self.abandoned = False
        self._events: asyncio.Queue[Piece | Finished | Refused] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        prompts = served.prompts(request)
        self.prompt_tokens = sum(prompt.tokens for prompt in prompts)
        self.rows = []
        each = [prompt for prompt in prompts for _ in range(request.n)]
        for index, (prompt, seed) in enumerate(zip(each, served.seeds(request), strict=True)):
            ends = served.end_token_ids if prompt.gap is None else set()
            emit = partial(self._emit, index)
            text = RowText(served.decode, ends, request.stops, prompt.gap, emit, self.is_wanted)
            finish = partial(self._finish, index, text)
            row = QueuedRow(prompt.ids, prompt.options, prompt.settings, seed, text, self.is_wanted, finish, self._send)
            self.rows.append(row)

    def is_wanted(self) -> bool:
        """Whether the client is still there."""
        return not self.abandoned

    async def whole(self) -> dict[str, Any]:
        """The complete response body. Raises Refused if the generation fails."""
        texts, reasons, finished = [""] * len(self.rows), [""] * len(self.rows), []
        async for event in self._until_finished():
            if isinstance(event, Piece):
                texts[event.index] += event.text
            else:
                reasons[event.index] = event.reason
                finished.append(event)
        choices = []
        for index, (text, reason) in enumerate(zip(texts, reasons, strict=True)):
            said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
            choices.append({"index": index, **said, "finish_reason": reason, "logprobs": None})
        return self._body("chat.completion" if self.chat else "text_completion", choices, self._usage(finished))

    async def stream(self) -> AsyncIterator[str]:
        """The answer as server-sent events, with text in the order in which it becomes final."""
        try:
            if self.chat:
                for index in range(len(self.rows)):
                    yield self._chunk(index, {"role": "assistant", "content": ""})
            finished = []
            async for event in self._until_finished():
                if isinstance(event, Piece):
                    yield self._chunk(event.index, {"content": event.text})
                else:
                    finished.append(event)
                    yield self._chunk(event.index, {}, event.reason)
            if self.request.include_usage:
                yield _sent(self._body(self._chunk_kind, [], self._usage(finished)))
            yield "data: [DONE]\n\n"
        except Refused as error:
            yield _sent(error.body)
        finally:
            self.abandoned = True

    async def _until_finished(self) -> AsyncIterator[Piece | Finished]:
        left = len(self.rows)
        while left:
            event = await self._events.get()
            if isinstance(event, Refused):
                raise event
            left -= isinstance(event, Finished)
            yield event

    # --- called by the worker's thread ---

    def _send(self, event: Piece | Finished | Refused) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody is listening
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _emit(self, index: int, text: str) -> None:
        self._send(Piece(index, text))

    def _finish(self, index: int, text: RowText, forwards: int) -> None:
        complete = text.ended or self.request.constraint is not None  # a full canvas is a whole text of the language
        self._send(Finished(index, "stop" if complete else "length", len(text.ids), forwards))

    # --- shapes ---

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _chunk(self, index: int, delta: dict[str, str], reason: str | None = None) -> str:
        said: dict[str, Any] = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        choice = {"index": index, **said, "finish_reason": reason, "logprobs": None}
        return _sent(self._body(self._chunk_kind, [choice], None))

    def _body(self, kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
        body = {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}
        return body | {"usage": usage}

    def _usage(self, finished: list[Finished]) -> dict[str, int]:
        completion = sum(answer.tokens for answer in finished)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "forwards": sum(answer.forwards for answer in finished),
        }


def _sent(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
