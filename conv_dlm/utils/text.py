"""Text as it comes from outside: half characters, line breaks that are none, and JSON that any reader takes."""

import json
import re
from typing import Any

HALF = re.compile("[\ud800-\udfff]")
# What some reader takes for the end of a line, and halves of surrogate pairs, which no encoding of text has.
_TO_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def well_formed(text: str) -> str:
    """`text` with surrogate pairs joined to the character that they mean, and U+FFFD for each half without another."""
    if HALF.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def all_well_formed(value: Any) -> Any:
    """A JSON value with `well_formed` strings, keys too. Raises RecursionError for one that is nested too deep."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [all_well_formed(part) for part in value]
    if isinstance(value, dict):
        return {well_formed(key): all_well_formed(part) for key, part in value.items()}
    return value


def to_json(value: Any, only_ascii: bool = False) -> str:
    """JSON in one line, whatever a reader takes for the end of a line, that every encoding of text can hold.

    Args:
        value: anything that `json.dumps` takes.
        only_ascii (`bool`, *optional*, defaults to `False`): for where not every character can be written.
    """
    text = json.dumps(value, ensure_ascii=only_ascii)
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also for one that is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def check_bytes(name: str, text: str) -> str:
    """`text` from a command line or from standard input, if its bytes were UTF-8.

    Python keeps a byte that is none as half a surrogate pair. Raises ValueError, with the way out.
    """
    found = re.search("[\udc80-\udcff]", text)
    if found is not None:
        byte = ord(found[0]) - 0xDC00
        raise ValueError(
            f"{name} is not UTF-8 text: it has the byte 0x{byte:02x} after {found.start()} characters; convert it, "
            "for instance by `iconv -f latin1 -t utf-8`."
        )
    return text
