"""Rollouts: completions that the current weights denoise, with the order in which they were written.

Shapes: B rows, C positions of the canvas behind the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from conv_dlm.answering.answers import end_tokens
from conv_dlm.answering.batching import pad_left
from conv_dlm.generation.observing import StepEnd


@dataclass(frozen=True)
class Rollout:
    """What was written to B prompts.

    Attributes:
        canvas_BC (`LongTensor` [B, C]): the canvas at the end, as the model saw it, behind the end of a text too.
        unmasked_at_BC (`LongTensor` [B, C]): the step in which each position was written; -1 if never.
        lengths (`list[int]`): tokens of each completion, its end token among them.
        forwards (`list[int]`): forwards that each row took.
        drafts (`list[Tensor]`): after each step `LongTensor` [B, C], what was written with the best guesses at the
            masks; the mask where the model was not asked yet. Empty unless kept.
    """

    canvas_BC: Tensor
    unmasked_at_BC: Tensor
    lengths: list[int]
    forwards: list[int]
    drafts: list[Tensor] = field(default_factory=list)

    @property
    def completion_ids(self) -> list[list[int]]:
        """The ids of each completion, up to its end."""
        return [row[:length] for row, length in zip(self.canvas_BC.tolist(), self.lengths, strict=True)]


def denoise(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    seeds: Sequence[int],
    pad_token_id: int,
    keep_drafts: bool = False,
    **options: Any,
) -> Rollout:
    """Write a completion to each prompt; a row's draws are its own, so that it doesn't depend on its batch.

    Args:
        model: with the `generate` of `conv_dlm`, or a [`~peft.PeftModel`] of one.
        prompt_ids (B lists of `int`): token ids.
        seeds (B `int`): one for each row.
        pad_token_id (`int`): pads the prompts.
        keep_drafts (`bool`, *optional*, defaults to `False`): whether to keep the draft after each step.
        options: keywords of `generate`.
    """
    ids_BP, mask_BP = pad_left(prompt_ids, pad_token_id)
    start, training = ids_BP.shape[1], model.training
    drafts: list[Tensor] = []

    def keep(end: StepEnd) -> None:
        drafts.append(torch.where(end.masked, end.draft, end.ids)[:, start:].cpu())

    model.eval()
    try:
        output = model.generate(
            input_ids=ids_BP.to(model.device),
            attention_mask=mask_BP.to(model.device),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            synced_gpus=False,
            return_dict_in_generate=True,
            output_history=True,
            callback_on_step_end=keep if keep_drafts else None,
            **options,
        )
    finally:
        model.train(training)
    ends = end_tokens(model, options)
    lengths = [
        text_length(ids, reason, ends, pad_token_id)
        for ids, reason in zip(output.sequences[:, start:].tolist(), output.finish_reason, strict=True)
    ]
    return Rollout(
        canvas_BC=output.history[-1][:, start:],
        unmasked_at_BC=output.unmasked_at[:, start:],
        lengths=lengths,
        forwards=output.forwards.tolist(),
        drafts=drafts,
    )


def text_length(ids: Sequence[int], reason: str, ends: set[int], pad_token_id: int) -> int:
    """Tokens of a completion: to its end token and with it; without one, to where a criterion has cut it off."""
    if reason == "length":
        return len(ids)
    place = next((n for n, one in enumerate(ids) if one in ends or one == pad_token_id), len(ids) - 1)
    return place + 1 if reason == "eos" else max(1, place)
