"""Prompts from a file or from standard input."""

import sys

from conv_dlm.utils.files import Row, read_text, rows_of_lines
from conv_dlm.utils.text import check_bytes


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
    text = read_stdin() if source == "-" else read_text(source)
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


def read_stdin() -> str:
    """The text of standard input. Raises ValueError if it is not UTF-8."""
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"Standard input is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    return check_bytes("Standard input", text.removeprefix("\ufeff"))
