"""The form that a request wants of its answers: OpenAI's `response_format`, and vLLM's `structured_outputs`."""

from collections.abc import Callable
from typing import Any

from conv_dlm.constraints.errors import ConstraintError
from conv_dlm.constraints.languages import Choice, Constraint, JSONSchema, Regex
from conv_dlm.serving.errors import Refused

FIELDS = {"response_format", "structured_outputs"}
ANY_OBJECT = {"type": "object"}


def constraint_of(given: dict[str, Any]) -> Constraint | None:
    """The constraint that the fields of a request ask for, None for none. Raises Refused for one that can't be."""
    found = [name for name in sorted(FIELDS) if name in given and given[name] != {"type": "text"}]
    if len(found) > 1:
        raise Refused("`response_format` and `structured_outputs` mean the same; give one of them.", param=found[1])
    if not found:
        return None
    (name,) = found
    make = _response_format if name == "response_format" else _structured_outputs
    return _made(lambda: make(given[name]), name)


def _made(make: Callable[[], Constraint], name: str) -> Constraint:
    try:
        return make()
    except ConstraintError as error:
        raise Refused(f"`{name}`: {error}", param=name) from error


def _response_format(form: Any) -> Constraint:
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_object":
        return JSONSchema(ANY_OBJECT)
    described = form.get("json_schema") if kind == "json_schema" else None
    if not isinstance(described, dict) or "schema" not in described:
        raise ConstraintError(
            "it must have the `type` 'text', 'json_object', or 'json_schema' with `json_schema.schema`"
        )
    return JSONSchema(described["schema"])


def _structured_outputs(asked: Any) -> Constraint:
    makers: dict[str, Callable[[Any], Constraint]] = {
        "json": JSONSchema,
        "regex": lambda text: Regex(_text(text)),
        "choice": Choice,
        "json_object": lambda wanted: JSONSchema(ANY_OBJECT if wanted else True),
    }
    known = {name: value for name, value in asked.items() if value is not None} if isinstance(asked, dict) else {}
    if len(known) != 1 or known.keys() - makers.keys():
        raise ConstraintError(f"it must be an object with one of the fields {sorted(makers)}")
    ((name, value),) = known.items()
    return makers[name](value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ConstraintError(f"`regex`={value!r} must be a string")
    return value
