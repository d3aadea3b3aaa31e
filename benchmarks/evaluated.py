"""`conv-dlm eval word_problems` as a part of a study: it resumes in its folder, and is not repeated."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conv_dlm.cli import main as conv_dlm
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_atomically, write_json


def evaluated(folder: Path, words: Sequence[Any]) -> dict[str, Any]:
    """The figures of an evaluation into `folder`, each [value, standard error]; `words` are its further options."""
    if status := conv_dlm(["eval", "word_problems", "--output", str(folder), *map(str, words)]):
        raise SystemExit(status)
    figures: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))["figures"]
    return figures


def shown(value: Sequence[float | None] | None, factor: float = 1, form: str = ".1f") -> str:
    """A figure for a table: `12.3 ± 0.4`, or a dash without a value."""
    if not value or value[0] is None:
        return "–"
    error = f" ± {factor * value[1]:{form.lstrip('+')}}" if value[1] is not None else ""
    return f"{factor * value[0]:{form}}{error}"


def write_tables(folder: Path, study: str, device: str, found: dict[str, Any], text: str) -> None:
    """What a study has found: table.json, with where and by what, and table.md for people."""
    write_json(folder / "table.json", describe_run(f"python -m benchmarks.{study}", device) | found)
    write_atomically(folder / "table.md", text)
