"""Which settings no other one beats: the Pareto front of a quality against a cost, and its picture."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.decoding_study.plots import as_axis, measured, styles_of
from benchmarks.plot_style import FONT_SIZE, add_legend, finish, new_figure, plain_log_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
FRONT: dict[str, Any] = dict(color="black", linewidth=1, linestyle="-", zorder=1)
NAMED = 15  # decode types that a reader can tell apart
OTHERS: dict[str, Any] = dict(color="0.6", marker=".", markersize=6)


def front(rows: Sequence[Row], metric: str, cost: str) -> list[Row]:
    """The rows that no other row beats: whoever is better costs more. Cheapest first.

    Args:
        rows (sequence of `dict`): of the table; those without both figures are left out.
        metric, cost (`str`): a figure of which more is better, and one of which less is.
    """
    known = [row for row in rows if measured(row, metric) and measured(row, cost)]
    best, kept = -math.inf, []
    for row in sorted(known, key=lambda row: (row[cost][0], -row[metric][0])):
        if row[metric][0] > best:
            best = row[metric][0]
            kept.append(row)
    return kept


def setting_of(row: Row) -> str:
    """The setting of a row in words, such as `conv` 32, 64 steps."""
    size = "" if row["size"] is None else f" {row['size']}"
    return f"`{row['decode_type']}`{size}, " + (row["varied"] or f"{row['steps']} steps")


def settings_by_cost(rows: Sequence[Row], metric: str, cost: str) -> "Figure":
    """Every setting as a point, and the front as steps; the numbers are the front's places, cheapest first.

    Of more than `NAMED` decode types, those that are nowhere on the front are grey and have no name.

    Args:
        rows (sequence of `dict`): of the table.
        metric, cost (`str`): the fields of the y and the x axis.
    """
    known = [row for row in rows if measured(row, metric) and measured(row, cost)]
    figure, (axes,) = new_figure(1, 1, (8, 4.6))
    factor = as_axis(metric).factor
    best = front(known, metric, cost)
    styles = styles_of(known)
    if len(styles) > NAMED:
        styles = styles_of(best)
    groups = {kind: (look, [row for row in known if row["decode_type"] == kind]) for kind, look in styles.items()}
    if others := [row for row in known if row["decode_type"] not in styles]:
        groups["other types"] = (OTHERS, others)
    for name, (look, mine) in groups.items():
        xs, ys = [row[cost][0] for row in mine], [factor * row[metric][0] for row in mine]
        axes.plot(xs, ys, label=name, **look | {"linestyle": "none", "zorder": 2})
    xs, ys = [row[cost][0] for row in best], [factor * row[metric][0] for row in best]
    errors = [math.nan if row[metric][1] is None else factor * row[metric][1] for row in best]
    axes.step(xs, ys, where="post", label="the front", **FRONT)
    axes.errorbar(xs, ys, errors, fmt="none", ecolor="black", elinewidth=1, capsize=2.5, zorder=1)
    for place, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
        axes.annotate(str(place), (x, y), (-4, 5), textcoords="offset points", ha="right", fontsize=FONT_SIZE - 1)
    if min(xs, default=0) > 0:
        plain_log_axis(axes, "x")
    axes.set_xlabel(as_axis(cost).label, fontsize=FONT_SIZE)
    axes.set_ylabel(as_axis(metric).label, fontsize=FONT_SIZE)
    if factor == 100:
        axes.set_ylim(-4, 104)
    add_legend(figure)
    return finish(figure)
