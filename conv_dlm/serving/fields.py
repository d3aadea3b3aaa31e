"""The fields of a request: OpenAI's, those that a diffusion model can't honour, and the decode settings."""

import difflib
import math
from typing import Any

from conv_dlm.generation.configuration import user_settings
from conv_dlm.serving.constrained import FIELDS
from conv_dlm.serving.errors import Refused

# Settings that are the same for all requests, or useless in them.
OF_THE_SERVER = {"compile", "mask_token_id", "shift_logits", "output_history"}
# Three names of the length of the canvas.
LENGTHS = ("max_tokens", "max_completion_tokens", "max_new_tokens")
SAMPLING = {"seed", "stop", "n", "best_of", "top_p", "logit_bias"}
COMMON = {"model", "stream", "stream_options", "logprobs", *SAMPLING, *LENGTHS, *FIELDS}
OWN = {"chat": {"messages", "top_logprobs"}, "completion": {"prompt", "suffix"}}
PLACES = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}
# These change no text.
WITHOUT_EFFECT = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
}  # fmt: skip


def decode_settings() -> dict[str, type]:
    """The decode settings that a request may have, with their types."""
    return {name: its.kind for name, its in user_settings().items() if name not in {*OF_THE_SERVER, *LENGTHS}}


_PENALTY = "what is already there is made less likely by `repetition_penalty`"
_TOOLS = "the server calls no tools"
# Field -> the values without an effect, and why others are rejected.
UNSUPPORTED: dict[str, tuple[tuple[Any, ...], str]] = {
    "presence_penalty": ((0,), _PENALTY),
    "frequency_penalty": ((0,), _PENALTY),
    "echo": ((False,), "the prompt is not repeated"),
    "tools": (([],), _TOOLS),
    "tool_choice": (("none", "auto"), _TOOLS),
    "functions": (([],), _TOOLS),
    "function_call": (("none", "auto"), _TOOLS),
    "web_search_options": ((), _TOOLS),
    "modalities": ((["text"],), "the answer is text"),
    "audio": ((), "the answer is text"),
    "prediction": ((), "there is no draft to start from"),
    "reasoning_effort": (("none",), "the model answers at once; its effort is the number of `steps`"),
    "verbosity": ((), "the length of the answer is `max_tokens`"),
}
LARGEST = 2**31 - 1  # of whole numbers; all counts here are far smaller
MOST_IGNORED = 32  # unknown fields of a request
LIKE_A_SLIP = 0.88  # how much an unknown name has to resemble a known one to be taken for it


def check_names(body: dict[str, Any], endpoint: str) -> list[str]:
    """The fields that nobody here knows; they are ignored, as OpenAI does with those of others.

    Raises Refused for fields that are not supported, or that can only be meant for something else: a slip of the pen,
    another endpoint's, the server's.
    """
    known = COMMON | OWN[endpoint] | WITHOUT_EFFECT | UNSUPPORTED.keys() | decode_settings().keys()
    ignored: list[str] = []
    for name, value in body.items():
        if name in OF_THE_SERVER:
            raise Refused(f"`{name}` is the server's to set, not a request's; drop it.", param=name)
        if name not in known:
            for other, names in OWN.items():
                if name in names:
                    raise Refused(f"`{name}` is not a known field here, but of {PLACES[other]}; drop it.", param=name,
                                  code="unknown_parameter")  # fmt: skip
            if len(ignored) == MOST_IGNORED:
                raise Refused(f"The request has more than {MOST_IGNORED} unknown fields; drop them.")
            close = difflib.get_close_matches(name, known, 1, LIKE_A_SLIP) if len(name) < 64 else []
            if close:
                raise Refused(
                    f"`{name}` is not a known field; did you mean `{close[0]}`?", param=name, code="unknown_parameter"
                )
            ignored.append(name)
        if name in UNSUPPORTED and value is not None:
            harmless, reason = UNSUPPORTED[name]
            if not any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in harmless):
                raise Refused(
                    f"`{name}`={shown(value)} is not supported: {reason}. Drop it.", param=name,
                    code="unsupported_parameter",
                )  # fmt: skip
    return ignored


def shown(value: Any) -> str:
    """A value for a message, of a bearable length."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def typed(name: str, value: Any, kind: type) -> Any:
    """Check that a value has the type `kind`; `float` accepts whole numbers too. Raises Refused."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= LARGEST else math.inf
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if fits and (kind is not float or math.isfinite(value)) and (kind is not int or abs(value) <= LARGEST):
        return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}[kind]
    raise Refused(f"`{name}`={shown(value)} must be {wanted}.", param=name)
