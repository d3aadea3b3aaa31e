"""A constraint for a denoising loop of one's own."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from conv_dlm.constraints.languages import Constraint
from conv_dlm.constraints.rows import RowConstraints


class ConstraintLogitsProcessor(LogitsProcessor):
    """Leaves the tokens that some completion of a canvas has.

    For loops that unmask one position of a row at a time: tokens that are each allowed need not be allowed together,
    which `generate(constraint=...)` sees to.

    Args:
        constraint ([`~conv_dlm.JSONSchema`], [`~conv_dlm.Regex`], [`~conv_dlm.Choice`], or a list):
            For all rows, or one or `None` for each.
        tokenizer (`PreTrainedTokenizerBase`): of the model.
        mask_token_id (`int`): of the masks.
        eos_token_id (`int`, *optional*): what ends a text; without, it fills its canvas.

    The first call shows the canvas that a run begins with; a new run takes a new processor. It raises
    `ImpossibleConstraint` where the canvas can't be completed.
    """

    def __init__(
        self,
        constraint: Constraint | Sequence[Constraint | None],
        tokenizer: Any,
        mask_token_id: int,
        eos_token_id: int | None = None,
    ) -> None:
        self.constraint, self.tokenizer = constraint, tokenizer
        self.mask_token_id, self.eos_token_id = mask_token_id, eos_token_id
        self.rows: RowConstraints | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` [B, L, V] of the canvases `input_ids` [B, L], with -inf for what is not allowed at their masks."""
        canvas = SimpleNamespace(
            ids=input_ids.clone(),  # a loop may write to its canvas, and each is looked at anew
            masked=input_ids == self.mask_token_id,
            mask_token_id=self.mask_token_id,
        )
        count, length = input_ids.shape
        if self.rows is None:
            each = [self.constraint] * count if isinstance(self.constraint, Constraint) else list(self.constraint)
            ends = None if self.eos_token_id is None else torch.tensor([self.eos_token_id])
            self.rows = RowConstraints(each, self.tokenizer, canvas, ends)
        places = torch.arange(count * length, device=input_ids.device)
        at = SimpleNamespace(rows=places // length, positions=places % length)
        flat = scores.flatten(0, 1)
        return flat.masked_fill(~self.rows.mask(canvas, flat, at), -torch.inf).view_as(scores)
