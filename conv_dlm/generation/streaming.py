"""A streamer that shows the canvas while it is denoised: unmasked tokens plain, drafts dimmed."""

import sys
import time
from collections.abc import Iterable
from itertools import groupby
from typing import Any, TextIO

import torch
import transformers
from transformers import PreTrainedTokenizerBase

from conv_dlm.generation.terminal import LiveText, is_terminal, wants_style

_MASKED = "·"  # a position without a readable draft
_FRAME = 1 / 20  # seconds between two drawings; more would slow a fast model, and nobody would see it


class TextDiffusionStreamer(transformers.TextDiffusionStreamer):
    """Shows a generation on a terminal while it is denoised, redrawn in place; elsewhere prints final text.

    Unmasked tokens are plain. Masked ones are dimmed: the model's best candidate, or a dot where there is
    none that could be read (mask, end of text). With the environment variable `NO_COLOR` they are dots only.
    On a pipe, in a notebook or with `TERM=dumb` only final text is written, word by word, as by Transformers'
    `TextStreamer`. Follows one row, as all of Transformers' streamers, of any Transformers model.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            Decodes the tokens.
        skip_prompt (`bool`, *optional*, defaults to `False`):
            Whether to leave out the prompt. A prompt with masks to fill is shown from its beginning in any
            case: a filling cannot be read without its left context.
        sleep_time (`float`, *optional*):
            Seconds to wait after each drawing, to watch a fast model; then every draft is drawn.
        mask_token_id (`int`, *optional*, defaults to the tokenizer's):
            The mask, for tokenizers that don't name it.
        file (`TextIO`, *optional*, defaults to `sys.stdout`):
            Where to write. Drawing starts on a line of its own: end the line before calling `generate`.
        decode_kwargs (`dict`, *optional*):
            For the tokenizer's `decode`. Other than in Transformers, `skip_special_tokens` is `True` by
            default: a denoised canvas ends in padding.

    Example:

        ```python
        >>> streamer = TextDiffusionStreamer(tokenizer, skip_prompt=True)
        >>> model.generate(**inputs, decode_type="conv", streamer=streamer)
        ```
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        skip_prompt: bool = False,
        sleep_time: float | None = None,
        mask_token_id: int | None = None,
        file: TextIO | None = None,
        **decode_kwargs: Any,
    ) -> None:
        super().__init__(tokenizer, skip_prompt, sleep_time, **{"skip_special_tokens": True, **decode_kwargs})
        self.file = file or sys.stdout
        self._live = LiveText(self.file) if is_terminal(self.file) else None
        self._mask_token_id = tokenizer.mask_token_id if mask_token_id is None else mask_token_id
        added = tokenizer.added_tokens_decoder.items()
        special = {index for index, token in added if token.special}
        self._unreadable = special | set(tokenizer.all_special_ids) | {self._mask_token_id}
        self._reset()

    def _reset(self) -> None:
        self.next_tokens_are_prompt = True
        self._begun = False  # whether there was anything to show
        self._final: list[int] = []
        self._draft: list[tuple[int, bool]] = []  # (token id, unmasked), right of the final ones
        self._drafted = False  # whether the caller sends drafts: then only they cause a drawing
        self._drawn_at = float("-inf")

    def put(self, value: torch.Tensor) -> None:
        """Take final tokens: first the prompt, then the committed contiguous prefix as it grows.

        Args:
            value (`torch.LongTensor` of shape `[n]` or `[1, n]`):
                The tokens that follow those of earlier calls.
        """
        ids = _one_row(value).tolist()
        is_prompt, self.next_tokens_are_prompt = self.next_tokens_are_prompt, False
        if is_prompt:
            # In a prompt with gaps only what precedes the first is final; the rest comes as it is unmasked.
            hole = ids.index(self._mask_token_id) if self._mask_token_id in ids else None
            if hole is None and self.skip_prompt:
                return
            ids = ids[:hole]
        self._begun = True
        if self._live is None:
            super().put(torch.tensor(ids))
            return
        self._final += ids
        if not self._drafted:
            self._draw()

    def put_draft(self, value: torch.Tensor, unmasked: torch.Tensor | None = None, **kwargs: Any) -> None:
        """Take what follows the final tokens at this step.

        Args:
            value (`torch.LongTensor` of shape `[n]` or `[1, n]`):
                Unmasked tokens and, where masked, the best candidate or the mask.
            unmasked (`torch.BoolTensor` of shape `[n]` or `[1, n]`, *optional*, defaults to nowhere):
                Which of them are committed.
        """
        if self._live is None:
            return
        self._begun = True
        ids = _one_row(value).tolist()
        flags = [False] * len(ids) if unmasked is None else _one_row(unmasked).tolist()
        self._draft = list(zip(ids, flags, strict=True))
        if not self._drafted:  # the first draft need not wait after the tokens of its own step
            self._drafted, self._drawn_at = True, float("-inf")
        self._draw()

    def end(self) -> None:
        """Leave the final text alone, followed by a line break; ready for another generation."""
        if self._live is None:
            super().end()
        else:
            self._live.finish(self._text(self._final))
        self._reset()

    def abort(self) -> None:
        """After an exception in `generate`: keep what is final, drop the draft. Writes nothing if nothing was shown."""
        if self._begun:
            self.end()
        else:
            self._reset()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Write final text to `file` where that is not a terminal; hook of `TextStreamer`."""
        print(text, end="\n" if stream_end else "", file=self.file, flush=True)

    def _draw(self) -> None:
        assert self._live is not None
        now = time.monotonic()
        if self.sleep_time is None and now - self._drawn_at < _FRAME:
            return
        # The last character may lack bytes that the next token brings.
        self._live.draw(self._text(self._final).rstrip("\ufffd"), self._spans())
        self._drawn_at = now
        if self.sleep_time is not None:
            time.sleep(self.sleep_time)

    def _spans(self) -> Iterable[tuple[str, bool]]:
        """The draft as spans of (text, dim)."""
        before = self._final[-1:]
        for kind, group in groupby(self._draft, key=self._kind):
            ids = [index for index, _ in group]
            if kind == "masked":
                yield _MASKED * len(ids), True
                continue
            # Decoded together with its left neighbour, since some tokenizers drop a leading space.
            yield self._text(before + ids)[len(self._text(before)) :], kind == "candidate"
            before = ids[-1:]

    def _kind(self, entry: tuple[int, bool]) -> str:
        index, unmasked = entry
        if unmasked:
            return "unmasked"
        return "candidate" if wants_style() and index not in self._unreadable else "masked"

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, **self.decode_kwargs))


def _one_row(value: torch.Tensor) -> torch.Tensor:
    if value.dim() > 1 and value.shape[0] > 1:
        raise ValueError(
            f"A streamer follows one row, not a batch of {value.shape[0]}: generate one prompt at a time, "
            "or without `streamer`."
        )
    return value.reshape(-1)
