"""Prompts from a file or from standard input."""

import sys
from pathlib import Path

from conv_dlm.utils.files import Row, rows_of_lines, utf8_of


def read_prompts(source: str, field: str = "prompt") -> list[str]:
    """Read one prompt from each line; empty lines don't count.

    Args:
        source (`str`):
            A file: `.jsonl` holds JSON objects, any other one prompt a line. Or `-` for standard input, which is
            taken for JSON lines if it starts with `{`.
        field (`str`, *optional*, defaults to `"prompt"`):
            Where a JSON object has the prompt.

    Raises:
        ValueError: there is no prompt, or a line is malformed; the message names the line.
        OSError: the file cannot be read.
    """
    name = "standard input" if source == "-" else source
    with utf8_of(name):
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8-sig")
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{name} holds no prompts.")
    if not source.endswith(".jsonl") and not (source == "-" and lines[0].lstrip().startswith("{")):
        return lines

    def check(row: Row) -> None:
        if not isinstance(row.get(field), str):
            raise ValueError(f"no text in field {field!r}; name another of {list(row)} with --field.")

    rows, _ = rows_of_lines(text, name, check=check)
    return [str(row[field]) for row in rows]
