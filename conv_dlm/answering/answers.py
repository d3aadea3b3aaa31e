"""Answers to prompts with their cost: the one place where evaluation calls the `generate` of a denoiser."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from transformers import BatchEncoding

from conv_dlm.answering.batching import pad_left
from conv_dlm.answering.prompting import tokens_of
from conv_dlm.generation.placement import canvas_device

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """The response to a prompt, and what it cost.

    Attributes:
        ids (`list[int]`): tokens of the response, without EOS and what follows.
        ended (`bool`): whether there is an EOS; otherwise the response fills its canvas.
        unmasked_at (`list[int]`): the step, from 0, that unmasked each position of the canvas.
        forwards (`int`): forward passes (NFE) that the row took part in.
        seconds (`float`): the row's share of its batch's time.
    """

    ids: list[int]
    ended: bool
    unmasked_at: list[int]
    forwards: int
    seconds: float


def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    generators: Sequence[Generator],
    *,
    add_special_tokens: bool = False,
    constraint: Any = None,
    **options: Any,
) -> list[Answer]:
    """Denoise a batch of prompts.

    Args:
        model: a model with the `generate` of `conv_dlm`.
        tokenizer: its tokenizer, padding at the left.
        prompts (sequence of `str`): texts as the model reads them.
        generators (sequence of `torch.Generator`): one for each prompt; see `row_generator`.
        add_special_tokens (`bool`, *optional*, defaults to `False`):
            Whether the tokenizer adds its BOS. A chat template already has one.
        constraint (`Constraint`, *optional*): the language that the answers must be in.
        options: keyword arguments of `generate`.

    Returns:
        `list[Answer]`: in the order of the prompts.

    Raises:
        ValueError: a prompt is empty, or does not fit into the model's context.
    """
    if constraint is not None:
        options |= {"constraint": constraint, "tokenizer": tokenizer}
    return answer_tokens(model, encode(tokenizer, prompts, add_special_tokens), generators, **options)


def answer_tokens(
    model: Any, inputs: BatchEncoding, generators: Sequence[Generator], **options: Any
) -> list[Answer]:
    """Denoise a batch of tokenized prompts.

    Args:
        model: a model with the `generate` of `conv_dlm`.
        inputs (`BatchEncoding`): `input_ids` and `attention_mask`, `LongTensor` [B, L], padded at the left.
        generators (sequence of `torch.Generator`): one for each row.
        options: keyword arguments of `generate`.

    Returns:
        `list[Answer]`: in the order of the rows.
    """
    inputs = inputs.to(canvas_device(model))

    def generate() -> Any:
        return model.generate(**inputs, generator=list(generators), return_dict_in_generate=True, **options)

    output, seconds = timed(generate, canvas_device(model))
    start, ends = inputs["input_ids"].shape[1], end_tokens(model, options)
    share = seconds / len(generators)
    rows = zip(
        output.sequences[:, start:].tolist(),
        output.unmasked_at[:, start:].tolist(),
        output.forwards.tolist(),
        strict=True,
    )
    return [Answer(*until_end(ids, ends), unmasked_at, forwards, share) for ids, unmasked_at, forwards in rows]


def encode(tokenizer: Any, prompts: Sequence[str], add_special_tokens: bool) -> BatchEncoding:
    """Tokenize prompts, with padding at the left if there are several. Raises ValueError for an empty prompt."""
    rows = [tokens_of(tokenizer, prompt, add_special_tokens) for prompt in prompts]
    if not all(rows):
        raise ValueError("A prompt is empty; without a chat template give at least one token.")
    if len(rows) == 1:
        ids = torch.tensor(rows)
        mask = torch.ones_like(ids)
    else:
        if tokenizer.pad_token_id is None:
            raise ValueError("The tokenizer has no pad token, which batches need; give one that has, or one prompt.")
        ids, mask = pad_left(rows, tokenizer.pad_token_id)
    return BatchEncoding({"input_ids": ids, "attention_mask": mask})


def timed(call: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """The result of a call, and the seconds until the device has finished its work."""
    _synchronize(device)
    started = time.perf_counter()
    result = call()
    _synchronize(device)
    return result, time.perf_counter() - started


def end_tokens(model: Any, options: dict[str, Any]) -> set[int]:
    """The ids that end a response, as `generate` would use them with these options."""
    ids = options.get("eos_token_id", model.generation_config.eos_token_id)
    return set() if ids is None else set(ids) if isinstance(ids, list) else {ids}


def until_end(ids: list[int], ends: set[int]) -> tuple[list[int], bool]:
    """The tokens before the first end token, and whether there is one."""
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    return ids[:end], end is not None


def text_of(tokenizer: Any, ids: Sequence[int] | Tensor) -> str:
    """The response as text."""
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
