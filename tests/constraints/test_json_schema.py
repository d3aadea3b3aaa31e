"""Schemas: what is valid is what the expression has, or is refused by name."""

import json
from typing import Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field

from conv_dlm.constraints import BadExpression, JSONSchema, UnsupportedSchema
from conv_dlm.constraints.byte_automaton import byte_automaton

NAMES = {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["v"],
        }
    },
}

# schema, texts or values that are in it, those that are not
CASES = [
    ({"type": "integer"}, [0, -7, 12], [1.5, "1", True, None]),
    ({"type": "integer", "minimum": 3, "exclusiveMaximum": 10}, [3, 9], [2, 10, -5]),
    ({"type": "number", "exclusiveMinimum": 0}, [0.5, 3], ["0", 0, -1]),
    ({"type": "number"}, [1, -2.5, 1e30], ["1"]),
    ({"type": "number", "minimum": 0.0, "maximum": 1}, [0, 1, 0.25], [1.5, -0.5]),
    ({"type": "boolean"}, [True, False], ["true", 0]),
    ({"type": ["integer", "null"]}, [1, None], ["x", False]),
    ({"type": "string"}, ["", "日本 🎉", 'a"b\\c\n\t/'], [1]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "🎉🎉", '"\\n'], ["a", "abcd", "🎉"]),
    ({"type": "string", "pattern": "^[A-Z]{2}-\\d+$"}, ["AB-1"], ["ab-1", "AB-", "xAB-1"]),
    ({"type": "string", "pattern": "b"}, ["b", "abc"], ["ac"]),
    ({"type": "string", "pattern": "^.[^x]\\S$"}, ["日b🎉"], ["axb", "ab", "ab "]),
    (
        {"type": "string", "format": "date"},
        ["2024-02-29", "2000-02-29", "1999-12-31"],
        ["2023-02-29", "1900-02-29", "2023-02-30", "2023-13-01", "23-1-1"],
    ),
    ({"type": "string", "format": "date-time"}, ["2024-01-31T23:59:59.5Z"], ["2024-01-31", "2024-01-31T24:00:00Z"]),
    ({"type": "string", "format": "ipv4"}, ["192.168.0.255"], ["256.0.0.1", "01.2.3.4"]),
    ({"enum": [1, "é", None, [1, {"a": "x.y"}]]}, [1, "é", None, [1, {"a": "x.y"}]], [2, "e", [1, {"a": "x-y"}]]),
    ({"type": "string", "enum": ["a", 1]}, ["a"], [1]),
    ({"const": {"a": [True]}}, [{"a": [True]}], [{"a": [False]}, {}]),
    ({"type": "array", "items": {"type": "integer"}}, [[], [1], [1, 2, 3]], [["a"], 1]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
    (
        {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        [[], [1], [1, "a"]],
        [["a"], [1, "a", 2]],
    ),
    (
        {"prefixItems": [{"type": "integer"}], "items": {"type": "null"}, "minItems": 2, "maxItems": 3},
        [[1, None], [1, None, None]],
        [[1], [1, 1], [1, None, None, None]],
    ),
    ({"type": "array", "maxItems": 0}, [[]], [[1]]),
    ({"items": {"type": "string", "maxLength": 2.0}, "maxItems": 1.0}, [[], ["ab"]], [["abc"], ["", ""]]),
    (
        {"properties": {"a": True}, "additionalProperties": False, "allOf": [{"properties": {"a": True}}]},
        [{}, {"a": 1}],
        [{"b": 1}],
    ),
    (
        {"type": "object", "properties": NAMES},
        [{}, {"b": "x"}, {"a": 1, "c": None}],
        [{"a": "x"}, {"d": 1}, {"b": "x", "a": 1}],
    ),
    ({"properties": NAMES, "required": ["b"]}, [{"b": ""}, {"a": 1, "b": "", "c": None}], [{}, {"a": 1}]),
    ({"properties": {"a": False, "b": {"type": "null"}}}, [{}, {"b": None}], [{"a": 1}]),
    ({"type": "object", "required": ["x"]}, [{"x": 1}, {"x": [{"y": "z"}]}], [{}]),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"x": 1, "y": 2}], [{"x": "a"}]),
    ({"type": "object", "additionalProperties": False}, [{}], [{"x": 1}]),
    ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [None]),
    ({"type": "integer", "anyOf": [{"maximum": 1}, {"minimum": 9}]}, [1, 9], [5]),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [None]),
    (
        {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"properties": {"b": {"const": 2}}}]},
        [{"a": 1, "b": 2}],
        [{"b": 2}],
    ),
    (TREE, [{"v": 1}, {"v": 1, "kids": [{"v": 2, "kids": []}, {"v": 3}]}], [{"kids": []}, {"v": 1, "kids": [{}]}]),
    (True, [1, "a", None, [[1], {"a": {"b": 2}}]], []),
    ({"title": "anything"}, [1, {"a": []}], []),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES, ids=[json.dumps(case[0])[:60] for case in CASES])
def test_it_has_what_is_valid_and_nothing_else(schema, valid, invalid):
    constraint = JSONSchema(schema)
    for value in valid:
        assert constraint.holds(json.dumps(value, ensure_ascii=False)), value
        assert constraint.holds(json.dumps(value, ensure_ascii=False, separators=(",", ":"))), value
    for value in invalid:
        assert not constraint.holds(json.dumps(value, ensure_ascii=False)), value


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES, ids=[json.dumps(case[0])[:60] for case in CASES])
def test_random_texts_of_it_are_json(schema, valid, invalid):
    automaton = byte_automaton(JSONSchema(schema).expression)
    random = np.random.default_rng(0)
    for _ in range(30):
        state, text = 0, bytearray()
        while not (automaton.accepting[state] and (random.random() < 0.5 or not (automaton.delta[state] >= 0).any())):
            byte = int(random.choice(np.flatnonzero(automaton.delta[state] >= 0)))
            text.append(byte)
            state = automaton.delta[state, byte]
            if len(text) > 2000:  # a walk that has not found an end
                break
        else:
            json.loads(text.decode())


REFUSED = [
    ({"not": {"type": "integer"}}, "`not` at #"),
    ({"type": "integer", "multipleOf": 2}, "`multipleOf` at #"),
    ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, "`uniqueItems` at #/properties/a"),
    ({"type": "object", "patternProperties": {}}, "`patternProperties`"),
    ({"type": "object", "minProperties": 1}, "`minProperties`"),
    ({"if": True, "then": True}, "`if` at #"),
    ({"type": "string", "format": "uri-template"}, "`format: uri-template`"),
    ({"type": "string", "pattern": '"'}, "JSON has to escape"),
    ({"type": "string", "pattern": "(?=a)b"}, "lookaround"),
    ({"type": "string", "pattern": "^a|b$"}, "into a group"),
    ({"type": "string", "pattern": "a", "maxLength": 3}, "one at a time"),
    ({"type": "number", "minimum": 0.5}, "whole numbers"),
    ({"type": "decimal"}, "`type` at #"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "take `anyOf`"),
    ({"allOf": [{"minimum": 1}, {"minimum": 2}]}, "said twice"),
    ({"items": [{"type": "integer"}]}, "`prefixItems`"),
    ({"allOf": [{"properties": {"a": {}}}], "additionalProperties": {"type": "null"}}, "`additionalProperties` at #"),
    ({"allOf": [{"prefixItems": [{"minimum": 3}]}], "items": {"minimum": 5}}, "`items` at #"),
    ({"type": "array", "maxItems": 1.5}, "`maxItems` at # is 1.5"),
    ({"type": "string", "minLength": -1}, "`minLength` at # is -1"),
    ({"$ref": "http://example.com/schema"}, "only references within"),
    ({"$ref": "#/$defs/nothing"}, "there is no #/$defs/nothing"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "No JSON text is valid"),
    ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "raise `depth`"),
    ("{", "is no JSON"),
    ([1], "not list"),
]


@pytest.mark.parametrize(("schema", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_guaranteed_is_refused_by_name(schema, words):
    with pytest.raises(UnsupportedSchema) as caught:
        JSONSchema(schema)
    assert words in str(caught.value)


def test_recursion_ends_at_the_depth():
    def nested(depth: int) -> str:
        return "[" * depth + "]" * depth

    schema = {"type": "array", "items": {"$ref": "#"}}
    for depth in range(4):
        constraint = JSONSchema(schema, depth=depth)
        assert constraint.holds(nested(depth + 2)) and not constraint.holds(nested(depth + 3))
        anything = JSONSchema(True, depth=depth)
        assert anything.holds(nested(depth) or "1") and not anything.holds(nested(depth + 1))


class Item(BaseModel):
    name: str = Field(max_length=20)
    kind: Literal["fruit", "tool"]
    price: float = Field(ge=0)


class Order(BaseModel):
    number: int = Field(ge=1, le=99999)
    note: str | None = None
    items: list[Item] = Field(min_length=1, max_length=3)
    pair: tuple[int, str]
    extra: dict[str, int] = {}


def test_pydantic_models():
    order = Order(
        number=3, note="hé", items=[Item(name="日本🎉", kind="tool", price=1.5)], pair=(1, "x"), extra={"q": 2}
    )
    constraint = JSONSchema(Order)
    assert constraint.holds(order.model_dump_json())
    assert constraint.holds(order.model_dump_json(exclude_defaults=True))
    assert not constraint.holds(order.model_dump_json().replace("1.5", "-1.5"))
    assert JSONSchema(json.dumps(Order.model_json_schema())).holds(order.model_dump_json())


def test_whitespace_is_as_it_is_asked_for():
    schema = {"properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]}
    text = json.dumps({"a": [1, 2]}, indent=2)
    assert JSONSchema(schema, whitespace=r"[ \n]*").holds(text) and not JSONSchema(schema).holds(text)
    with pytest.raises(BadExpression, match="can't be read"):
        JSONSchema(schema, whitespace="(")
