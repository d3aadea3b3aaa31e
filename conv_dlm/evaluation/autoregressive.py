"""Answers of an autoregressive model: the other side of a comparison, as in the win rates of arXiv 2509.15188.

Nucleus sampling (arXiv 1904.09751) by Transformers; each row draws from noise of its own, as diffusion does here, so
that an answer depends neither on its batch nor on the process that gives it. Shapes: B rows, V vocabulary.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import FloatTensor, Generator, LongTensor, Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from conv_dlm.answering.answers import Answer, encode, end_tokens, timed, until_end
from conv_dlm.generation import noise

TOP_P = 0.95  # the paper's


class RowNoise(LogitsProcessor):
    """Adds Gumbel noise of the row's own, so that the highest score is a draw from the softmax.

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
        tokenizer: that pads at the left.
        prompts (sequence of `str`): texts that the model is to see.
        generators (sequence of `torch.Generator`): one for each prompt.
        max_new_tokens (`int`): length of the longest answer.
        top_p (`float`, defaults to 0.95): probability mass of the nucleus; 0 takes the most probable token.
        add_special_tokens (`bool`, defaults to `False`): whether the tokenizer adds its BOS; a chat template has it.

    Returns:
        `list[Answer]`: in the order of the prompts; a forward for each token, its end included.

    Raises:
        ValueError: a prompt is empty, or longer than the model's context allows.
    """
    inputs = encode(tokenizer, prompts, add_special_tokens).to(model.device)
    start = inputs["input_ids"].shape[1]
    _check_length(model, start, max_new_tokens)
    processors = LogitsProcessorList()
    if top_p > 0:
        seeds_B = noise.row_seeds(list(generators), len(prompts), model.device)
        processors = LogitsProcessorList([TopPLogitsWarper(top_p), RowNoise(seeds_B, start)])

    def generate() -> Tensor:
        with _without_settings(model, tokenizer):
            return model.generate(**inputs, max_new_tokens=max_new_tokens, logits_processor=processors)

    sequences, seconds = timed(generate, model.device)
    ends, answers = end_tokens(model, {}), []
    for row in sequences[:, start:].tolist():
        ids, ended = until_end(row, ends)
        forwards = len(ids) + ended
        answers.append(Answer(ids, ended, list(range(forwards)), forwards, seconds / len(prompts)))
    return answers


@contextlib.contextmanager
def _without_settings(model: Any, tokenizer: Any) -> Iterator[None]:
    """Have the model know its special tokens only: no penalty, temperature or forced token of its checkpoint."""
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
