"""`python -m conv_dlm` on a terminal: a pseudo-terminal that types, reads and presses Ctrl-C."""

import os
import runpy
import select
import signal
import sys
import time
from pathlib import Path

import pytest

import conv_dlm_command
from tests.forks import context

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")


class Person:
    """Starts a command on a terminal of its own, in a fork of the test, and watches what it writes."""

    def __init__(self, *words: object) -> None:
        self.terminal, program_side = pty.openpty()
        self.program = context().Process(target=_run_on, args=(os.ttyname(program_side), [str(word) for word in words]))
        self.program.start()
        self.kept_open: int | None = program_side  # until the program has opened it
        self.seen = ""

    def wait_for(self, text: str, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.terminal], [], [], left)[0], f"no {text!r} in {self.seen!r}"
            self.read()
            if self.kept_open is not None:
                os.close(self.kept_open)
                self.kept_open = None

    def read(self) -> bool:
        try:
            data = os.read(self.terminal, 4096)
        except OSError:  # Linux: the other side is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.terminal)[3] & termios.ECHO)

    def exit_code(self) -> int | None:
        while self.read():
            pass
        os.close(self.terminal)
        self.program.join(60)
        return self.program.exitcode


def _run_on(terminal: str, words: list[str]) -> None:
    os.setsid()
    opened = os.open(terminal, os.O_RDWR)  # the first that a session opens is its own
    for standard in (0, 1, 2):
        os.dup2(opened, standard)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    # The tests may run in the background, where shells let Ctrl-C be ignored, and a child ignores what its parent does.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["TERM"] = "xterm"
    sys.argv = ["conv-dlm", *words]
    runpy.run_module("conv_dlm", run_name="__main__")


def test_ctrl_c_while_an_answer_is_drawn(tiny_checkpoint: Path) -> None:
    person = Person(
        "generate", "hello", "--model", tiny_checkpoint, "--max-new-tokens", 200, "--steps", 20_000,
        "--decode-type", "categorical",
    )  # fmt: skip
    person.wait_for("\x1b[2m·")  # a dimmed draft
    assert not person.echoes()
    person.type("typed too early\n\x03")
    while person.read():
        pass
    assert person.echoes()
    assert person.exit_code() == 130
    last_frame = person.seen[person.seen.rindex("\x1b[?25l") :]
    assert last_frame.endswith("interrupted\r\n")
    assert "\x1b[?25h" in last_frame and "\x1b[?7l" not in last_frame  # cursor shown, auto-wrap on
    assert "·" not in last_frame  # the draft is gone
    assert "typed too early" not in person.seen and "Traceback" not in person.seen


def test_ctrl_c_while_the_program_is_imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "conv_dlm.cli":
                raise KeyboardInterrupt

    for name in [name for name in sys.modules if name.startswith("conv_dlm.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("sys.meta_path", [Interrupting(), *sys.meta_path])
    assert conv_dlm_command.main() == 130
    assert capsys.readouterr().err == "interrupted\n"
