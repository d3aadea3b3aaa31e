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
COMMON = {"model", "stream", "stream_options", "seed", "stop", "n", *LENGTHS, *FIELDS}
OWN = {"chat": {"messages"}, "completion": {"prompt", "suffix"}}
# These change no text.
WITHOUT_EFFECT = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
}  # fmt: skip


def decode_settings() -> dict[str, type]:
    """The decode settings that a request may have, with their types."""
    return {name: its.kind for name, its in user_settings().items() if name not in {*OF_THE_SERVER, *LENGTHS}}


_PENALTY = "what is already there is made less likely by `repetition_penalty`"
_TOOLS = "the server calls no tools"
_SCORES = "positions are unmasked in any order, so there is no probability of a token given those before it"
# Field -> the values without an effect, and why others are rejected.
UNSUPPORTED: dict[str, tuple[tuple[Any, ...], str]] = {
    "top_p": ((1,), "candidates are limited by `top_k`"),
    "presence_penalty": ((0,), _PENALTY),
    "frequency_penalty": ((0,), _PENALTY),
    "logit_bias": (({},), "tokens can't be favoured one by one"),
    "logprobs": ((False,), _SCORES),
    "top_logprobs": ((0,), _SCORES),
    "best_of": ((1,), f"{_SCORES}, by which to choose; ask for several answers by `n`"),
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


def check_names(body: dict[str, Any], endpoint: str) -> None:
    """Raise Refused for fields that are unknown at the `endpoint`, "chat" or "completion", or not supported."""
    known = COMMON | OWN[endpoint] | WITHOUT_EFFECT | UNSUPPORTED.keys() | decode_settings().keys()
    for name, value in body.items():
        if name in OF_THE_SERVER:
            raise Refused(f"`{name}` is the server's to set, not a request's; drop it.", param=name)
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean `{close[0]}`?" if close else ", here; drop it."
            raise Refused(f"`{name}` is not a known field{hint}", param=name, code="unknown_parameter")
        if name in UNSUPPORTED and value is not None:
            harmless, reason = UNSUPPORTED[name]
            if not any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in harmless):
                raise Refused(
                    f"`{name}`={value!r} is not supported: {reason}. Drop it.", param=name, code="unsupported_parameter"
                )


def typed(name: str, value: Any, kind: type) -> Any:
    """Check that a value has the type `kind`; `float` accepts whole numbers too. Raises Refused."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= LARGEST else math.inf
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if fits and (kind is not float or math.isfinite(value)) and (kind is not int or abs(value) <= LARGEST):
        return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}[kind]
    raise Refused(f"`{name}`={value!r} must be {wanted}.", param=name)
