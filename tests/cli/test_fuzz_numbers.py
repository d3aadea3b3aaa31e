"""Whatever stands where a number is asked for: an answer, or one sentence and the exit status of a mistake.

A few draws here, many by `pytest -m slow tests/cli/test_fuzz_numbers.py`.
"""

import argparse
import copy
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conv_dlm.cli import build_parser, main
from conv_dlm.cli.options import port
from conv_dlm.generation.configuration import users_of

VALUES = [
    "nan", "-nan", "inf", "-inf", "1e400", "-1e400", "1e-400", "-1", "0", "-0.0", "1", "2", "3", "0.5", "1.5", "259",
    "260", "", " ", "2 ", "٣", "２", "½", "三", "1_0", "0x2", "2.", ".5", "1e0", "1,5", "+2", "--", "None", "true",
    "🙂", "1 2", "\u2028", "9" * 5000,
]  # fmt: skip
HUGE = ["9" * 30, str(2**31), str(2**63), "-" + "9" * 30, "1e30"]  # where no loop is as long as that
# What a command does with any number needs: words, and options that would take long or write much.
COMMANDS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "generate": (("a", "--steps", "2", "--max-new-tokens", "3"), set()),
    "chat": (("--steps", "2", "--max-new-tokens", "3"), set()),
    "problem": (("3", "--steps", "2", "--max-new-tokens", "3"), set()),
    "eval word_problems": (("--questions", "2", "--steps", "2", "--max-new-tokens", "3"), {"--questions"}),
    "eval needle": (("--questions", "2", "--words", "20", "--steps", "2", "--max-new-tokens", "3"), {"--words"}),
    "eval gsm8k": (("--data", "rows.jsonl", "--questions", "2", "--steps", "2", "--max-new-tokens", "3"), set()),
    "eval prompts": (("--data", "rows.jsonl", "--steps", "2", "--max-new-tokens", "3"), set()),
    "eval alpaca_eval": (
        ("--data", "rows.jsonl", "--name", "it", "--steps", "2", "--max-new-tokens", "3"), set()
    ),
    "fit": (("--memory", "8"), set()),
    "data word-problems": (("--rows", "2"), {"--rows"}),
    "data check rows.jsonl": ((), set()),
    "demo": ((), set()),
    "serve": ((), set()),
    "bench": (
        ("--baselines", "none", "--decode-types", "llada", "--repeats", "1", "--max-new-tokens", "3", "--no-memory"),
        {"--repeats"},
    ),
}
# seconds each, or almost as `eval word_problems`
FEW = {"fit": 1, "bench": 1, "eval needle": 3, "eval gsm8k": 3, "eval prompts": 3, "eval alpaca_eval": 3}
WITH_OUTPUT = {"data word-problems", *(command for command in COMMANDS if command.startswith("eval "))}
ROW = {"prompt": "a", "completion": "b", "question": "2 + 2?", "answer": "#### 4", "instruction": "Say."}


def actions(words: list[str]) -> list[argparse.Action]:
    """The options of a command that take numbers."""
    parser: Any = build_parser()
    for word in words:
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not inner or word not in inner[0].choices:
            break
        parser = inner[0].choices[word]
    return [action for action in parser._actions if action.type in (int, float, port) and action.option_strings]


@pytest.fixture(scope="module")
def options() -> dict[str, list[argparse.Action]]:
    return {command: actions(command.split()) for command in COMMANDS}


@pytest.fixture
def ask(
    tiny_llada: Any, tiny_tokenizer: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, options: Any
) -> Callable[[random.Random, str], None]:
    """Draws numbers for a command, runs it, and looks at how it ended."""

    def enough(*_: Any, **__: Any) -> Any:
        raise ValueError("It would begin now.")

    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(f"{json.dumps(ROW)}\n" * 3)
    for place in ("cli.session", "cost.subject"):  # of its own: a server sets the model's defaults
        load = lambda *_, **__: (copy.deepcopy(tiny_llada), tiny_tokenizer)  # noqa: E731
        monkeypatch.setattr(f"conv_dlm.{place}.load_model", load)
    monkeypatch.setattr("conv_dlm.serving.app.build_app", enough)
    monkeypatch.setattr("conv_dlm.demo.page.build", enough)

    def ask_once(draw: random.Random, command: str) -> None:
        words, long = COMMANDS[command]
        drawn = [*command.split(), *words]
        if command in WITH_OUTPUT:
            drawn += ["--output", str(tmp_path / f"out{draw.random()}")]
        for action in draw.sample(options[command], min(len(options[command]), draw.choice([1, 1, 2]))):
            flag = action.option_strings[0]
            huge = command not in {"bench"} and flag not in long
            value = draw.choice(VALUES + HUGE * huge)
            users = users_of(action.dest)
            if "decode_type" in users and command not in ("bench",):
                drawn += ["--decode-type", draw.choice(users["decode_type"])]
            drawn += [f"{flag}={value}"] if flag not in long else []
        monkeypatch.setattr("sys.stdin", io.StringIO("hi\n"))
        capsys.readouterr()
        try:
            code = main(drawn)
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as error:
            raise AssertionError(drawn) from error
        said = capsys.readouterr().err
        assert code in (0, 2) or (code == 1 and command.startswith("data check")), drawn
        assert "Traceback" not in said, drawn
        assert code != 2 or "error: " in said, drawn

    return ask_once


@pytest.mark.parametrize("command", COMMANDS)
def test_any_number(ask: Callable[[random.Random, str], None], command: str) -> None:
    draw = random.Random(command)
    for _ in range(FEW.get(command, 25)):
        ask(draw, command)


def test_no_command_is_left_out() -> None:
    def with_numbers(words: list[str], parser: Any) -> list[str]:
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if inner:
            parts = inner[0].choices.items()
            return [name for word, part in parts for name in with_numbers([*words, word], part)]
        return [" ".join(words)] if actions(words) else []

    drawn = {command.removesuffix(" word-problems").removesuffix(" check rows.jsonl") for command in COMMANDS}
    assert set(with_numbers([], build_parser())) == drawn


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_any_number_many_times(ask: Callable[[random.Random, str], None], command: str) -> None:
    draw = random.Random()
    for _ in range(30 if command in ("fit", "bench") else 1000):
        ask(draw, command)
