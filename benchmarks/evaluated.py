"""`conv-dlm eval word_problems` as a part of a study: it resumes in its folder, and is not repeated."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conv_dlm.cli import main as conv_dlm
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_atomically, write_json

ROUND = 50  # problems that a setting answers before the next one has its turn
Figures = dict[str, list[float | None]]  # each [value, standard error]


def evaluated(folder: Path, words: Sequence[Any]) -> Figures:
    """The figures of an evaluation into `folder`; `words` are its further options."""
    if status := conv_dlm(["eval", "word_problems", "--output", str(folder), *map(str, words)]):
        raise SystemExit(status)
    figures: Figures = json.loads((folder / "results.json").read_text(encoding="utf-8"))["figures"]
    return figures


def in_turns(
    settings: Mapping[str, Sequence[Any]], folder: Path, questions: int, seconds: float | None
) -> tuple[dict[str, Figures], int]:
    """The figures of several settings on the same problems, each in a folder of its name.

    Settings take turns at `ROUND` problems, of another seed in each round, so that a study whose time is over after
    some `seconds` is fair. What was answered before is read, and costs no time.

    Returns:
        Figures by name, and the number of problems behind each.
    """
    started, done = time.monotonic(), 0
    parts: dict[str, list[tuple[int, Figures]]] = {name: [] for name in settings}
    for number in range(-(-questions // ROUND)):
        if number and seconds is not None and time.monotonic() - started >= seconds:
            break
        count = min(ROUND, questions - done)
        for name, words in settings.items():
            its = [*words, "--questions", count, "--problem-seed", number]
            parts[name].append((count, evaluated(folder / name / f"round-{number}", its)))
        done += count
    return {name: pooled(found) for name, found in parts.items()}, done


def pooled(parts: Sequence[tuple[int, Figures]]) -> Figures:
    """The figures of several rounds as one: means and their standard errors, by the number of problems."""
    total = sum(count for count, _ in parts)
    found: Figures = {}
    for name in parts[0][1]:
        values = [(count, its[name]) for count, its in parts if its.get(name) and its[name][0] is not None]
        if not values:
            continue
        shares = [count / sum(count for count, _ in values) for count, _ in values]
        mean = sum(share * float(value[0] or 0) for share, (_, value) in zip(shares, values, strict=True))
        error = math.sqrt(sum((share * (value[1] or 0)) ** 2 for share, (_, value) in zip(shares, values, strict=True)))
        found[name] = [mean, error if total > 1 else None]
    return found


def start(module: str, *words: Any, launcher: Sequence[str] = ()) -> None:
    """Run a module of this repository to its end."""
    subprocess.run([sys.executable, *launcher, "-m", module, *map(str, words)], check=True)


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
