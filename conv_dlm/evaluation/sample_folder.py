"""A folder of samples that a run can be stopped at, and gone on with, at any time and by any number of processes.

`settings.json` says what all samples depend on. Each process appends whole lines to a file of its own,
`samples-RANK.jsonl`; a line that a crash cut off is dropped.
"""

import json
import os
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from conv_dlm.utils.files import json_lines, write_json

SETTINGS_FILE = "settings.json"
Sample = dict[str, Any]


class SampleFolder:
    """Samples under the settings of one run.

    Args:
        path (`Path`): the folder, made if it isn't there.
        settings (`dict`): everything that all samples depend on, of JSON's types.
        rank (`int`, *optional*, defaults to 0): number of this process, whose file is written to.

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
        """Keep these samples, on the disk when this returns.

        Args:
            run (`dict`, *optional*): the circumstances, as `describe_run` gives them; kept before the first samples
                that are made in them.
        """
        described = [] if run is None or run is self._described else [{"run": run}]
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json_lines([*described, *samples]))
            file.flush()
            os.fsync(file.fileno())
        self._described = run

    def samples(self) -> list[Sample]:
        """All samples of all processes; in the order in which each wrote them. Raises ValueError for a damaged one."""
        read: list[Sample] = []
        for file in sorted(self.path.glob("samples-*.jsonl")):
            lines = file.read_bytes().split(b"\n")[:-1]  # behind the last line break, one that is being written
            for number, line in enumerate(lines, 1):
                try:
                    read.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(
                        f"{file}, line {number} is damaged; remove the line, and its sample is made again."
                    ) from error
        return read

    def keys(self, *names: str) -> set[tuple[Hashable, ...]]:
        """The values of these fields in all samples that have them: what is done already."""
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
    """Raise ValueError if what is there is no run, nor an empty folder."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ValueError(f"{path} is a file; name a folder.")
    # Hidden files are other processes' that are just being written.
    strangers = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    if not strangers:
        return
    if not (path / SETTINGS_FILE).is_file():
        raise ValueError(f"{path} holds {strangers[0]!r}, and no run. Name another folder, or empty it.")
    _settings_in(path)


def _settings_in(path: Path) -> dict[str, Any]:
    file = path / SETTINGS_FILE
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not of a run: it is no JSON. Name another folder, or remove it.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file} is not of a run: it holds a {type(settings).__name__}. Name another folder.")
    return settings
