"""Parse the body of a request."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from conv_dlm.answering.prompting import Message
from conv_dlm.constraints.languages import Constraint
from conv_dlm.serving.constrained import constraint_of
from conv_dlm.serving.errors import Refused
from conv_dlm.serving.fields import LENGTHS, check_names, decode_settings, shown, typed
from conv_dlm.utils.text import all_well_formed, from_json

MOST_STOPS = 4
MOST_TOP = 20  # likely tokens of a position
LARGEST_BIAS = 100
NOT_TEXT = ("tool_calls", "function_call", "tool_call_id", "audio")  # of a message
TEXT_PARTS = ("text", "input_text", "output_text")
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Request:
    """A well-formed request. Whether the model can do it is checked later.

    Attributes:
        model (`str` or `None`): the requested model.
        messages (`list` of messages): the messages of a chat, otherwise empty.
        prompts (list of `str` or `list[int]`): the prompts of a completion, text or tokens, otherwise empty.
        suffix (`str`): the text after the completion; empty if there is none.
        max_new_tokens (`int` or `None`): length of the canvas.
        settings (`dict`): decode settings, keyword arguments of `generate`.
        stops (`list[str]`): stop strings.
        n (`int`): number of answers to each prompt.
        best_of (`int`): how many are made of which the `n` most likely are sent.
        top_p (`float`): the share of the probability that draws are restricted to.
        logit_bias (`dict[int, float]`): what is added to the scores of tokens.
        top (`int` or `None`): how many likely tokens are told for each position; None for no log-probabilities.
        seed (`int` or `None`): seed of the answers.
        stream, include_usage (`bool`): how to send the answer.
        constraint (`Constraint` or `None`): the language that answers must be in.
        ignored (`list[str]`): fields that nobody here knows.
    """

    model: str | None
    messages: list[Message]
    prompts: list[str | list[int]]
    suffix: str
    max_new_tokens: int | None
    settings: dict[str, Any]
    stops: list[str]
    n: int
    seed: int | None
    stream: bool
    include_usage: bool
    constraint: Constraint | None = None
    best_of: int = 1
    top_p: float = 1.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    top: int | None = None
    ignored: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many answers are made."""
        return self.best_of * max(1, len(self.prompts))

    @property
    def scored(self) -> int | None:
        """How many likely tokens are to be kept for each position; None where no log-probability is asked for."""
        return self.top if self.top is not None else 0 if self.best_of > self.n else None


def parse(raw: bytes, endpoint: str, check_room: Callable[[int], None] = lambda _: None) -> Request:
    """Parse a request body.

    Args:
        raw (`bytes`): the body.
        endpoint (`str`): "chat" or "completion".
        check_room (callable, *optional*): called with the number of answers before any work that takes long.

    Raises:
        Refused: by `check_room`; or the body is malformed, or asks for something that a diffusion model can't do.
    """
    body = _object(raw)
    ignored = check_names(body, endpoint)
    given = {name: value for name, value in body.items() if value is not None}
    options = given.get("stream_options", {})
    if not isinstance(options, dict):
        raise Refused(f"`stream_options`={shown(options)} must be an object.", param="stream_options")
    stream = _value(given, "stream", bool, False)
    if options and not stream:
        raise Refused("`stream_options` needs `stream`=true.", param="stream_options")
    n = _at_least_one("n", _value(given, "n", int, 1))
    best_of = _at_least_one("best_of", _value(given, "best_of", int, n))
    if best_of < n:
        raise Refused(f"`best_of`={best_of} must be at least `n`={n}.", param="best_of")
    if best_of > n and stream:
        raise Refused("`best_of` chooses when all are finished, and can't be streamed; drop one.", param="best_of")
    request = Request(
        model=_value(given, "model", str, None),
        messages=_messages(given.get("messages")) if endpoint == "chat" else [],
        prompts=_prompts(given.get("prompt")) if endpoint == "completion" else [],
        suffix=_value(given, "suffix", str, ""),
        max_new_tokens=_length(given),
        settings={name: typed(name, given[name], kind) for name, kind in decode_settings().items() if name in given},
        stops=_stops(given.get("stop", [])),
        n=n,
        seed=_seed(given.get("seed")),
        stream=stream,
        include_usage=_value(options, "include_usage", bool, False),
        best_of=best_of,
        top_p=_top_p(_value(given, "top_p", float, 1.0)),
        logit_bias=_logit_bias(given.get("logit_bias", {})),
        top=_top(given, endpoint),
        ignored=ignored + [f"stream_options.{name}" for name in sorted(options.keys() - {"include_usage"})][:8],
    )
    check_room(request.rows)
    return replace(request, constraint=constraint_of(given))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = all_well_formed(from_json(raw))
    except (ValueError, RecursionError) as error:
        raise Refused(f"The body is not JSON: {error or 'it is nested too deep'}.") from error
    if not isinstance(body, dict):
        raise Refused("The body must be a JSON object.")
    return body


def _value(given: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    return typed(name, given[name], kind) if name in given else default


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise Refused(f"`{name}`={value} must be at least 1.", param=name)
    return value


def _length(given: dict[str, Any]) -> int | None:
    values = {name: typed(name, given[name], int) for name in LENGTHS if name in given}
    if len(set(values.values())) > 1:
        first, second, *_ = values
        raise Refused(f"`{first}` and `{second}` mean the same; give one of them.", param=second)
    return next((_at_least_one(name, value) for name, value in values.items()), None)


def _seed(given: Any) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and abs(given) < 1 << 64):
        return given
    raise Refused(f"`seed`={shown(given)} must be a whole number of at most 64 bits.", param="seed")


def _top_p(value: float) -> float:
    if not 0 < value <= 1:
        raise Refused(f"`top_p`={value} must be above 0 and at most 1.", param="top_p")
    return value


def _logit_bias(given: Any) -> dict[int, float]:
    """What is added to the scores of tokens: OpenAI's object of token ids, which are strings in JSON."""
    reason = f"`logit_bias` must be an object of token ids and numbers from -{LARGEST_BIAS} to {LARGEST_BIAS}."
    if not isinstance(given, dict) or len(given) > 1024:
        raise Refused(reason, param="logit_bias")
    found = {}
    for name, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
        if not (number and name.isascii() and name.isdigit() and len(name) < 10 and abs(value) <= LARGEST_BIAS):
            raise Refused(reason, param="logit_bias")
        found[int(name)] = float(value)
    return found


def _top(given: dict[str, Any], endpoint: str) -> int | None:
    """How many likely tokens to tell: a number for completions; for chats a switch, and a number beside it."""
    asked, name = given.get("logprobs", False), "logprobs"
    if endpoint == "chat":
        wanted = _value(given, "logprobs", bool, False)
        if not wanted and given.get("top_logprobs", 0) != 0:
            raise Refused("`top_logprobs` needs `logprobs`=true.", param="top_logprobs")
        if not wanted:
            return None
        asked, name = given.get("top_logprobs", 0), "top_logprobs"
    elif asked is False:  # as some clients say that they want none
        return None
    top = typed(name, asked, int)
    if not 0 <= top <= MOST_TOP:
        raise Refused(f"`{name}`={top} must be from 0 to {MOST_TOP}.", param=name)
    return int(top)


def _stops(given: Any) -> list[str]:
    stops = [given] if isinstance(given, str) else given
    fits = isinstance(stops, list) and len(stops) <= MOST_STOPS and all(isinstance(s, str) and s for s in stops)
    if not fits:
        raise Refused(f"`stop` must be a string or up to {MOST_STOPS}, none of them empty.", param="stop")
    return list(stops)


def _prompts(given: Any) -> list[str | list[int]]:
    prompts = [given] if isinstance(given, str) or _is_tokens(given) else given
    fits = isinstance(prompts, list) and all(isinstance(one, str) or _is_tokens(one) for one in prompts)
    if not fits or not prompts:
        raise Refused("`prompt` must be a string, a list of token ids, or a list of these.", param="prompt")
    return prompts


def _is_tokens(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(token) is int for token in given)


def _messages(given: Any) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise Refused("`messages` must be a list of at least one message.", param="messages")
    return [_message(message, index) for index, message in enumerate(given)]


def _message(message: Any, index: int) -> Message:
    where = f"messages[{index}]"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str) or message["role"] not in ROLES:
        raise Refused(f"`{where}` must have a `role`, one of {list(ROLES)}.", param=where)
    asked = [name for name in NOT_TEXT if message.get(name)]  # clients send back what they got, with much that is empty
    if asked:
        raise Refused(f"`{where}` has the fields {asked}, which are not supported.", param=where)
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        content = message.get("refusal") or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str)
        for part in parts
    ):
        raise Refused(f"`{where}` must have text for its `content`: a string, or parts of type 'text'.", param=where)
    return {"role": ROLES[message["role"]], "content": "".join(part["text"] for part in parts)}
