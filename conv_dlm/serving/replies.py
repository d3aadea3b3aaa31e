"""Turn a request into rows for the worker, and their events into answers in OpenAI's shape."""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from conv_dlm.serving.errors import Refused
from conv_dlm.serving.queue import QueuedRow
from conv_dlm.serving.requests import Request
from conv_dlm.serving.served import Prompt, ServedModel
from conv_dlm.serving.text import RowText
from conv_dlm.serving.token_scores import UNKNOWN, TokenScores
from conv_dlm.utils.text import to_json


@dataclass(frozen=True)
class Piece:
    """New text of answer number `index`."""

    index: int
    text: str


@dataclass(frozen=True)
class Finished:
    """Answer number `index` is complete: why it ended, its number of tokens, its forward passes, and, where they are
    asked for, its tokens' scores."""

    index: int
    reason: str
    tokens: int
    forwards: int
    scores: TokenScores | None = None


class Reply:
    """The answers to a request, as they arrive from the worker's thread.

    Create it inside the event loop that receives the events.

    Args:
        served (`ServedModel`): the model that answers.
        request (`Request`): the request.
        prompts (list of `Prompt`): the prompts that `served` makes of it.
        endpoint (`str`): "chat" or "completion".

    Attributes:
        rows (`list[QueuedRow]`): the rows to denoise.

    """

    def __init__(self, served: ServedModel, request: Request, prompts: list[Prompt], endpoint: str) -> None:
        self.served = served
        self.request, self.chat, self.model = request, endpoint == "chat", served.name
        self.id, self.created = f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}", int(time.time())
        self.abandoned = False
        self._events: asyncio.Queue[Piece | Finished | Refused] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self.prompt_tokens = sum(prompt.tokens for prompt in prompts)
        self.rows = []
        each = [prompt for prompt in prompts for _ in range(request.best_of)]
        for index, (prompt, seed) in enumerate(zip(each, served.seeds(request), strict=True)):
            ends = served.end_token_ids if prompt.gap is None else set()
            emit = partial(self._emit, index)
            text = RowText(served.decode, ends, request.stops, prompt.gap, emit, self.is_wanted)
            finish = partial(self._finish, index, text)
            row = QueuedRow(
                prompt.ids, prompt.options, prompt.settings, seed, text, self.is_wanted, finish, self._send,
                request.scored,
            )  # fmt: skip
            self.rows.append(row)

    def is_wanted(self) -> bool:
        """Whether the client is still there."""
        return not self.abandoned

    async def whole(self) -> dict[str, Any]:
        """The complete response body. Raises Refused if the generation fails."""
        texts = [""] * len(self.rows)
        ends: dict[int, Finished] = {}
        async for event in self._until_finished():
            if isinstance(event, Piece):
                texts[event.index] += event.text
            else:
                ends[event.index] = event
        choices = []
        for index, row in enumerate(self._chosen(ends)):
            said = {"message": {"role": "assistant", "content": texts[row]}} if self.chat else {"text": texts[row]}
            end = ends[row]
            choices.append(
                {"index": index, **said, "finish_reason": end.reason, "logprobs": self._log_probs(end.scores)}
            )
        kind = "chat.completion" if self.chat else "text_completion"
        return self._body(kind, choices, self._usage(list(ends.values())))

    def _chosen(self, ends: dict[int, Finished]) -> list[int]:
        """The rows that are sent: of those of each prompt the most likely by token, if more were made than wanted."""
        n, best_of = self.request.n, self.request.best_of
        if n == best_of:
            return sorted(ends)
        chosen = []
        for start in range(0, len(self.rows), best_of):
            ranked = sorted(range(start, start + best_of), key=lambda row: -_mean(ends[row].scores))
            chosen += ranked[:n]
        return chosen

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
                    yield self._chunk(event.index, {}, event.reason, event.scores)
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

    def _finish(self, index: int, text: RowText, forwards: int, scores: TokenScores | None) -> None:
        complete = text.ended or self.request.constraint is not None  # a full canvas is a whole text of the language
        self._send(Finished(index, "stop" if complete else "length", len(text.ids), forwards, scores))

    # --- shapes ---

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _log_probs(self, scores: TokenScores | None) -> dict[str, Any] | None:
        """The scores in OpenAI's shape, which chats and completions have different ones of."""
        if scores is None or self.request.top is None:
            return None
        top, names = self.request.top, self.served.tokenizer.convert_ids_to_tokens

        def described(token: int, log_prob: float) -> dict[str, Any]:
            data = self.served.token_bytes[token] if token < len(self.served.token_bytes) else None
            text = str(names(token)) if data is None else data.decode("utf-8", "replace")
            return {"token": text, "logprob": log_prob, "bytes": list(text.encode() if data is None else data)}

        rows = [described(*pair) for pair in zip(scores.ids, scores.log_probs, strict=True)]
        best = [[described(*pair) for pair in position[:top]] for position in scores.top]
        if self.chat:
            content = [row | {"top_logprobs": others} for row, others in zip(rows, best, strict=True)]
            return {"content": content, "refusal": None}
        likely = [{other["token"]: other["logprob"] for other in others} for others in best]
        starts = itertools.accumulate((len(row["token"]) for row in rows), initial=0)
        return {
            "tokens": [row["token"] for row in rows],
            "token_logprobs": [row["logprob"] for row in rows],
            "top_logprobs": likely if top else None,
            "text_offset": list(starts)[: len(rows)],
        }

    def _chunk(
        self, index: int, delta: dict[str, str], reason: str | None = None, scores: TokenScores | None = None
    ) -> str:
        said: dict[str, Any] = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        choice = {"index": index, **said, "finish_reason": reason, "logprobs": self._log_probs(scores)}
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
    return f"data: {to_json(body)}\n\n"


def _mean(scores: TokenScores | None) -> float:
    return UNKNOWN if scores is None else scores.mean
