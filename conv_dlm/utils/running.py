"""From how a command ended to what its shell sees: an exit code, and one line on standard error."""

import os
import sys
from collections.abc import Callable
from typing import Any

from huggingface_hub.errors import HfHubHTTPError
from torch import OutOfMemoryError

from conv_dlm.utils.exit_codes import INTERRUPTED, MISTAKE, PIPE_CLOSED

# what the Hub's client raises where nobody answers, by whatever library it asks; no OSError, as its answers' errors are
NETWORK: Any = HfHubHTTPError.__bases__[0]


def exit_code_of(
    program: str, command: Callable[[], int], reraise: Callable[[BaseException], bool] = lambda error: False
) -> int:
    """Run a command; a mistake in what was asked for, Ctrl-C and a closed pipe become exit codes.

    `reraise` says of which errors the traceback is wanted.
    """
    try:
        return command()
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return PIPE_CLOSED
    except (ValueError, OSError, ImportError, OutOfMemoryError, MemoryError) as error:
        if reraise(error):
            raise
        print(f"{program}: error: {_one_line(error)}", file=sys.stderr)
        return MISTAKE
    except NETWORK as error:
        print(f"{program}: error: the network: {_one_line(error)}", file=sys.stderr)
        return MISTAKE


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "DataLoader worker" in lines[0]:  # the traceback in another process follows, and at its end what it is about
        return lines[-1].partition(": ")[2]
    return lines[0]
