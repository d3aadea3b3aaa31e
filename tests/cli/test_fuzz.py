"""Whatever is typed in a chat, and whatever a file holds: an answer, or a sentence; and nothing is lost.

A few draws here, many by `pytest -m slow tests/cli/test_fuzz.py`.
"""

import argparse
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conv_dlm.cli.chat import Chat
from conv_dlm.cli.options import option_settings
from conv_dlm.cli.prompts import read_prompts
from conv_dlm.cli.results import Results
from conv_dlm.cli.session import Session
from conv_dlm.generation.errors import SettingError

HOW = dict(deadline=None, suppress_health_check=list(HealthCheck))
TEXT = st.text(st.characters(exclude_categories=("Cc",)), max_size=12)
COMMANDS = ["/set", "/reset", "/regenerate", "/undo", "/save", "/load", "/help", "/nothing", "/set --steps", "/"]
WORDS = ["2", "0", "nan", "-1", "--decode-type topk", "--kernel-size 3", "'", "/dev/zero", "/dev/full", ".", "<|mask|>"]
LINE = st.one_of(
    TEXT, st.builds("{} {}".format, st.sampled_from(COMMANDS), st.sampled_from(WORDS) | TEXT), st.just("x" * 300)
)


@pytest.fixture(scope="module")
def session(tiny_checkpoint: Path) -> Session:
    names = ("model", "tokenizer", "device", "dtype", "quantize", "system", "raw", "seed")
    args = argparse.Namespace(**dict.fromkeys(names))
    args.model, args.raw, args.seed, args.device = str(tiny_checkpoint), False, 0, "cpu"
    return Session(args, {"steps": 2, "max_new_tokens": 3})


def converse(session: Session, lines: list[str], folder: Path) -> None:
    """Every message that was answered is in the conversation, unless it was taken back."""
    defaults = {name: None for name in option_settings()} | {"steps": 2, "max_new_tokens": 3}
    session.configure({"steps": 2, "max_new_tokens": 3})
    chat = Chat(session, argparse.Namespace(**defaults), memory=True)
    for line in lines:
        before = list(chat.history)
        assert chat.take(line)
        after = chat.history
        if line.startswith(("/undo", "/load")):
            continue
        if line.startswith("/regenerate"):
            assert after[: len(before) - 2] == before[:-2] and len(after) >= len(before)
        else:
            assert after[: len(before)] == before and len(after) - len(before) in (0, 2)
    saved = folder / "saved.json"
    saved.unlink(missing_ok=True)
    chat.take(f"/save {saved}")
    kept, chat.history = chat.history, []
    chat.take(f"/load {saved}")
    assert chat.history == kept


@given(st.lists(LINE, max_size=5))
@settings(max_examples=25, derandomize=True, **HOW)
def test_any_conversation(session, tmp_path, monkeypatch, lines) -> None:
    monkeypatch.chdir(tmp_path)
    converse(session, lines, tmp_path)


@pytest.mark.slow
@given(st.lists(LINE, max_size=8))
@settings(max_examples=1000, **HOW)
def test_any_conversation_many_times(session, tmp_path, monkeypatch, lines) -> None:
    monkeypatch.chdir(tmp_path)
    converse(session, lines, tmp_path)


PROMPTS = ["one", "two \ud83d", "three"]
SETTINGS = {"steps": 4}


def whole_file(folder: Path) -> bytes:
    path = folder / "whole.jsonl"
    path.unlink(missing_ok=True)
    with Results(str(path), PROMPTS, SETTINGS) as results:
        for index in range(3):
            results.write(index, {"text": f"answer \u2028 {index}"})
    return path.read_bytes()


def resume(folder: Path, content: bytes) -> None:
    """A file is either resumed to the whole, or refused and as it was."""
    path, whole = folder / "out.jsonl", whole_file(folder)
    path.write_bytes(content)
    try:
        results = Results(str(path), PROMPTS, SETTINGS)
    except ValueError as error:
        assert len(str(error)) > 20 and path.read_bytes() == content
        return
    with results:
        for index in list(results.pending):
            results.write(index, {"text": f"answer \u2028 {index}"})
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == [
        json.loads(line) for line in whole.split(b"\n")[:-1]
    ]


@given(st.binary(max_size=60), st.integers(0, 250), st.booleans())
@settings(max_examples=60, derandomize=True, **HOW)
def test_any_results_file(tmp_path, noise, cut, at_the_end) -> None:
    whole = whole_file(tmp_path)
    resume(tmp_path, noise)
    resume(tmp_path, whole[:cut])
    resume(tmp_path, whole[:cut] + noise if at_the_end else noise + whole[:cut])


@pytest.mark.slow
@given(st.binary(max_size=200), st.integers(0, 250), st.booleans())
@settings(max_examples=2000, **HOW)
def test_any_results_file_many_times(tmp_path, noise, cut, at_the_end) -> None:
    whole = whole_file(tmp_path)
    resume(tmp_path, whole[:cut] + noise if at_the_end else noise + whole[:cut])


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: json.dumps({"prompt": text}).encode()))
@settings(max_examples=60, derandomize=True, **HOW)
def test_any_file_of_prompts(tmp_path, content) -> None:
    for name in ("in.txt", "in.jsonl"):
        (tmp_path / name).write_bytes(content)
        try:
            prompts = read_prompts(str(tmp_path / name))
        except ValueError as error:
            assert not isinstance(error, SettingError | UnicodeError) and len(str(error)) > 10
        else:
            assert prompts and all(isinstance(prompt, str) for prompt in prompts)
