"""`conv-dlm data word-problems`, and the rows that it writes."""

import json
from pathlib import Path

import pytest

from conv_dlm.word_problems import check


def test_rows(run, tmp_path: Path):
    out = tmp_path / "new" / "problems.jsonl"
    options = ("--seed", 1, "--rows", 20, "--level", "1-3", "--form", "prose", "json", "--output", out)
    assert run("data", "word-problems", *options).code == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 20 and {row["form"] for row in rows} == {"prose", "json"}
    for row in rows:
        (question,), (answer,) = row["prompt"], row["completion"]
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert 1 <= row["level"] <= 3
        assert check(question["content"], answer["content"], row["answer"]).sound
    before = out.read_bytes()
    assert run("data", "word-problems", *options).code == 0
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rows", 0), "--rows 0 must be 1 or more"),
        (("--rows", 5, "--level", "9-3"), "must be a range within 1 to 12"),
        (("--rows", 5, "--level", "hard"), "--level 'hard' must be a number of operations or a range"),
        (("--rows", 5, "--level", "0"), "must be a range within 1 to 12"),
        (("--rows", 5, "--form", "verse"), "invalid choice: 'verse'"),
    ],
)
def test_bad_input(run, tmp_path: Path, words: tuple, message: str):
    result = run("data", "word-problems", "--output", tmp_path / "out.jsonl", *words)
    assert result.code == 2 and message in result.err
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_overwritten(run, tmp_path: Path):
    result = run("data", "word-problems", "--rows", 1, "--output", tmp_path)
    assert result.code == 2 and "is a folder; name a file in it" in result.err
