"""The table of a benchmark, for a terminal: two lines of headings, a line for each case."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

GAP = "  "
SETTING = "setting"


class Column(NamedTuple):
    """A heading of two lines, and how a row's figure is shown."""

    above: str
    heading: str
    show: Callable[[Any], str]


def _figure(form: str, factor: float = 1.0) -> Callable[[Any], str]:
    """Of [median, least, most] the median, of a number itself; a dash where nothing was measured."""

    def show(value: Any) -> str:
        if value is None:
            return "–"
        return format(factor * (value[0] if isinstance(value, Sequence) else value), form)

    return show


# The fields of a row that are shown, from left to right.
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
# what goes first where there is no room: it can be had from the others
CAN_GO = ("loop_share", "forward_above_floor", "forwards", "tokens_per_forward", "peak_mb", "loop_ms_per_step")


def to_text(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    """The table, of as many columns as a terminal of this width has room for. Medians; min and max are in the rows.

    A blank line stands between lengths, and between batch sizes.
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
    """Heading and cells of a column, all of one width."""
    column = COLUMNS[name]
    cells = [column.above, column.heading, *(column.show(row[name]) for row in rows)]
    width = max(map(len, cells))
    return [cell.ljust(width) if name == SETTING else cell.rjust(width) for cell in cells]
