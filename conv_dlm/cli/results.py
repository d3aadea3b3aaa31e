"""JSON lines, written row by row, that an interrupted run can resume."""

import codecs
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from conv_dlm.utils.text import from_json, to_json

LONGEST_ROW = 1 << 28  # bytes; no line that is longer is one of ours


class Results:
    """Writes rows with the fields `index`, `prompt`, ..., `settings`; flushed one by one.

    An existing file is resumed if it belongs to the same run: same settings, same prompts. A last row that was
    cut short is written again. Anything else is refused and left as it is. A device or a pipe is only written to.

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
        self._size = 0  # of the whole rows that are there
        self._add_break = False  # whether the last of them lacks only its line break
        done = self._read(Path(path)) if path is not None else set()
        self.pending = [index for index in range(len(prompts)) if index not in done]
        self._file = sys.stdout

    def __enter__(self) -> "Results":
        if self.path is not None:
            path = Path(self.path)
            if path.is_file() and path.stat().st_size > self._size:  # a row that was cut short, as `_read` saw
                with path.open("rb+") as file:
                    file.truncate(self._size)
            self._file = path.open("a", encoding="utf-8")
            if self._add_break:
                self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path is not None:
            self._file.close()

    def write(self, index: int, fields: dict[str, Any]) -> None:
        """Append the row of prompt `index`."""
        row = {"index": index, "prompt": self.prompts[index], **fields, "settings": self.settings}
        self._file.write(to_json(row, only_ascii=not _holds_any_text(self._file)) + "\n")
        self._file.flush()
        self.pending.remove(index)

    def _read(self, path: Path) -> set[int]:
        """Indices of the rows that are there."""
        if not path.exists():
            return set()
        if path.is_dir():
            raise ValueError(f"`--output`={self.path} is a folder; name a file.")
        if not path.is_file():  # there may be no end of what a device or a pipe holds
            return set()
        done: set[int] = set()
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_ROW), b""), 1):
                if not line.endswith(b"\n") and not self._is_whole(line):
                    if not self._is_cut_short(line, done):
                        raise ValueError(self._refusal("its last line is no row of it"))
                    break
                done.add(self._index_of(line.decode("utf-8", errors="replace"), number))
                self._size += len(line)
                self._add_break = not line.endswith(b"\n")
        return done

    @staticmethod
    def _is_whole(line: bytes) -> bool:
        try:
            from_json(line)
        except ValueError:
            return False
        return True

    def _is_cut_short(self, rest: bytes, done: set[int]) -> bool:
        """Whether `rest` is the beginning of the row that is due.

        Where no row before it shows whose file it is, it must have the prompt.
        """
        due = next((index for index in range(len(self.prompts)) if index not in done), None)
        if due is None:
            return False
        start = to_json({"index": due, "prompt": self.prompts[due]})[:-1].encode() + b", "
        return rest.startswith(start) or (bool(done) and start.startswith(rest))

    def _index_of(self, line: str, number: int) -> int:
        try:
            row = from_json(line)
            index, prompt, settings = row["index"], row["prompt"], dict(row["settings"])
            if not isinstance(index, int):
                raise TypeError
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


def _holds_any_text(file: Any) -> bool:
    """Whether every character can be written to it."""
    try:
        return codecs.lookup(file.encoding or "utf-8").name.startswith("utf")
    except LookupError:
        return False
