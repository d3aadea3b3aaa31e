"""The text of a row, whatever the steps in which it is decided."""

import random

import pytest
import torch

from conv_dlm.serving.text import RowText

EOS = 2


def row_text(tokenizer, stops=(), limit=None, wanted=lambda: True, ends=frozenset({EOS})):
    """A `RowText` that has seen its prompt, and the pieces that it emits."""
    pieces = []
    decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)  # noqa: E731
    text = RowText(decode, set(ends), stops, limit, pieces.append, wanted)
    assert not text.put(torch.tensor([[1, 5]]))
    return text, pieces


def in_parts(ids, seed):
    """The ids in parts of random lengths."""
    draw, start = random.Random(seed), 0
    while start < len(ids):
        size = draw.randint(1, 5)
        yield torch.tensor(ids[start : start + size])
        start += size


@pytest.mark.parametrize(
    ("written", "stops", "text", "taken"),
    [
        ("plain", (), "plain", 5),
        ("naïve 日本語 😀!", (), "naïve 日本語 😀!", 22),
        ("one, two, three", (", t",), "one", 6),
        ("one, two, three", ("three", "two"), "one, ", 8),
        ("aaab", ("aab",), "a", 4),
        ("abc", ("abc", "b"), "a", 2),  # what is complete first
        ("abc", ("bc", "abc"), "", 3),  # and of those, the one that begins first
        ("日本語", ("本",), "日", 6),
        ("one, tw", ("two",), "one, tw", 7),  # the end comes before the stop string
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_text_does_not_depend_on_the_steps(tiny_tokenizer, written, stops, text, taken, seed):
    ids = tiny_tokenizer(written)["input_ids"]
    row, pieces = row_text(tiny_tokenizer, stops)
    enough = [row.put(part) for part in in_parts([*ids, EOS, 7, 7], seed)]
    row.end()
    assert "".join(pieces) == text and "\ufffd" not in "".join(pieces)
    assert row.ended and any(enough)
    assert len(row.ids) == taken


@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_sent_at_once_and_never_taken_back(tiny_tokenizer, seed):
    """All but what may become a stop string or a character."""
    row, pieces = row_text(tiny_tokenizer, ("stop",))
    written = "a st and a sto, é"
    ids, seen = tiny_tokenizer(written)["input_ids"], 0
    for part in in_parts(ids, seed):
        row.put(part)
        seen += len(part)
        text = tiny_tokenizer.decode(ids[:seen]).rstrip("\ufffd")
        held = next((n for n in (3, 2, 1) if text.endswith("stop"[:n])), 0)
        assert "".join(pieces) == text[: len(text) - held]
    row.end()
    assert "".join(pieces) == written and all(pieces) and not row.ended


def test_half_a_character_at_the_end_is_shown(tiny_tokenizer):
    row, pieces = row_text(tiny_tokenizer)
    row.put(torch.tensor(tiny_tokenizer("aé")["input_ids"][:-1]))
    assert pieces == ["a"]
    row.end()
    assert pieces == ["a", "\ufffd"]


def test_a_gap_has_a_limit_and_no_end_token(tiny_tokenizer):
    ids = tiny_tokenizer("gap and suffix")["input_ids"]
    row, pieces = row_text(tiny_tokenizer, limit=4, ends=())
    assert not row.put(torch.tensor([*ids[:2], EOS]))
    assert row.put(torch.tensor(ids[2:]))
    assert not row.put(torch.tensor(ids))  # the text at its right, in a later step
    row.end()
    assert "".join(pieces) == "gap" and row.ids == [*ids[:2], EOS, ids[2]]


def test_nobody_is_there(tiny_tokenizer):
    row, pieces = row_text(tiny_tokenizer, wanted=lambda: False)
    assert row.put(torch.tensor([7]))
    assert pieces == [] and row.ids == []
