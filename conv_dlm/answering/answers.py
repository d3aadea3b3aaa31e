"""Answers to prompts, with what they cost: the one place where evaluation calls the `generate` of a denoiser."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from transformers import BatchEncoding

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What a prompt became.

    Attributes:
        ids (`list[int]`): tokens of the response before its end; EOS and what follows are no part of it.
        ended (`bool`): whether the response has an end, or fills its canvas.
        unmasked_at (`list[int]`): the step that decided each position of the response's canvas, from 0.
        forwards (`int`): calls of the model that the row took part in.
        seconds (`float`): the row's share of the time that its batch took.
    """

    ids: list[int]
    ended: bool
    unmasked_at: list[int]
    forwards: int
    seconds: float


def row_generator(*numbers: int) -> Generator:
    """The randomness of a row, whatever its batch and its process: by its run's seed, its prompt's number, its turn."""
    digest = hashlib.blake2b("/".join(map(str, numbers)).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    generators: Sequence[Generator],
    *,
    add_special_tokens: bool = False,
    **options: Any,
) -> list[Answer]:
    """Denoise a batch of prompts.

    Args:
        model: with the `generate` of `conv_dlm`.
        tokenizer: that pads at the left.
        prompts (sequence of `str`): texts that the model is to see.
        generators (sequence of `torch.Generator`): one for each prompt, as `row_generator` makes them.
        add_special_tokens (`bool`, defaults to `False`): whether the tokenizer adds its BOS; a chat template has it.
        options: keywords of `generate`.

    Returns:
        `list[Answer]`: in the order of the prompts.

    Raises:
        ValueError: a prompt is empty, or longer than the model's context allows.
    """
    return answer_tokens(model, encode(tokenizer, prompts, add_special_tokens), generators, **options)


def answer_tokens(
    model: Any, inputs: BatchEncoding, generators: Sequence[Generator], **options: Any
) -> list[Answer]:
    """The same of prompts that are tokens already.

    Args:
        inputs: `input_ids` and `attention_mask` [B, L], padded at the left.
    """
    inputs = inputs.to(model.device)

    def generate() -> Any:
        return model.generate(**inputs, generator=list(generators), return_dict_in_generate=True, **options)

    output, seconds = timed(generate, model.device)
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
    """A batch of tokens and its mask, padded where there are several rows. Raises ValueError for an empty prompt."""
    encoded = tokenizer(
        list(prompts),
        padding=len(prompts) > 1,
        add_special_tokens=add_special_tokens,
        return_token_type_ids=False,
    )
    if not all(any(mask) for mask in encoded["attention_mask"]):
        raise ValueError("A prompt is empty; without a chat template give at least one token.")
    return encoded.convert_to_tensors("pt")


def timed(call: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """What the call returns, and the seconds until the device has done what it was asked for."""
    _synchronize(device)
    started = time.perf_counter()
    result = call()
    _synchronize(device)
    return result, time.perf_counter() - started


def end_tokens(model: Any, options: dict[str, Any]) -> set[int]:
    """The ids that end a response: those that `generate` would use with these options."""
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
