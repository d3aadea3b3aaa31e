"""Frames of a run as HTML. All text is escaped; styles are in style.css."""

from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import NamedTuple

from conv_dlm.demo.colours import letter_colour, step_colour
from conv_dlm.demo.pieces import REPLACEMENT, Pieces
from conv_dlm.demo.recording import GIVEN, MASKED, NO_GUESS, Frame

DOT, END_SIGN, BREAK_SIGN = "·", "∎", "↵"


class Cell(NamedTuple):
    """One drawn unit: a position, or several whose bytes form a character only together."""

    ids: list[int]
    since: int


def canvas(frame: Frame, number: int, steps: int, pieces: Pieces) -> str:
    """Draw a frame as text.

    Args:
        frame (`Frame`): the frame.
        number (`int`): its number; tokens that it unmasked stand out.
        steps (`int`): the step with the last colour.
        pieces (`Pieces`): the text of tokens.
    """
    return "".join(_draw(cell, number, steps, pieces) for cell in _cells(frame, pieces))


def _cells(frame: Frame, pieces: Pieces) -> Iterator[Cell]:
    pairs = zip(frame.ids[: frame.end].tolist(), frame.since[: frame.end].tolist(), strict=True)
    for broken, group in groupby(pairs, key=lambda pair: pair[1] != MASKED and REPLACEMENT in pieces[pair[0]]):
        ids, since = zip(*group, strict=True)
        if broken and REPLACEMENT not in pieces.text(list(ids)):
            yield Cell(list(ids), max(since))
        else:
            yield from (Cell([index], step) for index, step in zip(ids, since, strict=True))


def _draw(cell: Cell, number: int, steps: int, pieces: Pieces) -> str:
    if cell.ids[0] == NO_GUESS:
        return f'<span class="open">{DOT}</span>'
    special = pieces.special(cell.ids[0])
    text = special or pieces.text(cell.ids)
    if cell.since == MASKED:
        return f'<span class="open" tabindex="0" title="{_one_line(text)}">{DOT}</span>'
    word = text.lstrip(" ") or text  # without its leading space, which may stay at the end of a line
    shown = END_SIGN if special else escape(word).replace("\n", f"<i>{BREAK_SIGN}</i>\n")
    space = " " * (len(text) - len(word))
    if cell.since == GIVEN:
        return f'{space}<span class="given">{shown}</span>'
    background = step_colour(cell.since, steps)
    classes = "token new" if cell.since == number else "token"
    title = f"step {cell.since}" + (f": {_one_line(special)}" if special else "")
    style = f"background:{background};color:{letter_colour(background)}"
    return f'{space}<span class="{classes}" style="{style}" title="{title}">{shown}</span>'


def _one_line(text: str) -> str:
    return escape(text.replace("\n", BREAK_SIGN))
