"""A model together with how it is prompted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Generator

from conv_dlm.answering.answers import Answer, answer
from conv_dlm.answering.prompting import Prompter
from conv_dlm.evaluation.autoregressive import TOP_P, answer_autoregressively
from conv_dlm.generation.configuration import DEFAULT_MAX_NEW_TOKENS, user_settings


def decoding_fields() -> list[str]:
    """What an answer depends on, of the fields of the generation config."""
    return [name for name in user_settings() if name not in ("output_history", "compile")]


@dataclass(frozen=True)
class Respondent:
    """A model together with how it is prompted.

    Attributes:
        model: as `load_model` returns it.
        tokenizer: likewise.
        prompter (`Prompter`): from a conversation to the text that the model reads.
        ask: answers a batch of such texts, each with its generator.
        decoding (`dict`): what its answers depend on besides, of JSON's types.
    """

    model: Any
    tokenizer: Any
    prompter: Prompter
    ask: Callable[[Sequence[str], Sequence[Generator]], list[Answer]]
    decoding: dict[str, Any]


def denoiser(model: Any, tokenizer: Any, prompter: Prompter, **options: Any) -> Respondent:
    """Answers by denoising.

    Args:
        options: keywords of `generate`.

    Raises:
        ValueError: the options don't go together.
    """
    config = model.resolve_settings(**options)
    ask = partial(answer, model, tokenizer, add_special_tokens=not prompter.templated, **options)
    return Respondent(model, tokenizer, prompter, ask, {name: getattr(config, name) for name in decoding_fields()})


def next_token_predictor(
    model: Any,
    tokenizer: Any,
    prompter: Prompter,
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    top_p: float = TOP_P,
) -> Respondent:
    """Answers by nucleus sampling of one token after the other; see `answer_autoregressively`."""
    ask = partial(
        answer_autoregressively,
        model,
        tokenizer,
        max_new_tokens=max_new_tokens,
        top_p=top_p,
        add_special_tokens=not prompter.templated,
    )
    decoding = {"autoregressive": True, "max_new_tokens": max_new_tokens, "top_p": top_p}
    return Respondent(model, tokenizer, prompter, ask, decoding)
