"""Answers of an autoregressive model, for comparisons such as the win rates of arXiv 2509.15188.

Nucleus sampling (arXiv 1904.09751) by Transformers. As in diffusion here, each row has its own noise, so an answer
depends neither on its batch nor on its process. Shapes: B rows, V vocabulary.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import FloatTensor, Generator, LongTensor, Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from conv_dlm.answering.answers import Answer, encode, end_tokens, timed, until_end
from conv_dlm.generation import noise
from conv_dlm.generation.placement import canvas_device

TOP_P = 0.95  # the paper's


class RowNoise(LogitsProcessor):
    """Adds each row's own Gumbel noise, so that the highest score is a draw from the softmax.

    Args:
        seeds_B (`LongTensor` [B]): one seed for each row.
        start (`int`): length of the prompts, padding included.
    """

    def __init__(self, seeds_B: Tensor, start: int) -> None:
        self.seeds_B, self.start = seeds_B, start

    def __call__(self, input_ids: LongTensor, scores: FloatTensor) -> FloatTensor:
        slots_BV = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
        uniform_BV = noise.uniform(self.seeds_B, input_ids.shape[1] - self.start, slots_BV, noise.WHICH)
        uniform_BV = uniform_BV.double() + 2.0**-25  # halfway to the next, so that none is 0
        return scores.double() - torch.log(-torch.log(uniform_BV))  # type: ignore[return-value]


def answer_autoregressively(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    generators: Sequence[Generator],
    *,
    max_new_tokens: int,
    top_p: float = TOP_P,
    add_special_tokens: bool = False,
) -> list[Answer]:
    """Answer a batch of prompts by nucleus sampling at temperature 1, whatever the checkpoint's generation config says.

    Args:
        model: a causal language model of Transformers.
        tokenizer: its tokenizer, padding at the left.
        prompts (sequence of `str`): texts as the model reads them.
        generators (sequence of `torch.Generator`): one for each prompt.
        max_new_tokens (`int`): the most tokens of an answer.
        top_p (`float`, *optional*, defaults to `0.95`): probability mass of the nucleus; 0 is greedy.
        add_special_tokens (`bool`, *optional*, defaults to `False`):
            Whether the tokenizer adds its BOS. A chat template already has one.

    Returns:
        `list[Answer]`: in the order of the prompts, with one forward pass per token, the end included.

    Raises:
        ValueError: a prompt is empty, or does not fit into the model's context.
    """
    inputs = encode(tokenizer, prompts, add_special_tokens).to(canvas_device(model))
    start = inputs["input_ids"].shape[1]
    _check_length(model, start, max_new_tokens)
    processors = LogitsProcessorList()
    if top_p > 0:
        seeds_B = noise.row_seeds(list(generators), len(prompts), canvas_device(model))
        processors = LogitsProcessorList([TopPLogitsWarper(top_p), RowNoise(seeds_B, start)])

    def generate() -> Tensor:
        with _without_settings(model, tokenizer):
            return model.generate(**inputs, max_new_tokens=max_new_tokens, logits_processor=processors)

    sequences, seconds = timed(generate, canvas_device(model))
    ends, answers = end_tokens(model, {}), []
    for row in sequences[:, start:].tolist():
        ids, ended = until_end(row, ends)
        forwards = len(ids) + ended
        answers.append(Answer(ids, ended, list(range(forwards)), forwards, seconds / len(prompts)))
    return answers


@contextlib.contextmanager
def _without_settings(model: Any, tokenizer: Any) -> Iterator[None]:
    """Reduce the generation config to special tokens: no penalty, temperature or forced token of the checkpoint."""
    own = model.generation_config
    model.generation_config = GenerationConfig(
        eos_token_id=own.eos_token_id, bos_token_id=own.bos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    try:
        yield
    finally:
        model.generation_config = own


def _check_length(model: Any, prompt: int, max_new_tokens: int) -> None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and prompt + max_new_tokens > limit:
        raise ValueError(
            f"The prompt ({prompt} tokens) and `max_new_tokens`={max_new_tokens} need a context of "
            f"{prompt + max_new_tokens}, but the model's is {limit}; shorten the prompt, or lower `max_new_tokens`."
        )
