"""The table of a benchmark for a terminal: two heading lines, and a line for each case."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

GAP = "  "
SETTING = "setting"


class Column(NamedTuple):
    """A two-line heading, and how to format a row's figure."""

    above: str
    heading: str
    show: Callable[[Any], str]


def _figure(form: str, factor: float = 1.0) -> Callable[[Any], str]:
    """Format a number, or the median of [median, minimum, maximum]; a dash if nothing was measured."""

    def show(value: Any) -> str:
        if value is None:
            return "–"
        return format(factor * (value[0] if isinstance(value, Sequence) else value), form)

    return show


# The displayed fields of a row, from left to right.
COLUMNS: dict[str, Column] = {
    SETTING: Column("", "setting", str),
    "max_new_tokens": Column("", "L", str),
    "batch_size": Column("", "B", str),
    "tokens_per_second": Column("tokens", "/s", _figure(".1f")),
    "tokens_per_forward": Column("tokens /", "forward", _figure(".2f")),
    "forwards": Column("", "forwards", _figure(".0f")),
    "forward_ms": Column("forward", "ms", _figure(".1f")),
    "loop_ms_per_step": Column("loop ms", "/ step", _figure(".1f")),
    "loop_share": Column("loop", "%", _figure(".0f", 100)),
    "forward_above_floor": Column("x floor:", "forward", _figure(".2f")),
    "whole_above_floor": Column("", "whole", _figure(".2f")),
    "peak_mb": Column("peak", "MB", _figure(",.0f")),
}
# dropped first in a narrow terminal, since they follow from the others
CAN_GO = ("loop_share", "forward_above_floor", "forwards", "tokens_per_forward", "peak_mb", "loop_ms_per_step")


def to_text(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    """Format the table with as many columns as fit. It shows medians; the rows also have minimum and maximum.

    A blank line separates lengths and batch sizes.

    Args:
        rows (sequence of `dict`): as `describe` in `conv_dlm.cost.timing` returns them.
        width (`int`): columns of the terminal.
    """
    columns = {name: _aligned(name, rows) for name in COLUMNS}
    for name in CAN_GO:
        if sum(len(lines[0]) + len(GAP) for lines in columns.values()) - len(GAP) > width:
            del columns[name]
    lines = [GAP.join(cells).rstrip() for cells in zip(*columns.values(), strict=True)]
    heading, body = lines[:2], lines[2:]
    groups = [(row["max_new_tokens"], row["batch_size"]) for row in rows]
    for place in range(len(rows) - 1, 0, -1):
        if groups[place] != groups[place - 1]:
            body.insert(place, "")
    return "\n".join([*heading, *body]) + "\n"


def _aligned(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The heading and cells of a column, padded to one width."""
    column = COLUMNS[name]
    cells = [column.above, column.heading, *(column.show(row[name]) for row in rows)]
    width = max(map(len, cells))
    return [cell.ljust(width) if name == SETTING else cell.rjust(width) for cell in cells]
