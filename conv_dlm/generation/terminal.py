"""Text on a terminal whose tail is still changing, redrawn in place with plain ANSI codes.

The *live region* is the part on screen that may still change. It starts at column 0, never exceeds the screen,
and is wrapped here (auto-wrap is off while it is drawn), so that its rows are known even where the terminal
measures a character differently. Text that has become final and ended its line is *sealed*: printed the ordinary
way, wrapped by the terminal, so that it scrolls, copies and reflows like any other output.
"""

import os
import shutil
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import TextIO

_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_WRAP_OFF, _WRAP_ON = "\x1b[?7l", "\x1b[?7h"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"
_DIM, _RESET = "\x1b[2m", "\x1b[0m"

# Nothing that a model writes may steer the terminal: control characters (C0, DEL, C1) are shown as such.
_HARMLESS = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\ufffd"),
    0x09: "    ",
    0x0A: "\n",
    0x0D: None,
}


def is_terminal(file: TextIO) -> bool:
    """Whether `file` is a terminal that understands cursor movement."""
    return file.isatty() and os.environ.get("TERM") != "dumb"


def wants_style() -> bool:
    """Whether dimmed text is welcome; no-color.org."""
    return not os.environ.get("NO_COLOR")


def char_width(char: str) -> int:
    """Columns that `char` takes on a terminal: 0 (combining), 1, or 2 (East Asian wide, emoji)."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


@dataclass
class Row:
    """One row of the screen: its characters with their style, and how many columns they take."""

    cells: list[tuple[str, bool]] = field(default_factory=list)
    width: int = 0

    def render(self) -> str:
        parts = []
        for dim, cells in groupby(self.cells, key=lambda cell: cell[1]):
            text = "".join(char for char, _ in cells)
            parts.append(f"{_DIM}{text}{_RESET}" if dim and wants_style() else text)
        return "".join(parts)


def wrap(spans: Iterable[tuple[str, bool]], columns: int) -> list[Row]:
    """Break spans of (text, dim) into rows of at most `columns` columns; at least one row."""
    rows = [Row()]
    for text, dim in spans:
        for char in text:
            width = char_width(char)
            if char == "\n" or rows[-1].width + width > columns:
                rows.append(Row())
            if char != "\n":
                rows[-1].cells.append((char, dim))
                rows[-1].width += width
    return rows


class LiveText:
    """Draws a text of which the beginning is final and the rest a draft.

    Args:
        file (`TextIO`):
            The terminal. The cursor is expected at the start of a line.
    """

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self._sealed = 0  # characters of the final text that have left the live region
        self._widths: list[int] = []  # of the live region's rows on screen; the cursor is in the last one

    def draw(self, final: str, draft: Iterable[tuple[str, bool]] = ()) -> None:
        """Show `final` and after it `draft`, in place of what was shown before.

        Args:
            final (`str`):
                All final text since the start; from call to call it only grows.
            draft (iterable of `(str, bool)`, *optional*):
                What follows, as spans of text with whether they are dimmed.
        """
        columns, lines = self._screen()
        height = max(lines - 1, 1)
        lines_done, newline, last_line = final.translate(_HARMLESS)[self._sealed :].rpartition("\n")
        sealed = lines_done + newline
        self._sealed += len(sealed)

        spans = [(text.translate(_HARMLESS), dim) for text, dim in draft]
        rows = wrap([(last_line, False), *spans], columns)
        if len(rows) > height:  # a paragraph taller than the screen: complete final rows scroll away
            full = wrap([(last_line, False)], columns)[:-1][: len(rows) - height]
            sealed += "".join(f"{row.render()}\n" for row in full)
            self._sealed += sum(len(row.cells) for row in full)
            rows = rows[len(full) :]
        if len(rows) > height:  # the end of the draft has to wait
            note = f"… {len(rows) - height + 1} more rows"
            rows = [*rows[: height - 1], *wrap([(note[:columns], True)], columns)]
        self._replace(sealed, rows)

    def finish(self, final: str) -> None:
        """Show `final` alone, followed by a line break; the cursor is then at the start of a line."""
        self._replace(final.translate(_HARMLESS)[self._sealed :] + "\n", [])
        self._sealed = 0

    def _replace(self, sealed: str, rows: list[Row]) -> None:
        """Write `sealed` over the live region, and `rows` as the new one, in one go."""
        columns, _ = self._screen()
        # After a resize the terminal has wrapped the old rows anew.
        up = sum(max(1, -(-width // columns)) for width in self._widths) - 1
        frame = [_HIDE_CURSOR, _WRAP_ON, _RESET, "\r", f"\x1b[{up}A" if up > 0 else ""]
        if sealed:
            frame += [_CLEAR_BELOW, sealed.replace("\n", "\r\n")]
        if rows:
            *upper, last = rows
            frame.append(_WRAP_OFF)
            for row in upper:  # where a row is full, the cursor rests on its end: clearing takes it
                frame.append(row.render() + (_CLEAR_LINE if row.width < columns else "") + "\r\n")
            frame += [_CLEAR_BELOW, last.render(), _WRAP_ON]
        frame.append(_SHOW_CURSOR)
        self._widths = [row.width for row in rows]
        self.file.write("".join(frame))
        self.file.flush()

    def _screen(self) -> tuple[int, int]:
        """Columns and lines of the terminal now."""
        try:
            size = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):  # not a real terminal
            size = shutil.get_terminal_size()
        return size.columns or 80, size.lines or 24  # 0 x 0 where nobody has told the terminal its size
