"""Files of rows: what is read, what is refused and by which words, and files that are whole or not there."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm.utils.files import (
    first_rows,
    json_lines,
    read_rows,
    rows_of_lines,
    text_in,
    write_atomically,
    write_json,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "one"}\n\n{"a": \n[2]\r\n{"b": "two"}\n{"a": "three"}', encoding="utf-8")
    return path


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=3)))
def test_rows_are_read_as_they_were_written(rows: list[dict[str, Any]]) -> None:
    assert rows_of_lines(json_lines(rows), "here") == (rows, [])


def test_a_malformed_line_is_named(lines: Path) -> None:
    with pytest.raises(ValueError, match=r"rows.jsonl, line 3: not JSON: Expecting value at column 7\.$"):
        read_rows(lines)


def test_the_rest_is_kept_on_request(lines: Path) -> None:
    rows, wrong = read_rows(lines, skip_malformed=True)
    assert rows == [{"a": "one"}, {"b": "two"}, {"a": "three"}]
    assert [message.partition(", ")[2] for message in wrong] == [
        "line 3: not JSON: Expecting value at column 7.",
        "line 4: a JSON object is needed, not list.",
    ]


def test_what_a_check_refuses_is_malformed_too(lines: Path) -> None:
    rows, wrong = read_rows(lines, skip_malformed=True, check=lambda row: text_in(row, "a"))
    assert rows == [{"a": "one"}, {"a": "three"}]
    assert wrong[-1] == f"{lines}, line 5: no text in field 'a'; it has ['b']."
    lines.write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match=r"line 1: no text in field 'a'"):
        read_rows(lines, check=lambda row: text_in(row, "a"))


def test_a_json_list(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('\ufeff[{"a": "one"},\n 2]', encoding="utf-8")
    assert read_rows(path, skip_malformed=True)[0] == [{"a": "one"}]
    with pytest.raises(ValueError, match=r"rows.json\[1\]: a JSON object is needed, not int"):
        read_rows(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b"\n \n", "holds no rows."),
        ("rows.jsonl", b"", "holds no rows."),
        ("rows.json", b"[]", "holds no rows."),
        ("rows.jsonl", b"{\n", "holds no rows but 1 malformed; the first is"),
        ("rows.jsonl", b"\xff", "is not UTF-8 text: invalid start byte at byte 0."),
        ("rows.json", b'{"a": 1}', "a list of JSON objects is needed, not dict."),
        ("rows.json", b'{"a": 1}\n{"a": 2}', "not JSON: Extra data at column 1; name files of JSON lines .jsonl"),
    ],
)
def test_files_without_rows(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_rows(tmp_path / name, skip_malformed=True)
    assert message in str(error.value) and str(tmp_path / name) in str(error.value)


def test_the_first_rows() -> None:
    rows = [{"a": number} for number in range(3)]
    assert first_rows(rows, None) == first_rows(rows, 3) == rows
    assert first_rows(rows, 1) == rows[:1]
    for count in (0, -1, 4):
        with pytest.raises(ValueError, match=rf"`questions`={count} must be between 1 and 3"):
            first_rows(rows, count)


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_json_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def crash(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "new, and longer")
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_atomically(path, "new")
    assert path.read_text() == "new" and [file.name for file in tmp_path.iterdir()] == ["file.txt"]
