"""What a response may be: a regular expression, one of some texts, or JSON under a schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conv_dlm.constraints.byte_automaton import DEAD, byte_automaton
from conv_dlm.constraints.errors import ConstraintError, UnsupportedSchema
from conv_dlm.constraints.json_schema import escaped, schema_expression
from conv_dlm.utils.text import from_json


class Constraint:
    """A regular language that a response has to be in. A constraint of one's own sets `expression`."""

    expression: str

    def check(self) -> None:
        """Raise `BadExpression` where the expression can't be compiled. It is compiled once."""
        byte_automaton(self.expression)

    def holds(self, text: str) -> bool:
        """Whether a whole `text` is in the language."""
        automaton, state = byte_automaton(self.expression), 0
        for byte in text.encode():
            state = int(automaton.delta[state, byte])
            if state == DEAD:
                return False
        return bool(automaton.accepting[state])

    @staticmethod
    def for_rows(constraints: "Sequence[Constraint | None]", tokenizer: Any, canvas: Any, eos_token_ids: Any) -> Any:
        """What a run on `canvas` needs of its rows' constraints; see [`~conv_dlm.constraints.rows.RowConstraints`]."""
        from conv_dlm.constraints.rows import RowConstraints

        return RowConstraints(constraints, tokenizer, canvas, eos_token_ids)


@dataclass(frozen=True)
class Regex(Constraint):
    """Responses that match a regular expression from their first to their last character.

    Args:
        expression (`str`):
            In Python's syntax, without what is not regular or looks around: lookaround, back references, word
            boundaries, possessive repetition, flags for a part. `\\d` is 0 to 9.

    Raises `BadExpression` where it can't be compiled or matches nothing.
    """

    expression: str

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise ConstraintError(f"`Regex` takes an expression as text, not {self.expression!r}.")
        self.check()


@dataclass(frozen=True)
class Choice(Constraint):
    """Responses that are one of some texts.

    Args:
        texts (`Sequence[str]`):
            The texts, of which there is at least one; none is empty.
    """

    texts: tuple[str, ...]

    def __init__(self, texts: Sequence[str]) -> None:
        listed = isinstance(texts, Sequence) and not isinstance(texts, str | bytes)
        if not listed or not texts or not all(isinstance(text, str) and text for text in texts):
            raise ConstraintError(f"`Choice` takes a list of texts that are not empty, not {texts!r}.")
        object.__setattr__(self, "texts", tuple(texts))
        self.check()

    @property
    def expression(self) -> str:  # type: ignore[override]
        return "|".join(escaped(text) for text in self.texts)


@dataclass(frozen=True, eq=False)
class JSONSchema(Constraint):
    """Responses that are JSON and valid under a schema.

    Every response is valid; members come in the schema's order, and those that `properties` does not name are not
    written. What can't be guaranteed (`not`, `multipleOf`, `uniqueItems`, lookaround in a pattern, ...) is refused.

    Args:
        schema (`dict`, `bool`, `str` or pydantic model):
            The schema, its JSON, or a model with `model_json_schema`. `True` is any JSON.
        depth (`int`, *optional*, defaults to `3`):
            How often a recursive reference is followed inside itself, and how deep arrays and objects without a schema
            are.
        whitespace (`str`, *optional*, defaults to `" ?"`):
            Expression of what may stand after brackets, commas and colons, and before closing brackets.

    Raises `UnsupportedSchema`, which names the keyword and its place.
    """

    schema: Any
    depth: int = 3
    whitespace: str = " ?"

    def __post_init__(self) -> None:
        schema = self.schema
        if isinstance(self.depth, bool) or not isinstance(self.depth, int) or self.depth < 0:
            raise UnsupportedSchema(f"`depth`={self.depth!r} has to be a whole number from 0 on.")
        if not isinstance(self.whitespace, str):
            raise UnsupportedSchema(f"`whitespace`={self.whitespace!r} has to be an expression, as text.")
        if isinstance(schema, str):
            try:
                schema = from_json(schema)
            except ValueError as error:
                raise UnsupportedSchema(f"The schema is no JSON: {error}.") from error
        elif hasattr(schema, "model_json_schema"):
            schema = schema.model_json_schema()
        if not isinstance(schema, Mapping | bool):
            raise UnsupportedSchema(f"A schema is an object or a boolean, not {type(schema).__name__}.")
        try:
            object.__setattr__(self, "_expression", schema_expression(schema, self.depth, self.whitespace))
        except RecursionError as error:
            raise UnsupportedSchema("The schema is nested too deep.") from error
        self.check()

    @property
    def expression(self) -> str:  # type: ignore[override]
        return self._expression  # type: ignore[attr-defined]
