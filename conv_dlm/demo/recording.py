"""The canvas after each step of a run, kept for drawing and replay.

Suffix: N positions from the first mask to the end of the canvas.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

MASKED, GIVEN = -1, 0  # of `Frame.since`, beside the numbers of frames
NO_GUESS = -1  # of `Frame.ids`: the model has not predicted this masked position yet


class Frame(NamedTuple):
    """The canvas after a step.

    ids: IntTensor [N]; tokens where unmasked; elsewhere the best guess, or `NO_GUESS`.
    since: IntTensor [N]; the frame that unmasked the token; `GIVEN` for the prompt's tokens; `MASKED`.
    end: where the text ends; positions after its end token are not part of it and keep their last state.
    """

    ids: Tensor
    since: Tensor
    end: int


class Recording(BaseStreamer):
    """A streamer of `generate` that keeps a `Frame` for each step; frame 0 is the canvas before the first.

    One thread may record while another one reads: frames are only added, and never change.

    Args:
        length (`int`): new positions of the canvas, `max_new_tokens`.
        mask_token_id (`int`): the mask.
    """

    def __init__(self, length: int, mask_token_id: int) -> None:
        self.length, self.mask_token_id = length, mask_token_id
        self.frames: list[Frame] = []
        self._final: list[int] = []  # from the first mask on, as far as unmasked without a gap
        self._unseen = False  # whether there are final tokens that no frame shows

    @property
    def steps(self) -> int:
        """Steps that have been recorded."""
        return max(0, len(self.frames) - 1)

    def put(self, value: Tensor) -> None:
        """Take the prompt, then what joins the unmasked prefix.

        Args:
            value (`torch.LongTensor` of shape `[n]` or `[1, n]`): the tokens.
        """
        ids = value.flatten()
        if not self.frames:
            self._begin(ids)
            return
        self._final += ids.tolist()
        self._unseen = True

    def put_draft(self, value: Tensor, unmasked: Tensor | None = None, **kwargs: Any) -> None:
        """Take what follows the unmasked prefix after a step, and close the step's frame.

        Args:
            value (`torch.LongTensor` of shape `[n]` or `[1, n]`): unmasked tokens, and guesses where masked.
            unmasked (`torch.BoolTensor` of the same shape, *optional*, defaults to nowhere): which are unmasked.
        """
        ids = value.flatten()
        flags = torch.zeros_like(ids, dtype=torch.bool) if unmasked is None else unmasked.flatten()
        self._add(ids, flags)

    def end(self) -> None:
        """Close the last frame: a step that leaves nothing masked comes without a draft."""
        if self._unseen:
            nothing = torch.empty(0, dtype=torch.long)
            self._add(nothing, nothing.bool())

    def _begin(self, prompt: Tensor) -> None:
        holes = (prompt == self.mask_token_id).nonzero()
        ids = prompt[int(holes[0]) :] if len(holes) else prompt[:0]
        ids = torch.nn.functional.pad(ids, (0, self.length), value=self.mask_token_id).int()
        masked = ids == self.mask_token_id
        since = torch.where(masked, MASKED, GIVEN).int()
        self.frames.append(Frame(ids.masked_fill(masked, NO_GUESS), since, len(ids)))

    def _add(self, draft: Tensor, unmasked: Tensor) -> None:
        number, last = len(self.frames), self.frames[-1]
        final = torch.tensor(self._final, dtype=torch.long)
        seen = torch.cat((final, draft)).int()
        unmasked = torch.cat((torch.ones_like(final, dtype=torch.bool), unmasked))
        end = len(seen)
        ids, since = last.ids.clone(), last.since.clone()
        ids[:end] = seen.masked_fill(~unmasked & (seen == self.mask_token_id), NO_GUESS)
        since[:end] = torch.where(unmasked, torch.where(since[:end] >= 0, since[:end], number), MASKED)
        self.frames.append(Frame(ids, since, end))
        self._unseen = False
