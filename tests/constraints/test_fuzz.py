"""Any JSON as a schema, any text as an expression: a language, or a sentence."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conv_dlm import Choice, JSONSchema, Regex
from conv_dlm.constraints import byte_automaton
from conv_dlm.constraints.errors import ConstraintError
from conv_dlm.constraints.json_schema import COMBINATIONS, OF_TYPE

HOW = dict(deadline=None, suppress_health_check=list(HealthCheck))
KEYWORDS = sorted({"type", "$defs", "not", "title", *COMBINATIONS, *set().union(*OF_TYPE.values())})
NAMES = st.sampled_from([*OF_TYPE, "a", "#", "#/$defs/a", "date", "(", "\ud83d", "\u2028", "^a|b$", ""])
NUMBER = st.one_of(st.integers(-2, 9), st.sampled_from([2.5, 1e308, 10**30]), st.floats())
SCALAR = st.one_of(st.none(), st.booleans(), NUMBER, NAMES)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(KEYWORDS) | NAMES, inner, max_size=3)
    ),
    max_leaves=8,
)
SCHEMA = st.dictionaries(st.sampled_from(KEYWORDS), VALUE, min_size=1, max_size=3) | VALUE


def refused_or_made(make):
    try:
        return make()
    except ConstraintError as error:
        assert len(str(error)) > 20
        return None


@given(SCHEMA)
@settings(max_examples=60, derandomize=True, **HOW)
def test_any_schema(schema):
    refused_or_made(lambda: JSONSchema(schema, depth=1))


@pytest.mark.slow
@given(SCHEMA)
@settings(max_examples=5000, **HOW)
def test_any_schema_many_times(schema):
    refused_or_made(lambda: JSONSchema(schema, depth=1))


@given(st.text(max_size=12) | st.text("ab|()[]{}*+?.^$\\0159,-", max_size=12) | SCALAR | st.lists(SCALAR, max_size=2))
@settings(max_examples=80, derandomize=True, **HOW)
def test_any_expression_and_any_choice(given_):
    for make in (Regex, Choice):
        refused_or_made(lambda make=make: make(given_))


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": 3}, "`type` at # is 3; it has to be a name, or a list of names"),
        ({"properties": ["a"]}, "`properties` at # is .* has to be an object"),
        ({"anyOf": [{"required": "a"}, {}]}, "`required` at #/anyOf/0 is 'a'; it has to be a list of names"),
        ({"title": "x", "allOf": [{"properties": 1}, {"type": "object"}]}, "`properties` at # is 1"),
        ({"prefixItems": {}}, "has to be a list of schemas"),
        ({"pattern": []}, "has to be text"),
        ({"type": "integer", "minimum": float("inf")}, "is inf; bounds have to be whole numbers"),
        ({"type": "string", "maxLength": float("nan")}, "is nan; it has to be a whole number"),
        ({"const": float("nan")}, "at # is none of JSON's"),
        ({"$ref": {}}, "only references within the schema"),
        ("[" * 100_000, "is no JSON: it is nested too deep"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_no_schema(schema, told):
    with pytest.raises(ConstraintError, match=told):
        JSONSchema(schema)


def test_other_arguments():
    for wrong in (-1, True, "3", None):
        with pytest.raises(ConstraintError, match="has to be a whole number from 0 on"):
            JSONSchema(True, depth=wrong)
    with pytest.raises(ConstraintError, match="has to be an expression"):
        JSONSchema(True, whitespace=None)


def test_an_expression_that_would_take_minutes(monkeypatch):
    """Few states, each a set of very many."""
    monkeypatch.setattr(byte_automaton, "MOST_MEMBERS", 50_000)
    Regex("a{1,9}" * 20)
    with pytest.raises(ConstraintError, match="or too long to be compiled; lower the bounds"):
        Regex("a{1,9}" * 60)
