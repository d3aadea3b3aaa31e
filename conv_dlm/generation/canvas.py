"""The canvas: the ids being denoised, and what is known about each position.

Suffixes: B rows, L canvas positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Canvas:
    """Prompt and response of each row, left-padded.

    ids: LongTensor [B, L]; the mask id at undecided positions.
    undecided: BoolTensor [B, L]; still to be decided.
    padding: BoolTensor [B, L]; left padding, no part of the text.
    slot: LongTensor [B, L]; index of a position among those that its row has to decide, left to right; -1 at given
        positions. Unlike the position it doesn't depend on padding or on the prompt.
    decided_at: LongTensor [B, L]; the step that decided a position, -1 where it was given or is undecided.
    end: LongTensor [B]; where the text is cut off: positions from here on are out of the model's sight.
    mask_token_id: the mask's id.
    """

    ids: Tensor
    undecided: Tensor
    padding: Tensor
    slot: Tensor
    decided_at: Tensor
    end: Tensor
    mask_token_id: int

    @classmethod
    def from_prompt(
        cls, input_ids: Tensor, new_tokens: int, mask_token_id: int, padding: Tensor | None = None
    ) -> "Canvas":
        """`new_tokens` masks appended to the prompts `input_ids` [B, P]; masks inside them are decided too."""
        if padding is None:
            padding = torch.zeros_like(input_ids, dtype=torch.bool)
        ids = torch.nn.functional.pad(input_ids, (0, new_tokens), value=mask_token_id)
        padding = torch.nn.functional.pad(padding, (0, new_tokens), value=False)
        undecided = (ids == mask_token_id) & ~padding
        slot = torch.where(undecided, undecided.cumsum(1) - 1, -1)
        end = torch.full_like(ids[:, 0], ids.shape[1])
        return cls(ids, undecided, padding, slot, torch.full_like(ids, -1), end, mask_token_id)

    @property
    def known(self) -> Tensor:
        """BoolTensor [B, L]: text that is there, given or decided."""
        return ~(self.undecided | self.padding)

    @property
    def given(self) -> Tensor:
        """BoolTensor [B, L]: text that came with the prompt, right context included."""
        return (self.slot < 0) & ~self.padding

    def seen(self, end: Tensor) -> Tensor:
        """BoolTensor [B, L]: text before each row's `end` [B]."""
        return ~self.padding & (torch.arange(self.ids.shape[1], device=self.ids.device) < end[:, None])

    @property
    def size(self) -> Tensor:
        """LongTensor [B]: how many positions a row had to decide at the start."""
        return (self.slot >= 0).sum(1)

    def commit(self, where: Tensor, tokens: Tensor, step: int) -> None:
        """Decide the positions `where` [B, L] with `tokens` [B, L]."""
        self.ids = torch.where(where, tokens, self.ids)
        self.decided_at = torch.where(where, step, self.decided_at)
        self.undecided = self.undecided & ~where

    def remask(self, where: Tensor) -> None:
        """Make the positions `where` [B, L] undecided again."""
        self.ids = self.ids.masked_fill(where, self.mask_token_id)
        self.decided_at = self.decided_at.masked_fill(where, -1)
        self.undecided = self.undecided | where

    def after_last_given(self) -> Tensor:
        """BoolTensor [B, L]: the response proper, behind which no given text follows."""
        return self.given.flip(1).cumsum(1).flip(1) == 0

    def end_of_text(self, eos_token_ids: Tensor | None) -> Tensor:
        """BoolTensor [B, L]: the first end token of each row's response, if one is decided there."""
        if eos_token_ids is None:
            return torch.zeros_like(self.undecided)
        is_end = torch.isin(self.ids, eos_token_ids) & self.after_last_given() & ~self.undecided & ~self.padding
        return is_end & (is_end.cumsum(1) == 1)

    def fill_after_end(self, eos_token_ids: Tensor, step: int, only_finished: bool) -> None:
        """End tokens at the right of a row's first end token.

        With `only_finished`, only in rows whose text before it is all decided: their sequence can't change any more.
        Otherwise at once (EOS-fill, arXiv 2509.15188), overwriting what was decided there.
        """
        end = self.end_of_text(eos_token_ids)
        behind = (end.cumsum(1) > 0) & ~end
        if only_finished:
            open_before = (self.undecided & (end.cumsum(1) == 0)).any(1, keepdim=True)
            behind = behind & self.undecided & ~open_before
        self._commit_end_tokens(behind, eos_token_ids, step)

    def cut_after(self, end: Tensor, eos_token_ids: Tensor, step: int) -> None:
        """Cut the text off behind the first `end` [B, L] of each row's response, if it has one: end tokens follow, and
        leave the model's sight."""
        end = end & self.after_last_given()
        reached = end.cumsum(1) > 0
        first = end & (end.cumsum(1) == 1)
        behind = reached & ~first
        self._commit_end_tokens(behind, eos_token_ids, step)
        self.end = torch.minimum(self.end, (~reached).sum(1) + 1)

    def _commit_end_tokens(self, where: Tensor, eos_token_ids: Tensor, step: int) -> None:
        """End tokens `where` [B, L] there is none."""
        no_end = self.undecided | ~torch.isin(self.ids, eos_token_ids)
        self.commit(where & no_end, eos_token_ids[:1].expand_as(self.ids), step)
