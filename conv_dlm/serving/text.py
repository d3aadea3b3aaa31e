"""The text of a row as it is decided: up to its end, without half characters, and without stop strings."""

from collections.abc import Callable, Sequence

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from conv_dlm.answering.answers import until_end

HALF = "\ufffd"  # what bytes are decoded to that are no character yet


class RowText(BaseStreamer):
    """A row's streamer (see `RowStreamers`): makes text of its tokens, and says when there is enough of it.

    Args:
        decode (callable): text of tokens, special ones left out.
        end_token_ids (set of `int`): what ends the text; no part of it.
        stops (sequence of `str`): texts that end it, no part of it either.
        limit (`int`, *optional*): how many tokens there are to take, if others follow.
        emit (callable): called with new text that stays.
        wanted (callable): whether anybody still waits for the text.

    Attributes:
        ids (`list[int]`): the tokens taken: with a stop string, up to the one that completes it.
        ended (`bool`): whether an end token, a stop string or the limit ended the text.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        end_token_ids: set[int],
        stops: Sequence[str],
        limit: int | None,
        emit: Callable[[str], None],
        wanted: Callable[[], bool],
    ) -> None:
        self.decode, self.end_token_ids, self.stops, self.limit = decode, end_token_ids, stops, limit
        self.emit, self.wanted = emit, wanted
        self.ids: list[int] = []
        self.ended = False
        self._prompt_is_next = True
        self._sent = 0

    def put(self, value: Tensor) -> bool:
        """Take the next tokens; whether that is enough."""
        if self._prompt_is_next or self.ended:
            self._prompt_is_next = False
            return False
        if not self.wanted():
            return True
        room = None if self.limit is None else self.limit - len(self.ids)
        new, self.ended = until_end(value.tolist()[:room], self.end_token_ids)
        self.ids += new
        self.ended = self.ended or len(self.ids) == self.limit
        self._cut_at_stop()
        self._send(final=False)
        return self.ended

    def end(self) -> None:
        """Send what was held back."""
        self._send(final=True)

    def _cut_at_stop(self) -> None:
        """Drop the tokens behind the one that completes a stop string, however many came at once."""
        if first_stop(self.decode(self.ids), self.stops) is None:
            return
        self.ended = True
        while first_stop(self.decode(self.ids[:-1]), self.stops) is not None:
            self.ids.pop()

    def _send(self, final: bool) -> None:
        text = self.decode(self.ids)
        stop = first_stop(text, self.stops)
        if stop is not None:
            text = text[:stop]
        elif not final:
            text = text.rstrip(HALF)
            text = text[: len(text) - may_become_stop(text, self.stops)]
        if len(text) > self._sent:
            self.emit(text[self._sent :])
            self._sent = len(text)


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string in `text` begins, if there is one."""
    return min((start for stop in stops if (start := text.find(stop)) >= 0), default=None)


def may_become_stop(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` are the beginning of a stop string."""
    lengths = (n for stop in stops for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n]))
    return max(lengths, default=0)
