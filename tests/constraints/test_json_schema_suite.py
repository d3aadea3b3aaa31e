"""The JSON Schema Test Suite: what is compiled has no invalid text, what isn't is refused.

The suite isn't part of this repository. Set JSON_SCHEMA_TEST_SUITE to its folder `tests/draft2020-12`, from
github.com/json-schema-org/JSON-Schema-Test-Suite or from the `json` folder in the source of the package `jsonschema`.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from conv_dlm.constraints import JSONSchema, UnsupportedSchema

FOLDER = os.environ.get("JSON_SCHEMA_TEST_SUITE")
# keywords of whose files some schemas are compiled
SUPPORTED = {
    "additionalProperties", "allOf", "anyOf", "boolean_schema", "const", "default", "enum", "exclusiveMaximum",
    "format", "items", "maxItems", "maxLength", "maximum", "minItems", "minLength", "minimum", "oneOf", "pattern",
    "prefixItems", "properties", "ref", "required", "type",
}  # fmt: skip


def cases() -> list[Any]:
    files = sorted(Path(FOLDER).glob("*.json")) if FOLDER else []
    return [
        pytest.param(file.stem, case, id=f"{file.stem}: {case['description']}")
        for file in files
        for case in json.loads(file.read_text(encoding="utf-8"))
    ]


@pytest.mark.skipif(not FOLDER, reason="JSON_SCHEMA_TEST_SUITE is not set")
@pytest.mark.parametrize(("keyword", "case"), cases())
def test_no_invalid_text_is_in_the_language(keyword: str, case: dict[str, Any]) -> None:
    try:
        schema = JSONSchema(case["schema"])
    except UnsupportedSchema as error:
        assert "#" in str(error) or "No JSON text" in str(error)  # it says where
        return
    for test in case["tests"]:
        if not test["valid"]:
            text = json.dumps(test["data"], ensure_ascii=False)
            assert not schema.holds(text), (test["description"], text)


@pytest.mark.skipif(not FOLDER, reason="JSON_SCHEMA_TEST_SUITE is not set")
def test_what_is_supported_is_compiled() -> None:
    compiled: dict[str, int] = {}
    for parameter in cases():
        keyword, case = parameter.values
        try:
            JSONSchema(case["schema"])
        except UnsupportedSchema:
            continue
        compiled[keyword] = compiled.get(keyword, 0) + 1
    assert compiled.keys() >= SUPPORTED and sum(compiled.values()) >= 130
