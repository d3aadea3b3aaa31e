"""Keys that are pressed while an answer is drawn."""

import contextlib
import sys
from collections.abc import Iterator

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]


@contextlib.contextmanager
def silent_keyboard() -> Iterator[None]:
    """Don't let the terminal echo keys meanwhile: an echoed line break would move what is being redrawn.

    What is typed is kept and read later; Ctrl-C works. Does nothing without a terminal, or on Windows.
    """
    if termios is None or not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    try:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, silent)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
