"""The canvas: the ids being denoised, prompt and response together, and what is known about each position.

Shapes: B rows, L canvas positions.
"""

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

# why a row's text ends where it does; see `DiffusionGenerateOutput.finish_reason`
LENGTH, EOS, CRITERION, STREAMER, CALLBACK = range(5)
REASONS = ("length", "eos", "criterion", "streamer", "callback")


@dataclass
class Canvas:
    """Prompt and response of each row, left-padded. What changes is replaced, never written to in place.

    ids: LongTensor [B, L]; the mask id at masked positions.
    masked: BoolTensor [B, L]; still to be unmasked.
    padding: BoolTensor [B, L]; left padding, no part of the text.
    mask_index: LongTensor [B, L]; index of a position among the masks that its row began with, left to right; -1 at
        given positions. Unlike the position it doesn't depend on padding or on the prompt.
    unmasked_at: LongTensor [B, L]; the step that unmasked a position, -1 where it was given or is masked.
    log_probs: FloatTensor [B, L]; log-probability of a token when it was committed, 0 where none was predicted.
    end: LongTensor [B]; where the text ends: positions from here on are out of the model's sight.
    reason: LongTensor [B]; why a row was ended there, an index of `REASONS`.
    mask_token_id: the mask's id.
    varies: whether rows may end before the canvas does, and go on later; then nothing behind the end is known.
    block_index: LongTensor [B, L]; what blocks are counted by where a model says how they lie; None for `mask_index`.
    before: LongTensor [B]; positions that the first block of a row lacks, in a model that sees block by block; None
        where blocks begin with the text.
    """

    ids: Tensor
    masked: Tensor
    padding: Tensor
    mask_index: Tensor
    unmasked_at: Tensor
    log_probs: Tensor
    end: Tensor
    reason: Tensor
    mask_token_id: int
    block_index: Tensor | None = None
    before: Tensor | None = None
    varies: bool = False
    _constants: dict[Hashable, Tensor] = field(default_factory=dict)

    @classmethod
    def from_prompt(
        cls, input_ids: Tensor, new_tokens: int, mask_token_id: int, padding: Tensor | None = None
    ) -> "Canvas":
        """`new_tokens` masks appended to the prompts `input_ids` [B, P]; masks inside them are unmasked too."""
        if padding is None:
            padding = torch.zeros_like(input_ids, dtype=torch.bool)
        ids = torch.nn.functional.pad(input_ids, (0, new_tokens), value=mask_token_id)
        padding = torch.nn.functional.pad(padding, (0, new_tokens), value=False)
        return cls.of(ids, padding, (ids == mask_token_id) & ~padding, mask_token_id)

    @classmethod
    def of(
        cls, ids: Tensor, padding: Tensor, masked: Tensor, mask_token_id: int, mask_index: Tensor | None = None
    ) -> "Canvas":
        """Of `ids` that are `masked` or `padding`, all [B, L]; `mask_index` where it is not counted from these."""
        return cls(
            ids=ids,
            masked=masked,
            padding=padding,
            mask_index=torch.where(masked, masked.cumsum(1) - 1, -1) if mask_index is None else mask_index,
            unmasked_at=torch.full_like(ids, -1),
            log_probs=torch.zeros(ids.shape, device=ids.device),
            end=torch.full_like(ids[:, 0], ids.shape[1]),
            reason=torch.full_like(ids[:, 0], LENGTH),
            mask_token_id=mask_token_id,
        )

    # --- what never changes in a run ---

    @functools.cached_property
    def positions(self) -> Tensor:
        """LongTensor [L]: 0 .. L-1."""
        return torch.arange(self.ids.shape[1], device=self.ids.device)

    @functools.cached_property
    def ones(self) -> Tensor:
        """FloatTensor [B, L]."""
        return torch.ones(self.ids.shape, device=self.ids.device)

    def constant(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, made once in a run."""
        if key not in self._constants:
            self._constants[key] = make()
        return self._constants[key]

    @functools.cached_property
    def given(self) -> Tensor:
        """BoolTensor [B, L]: text that came with the prompt, right context included."""
        return (self.mask_index < 0) & ~self.padding

    @functools.cached_property
    def response(self) -> Tensor:
        """BoolTensor [B, L]: the response proper, behind which no given text follows."""
        return (self.given.flip(1).cumsum(1).flip(1) == 0) & ~self.padding

    @functools.cached_property
    def size(self) -> Tensor:
        """LongTensor [B]: how many masks a row began with."""
        return (self.mask_index >= 0).sum(1)

    @functools.cached_property
    def start(self) -> Tensor:
        """LongTensor [B]: where each row's text begins."""
        return self.padding.sum(1)

    @functools.cached_property
    def block_positions(self) -> Tensor:
        """LongTensor [B, L]: positions that the blocks of a model which sees block by block are counted by."""
        text = ((~self.padding).cumsum(1) - 1).clamp(min=0)
        return text if self.before is None else text + self.before[:, None]

    # --- what is there now ---

    @property
    def known(self) -> Tensor:
        """BoolTensor [B, L]: text that is there, given or unmasked."""
        text = ~(self.masked | self.padding)
        return text & (self.positions < self.end[:, None]) if self.varies else text

    def seen(self, end: Tensor) -> Tensor:
        """BoolTensor [B, L]: text and masks before each row's `end` [B]."""
        return ~self.padding & (self.positions < end[:, None])

    def end_of_text(self, eos_token_ids: Tensor | None) -> Tensor:
        """BoolTensor [B, L]: the first end token of each row's response, if one is there."""
        if eos_token_ids is None:
            return torch.zeros_like(self.masked)
        is_end = self._is_end(eos_token_ids)
        return is_end & (is_end.cumsum(1) == 1)

    def _is_end(self, eos_token_ids: Tensor) -> Tensor:
        # a mask is no end token
        return torch.isin(self.ids, eos_token_ids) & self.response

    # --- changes ---

    def commit(self, where: Tensor, tokens: Tensor, step: int, log_probs: Tensor | None = None) -> None:
        """Unmask the positions `where` [B, L] with `tokens`, of log-probabilities `log_probs`, both [B, L]."""
        self.ids = torch.where(where, tokens, self.ids)
        self.unmasked_at = torch.where(where, step, self.unmasked_at)
        if log_probs is not None:
            self.log_probs = torch.where(where, log_probs, self.log_probs)
        self.masked = self.masked > where  # and not

    def remask(self, where: Tensor) -> None:
        """Mask the positions `where` [B, L] again."""
        self.ids = self.ids.masked_fill(where, self.mask_token_id)
        self.unmasked_at = self.unmasked_at.masked_fill(where, -1)
        self.log_probs = self.log_probs.masked_fill(where, 0.0)
        self.masked = self.masked | where

    def move(self, source: Tensor) -> None:
        """Let each position take over what is at its `source` [B, L]; what moves over a row's end is dropped."""
        inside = self.positions < self.end[:, None]
        self.ids = torch.where(inside, self.ids.gather(1, source), self.ids)
        self.masked = self.masked.gather(1, source) & inside
        self.unmasked_at = torch.where(inside, self.unmasked_at.gather(1, source), self.unmasked_at)
        self.log_probs = torch.where(inside, self.log_probs.gather(1, source), self.log_probs)

    def end_rows(self, end: Tensor, reason: int) -> None:
        """End rows at the positions `end` [B], for a `reason`: what follows is no text any more.

        Rows that ended before stay as they are. The one place where a row's text becomes shorter than its canvas.
        """
        earlier = end < self.end
        self.end = torch.minimum(self.end, end)
        self.reason = torch.where(earlier, reason, self.reason)
        self.masked = self.masked & (self.positions < self.end[:, None])

    def extend(self, end: Tensor) -> None:
        """Let rows go on up to the positions `end` [B], where that is farther and they have not been ended: the masks
        up to there are to be unmasked from now on."""
        end = torch.where(self.reason == LENGTH, torch.maximum(end.clamp(max=self.ids.shape[1]), self.end), self.end)
        opened = (self.positions >= self.end[:, None]) & (self.positions < end[:, None])
        self.masked = self.masked | (opened & (self.mask_index >= 0))
        self.end = end

    def fill_after_end(
        self, eos_token_ids: Tensor, step: int, only_finished: bool, open_: Tensor | None = None
    ) -> None:
        """End tokens at the right of a row's first end token.

        With `only_finished`, only in rows without masks before it, or positions that are `open_` [B, L] to changes:
        their sequence can't change any more. Otherwise at once (EOS-fill, arXiv 2509.15188), over what was unmasked
        there.
        """
        is_end = self._is_end(eos_token_ids)
        if only_finished:
            reached = (is_end if open_ is None else is_end & ~open_).cumsum(1) > 0
            unsettled = self.masked if open_ is None else self.masked | open_
            open_before = (unsettled > reached).any(1, keepdim=True)
            behind = (self.masked & reached) > open_before
        else:
            behind = self.behind(is_end, eos_token_ids)
        self.commit(behind, eos_token_ids[0], step)

    def cut_after(self, end: Tensor, eos_token_ids: Tensor, step: int) -> None:
        """End the text behind the first `end` [B, L] of each row's response, if it has one: end tokens follow, and
        leave the model's sight."""
        end = end & self.response
        self.commit(self.behind(end, eos_token_ids), eos_token_ids[0], step)
        self.end_rows((end.cumsum(1) == 0).sum(1) + 1, EOS)

    def behind(self, end: Tensor, eos_token_ids: Tensor) -> Tensor:
        """BoolTensor [B, L]: what is no end token yet at the right of the first `end` [B, L] of each row."""
        reached = end.cumsum(1) > 0
        first = reached & (reached.cumsum(1) == 1)
        return (reached > first) & (self.masked | ~torch.isin(self.ids, eos_token_ids))
