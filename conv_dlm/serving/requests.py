"""Parse the body of a request."""

import json
from dataclasses import dataclass
from typing import Any

from conv_dlm.answering.prompting import Message
from conv_dlm.constraints.languages import Constraint
from conv_dlm.serving.constrained import constraint_of
from conv_dlm.serving.errors import Refused
from conv_dlm.serving.fields import LENGTHS, check_names, decode_settings, typed

MOST_STOPS = 4
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Request:
    """A well-formed request. Whether the model can do it is checked later.

    Attributes:
        model (`str` or `None`): the requested model.
        messages (`list` of messages): the messages of a chat, otherwise empty.
        prompts (`list[str]`): the prompts of a completion, otherwise empty.
        suffix (`str`): the text after the completion; empty if there is none.
        max_new_tokens (`int` or `None`): length of the canvas.
        settings (`dict`): decode settings, keyword arguments of `generate`.
        stops (`list[str]`): stop strings.
        n (`int`): number of answers to each prompt.
        seed (`int` or `None`): seed of the answers.
        stream, include_usage (`bool`): how to send the answer.
        constraint (`Constraint` or `None`): the language that answers must be in.
    """

    model: str | None
    messages: list[Message]
    prompts: list[str]
    suffix: str
    max_new_tokens: int | None
    settings: dict[str, Any]
    stops: list[str]
    n: int
    seed: int | None
    stream: bool
    include_usage: bool
    constraint: Constraint | None = None


def parse(raw: bytes, endpoint: str) -> Request:
    """Parse a request body.

    Args:
        raw (`bytes`): the body.
        endpoint (`str`): "chat" or "completion".

    Raises:
        Refused: the body is malformed, or asks for something that a diffusion model can't do.
    """
    given = {name: value for name, value in _object(raw, endpoint).items() if value is not None}
    options = given.get("stream_options", {})
    if not isinstance(options, dict) or options.keys() - {"include_usage"}:
        raise Refused(
            f"`stream_options`={options!r} must be an object with `include_usage` alone.", param="stream_options"
        )
    stream = _value(given, "stream", bool, False)
    if options and not stream:
        raise Refused("`stream_options` needs `stream`=true.", param="stream_options")
    return Request(
        model=_value(given, "model", str, None),
        messages=_messages(given.get("messages")) if endpoint == "chat" else [],
        prompts=_prompts(given.get("prompt")) if endpoint == "completion" else [],
        suffix=_value(given, "suffix", str, ""),
        max_new_tokens=_length(given),
        settings={name: typed(name, given[name], kind) for name, kind in decode_settings().items() if name in given},
        stops=_stops(given.get("stop", [])),
        n=_at_least_one("n", _value(given, "n", int, 1)),
        seed=_value(given, "seed", int, None),
        stream=stream,
        include_usage=_value(options, "include_usage", bool, False),
        constraint=constraint_of(given),
    )


def _object(raw: bytes, endpoint: str) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refused(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise Refused("The body must be a JSON object.")
    check_names(body, endpoint)
    return body


def _value(given: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    return typed(name, given[name], kind) if name in given else default


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise Refused(f"`{name}`={value} must be at least 1.", param=name)
    return value


def _length(given: dict[str, Any]) -> int | None:
    names = [name for name in LENGTHS if name in given]
    if len(names) > 1:
        raise Refused(f"`{names[0]}` and `{names[1]}` mean the same; give one of them.", param=names[1])
    return _at_least_one(names[0], typed(names[0], given[names[0]], int)) if names else None


def _stops(given: Any) -> list[str]:
    stops = [given] if isinstance(given, str) else given
    fits = isinstance(stops, list) and len(stops) <= MOST_STOPS and all(isinstance(s, str) and s for s in stops)
    if not fits:
        raise Refused(f"`stop` must be a string or up to {MOST_STOPS}, none of them empty.", param="stop")
    return list(stops)


def _prompts(given: Any) -> list[str]:
    prompts = [given] if isinstance(given, str) else given
    if not isinstance(prompts, list) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise Refused("`prompt` must be a string, or a list of strings; token ids are not taken.", param="prompt")
    return prompts


def _messages(given: Any) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise Refused("`messages` must be a list of at least one message.", param="messages")
    return [_message(message, index) for index, message in enumerate(given)]


def _message(message: Any, index: int) -> Message:
    where = f"messages[{index}]"
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise Refused(f"`{where}` must have a `role`, one of {list(ROLES)}.", param=where)
    extra = {name for name, value in message.items() if value is not None} - {"role", "content", "name"}
    if extra:
        raise Refused(f"`{where}` has the fields {sorted(extra)}, which are not supported.", param=where)
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts
    ):
        raise Refused(f"`{where}` must have text for its `content`: a string, or parts of type 'text'.", param=where)
    return {"role": ROLES[message["role"]], "content": "".join(part["text"] for part in parts)}
