"""Text of the world: any string becomes JSON that any reader takes, in any encoding."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm.utils.text import all_well_formed, check_bytes, from_json, to_json, well_formed

ANY = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too


@given(ANY)
@settings(max_examples=50, derandomize=True, deadline=None)
def test_json_in_one_line_of_any_encoding(text: str) -> None:
    line = to_json({"text": text})
    assert len(line.splitlines()) == 1  # which knows U+2028, U+0085 and others
    assert json.loads(line.encode("utf-8"))["text"] == json.loads(json.dumps(text))
    assert json.loads(to_json({"text": text}, only_ascii=True).encode("cp1252")) == json.loads(line)


@given(ANY)
@settings(max_examples=50, derandomize=True, deadline=None)
def test_well_formed(text: str) -> None:
    mended = well_formed(text)
    assert mended.encode("utf-8").decode("utf-8") == mended == well_formed(mended)
    if "\ufffd" not in mended:
        assert mended.encode("utf-16") == text.encode("utf-16", "surrogatepass")


def test_pairs_are_joined() -> None:
    assert well_formed("a\ud83d\ude00b\ud83dc\ude00") == "a😀b\ufffdc\ufffd"
    assert all_well_formed({"\ud800": ["\udfff", 1, {"a": "\ud83d\ude00"}]}) == {"\ufffd": ["\ufffd", 1, {"a": "😀"}]}


@pytest.mark.parametrize("text", ["[" * 100_000, "{", b"\xff"])
def test_what_is_no_json(text) -> None:
    with pytest.raises(ValueError):
        from_json(text)


def test_bytes_that_are_no_text() -> None:
    read = io.TextIOWrapper(io.BytesIO("grün".encode("latin-1")), encoding="utf-8", errors="surrogateescape").read()
    with pytest.raises(ValueError, match="byte 0xfc after 2 characters"):
        check_bytes("The prompt", read)
    assert check_bytes("The prompt", "grün 😀 \ud800") == "grün 😀 \ud800"
