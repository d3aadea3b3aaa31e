"""The plots of a comparison of decoders: pure functions of its table and its samples.

Here are those of quality, after figures 4 and 8 of arXiv 2509.15188; those over positions are in `position_plots`.

A row of the table is a dict: {"decode_type": str, "steps": int, "size": int or None, metric: [value, standard error]}
with any number of metrics. `size` is a kernel size or a block length; None is the whole canvas, or a decode type that
has neither. What was not measured is None or absent, and is not drawn; an error may be None too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.decoding_study.position_plots import decided_positions, mass_by_distance
from benchmarks.decoding_study.table import COLUMNS
from benchmarks.plot_style import (
    FONT_SIZE,
    REFERENCE,
    add_legend,
    finish,
    log2_axis,
    new_panels,
    plain_log_axis,
    save,
    style,
)
from conv_dlm.generation import DECODE_TYPES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "as_axis",
    "decided_positions",
    "mass_by_distance",
    "measured",
    "quality_by_cost",
    "quality_by_size",
    "save",
    "styles_of",
]

Row = Mapping[str, Any]


class Axis(NamedTuple):
    """How a metric is drawn: its label, what its numbers are multiplied by, and whether its axis is logarithmic."""

    label: str
    factor: float
    log: bool


LABELS = {  # where the heading of the table's column says too little
    "inliers": "inliers in perplexity, %",
    "log_prior": "mean log prior, nats a token",
    "tokens": "tokens an answer",
    "forwards": "forwards an answer",
    "seconds": "seconds an answer",
}
LOGARITHMIC = ("perplexity", "forwards", "seconds")
FIRST = ("semi_ar", "conv", "topk", "categorical", "llada")  # get the styles that differ most
DODGE = 1.035  # between neighbours, so that error bars at the same size don't cover each other


def quality_by_size(
    rows: Sequence[Row], metric: str, canvas: int, reference: Sequence[float | None] | None = None
) -> "Figure":
    """A metric against kernel size or block length: a panel for each number of steps, a line for each decode type.

    A type of which only the whole canvas was measured is a level line that ends in its point at the right.

    Args:
        rows (sequence of `dict`): of the table.
        metric (`str`): the field that is drawn.
        canvas (`int`): tokens of the canvas, where size `None` is.
        reference ([value, standard error], *optional*): the metric of texts as they should be: dotted, in a band.

    Raises:
        ValueError: no row has the metric; a setting is there twice; a number can't be drawn.
    """
    rows = _with_metrics(rows, metric)
    steps = sorted({row["steps"] for row in rows})
    styles = styles_of(rows)
    sizes = {_place(row, canvas): str(row["size"]) for row in rows if row["size"] is not None}
    ticks = sizes | {canvas: f"{canvas}\nwhole"}
    figure, panels = new_panels(len(steps), 3.1, 2.9, sharex=True, sharey=True)
    for axes, count in zip(panels, steps, strict=True):
        log2_axis(axes, ticks)
        for place, (decode_type, look) in enumerate(styles.items()):
            line = [row for row in rows if (row["steps"], row["decode_type"]) == (count, decode_type)]
            if line:
                dodge = DODGE ** (place - (len(styles) - 1) / 2)
                line.sort(key=lambda row: _place(row, canvas))
                xs = [_place(row, canvas) * dodge for row in line]
                _errorbar(axes, xs, [_point(row, metric) for row in line], label=decode_type, **look)
                if all(row["size"] is None for row in line):
                    axes.axhline(_point(line[0], metric)[0], zorder=1, **look | {"marker": "", "linewidth": 1})
        axes.set_title(f"{count} steps", fontsize=FONT_SIZE)
    _reference(panels, metric, reference)
    _y_axis(figure, panels, metric)
    figure.supxlabel("kernel size or block length, tokens", fontsize=FONT_SIZE)
    add_legend(figure)
    return finish(figure)


def quality_by_cost(
    rows: Sequence[Row], metric: str, cost: str, reference: Sequence[float | None] | None = None
) -> "Figure":
    """A metric against "forwards" or "seconds": each decode type a line over its numbers of steps.

    Each size has a panel of its own, and types without sizes are in all of them: a best size chosen by what is drawn
    would flatter the types that have many. Leave out rows of the table for fewer panels.

    Args:
        rows (sequence of `dict`): of the table.
        metric (`str`): the field that is drawn.
        cost (`str`): the field on the x axis.
        reference ([value, standard error], *optional*): the metric of texts as they should be: dotted, in a band.

    Raises:
        ValueError: no row has both metric and cost; a setting is there twice; a number can't be drawn.
    """
    rows = _with_metrics(rows, metric, cost)
    styles = styles_of(rows)
    sized = {row["decode_type"] for row in rows if row["size"] is not None}
    sizes: list[int | None] = sorted({row["size"] for row in rows if row["size"] is not None})
    if not sizes or any(row["size"] is None and row["decode_type"] in sized for row in rows):
        sizes.append(None)
    figure, panels = new_panels(len(sizes), 3.1, 2.9, sharex=True, sharey=True)
    for axes, size in zip(panels, sizes, strict=True):
        for decode_type, look in styles.items():
            wanted = size if decode_type in sized else None
            line = [row for row in rows if (row["decode_type"], row["size"]) == (decode_type, wanted)]
            line.sort(key=lambda row: row["steps"])
            if line:
                costs, errors = zip(*(_point(row, cost) for row in line), strict=True)
                points = [_point(row, metric) for row in line]
                _errorbar(axes, costs, points, xerr=errors, label=decode_type, **look)
        if sized:
            axes.set_title("whole canvas" if size is None else f"size {size}", fontsize=FONT_SIZE)
    if as_axis(cost).log:
        plain_log_axis(panels[0], "x")
    _reference(panels, metric, reference)
    _y_axis(figure, panels, metric)
    figure.supxlabel(as_axis(cost).label, fontsize=FONT_SIZE)
    add_legend(figure)
    return finish(figure)


def _with_metrics(rows: Sequence[Row], *metrics: str) -> list[Row]:
    """The rows that have all these metrics."""
    for metric in metrics:
        if not any(measured(row, metric) for row in rows):
            names = sorted({name for row in rows for name in row if measured(row, name)})
            raise ValueError(f"None of {len(rows)} rows has `{metric}`; measured are: {', '.join(names) or 'none'}.")
    kept = [row for row in rows if all(measured(row, metric) for metric in metrics)]
    if not kept:
        raise ValueError(f"None of {len(rows)} rows has both {' and '.join(f'`{name}`' for name in metrics)}.")
    settings = [(row["decode_type"], row["steps"], row["size"]) for row in kept]
    twice = next((setting for setting in settings if settings.count(setting) > 1), None)
    if twice:
        raise ValueError(f"`rows` has {twice} twice; put the samples of a setting into one row.")
    return kept


def measured(row: Row, metric: str) -> bool:
    """Whether the row has this figure."""
    numbers = row.get(metric)
    return isinstance(numbers, Sequence) and not isinstance(numbers, str) and numbers[0] is not None


def _point(row: Row, metric: str) -> tuple[float, float]:
    """Value and error as they are drawn; NaN, which isn't, for an error that is not known."""
    value, error = row[metric]
    if not math.isfinite(value) or (as_axis(metric).log and value <= 0):
        raise ValueError(f"`{metric}`={value} of {row['decode_type']}, {row['steps']} steps, can't be drawn.")
    factor = as_axis(metric).factor
    return factor * value, math.nan if error is None else factor * error


def _place(row: Row, canvas: int) -> int:
    return canvas if row["size"] is None else int(row["size"])


def styles_of(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Of the decode types of the rows, in the order of the legend: a type looks the same whichever are beside it."""
    types = {row["decode_type"] for row in rows}
    order = dict.fromkeys([*FIRST, *DECODE_TYPES, *sorted(types)])
    return {name: style(place) for place, name in enumerate(order) if name in types}


def as_axis(metric: str) -> Axis:
    """How a metric is drawn."""
    heading, factor, *_ = COLUMNS.get(metric, (metric.replace("_", " "), 1, ""))
    return Axis(LABELS.get(metric, heading.replace("`", "")), factor, metric in LOGARITHMIC)


def _errorbar(axes: "Axes", xs: Sequence[float], points: Sequence[tuple[float, float]], **options: Any) -> None:
    values, errors = zip(*points, strict=True)
    axes.errorbar(xs, values, errors, capsize=2.5, elinewidth=1, **options)


def _reference(panels: Sequence["Axes"], metric: str, reference: Sequence[float | None] | None) -> None:
    value, error = reference or (None, None)
    if value is None:
        return
    factor = as_axis(metric).factor
    for axes in panels:
        axes.axhline(factor * value, label="reference answers", **REFERENCE)
        if error is not None:
            axes.axhspan(factor * (value - error), factor * (value + error), color="black", alpha=0.12, lw=0)


def _y_axis(figure: "Figure", panels: Sequence["Axes"], metric: str) -> None:
    """Of panels that share it: logarithmic, or shares, where all are not high from 0 %."""
    figure.supylabel(as_axis(metric).label, fontsize=FONT_SIZE)
    low, high = panels[0].get_ylim()
    if as_axis(metric).log:
        plain_log_axis(panels[0], "y")
    elif as_axis(metric).factor == 100:
        top = min(high, 104)  # a marker at 100 % is seen whole, and so is one at 0
        panels[0].set_ylim(-0.04 * top if low < top / 2 else low, top)
