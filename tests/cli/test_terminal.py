"""The program itself on a terminal: a pseudo-terminal that types, reads and presses Ctrl-C."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import conv_dlm_command

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")


class Person:
    """Starts a command on a terminal of its own and watches what it writes."""

    def __init__(self, *words: object) -> None:
        self.terminal, program_side = pty.openpty()
        self.program = subprocess.Popen(
            [sys.executable, "-m", "conv_dlm", *map(str, words)],
            stdin=program_side, stdout=program_side, stderr=program_side, start_new_session=True,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)},
            preexec_fn=_own_the_terminal,
        )  # fmt: skip
        os.close(program_side)
        self.seen = ""

    def wait_for(self, text: str, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.terminal], [], [], left)[0], f"no {text!r} in {self.seen!r}"
            self.read()

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

    def exit_code(self) -> int:
        while self.read():
            pass
        os.close(self.terminal)
        return self.program.wait(60)


def _own_the_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # The tests may run in the background, where shells let Ctrl-C be ignored, and a child ignores what its parent does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
