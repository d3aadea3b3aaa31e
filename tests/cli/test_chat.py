"""`conv-dlm chat`: turns, memory, commands, interruptions."""

import io
from pathlib import Path

import pytest

from conv_dlm.cli import session as session_module


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model is given, turn by turn."""
    seen: list[str] = []
    answer = session_module.Session.answer

    def watched(self, prompts, indices, streamer=None):
        seen.extend(prompts)
        return answer(self, prompts, indices, streamer)

    monkeypatch.setattr(session_module.Session, "answer", watched)
    return seen


@pytest.fixture
def chat(run, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    """`chat(lines, *options)`: a conversation through a pipe."""

    def chat(lines: str, *options: object):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        return run("chat", "--model", tiny_checkpoint, "--steps", 2, "--max-new-tokens", 6, *options)

    return chat


def test_a_piped_conversation_is_plain_text(chat) -> None:
    outcome = chat("hello\nagain\n")
    assert outcome.code == 0
    assert "\x1b" not in outcome.out + outcome.err and ">" not in outcome.err
    assert outcome.err.count(" tokens per forward\n") == 2


def test_memory(chat, seen: list[str]) -> None:
    chat("hello\nagain\n/clear\nnew\n", "--system", "brief")
    system = "<|start|>system\nbrief<|end|>\n"
    first, second, third = seen
    assert first == f"{system}<|start|>user\nhello<|end|>\n<|start|>assistant\n"
    assert second.startswith(first) and second.endswith("<|start|>user\nagain<|end|>\n<|start|>assistant\n")
    assert len(second) > len(first) + len("<|end|>\n<|start|>user\nagain<|end|>\n<|start|>assistant\n")
    assert third == f"{system}<|start|>user\nnew<|end|>\n<|start|>assistant\n"


def test_without_memory(chat, seen: list[str]) -> None:
    chat("hello\nhello\n", "--no-memory")
    assert seen[0] == seen[1]
    chat("hello\n", "--raw")
    assert seen[2] == "hello"
    outcome = chat("hello\n", "--raw", "--memory")
    assert outcome.code == 2 and "`--memory` needs the chat template" in outcome.err


def test_full_context_forgets_the_oldest_turn(chat, seen: list[str]) -> None:
    outcome = chat("".join(f"{letter * 60}\n" for letter in "abc"))
    assert outcome.code == 0
    assert outcome.err.count("the oldest turn is forgotten") == 1
    assert "a" * 60 not in seen[-1] and "b" * 60 in seen[-1] and "c" * 60 in seen[-1]
    assert outcome.err.count("tokens per forward") == 3


def test_a_too_long_turn_does_not_end_the_conversation(chat) -> None:
    outcome = chat("x" * 300 + "\nhello\n")
    assert outcome.code == 0
    assert "error: " in outcome.err and "the model's is 256" in outcome.err
    assert outcome.err.count("tokens per forward") == 1


def test_commands(chat, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = []
    configure = session_module.Session.configure

    def watched(self, options):
        configure(self, options)
        configured.append(options)

    monkeypatch.setattr(session_module.Session, "configure", watched)
    outcome = chat(
        "/help\n/set --steps 3 --decode-type topk\n/set --steps x\n/set --kernel-size 3\n/set --steps 1\n"
        "/reset\n/unknown\n\n/exit\nnever read\n"
    )
    assert outcome.code == 0
    start = {"steps": 2, "max_new_tokens": 6}
    changed = start | {"steps": 3, "decode_type": "topk"}
    assert configured == [start, changed, changed | {"steps": 1}, start]
    assert outcome.err.count("/clear") == 2  # /help, and for the unknown command
    assert "/set: error: argument --steps: invalid int value: 'x'\n" in outcome.err
    assert "/set: error: `kernel_size`=3 has no effect" in outcome.err
    assert outcome.out == ""


def test_ctrl_c_stops_an_answer_then_leaves(chat, seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    answer, lines = session_module.Session.answer, iter(["first", "stopped", "third", None])

    def interrupted(self, prompts, indices, streamer=None):
        answers = answer(self, prompts, indices, streamer)
        if "stopped" in prompts[0]:
            raise KeyboardInterrupt
        return answers

    def read(prompt: str = "") -> str:
        line = next(lines)
        if line is None:
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr(session_module.Session, "answer", interrupted)
    monkeypatch.setattr("builtins.input", read)
    outcome = chat("")
    assert outcome.code == 130
    assert "stopped\n" in outcome.err and "Traceback" not in outcome.err
    assert "first" in seen[-1] and "stopped" not in seen[-1]  # an answer that was stopped is not remembered
