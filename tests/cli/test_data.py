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


def test_groups_that_are_alike_and_worksheets_among_them(run, tmp_path: Path):
    out = tmp_path / "problems.jsonl"
    options = ("--level", "1-8", "--form", "prose", "json", "--alike", 3, "--drill", 0.25, "--output", out)
    assert run("data", "word-problems", "--rows", 24, *options).code == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    groups = [rows[n : n + 3] for n in range(0, 24, 3)]
    assert all(len({(row["level"], row["form"]) for row in group}) == 1 for group in groups)
    sheets = [all(row["scene"] == "worksheet" for row in group) for group in groups]
    assert sheets == [False, False, False, True] * 2


def test_plain_solutions(run, tmp_path: Path):
    def written(*words: str) -> list[dict]:
        out = tmp_path / "problems.jsonl"
        assert run("data", "word-problems", "--rows", 30, "--level", "3-5", *words, "--output", out).code == 0
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

    drawn, plain = written(), written("--plain")
    assert [row["prompt"] for row in drawn] == [row["prompt"] for row in plain]
    assert [row["answer"] for row in drawn] == [row["answer"] for row in plain]
    assert [row["completion"] for row in drawn] != [row["completion"] for row in plain]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rows", 5, "--alike", 0), "--alike 0 must be 1 or more"),
        (("--rows", 5, "--drill", 1), "--drill 1 must be a share"),
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


def test_check_says_all_at_once(run, tiny_checkpoint, tmp_path: Path):
    good = [{"prompt": f"{n}?", "completion": f"{n}." + "!" * n} for n in range(8)]
    rows = [
        *good, good[0], {"prompt": "x?", "completion": "x" * 300}, {"prompt": None, "completion": "x"},
        {"prompt": "m?", "completion": "a<|mask|>"}, {"prompt": "e?", "completion": " "},
        {"question": "q", "answer": "a"},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}, {"messages": []},
        {"messages": [{"role": "narrator", "content": "Once"}]},
    ]  # fmt: skip
    file, held_out = tmp_path / "rows.jsonl", tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n", encoding="utf-8")
    held_out.write_text("".join(json.dumps(row) + "\n" for row in [good[1], {"prompt": "new", "completion": "x"}]))
    words = ("data", "check", file, "--model", tiny_checkpoint, "--held-out", held_out)
    result = run(*words, "--max-length", 20)
    assert result.code == 1
    for line in (
        f"{file}, line {len(rows) + 1}: not JSON", "rows: 17, of which 6 can't be trained on",
        "row 10: `prompt` has no value", "row 11: the text holds the mask token", "row 12: `completion` is empty",
        "row 13: no response: the columns are question, answer", "row 15: `messages` is empty",
        "row 16: `messages[0]` has the role 'narrator'", "roles: assistant 1, user 1",
        "cut by max_length: 2", "answers trained without an end: 2", "duplicates: 1", "that are trained on: 1",
        "tokens of a row: 0% 5",
    ):  # fmt: skip
        assert line in result.out, (line, result.out)
    long = run(*words)
    assert "row 9: it has 303 tokens, and the model a context of 256" in long.out

    file.write_text("".join(json.dumps(row) + "\n" for row in good))
    assert run(*words[:5]).code == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe\x00", b'{"prompt": "a", "comp'])
def test_files_that_hold_nothing(run, tiny_checkpoint, tmp_path: Path, content: bytes):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    result = run("data", "check", file, "--model", tiny_checkpoint)
    assert result.code == 2 and str(file) in result.err and "Traceback" not in result.err


def test_check_needs_a_file(run, tmp_path: Path):
    assert run("data", "check").code == 2
    assert "is no file" in run("data", "check", tmp_path / "none.jsonl").err
    assert "needs `--rows N`" in run("data", "word-problems").err


def test_options_of_the_other_kind_are_refused(run, tmp_path: Path):
    assert "`--seed` has no use for check; drop it" in run("data", "check", tmp_path / "a.jsonl", "--seed", 1).err
    assert "`--max-length` has no use" in run("data", "word-problems", "--rows", 1, "--max-length", 9).err
