"""`conv-dlm generate --json-schema, --regex, --choice`."""

import json
import re
from pathlib import Path

import pytest


def test_answers_have_the_form(generate, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "array", "items": {"enum": [1, 2]}, "minItems": 1}))
    assert set(json.loads(generate("hello", "--json-schema", schema).out)) <= {1, 2}
    assert re.fullmatch("[0-9]{2}-[a-z]+\n", generate("hello", "--regex", "[0-9]{2}-[a-z]+").out)
    assert generate("hello", "--choice", "yes", "--choice", "no").out in ("yes\n", "no\n")


def test_rows_say_which(generate, tmp_path: Path) -> None:
    prompts, output = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("one\ntwo\n")
    assert generate("--input", prompts, "--output", output, "--choice", "yes").code == 0
    for line in output.read_text().splitlines():
        row = json.loads(line)
        assert (row["text"], row["settings"]["constraint"], row["forwards"]) == ("yes", "yes", row["forwards"])
    assert generate("--input", prompts, "--output", output, "--choice", "no").code != 0  # other settings, other file


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--regex", "("], "can't be read"),
        (["--regex", "a{50}"], "needs at least 50 tokens"),
        (["--json-schema", "nowhere.json"], "nowhere.json"),
        (["--regex", "a", "--choice", "b"], "not allowed with"),
    ],
)
def test_what_cannot_be_is_an_error(generate, words, message) -> None:
    outcome = generate("hello", *words)
    assert outcome.code != 0 and message in outcome.err
