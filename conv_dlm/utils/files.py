"""Files: written atomically, JSON for people, and rows read with their line numbers."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

Row = dict[str, Any]
Check = Callable[[Row], object]  # raises ValueError for a row that won't do
T = TypeVar("T")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file by `content` atomically: a crash leaves either the old file or the new one."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with new.open("wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people too, atomically: one line per key, and for each element of a list of objects."""
    write_atomically(path, _indented(value, "") + "\n")


def fingerprint(rows: Sequence[Any], *others: Any) -> dict[str, Any]:
    """Tells these rows, with what else is said of them, from others: their number, and a digest of all."""
    digest = hashlib.sha256(repr([rows, *others]).encode()).hexdigest()[:16]
    return {"count": len(rows), "sha256": digest}


def json_lines(rows: Iterable[Row]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_rows(
    path: str | Path, skip_malformed: bool = False, check: Check | None = None
) -> tuple[list[Row], list[str]]:
    """Rows of a file: of JSON lines, or of one JSON list (`.json`); empty lines don't count.

    Args:
        skip_malformed (`bool`, defaults to `False`): leave malformed rows out in place of raising.
        check (callable, *optional*): raises ValueError for a row that is malformed, though JSON.

    Returns:
        The rows, and what is wrong with those that were left out.

    Raises:
        ValueError: a malformed row, by its line; or there are no rows.
        OSError: the file can't be read.
    """
    path = Path(path)
    with utf8_of(path):
        text = path.read_text(encoding="utf-8-sig")
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
    """As `read_rows`, of JSON lines that are there already; there may be none.

    Args:
        source: where they come from, for messages.
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
    """The text in a field. Raises ValueError if there is none."""
    if not isinstance(row.get(field), str):
        raise ValueError(f"no text in field {field!r}; it has {sorted(row)}.")
    return str(row[field])


@contextlib.contextmanager
def utf8_of(source: object) -> Iterator[None]:
    """Raise ValueError, which names `source`, for text that is no UTF-8."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def _sound(
    items: Iterable[tuple[str, T]], parse: Callable[[T], Any], skip_malformed: bool, check: Check | None
) -> tuple[list[Row], list[str]]:
    """The items, each with its place, that are rows and pass the check; and what is wrong with the others."""
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
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}.") from error


def _elements(text: str, path: Path) -> list[tuple[str, Any]]:
    """The elements of a JSON list, each with its place."""
    try:
        elements = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: not JSON: {error.msg} at column {error.colno}; name files of JSON lines "
            ".jsonl."
        ) from error
    if not isinstance(elements, list):
        raise ValueError(f"{path}: a list of JSON objects is needed, not {type(elements).__name__}.")
    return [(f"{path}[{number}]", element) for number, element in enumerate(elements)]


def _indented(value: Any, indent: str) -> str:
    """JSON in which lists of plain values stay on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        lines = [f"{json.dumps(key, ensure_ascii=False)}: {_indented(part, deeper)}" for key, part in value.items()]
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        lines = [json.dumps(part, ensure_ascii=False) for part in value]
    else:
        return json.dumps(value, ensure_ascii=False)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    joined = f",\n{deeper}".join(lines)
    return f"{opening}\n{deeper}{joined}\n{indent}{closing}"
