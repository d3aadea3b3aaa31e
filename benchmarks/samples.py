"""A JSONL file of samples that a run can be stopped at, and resumed from, at any time."""

import json
import os
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any


class SampleFile:
    """Samples under the settings of one run: a first line with the settings, then a line for each sample.

    Batches are appended whole and flushed to the disk; a line that a crash cut off is dropped when the file is read.

    path: the file, made if it isn't there.
    settings: everything that a sample depends on, of JSON's types.

    Raises:
        ValueError: the file holds another run's samples; it names the settings that differ.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.samples: list[dict[str, Any]] = []
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append([{"settings": settings}])
            return
        whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        if path.stat().st_size > (size := sum(map(len, whole))):
            os.truncate(path, size)
        if not whole:
            self._append([{"settings": settings}])
            return
        first, *samples = map(json.loads, whole)
        theirs = first["settings"]
        differ = {name for name in settings | theirs if settings.get(name) != theirs.get(name)}
        if differ:
            shown = "; ".join(f"{name}: {theirs.get(name)!r}, now {settings.get(name)!r}" for name in sorted(differ))
            raise ValueError(f"{path} holds samples of another run ({shown}). Name another file, or delete it.")
        self.samples = samples

    def add(self, samples: list[dict[str, Any]]) -> None:
        """Keep these samples, here and on the disk."""
        self._append(samples)
        self.samples += samples

    def keys(self, *names: str) -> set[tuple[Hashable, ...]]:
        """The values of these fields in all samples that have them: what is done already."""
        return {tuple(sample[name] for name in names) for sample in self.samples if set(names) <= set(sample)}

    def _append(self, records: Iterable[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
            file.flush()
            os.fsync(file.fileno())
