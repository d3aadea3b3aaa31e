"""A model together with how it is prompted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Generator

from conv_dlm.answering.answers import Answer, answer
from conv_dlm.answering.prompting import Prompter
from conv_dlm.constraints.languages import Constraint
from conv_dlm.evaluation.autoregressive import TOP_P, answer_autoregressively
from conv_dlm.generation.configuration import DEFAULT_MAX_NEW_TOKENS, user_settings


def decoding_fields() -> list[str]:
    """The fields of the generation config that an answer depends on."""
    return [name for name in user_settings() if name not in ("output_history", "compile")]


@dataclass(frozen=True)
class Respondent:
    """A model together with how it is prompted.

    Attributes:
        model, tokenizer: as `load_model` returns them.
        prompter (`Prompter`): turns a conversation into the text that the model reads.
        ask (callable): answers a batch of such texts, each with its generator.
        decoding (`dict`): the decode settings that its answers depend on, as JSON.
    """

    model: Any
    tokenizer: Any
    prompter: Prompter
    ask: Callable[[Sequence[str], Sequence[Generator]], list[Answer]]
    decoding: dict[str, Any]


def denoiser(
    model: Any, tokenizer: Any, prompter: Prompter, constraint: Constraint | None = None, **options: Any
) -> Respondent:
    """A respondent that denoises.

    Args:
        model, tokenizer: as `load_model` returns them.
        prompter (`Prompter`): formats the prompts.
        constraint (`Constraint`, *optional*): the language that its answers must be in.
        options: keyword arguments of `generate`.

    Raises:
        ValueError: the options contradict each other.
    """
    config = model.resolve_settings(**options)
    own = not prompter.templated
    ask = partial(answer, model, tokenizer, add_special_tokens=own, constraint=constraint, **options)
    decoding = {name: getattr(config, name) for name in decoding_fields()}
    if constraint is not None:
        decoding["constraint"] = constraint.expression
    return Respondent(model, tokenizer, prompter, ask, decoding)


def next_token_predictor(
    model: Any,
    tokenizer: Any,
    prompter: Prompter,
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    top_p: float = TOP_P,
) -> Respondent:
    """A respondent that samples one token after the other; see `answer_autoregressively`."""
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
