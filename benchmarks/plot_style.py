"""What all plots share: lines that are told apart without colour, grids of panels, and files.

Matplotlib is imported when the first figure is made, and pyplot never: figures belong to no window and no list. Widths
are for a page 9 inches wide, on which no letter is smaller than 8 points.
"""

import math
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conv_dlm.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
FONT_SIZE = 10  # points: 8 on the page where a figure is 11 inches wide, the widest here
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")  # of Okabe and Ito, for colour-blind readers
LINES: tuple[Any, ...] = ("--", "-", "-.", ":", (0, (7, 1.5, 1, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "8", "d", "H")
REFERENCE: dict[str, Any] = dict(color="black", linestyle=":", linewidth=1.2)
# What would differ from run to run or from version to version, by suffix.
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def style(place: int) -> dict[str, Any]:
    """Of the line at this place: the first dashed, the second solid; colours repeat after five.

    The second five have the markers of the first, hollow, and so on; lines are of another kind. So 25 lines differ in
    black and white, and so do points without a line.
    """
    turn, kind = divmod(place, len(COLOURS))
    colour = COLOURS[kind]
    return dict(
        color=colour,
        marker=MARKERS[(kind + len(COLOURS) * (turn // 2)) % len(MARKERS)],
        markersize=5,
        markerfacecolor="white" if turn % 2 else colour,
        linewidth=1.5,
        linestyle=LINES[(kind + turn) % len(LINES)],
    )


def new_figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple["Figure", list["Axes"]]:
    """A figure of `size` inches, and its panels row by row; `options` are those of `Figure.subplots`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError("Plots need matplotlib: `pip install matplotlib`.") from error
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def new_panels(count: int, width: float, height: float, **options: Any) -> tuple["Figure", list["Axes"]]:
    """A figure with `count` panels of this size, at most three in a row (two of four)."""
    columns = count if count <= 3 else 2 if count == 4 else 3
    rows = math.ceil(count / columns)
    figure, panels = new_figure(rows, columns, (columns * width + 0.8, rows * height + 0.7), **options)
    for empty in panels[count:]:
        empty.remove()
    for axes in panels[max(0, count - columns) : count]:  # where nothing is below, ticks are labelled
        axes.tick_params(labelbottom=True)
    return figure, panels[:count]


def log2_axis(axes: "Axes", ticks: Mapping[float, str] | Iterable[int]) -> None:
    """x in powers of two, with exactly these ticks; a mapping gives their labels."""
    labels = ticks if isinstance(ticks, Mapping) else {tick: str(tick) for tick in ticks}
    places = sorted(labels)
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [labels[place] for place in places])
    axes.set_xlim(places[0] / 1.3, places[-1] * 1.3)
    axes.minorticks_off()


def plain_log_axis(axes: "Axes", name: str) -> None:
    """Axis `name` ("x" or "y") logarithmic, with numbers such as 20 and 500 for ticks and never 10²."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    low, high = getattr(axes, f"get_{name}lim")()
    subs = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 6, 8)  # four ticks or more, with room between them
    axis.set_major_locator(LogLocator(subs=subs) if high > 3 * low else MaxNLocator(5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.10g}"))


def add_legend(figure: "Figure", columns: int | None = None) -> None:
    """One legend above all panels, each label once; of `columns`, or as many as there is room for."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    room = int(figure.get_figwidth() / (0.7 + 0.09 * max(map(len, entries), default=0)))  # inches: the line, a letter
    columns = max(1, min(columns or room, room))
    lines = -(-len(entries) // columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * max(0, lines - 9))  # a long one costs the panels nothing
    figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=columns, frameon=False)


def finish(figure: "Figure") -> "Figure":
    """Thin grids, and no frames but the axes."""
    for axes in figure.axes:
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def rendered(figure: "Figure", suffix: str = ".png") -> bytes:
    """The bytes of a file with this suffix: the same for the same figure.

    Raises:
        ValueError: plots are not written in files of this suffix.
    """
    import matplotlib

    if suffix not in METADATA:
        raise ValueError(f"Plots are written as {', '.join(METADATA)}, not as {suffix!r}; name another file.")
    drawn = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "conv-dlm"}):  # ids of an SVG's parts are random otherwise
        figure.savefig(drawn, format=suffix[1:], dpi="figure", metadata=METADATA[suffix])
    return drawn.getvalue()


def save(figure: "Figure", path: Path) -> None:
    """Write the figure as what the suffix of `path` says (.png, .svg, .pdf): whole, or not at all."""
    write_atomically(path, rendered(figure, path.suffix))
