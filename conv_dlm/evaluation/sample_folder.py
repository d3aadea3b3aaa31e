"""A folder of samples: a run can stop and resume at any time, with any number of processes.

`settings.json` holds everything that the samples depend on. Each process appends whole lines to its own file,
`samples-RANK.jsonl`; a line that a crash cut off is dropped.
"""

import json
import os
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from conv_dlm.utils.files import json_lines, write_json
from conv_dlm.utils.text import from_json

SETTINGS_FILE = "settings.json"
Sample = dict[str, Any]


class SampleFolder:
    """The samples of a run, all with the same settings.

    Args:
        path (`Path`): the folder; created if it does not exist.
        settings (`dict`): everything that the samples depend on, as JSON.
        rank (`int`, *optional*, defaults to `0`): the number of this process; it writes only to its own file.

    Raises:
        ValueError: the folder holds something else, or samples of another run; names the settings that differ.
    """

    def __init__(self, path: Path, settings: dict[str, Any], rank: int = 0) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self._file = path / f"samples-{rank}.jsonl"
        self._described: dict[str, Any] | None = None  # the run whose samples were added last
        check_folder(path)
        path.mkdir(parents=True, exist_ok=True)
        if not (path / SETTINGS_FILE).is_file():
            write_json(path / SETTINGS_FILE, self.settings)
        self._check_settings()
        self._drop_what_a_crash_cut_off()

    def add(self, samples: Iterable[Sample], run: dict[str, Any] | None = None) -> None:
        """Save samples. They are on the disk when this returns.

        Args:
            samples (iterable of `dict`): the samples.
            run (`dict`, *optional*): a description of the run, from `describe_run`; saved once, before the first
                samples of that run.
        """
        described = [] if run is None or run is self._described else [{"run": run}]
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json_lines([*described, *samples]))
            file.flush()
            os.fsync(file.fileno())
        self._described = run

    def samples(self) -> list[Sample]:
        """The samples of all processes, each in the order of writing. Raises ValueError for a damaged line."""
        read: list[Sample] = []
        for file in sorted(self.path.glob("samples-*.jsonl")):
            lines = file.read_bytes().split(b"\n")[:-1]  # a line being written follows the last line break
            for number, line in enumerate(lines, 1):
                try:
                    read.append(from_json(line))
                except ValueError as error:
                    raise ValueError(
                        f"{file}, line {number} is damaged; remove the line, and its sample is made again."
                    ) from error
        return read

    def keys(self, *names: str) -> set[tuple[Hashable, ...]]:
        """The values of these fields in all samples that have them; they tell what is already done."""
        return {tuple(sample[name] for name in names) for sample in self.samples() if set(names) <= set(sample)}

    def _check_settings(self) -> None:
        theirs = _settings_in(self.path)
        names = sorted({*theirs, *self.settings})
        differ = [name for name in names if theirs.get(name) != self.settings.get(name)]
        if differ:
            shown = "; ".join(f"{name}: {theirs.get(name)!r}, now {self.settings.get(name)!r}" for name in differ)
            raise ValueError(f"{self.path} holds samples of another run ({shown}). Name another folder, or remove it.")

    def _drop_what_a_crash_cut_off(self) -> None:
        if self._file.is_file():
            content = self._file.read_bytes()
            if not content.endswith(b"\n"):
                os.truncate(self._file, content.rfind(b"\n") + 1)


def check_folder(path: Path) -> None:
    """Raise ValueError if the path exists but is neither a run nor an empty folder."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ValueError(f"{path} is a file; name a folder.")
    # Hidden files are being written by other processes.
    strangers = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    if not strangers:
        return
    if not (path / SETTINGS_FILE).is_file():
        raise ValueError(f"{path} holds {strangers[0]!r}, and no run. Name another folder, or empty it.")
    _settings_in(path)


def _settings_in(path: Path) -> dict[str, Any]:
    file = path / SETTINGS_FILE
    try:
        settings = from_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not of a run: it is no JSON. Name another folder, or remove it.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file} is not of a run: it holds a {type(settings).__name__}. Name another folder.")
    return settings
