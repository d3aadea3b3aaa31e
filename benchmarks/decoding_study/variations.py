"""Further settings that a grid varies, from the command line."""

from collections.abc import Sequence
from typing import Any

from benchmarks.decoding_study.grid import VARIED
from conv_dlm.cli.options import option_settings
from conv_dlm.generation import DiffusionGenerationConfig


def read_variations(given: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
    """What `--vary` says, each value of the kind that its field has; `None` for `none`.

    Raises:
        ValueError: no such field, one that the grid or the run has already, no value, or an impossible one.
    """
    known = {name: its for name, its in option_settings().items() if name not in (*VARIED, "max_new_tokens")}
    vary: dict[str, list[Any]] = {}
    for name, *words in given:
        name = name.replace("-", "_")
        if name not in known:
            raise ValueError(f"`--vary {name}` is no setting that a grid can vary; these are: {', '.join(known)}.")
        if not words:
            raise ValueError(f"`--vary {name}` has no value; name some, as in `--vary cache_implementation none dual`.")
        values = [None if word == "none" else _value(known[name].kind, name, word) for word in words]
        for value in values:
            DiffusionGenerationConfig(**({} if value is None else {name: value}))  # refuses what is out of range
        vary[name] = vary.get(name, []) + values
    return vary


def _value(kind: type, name: str, word: str) -> Any:
    try:
        return {"true": True, "false": False}[word] if kind is bool else kind(word)
    except (KeyError, ValueError) as error:
        raise ValueError(f"`--vary {name} {word}`: {word!r} is not of the kind {kind.__name__}.") from error
