"""The text of a row as it becomes final: up to its end, without partial characters and stop strings."""

from collections.abc import Callable, Sequence

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from conv_dlm.answering.answers import until_end

HALF = "\ufffd"  # the decoding of bytes that are not a complete character yet


class RowText(BaseStreamer):
    """A row's streamer (see `RowStreamers`): decodes its tokens, and says when the text is complete.

    Args:
        decode (callable): decodes tokens to text, without special tokens.
        end_token_ids (set of `int`): tokens that end the text; not part of it.
        stops (sequence of `str`): strings that end the text; not part of it either.
        limit (`int`, *optional*): the number of tokens to take, if a suffix follows.
        emit (callable): called with new text that is final.
        wanted (callable): whether a client still waits for the text.

    Attributes:
        ids (`list[int]`): the tokens so far; with a stop string, up to the one that completes it.
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
        """Take the next tokens. Returns whether the row can end."""
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
        """Send the text that was held back."""
        self._send(final=True)

    def _cut_at_stop(self) -> None:
        """Drop the tokens after the one that completes a stop string, however many came at once."""
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
    """The start of the first stop string in `text`, or `None`."""
    return min((start for stop in stops if (start := text.find(stop)) >= 0), default=None)


def may_become_stop(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` could be the start of a stop string."""
    lengths = (n for stop in stops for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n]))
    return max(lengths, default=0)
