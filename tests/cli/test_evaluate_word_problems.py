"""`conv-dlm eval word_problems`."""

import json
from pathlib import Path

import pytest


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--questions", 0), "must be at least 1"),
        (("--level", "13"), "within 1 to 12"),
        (("--form", "x"), "invalid choice"),
    ],
)
def test_bad_input(run, tiny_checkpoint: Path, tmp_path: Path, words: tuple, message: str):
    result = run("eval", "word_problems", "--model", tiny_checkpoint, "--output", tmp_path / "out", *words)
    assert result.code == 2 and message in result.err
