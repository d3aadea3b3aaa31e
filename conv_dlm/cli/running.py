"""From how a command ended to what its shell sees: an exit code, and one line on standard error."""

import os
import sys
from collections.abc import Callable

from torch import OutOfMemoryError

from conv_dlm.cli.exit_codes import INTERRUPTED, MISTAKE, PIPE_CLOSED


def exit_code_of(program: str, command: Callable[[], int]) -> int:
    """Run a command; a mistake in what was asked for, Ctrl-C and a closed pipe become exit codes."""
    try:
        return command()
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return PIPE_CLOSED
    except (ValueError, OSError, ImportError, OutOfMemoryError) as error:
        print(f"{program}: error: {_one_line(error)}", file=sys.stderr)
        return MISTAKE


def _one_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
