"""JSON lines, written row by row, that an interrupted run can resume."""

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

_ROW_START = '{"index": '  # how every row begins that is written here


class Results:
    """Writes rows with the fields `index`, `prompt`, ..., `settings`; flushed one by one.

    An existing file is resumed if it belongs to the same run: same settings, same prompts. A last row that was
    cut short is written again. Anything else is refused and left as it is.

    Args:
        path (`str`, *optional*):
            The file; standard output if `None`, which always starts from the beginning.
        prompts (`list[str]`):
            All prompts of the run.
        settings (`dict`):
            What the results depend on; goes into every row.

    Attributes:
        pending (`list[int]`): indices of the prompts without a row.

    Raises:
        ValueError: the file is from another run.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: str | None, prompts: list[str], settings: dict[str, Any]) -> None:
        self.path, self.prompts, self.settings = path, prompts, settings
        done = self._read(Path(path)) if path is not None else set()
        self.pending = [index for index in range(len(prompts)) if index not in done]
        self._file = sys.stdout

    def __enter__(self) -> "Results":
        if self.path is not None:
            self._file = Path(self.path).open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path is not None:
            self._file.close()

    def write(self, index: int, fields: dict[str, Any]) -> None:
        """Append the row of prompt `index`."""
        row = {"index": index, "prompt": self.prompts[index], **fields, "settings": self.settings}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        self.pending.remove(index)

    def _read(self, path: Path) -> set[int]:
        """Indices of the rows that are there; removes a last one that was cut short."""
        if not path.exists():
            return set()
        content = path.read_bytes()
        whole, newline, rest = content.rpartition(b"\n")
        cut_short = rest[: len(_ROW_START)] == _ROW_START.encode()[: len(rest)]
        if rest and not cut_short:
            raise ValueError(self._refusal("its last line is no row of it"))
        lines = whole.decode("utf-8", errors="replace").split("\n") if newline else []
        done = {self._index_of(line, number) for number, line in enumerate(lines, 1)}
        if rest:
            with path.open("rb+") as file:
                file.truncate(len(whole) + len(newline))
        return done

    def _index_of(self, line: str, number: int) -> int:
        try:
            row = json.loads(line)
            index, prompt, settings = row["index"], row["prompt"], row["settings"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(self._refusal(f"line {number} is no row of it")) from error
        if settings != self.settings:
            names = sorted({*settings, *self.settings})
            differ = [f"{name} ({settings.get(name)!r} there, {self.settings.get(name)!r} here)" for name in names
                      if settings.get(name) != self.settings.get(name)]
            raise ValueError(self._refusal(f"in line {number} differ: {', '.join(differ)}"))
        if not 0 <= index < len(self.prompts) or prompt != self.prompts[index]:
            raise ValueError(self._refusal(f"line {number} answers another prompt {index}"))
        return int(index)

    def _refusal(self, reason: str) -> str:
        return f"{self.path} is not from this run, and stays as it is: {reason}. Give another --output, or remove it."
