"""Ctrl-C while `python -m conv_dlm`, or a module of it, imports PyTorch, which takes seconds: no traceback.

Import this before all that takes long. The installed command does the same for itself (`conv_dlm_command`).
"""

import sys
from types import TracebackType

from conv_dlm.utils.exit_codes import INTERRUPTED


def end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's `excepthook`, but for Ctrl-C, which ends the program with a word."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.__excepthook__(kind, error, trace)


if sys.argv[:1] == ["-m"]:  # so it is while Python looks for the module that it is to run
    sys.excepthook = end_quietly
