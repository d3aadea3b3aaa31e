"""Standard input and output that take any text."""

import contextlib
import io
import os
import sys


def take_any_text() -> None:
    """No character may end a command: what a console can't show is replaced there.

    Files and pipes are UTF-8, whatever the locale says, unless `PYTHONIOENCODING` does. A byte of standard input that
    is no UTF-8 is kept for `conv_dlm.utils.text.check_bytes`, which says so.
    """
    told = os.environ.get("PYTHONIOENCODING") is not None
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        with contextlib.suppress(io.UnsupportedOperation, ValueError):  # it was read from already, or is closed
            if told or stream.isatty():
                stream.reconfigure(errors=errors)
            else:
                stream.reconfigure(encoding="utf-8", errors=errors)
