"""`conv-dlm eval word_problems`."""

import json
from pathlib import Path

import pytest

import conv_dlm
from conv_dlm.word_problems import problems


def test_the_command(run, tiny_checkpoint: Path, tmp_path: Path):
    out = tmp_path / "out"
    words = ("--model", tiny_checkpoint, "--questions", 3, "--level", "1-2", "--steps", 2, "--max-new-tokens", 8)
    result = run("eval", "word_problems", *words, "--output", out)
    assert result.code == 0, result.err
    figures = json.loads((out / "results.json").read_text())["figures"]
    assert figures["accuracy"][0] == 0 and set(figures) > {"sound", "form", "equations", "loops"}
    assert set(json.loads((out / "levels.json").read_text())) <= {"1", "2"}
    refused = run("eval", "word_problems", *words, "--split", "unseen", "--output", out)
    assert refused.code == 2 and "rows" in refused.err


SCHEMA = Path(__file__).parents[2] / "configs" / "embedded" / "answer.schema.json"


def test_the_schema_of_the_json_form_has_the_generators_solutions():
    schema = conv_dlm.JSONSchema(SCHEMA.read_text())
    for problem in problems(3, 200, split="test", forms=("json",)):
        assert schema.holds(problem.solution)


def test_share_of_valid_answers(run, tiny_checkpoint: Path, tmp_path: Path):
    words = ("--model", tiny_checkpoint, "--questions", 2, "--level", "1", "--form", "json", "--steps", 4)
    words += ("--max-new-tokens", 16, "--choice", "yes", "--choice", "no")

    def valid(folder: str, *more: object) -> float:
        result = run("eval", "word_problems", *words, *more, "--output", tmp_path / folder)
        assert result.code == 0, result.err
        return json.loads((tmp_path / folder / "results.json").read_text())["figures"]["valid"][0]

    assert valid("held") == 1 and valid("free", "--free") == 0
    assert run("eval", "word_problems", *words, "--output", tmp_path / "free").code == 2  # another run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--questions", 0), "must be at least 1"),
        (("--level", "13"), "within 1 to 12"),
        (("--form", "x"), "invalid choice"),
        (("--free",), "`--free` is for"),
        (("--autoregressive", "--choice", "a"), "add `--free`"),
    ],
)
def test_bad_input(run, tiny_checkpoint: Path, tmp_path: Path, words: tuple, message: str):
    result = run("eval", "word_problems", "--model", tiny_checkpoint, "--output", tmp_path / "out", *words)
    assert result.code == 2 and message in result.err
