"""Plots over the positions of a response: when each was decided, and what is proposed at it.

After figures 7 and 3 of arXiv 2509.15188. Shapes: L positions, S steps.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.plot_style import FONT_SIZE, REFERENCE, add_legend, finish, new_figure, new_panels, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"text": (0.0, 0.0, 0.0), "EOS and behind it": (0.9, 0.62, 0.0)}  # the second is light without colour
MOST_COLUMNS, MOST_ROWS = 32, 64  # cells of a panel: where many are small, single ones are too pale to be seen
MEAN: dict[str, Any] = dict(color="#0072B2", linewidth=1.8, marker="o", markersize=3.5)
END: dict[str, Any] = dict(color="#D55E00", linewidth=1.4, linestyle="--")
PANELS = (
    ("all", "high_prior", "high-prior tokens"),
    ("all", "repetition", "repetitions of the prompt"),
    ("all", "eos", "EOS"),
    ("text", "high_prior", "high-prior tokens, of what is not EOS"),
    ("text", "repetition", "repetitions, of what is not EOS"),
    ("text", "other", "neither, of what is not EOS"),
)
SMOOTHING = 9  # distances that the reference's running mean takes together: tokens are all or nothing


def decided_positions(samples: Iterable[Mapping[str, Any]]) -> "Figure":
    """In which step each position was decided: figure 7, over many samples. A panel for each setting.

    A cell is as dark as the share of samples that decided the position in the step; steps that are too many are taken
    together, and so are positions, of whose shares it shows the mean. EOS and what follows is light. What the final
    fill decided is behind the last step.

    Args:
        samples (iterable of `dict`): records with `decode_type`, `steps`, `size`, `ids` and `unmasked_at`, as a
            `SampleFolder` keeps them.

    Raises:
        ValueError: there are no samples, or canvases of different lengths in one setting.
    """
    groups: dict[tuple[str, int, int | None], list[Mapping[str, Any]]] = {}
    for sample in samples:
        groups.setdefault((sample["decode_type"], sample["steps"], sample["size"]), []).append(sample)
    if not groups:
        raise ValueError("`samples` is empty: there is nothing to draw.")
    figure, panels = new_panels(len(groups), 3.1, 2.5)
    sized = {decode_type for decode_type, _, size in groups if size is not None}
    order = sorted(groups, key=lambda setting: (setting[0] in sized, *setting[:2], setting[2] or math.inf))
    for axes, setting in zip(panels, order, strict=True):
        decode_type, steps, size = setting
        _draw_decided(axes, groups[setting], setting)
        title = decode_type if size is None else f"{decode_type}, size {size}"
        axes.set_title(f"{title}, {steps} steps", fontsize=FONT_SIZE)
    figure.supxlabel("step", fontsize=FONT_SIZE)
    figure.supylabel("position in the response, tokens", fontsize=FONT_SIZE)
    _scale_of_shares(figure, panels)
    add_legend(figure, columns=2 if len(panels) == 1 else 4)
    finish(figure)
    for axes in panels:
        axes.grid(False)
    return figure


def _draw_decided(axes: "Axes", samples: Sequence[Mapping[str, Any]], setting: tuple[str, int, int | None]) -> None:
    from matplotlib.patheffects import withStroke

    lengths = {len(sample["unmasked_at"]) for sample in samples}
    if len(lengths) > 1:
        raise ValueError(f"Samples of {setting} have canvases of {sorted(lengths)} tokens; draw each by itself.")
    (length,) = lengths
    wide, high = math.ceil(setting[1] / MOST_COLUMNS), math.ceil(length / MOST_ROWS)
    text, end, means = _cells(samples, setting[1], wide, high)
    image = [[_colour(*shares) for shares in zip(*row, strict=True)] for row in zip(text, end, strict=True)]
    columns = len(means)
    extent = (0.5, 0.5 + wide * columns, -0.5, high * len(image) - 0.5)
    axes.imshow(image, origin="lower", aspect="auto", extent=extent)
    axes.set_ylim(-0.5, length - 0.5)
    look: dict[str, Any] = {"path_effects": [withStroke(linewidth=3.5, foreground="white")]}
    centres = [0.5 + wide * (column + 0.5) for column in range(columns)]
    every = math.ceil(columns / 16)
    axes.plot(centres, means, label="mean position, text", markevery=every, **look, **MEAN)
    mean_end = sum(len(sample["ids"]) for sample in samples) / len(samples)
    axes.axhline(mean_end - 0.5, label="mean end of the text", **look, **END)
    for label, colour in KINDS.items():
        axes.fill_between([], [], color=colour, label=label)
    filled = columns > math.ceil(setting[1] / wide)
    _ticks_of_steps(axes, setting[1], centres[-1] if filled else None)


def _cells(
    samples: Sequence[Mapping[str, Any]], steps: int, wide: int, high: int
) -> tuple[list[list[float]], list[list[float]], list[float]]:
    """Shares of samples, of text and of what is behind it, by rows of `high` positions and columns of `wide` steps.

    The final fill, if there is one, has a column behind them. Third, each column's mean position of text.
    """
    length, columns = len(samples[0]["unmasked_at"]), math.ceil(steps / wide)
    columns += any(step >= steps for sample in samples for step in sample["unmasked_at"])
    text, end = ([[0.0] * columns for _ in range(0, length, high)] for _ in KINDS)
    places: list[list[int]] = [[] for _ in range(columns)]
    for sample in samples:
        for place, step in enumerate(sample["unmasked_at"]):
            if step >= 0:
                column, row = columns - 1 if step >= steps else step // wide, place // high
                is_text = place < len(sample["ids"])
                (text if is_text else end)[row][column] += 1 / len(samples) / min(high, length - row * high)
                if is_text:
                    places[column].append(place)
    return text, end, [sum(some) / len(some) if some else math.nan for some in places]


def _ticks_of_steps(axes: "Axes", steps: int, fill: float | None) -> None:
    """At most six, and that of the final fill."""
    from matplotlib.ticker import MaxNLocator

    last = steps if fill is None else 0.9 * fill  # room for the word
    ticks = [tick for tick in MaxNLocator(6, integer=True).tick_values(1, steps) if 1 <= tick <= last]
    labels = {tick: f"{tick:.0f}" for tick in ticks} | ({} if fill is None else {fill: "fill"})
    axes.set_xticks(list(labels), list(labels.values()))


def _darkness(share: float) -> float:
    """Small shares are seen too."""
    return math.sqrt(min(share, 1.0))


def _colour(text: float, end: float) -> tuple[float, ...]:
    """White where nothing was decided; the mixture of both colours by their shares."""
    share = text + end
    if not share:
        return (1.0, 1.0, 1.0)
    mixed = ((text * dark + end * light) / share for dark, light in zip(*KINDS.values(), strict=True))
    return tuple(1 - _darkness(share) * (1 - part) for part in mixed)


def _scale_of_shares(figure: "Figure", panels: Sequence["Axes"]) -> None:
    """What darkness means, at the right."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = ListedColormap([_colour(share / 256, 0) for share in range(257)])
    scale = figure.colorbar(ScalarMappable(Normalize(0, 100), colours), ax=panels, aspect=30, pad=0.02)
    scale.set_label("share of samples, %", fontsize=FONT_SIZE)


def mass_by_distance(masses: Mapping[str, Mapping[str, Any]], reference: Mapping[str, Any] | None = None) -> "Figure":
    """Probability mass on kinds of tokens by distance from the prompt, a line for each model: figures 3 and 13.

    Args:
        masses (`dict`): of each model's name, [whole][kind]["at"] with the lists `mean` and `error` over distances.
            The whole is `all`, or `text`: what is not on EOS. Kinds are those of `long_window.KINDS`.
        reference (`dict`, *optional*): the same of reference answers, whose tokens have all the mass at their places.

    Raises:
        ValueError: there are no masses.
    """
    if not masses:
        raise ValueError("`masses` is empty: there is nothing to draw.")
    figure, panels = new_figure(2, 3, (11, 6), sharex=True)
    for axes, (whole, kind, title) in zip(panels, PANELS, strict=True):
        if reference is not None:
            means = reference[whole][kind]["at"]["mean"]
            label = f"reference answers (mean of {SMOOTHING} distances)"
            axes.plot(range(len(means)), _smooth(_known(means)), label=label, **REFERENCE)
        for place, (name, curves) in enumerate(masses.items()):
            at = curves[whole][kind]["at"]
            _draw_with_errors(axes, _known(at["mean"]), _known(at["error"]), name, style(place) | {"marker": ""})
        axes.set_title(title, fontsize=FONT_SIZE)
        axes.set_ylim(0, 1)
    figure.supxlabel("distance from the prompt, tokens", fontsize=FONT_SIZE)
    figure.supylabel("probability mass", fontsize=FONT_SIZE)
    add_legend(figure)
    return finish(figure)


def _draw_with_errors(
    axes: "Axes", means: Sequence[float], errors: Sequence[float], label: str, look: Mapping[str, Any]
) -> None:
    axes.plot(means, label=label, **look)
    low, high = ([mean + sign * error for mean, error in zip(means, errors, strict=True)] for sign in (-1, 1))
    axes.fill_between(range(len(means)), low, high, color=look["color"], alpha=0.2, lw=0)


def _known(numbers: Iterable[float | None]) -> list[float]:
    """NaN, which is not drawn, for what isn't known."""
    return [math.nan if number is None else number for number in numbers]


def _smooth(values: Sequence[float]) -> list[float]:
    """Running mean, of fewer values at the ends; of what is not known, nothing is drawn."""
    half = SMOOTHING // 2
    windows = (values[max(0, place - half) : place + half + 1] for place in range(len(values)))
    return [sum(window) / len(window) for window in windows]
