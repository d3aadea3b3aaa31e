"""Prompts from a file or from standard input."""

import json
import sys
from pathlib import Path


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
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{name} holds no prompts.")
    if source.endswith(".jsonl") or (source == "-" and lines[0][1].lstrip().startswith("{")):
        return [_prompt_of(line, field, f"{name}, line {number}") for number, line in lines]
    return [line.rstrip("\r") for _, line in lines]


def _prompt_of(line: str, field: str, place: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON: {error.msg} at column {error.colno}.") from error
    if not isinstance(row, dict):
        raise ValueError(f"{place}: a JSON object is needed, not {type(row).__name__}.")
    if not isinstance(row.get(field), str):
        raise ValueError(f"{place}: no text in field {field!r}; name another of {list(row)} with --field.")
    return str(row[field])
