"""Files: atomic writes, readable JSON, and rows read with their line numbers."""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from conv_dlm.utils.text import from_json, to_json

Row = dict[str, Any]
Check = Callable[[Row], object]  # raises ValueError for an invalid row
T = TypeVar("T")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is in the place of `path` afterwards, whole or not at all: a crash leaves the old file.

    A link stays, and the file that it leads to is replaced. A device or a pipe is written to as it is.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file with `content`, as `replacing` does."""
    with replacing(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically: one line per key, and per element of a list of objects."""
    write_atomically(path, _indented(value, "") + "\n")


def fingerprint(rows: Sequence[Any], *others: Any) -> dict[str, Any]:
    """Identify rows, together with `others`: their number, and a digest of everything."""
    digest = hashlib.sha256(repr([rows, *others]).encode()).hexdigest()[:16]
    return {"count": len(rows), "sha256": digest}


def json_lines(rows: Iterable[Row]) -> str:
    """One JSON object per line."""
    return "".join(to_json(row) + "\n" for row in rows)


def read_text(path: str | Path, encoding: str = "utf-8-sig") -> str:
    """The text of a file or a pipe. Raises ValueError for a device, which may have no end, or text that is not UTF-8,
    OSError."""
    path = Path(path)
    kind = path.stat().st_mode
    if stat.S_ISBLK(kind) or (stat.S_ISCHR(kind) and path.resolve() != Path(os.devnull)):
        raise ValueError(f"{path} is a device, and not a file; name a file, or `-` for standard input.")
    with utf8_of(path):
        return path.read_text(encoding=encoding)


def read_rows(
    path: str | Path, skip_malformed: bool = False, check: Check | None = None
) -> tuple[list[Row], list[str]]:
    """Read the rows of a file: JSON lines, or one JSON list (`.json`). Empty lines are skipped.

    Args:
        path (`str` or `Path`): the file.
        skip_malformed (`bool`, *optional*, defaults to `False`): whether to skip malformed rows instead of raising.
        check (callable, *optional*): raises ValueError for a row that is valid JSON but still malformed.

    Returns:
        the rows, and a message for each skipped row.

    Raises:
        ValueError: a row is malformed (the message has its line), or there are no rows.
        OSError: the file can't be read.
    """
    path = Path(path)
    text = read_text(path)
    if path.suffix == ".json":
        rows, wrong = _sound(_elements(text, path), lambda row: row, skip_malformed, check)
    else:
        rows, wrong = rows_of_lines(text, str(path), skip_malformed, check)
    if not rows:
        malformed = f" but {len(wrong)} malformed; the first is {wrong[0]}" if wrong else "."
        raise ValueError(f"{path} holds no rows{malformed}")
    return rows, wrong


def rows_of_lines(
    text: str, source: str, skip_malformed: bool = False, check: Check | None = None
) -> tuple[list[Row], list[str]]:
    """Like `read_rows`, from a text of JSON lines, which may be empty.

    Args:
        text (`str`): the lines.
        source (`str`): where they come from, for messages.
        skip_malformed, check: as for `read_rows`.
    """
    lines = ((f"{source}, line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return _sound(lines, _parse, skip_malformed, check)


def first_rows(rows: list[Row], questions: int | None) -> list[Row]:
    """The first `questions` rows; all if `None`. Raises ValueError if there are fewer."""
    if questions is None:
        return rows
    if not 1 <= questions <= len(rows):
        raise ValueError(f"`questions`={questions} must be between 1 and {len(rows)}, the number of rows.")
    return rows[:questions]


def text_in(row: Row, field: str) -> str:
    """The text of a field. Raises ValueError if there is none."""
    if not isinstance(row.get(field), str):
        raise ValueError(f"no text in field {field!r}; it has {sorted(row)}.")
    return str(row[field])


@contextlib.contextmanager
def utf8_of(source: object) -> Iterator[None]:
    """Turn an error about text that is not UTF-8 into a ValueError that names `source`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def _sound(
    items: Iterable[tuple[str, T]], parse: Callable[[T], Any], skip_malformed: bool, check: Check | None
) -> tuple[list[Row], list[str]]:
    """The items, each given with its place, that are valid rows; and a message for each of the others."""
    rows: list[Row] = []
    wrong: list[str] = []
    for place, item in items:
        try:
            row = parse(item)
            if not isinstance(row, dict):
                raise ValueError(f"a JSON object is needed, not {type(row).__name__}.")
            if check is not None:
                check(row)
        except ValueError as error:
            if not skip_malformed:
                raise ValueError(f"{place}: {error}") from error
            wrong.append(f"{place}: {error}")
        else:
            rows.append(row)
    return rows, wrong


def _parse(line: str) -> Any:
    try:
        return from_json(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}.") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}.") from error


def _elements(text: str, path: Path) -> list[tuple[str, Any]]:
    """The elements of a JSON list, each with its place."""
    try:
        elements = from_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: not JSON: {error.msg} at column {error.colno}; name files of JSON lines "
            ".jsonl."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}.") from error
    if not isinstance(elements, list):
        raise ValueError(f"{path}: a list of JSON objects is needed, not {type(elements).__name__}.")
    return [(f"{path}[{number}]", element) for number, element in enumerate(elements)]


def _indented(value: Any, indent: str) -> str:
    """JSON that keeps lists of plain values on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        lines = [f"{to_json(key)}: {_indented(part, deeper)}" for key, part in value.items()]
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        lines = [to_json(part) for part in value]
    else:
        return to_json(value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    joined = f",\n{deeper}".join(lines)
    return f"{opening}\n{deeper}{joined}\n{indent}{closing}"
