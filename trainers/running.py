"""How a training script ends: with one sentence and the command line's exit status where the user can mend something.

An error that nobody foresaw keeps its traceback.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import yaml
from safetensors import SafetensorError

from conv_dlm.utils.running import exit_code_of

OURS = ("trainers", "conv_dlm")
DIVERGED = 1
IN_A_STEP = {"training_step", "get_batch_samples", "evaluation_loop"}


def run_script(program: str, parse: Callable[[], Any], train: Callable[[Any], None]) -> int:
    """Run a script.

    Args:
        program (`str`): its name, for messages.
        parse (`Callable`): reads the arguments.
        train (`Callable`): does what they say.

    Returns:
        `int`: exit status: 0, 1 after a run that diverged, 2 for a mistake in what was asked for, 130 after Ctrl-C.
    """

    def command() -> int:
        train(reading(parse))
        return 0

    try:
        return exit_code_of(program, command, reraise=is_a_surprise)
    except FloatingPointError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return DIVERGED


def reading(parse: Callable[[], Any]) -> Any:
    """The arguments. Raises ValueError for whatever is wrong with them, in any of the readers' ways."""
    try:
        return parse()
    except yaml.YAMLError as error:
        raise ValueError(f"The recipe is no YAML: {' '.join(str(error).split())}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"An argument should be JSON and is {error.doc!r}: {error}") from error
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"The arguments can't be read: {error}") from error


def loading(load: Callable[[], Any], what: str) -> Any:
    """What `load` returns. Raises ValueError naming `what` if its files aren't there, can't be read, or don't fit."""
    try:
        return load()
    except (SafetensorError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # the system's own, of another file
            raise
        raise cannot_be_loaded(what, error) from error
    except (RuntimeError, TypeError) as error:
        if not any(known in str(error) for known in ("size mismatch", "mismatched_sizes", "unexpected keyword")):
            raise
        raise cannot_be_loaded(what, error) from error


def cannot_be_loaded(what: str, error: Exception) -> ValueError:
    return ValueError(f"{what} can't be loaded: {' '.join(str(error).split())[:300].rstrip('.')}.")


def is_a_surprise(error: BaseException) -> bool:
    """Whether an error came up in a step, and not by a check of this package or from the system."""
    places, trace = [], error.__traceback__
    while trace is not None:
        places.append((str(trace.tb_frame.f_globals.get("__name__")), trace.tb_frame.f_code.co_name))
        trace = trace.tb_next
    ours = places[-1][0].partition(".")[0] in OURS or "DataLoader worker" in str(error)
    in_a_step = any(name in IN_A_STEP for _, name in places)
    return in_a_step and isinstance(error, ValueError | ImportError) and not ours
