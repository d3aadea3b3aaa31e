import itertools
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

import matplotlib
from matplotlib.text import Text

from benchmarks import plot_style
from benchmarks.decoding_study import plots, position_plots
from benchmarks.decoding_study.long_window import KINDS
from conv_dlm.generation import DECODE_TYPES

CANVAS, PAGE = 64, 9.2  # tokens; inches
SIZED, UNSIZED = ("conv", "semi_ar"), ("topk", "categorical", "llada")
Row = dict[str, Any]


def row(decode_type: str, steps: int, size: int | None, share: float | None, error: float | None = 0.02) -> Row:
    answers = {"repeated_4grams": None if share is None else [share, error], "perplexity": [80.0 + steps, 5.0]}
    costs = {"forwards": [steps * 0.9, 0.1], "seconds": [steps * 0.05, None]}
    return {"decode_type": decode_type, "steps": steps, "size": size, "n": 300} | answers | costs


@pytest.fixture
def rows() -> list[Row]:
    """Nine settings in two numbers of steps, in no order."""
    table = [row(name, steps, size, size / steps / 8) for name in SIZED for steps in (8, 16) for size in (8, 16, 32)]
    table += [row(name, steps, None, 2 / steps) for name in UNSIZED for steps in (8, 16)]
    return table[::-1]


def lines(axes: Any) -> dict[str, Any]:
    """What has error bars, by label."""
    return {container.get_label(): container for container in axes.containers}


def drawn(container: Any) -> tuple[list[float], list[float]]:
    x, y = container.lines[0].get_data()
    return list(map(float, x)), list(map(float, y))


def bars(container: Any, axis: int) -> list[float]:
    """Where the error bars in x (0) or y (1) begin and end, one bar after the other."""
    collections = container.lines[2]
    collection = collections[axis if len(collections) == 2 else 0]
    return [float(end) for segment in collection.get_segments() if len(segment) for end in sorted(segment[:, axis])]


def around(values: list[float], error: float) -> Any:
    return pytest.approx([value + sign * error for value in values for sign in (-1, 1)])


def legend(figure: Any) -> list[str]:
    (only,) = figure.legends
    return [text.get_text() for text in only.get_texts()]


def tick_labels(axes: Any) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


# --- by size ---


def test_by_size_has_a_panel_for_each_number_of_steps(rows: list[Row]) -> None:
    figure = plots.quality_by_size(rows, "repeated_4grams", CANVAS)
    assert [axes.get_title() for axes in figure.axes] == ["8 steps", "16 steps"]
    assert sorted(legend(figure)) == sorted(SIZED + UNSIZED)
    assert figure.get_supylabel() == "repeated 4-grams, %"
    for axes in figure.axes:
        assert set(lines(axes)) == set(SIZED + UNSIZED)
        assert tick_labels(axes) == ["8", "16", "32", "64\nwhole"]
        assert list(axes.get_xticks()) == [8, 16, 32, 64]


def test_by_size_draws_the_table(rows: list[Row]) -> None:
    axes = plots.quality_by_size(rows, "repeated_4grams", CANVAS).axes[1]
    sizes, shares = drawn(lines(axes)["conv"])
    assert sizes == pytest.approx([8, 16, 32], rel=0.15), "side by side"
    assert shares == pytest.approx([100 * size / 16 / 8 for size in (8, 16, 32)])
    assert bars(lines(axes)["conv"], 1) == around(shares, 2)
    beside = {drawn(line)[0][0] for name, line in lines(axes).items() if name in SIZED}
    assert len(beside) == 2


def test_what_has_no_size_is_level_and_ends_at_the_whole_canvas(rows: list[Row]) -> None:
    axes = plots.quality_by_size(rows, "repeated_4grams", CANVAS).axes[0]
    level = {line.get_color(): line for line in axes.lines if list(line.get_xdata()) == [0, 1]}
    for name in UNSIZED:
        (size,), (share,) = drawn(lines(axes)[name])
        assert (size, share) == (pytest.approx(CANVAS, rel=0.1), pytest.approx(25))
        assert list(level.pop(lines(axes)[name].lines[0].get_color()).get_ydata()) == [share, share]
    assert not level, "sized types have none"


def test_the_whole_canvas_of_a_sized_type_is_its_last_point() -> None:
    table = [row("conv", 8, size, 0.1) for size in (None, 16, 32)]
    (axes,) = plots.quality_by_size(table, "repeated_4grams", CANVAS).axes
    assert drawn(lines(axes)["conv"])[0] == pytest.approx([16, 32, 64])
    assert not [line for line in axes.lines if list(line.get_xdata()) == [0, 1]]


def test_reference_is_drawn_with_its_error(rows: list[Row]) -> None:
    figure = plots.quality_by_size(rows, "repeated_4grams", CANVAS, reference=[0.04, 0.01])
    assert "reference answers" in legend(figure)
    for axes in figure.axes:
        (line,) = (line for line in axes.lines if line.get_label() == "reference answers")
        assert list(line.get_ydata()) == [4, 4]
        band = axes.patches[0]
        assert (band.get_y(), band.get_height()) == (pytest.approx(3), pytest.approx(2))
    assert "reference answers" not in legend(plots.quality_by_size(rows, "repeated_4grams", CANVAS, [None, None]))


def test_axes_suit_the_metric(rows: list[Row]) -> None:
    axes = plots.quality_by_size(rows, "perplexity", CANVAS).axes[0]
    assert axes.get_yscale() == "log"
    axes.figure.draw_without_rendering()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) >= 3 and all(label.isdecimal() for label in labels)
    high = plots.quality_by_size([row("conv", 8, 16, 1.0), row("conv", 8, 32, 0.9)], "repeated_4grams", CANVAS).axes[0]
    assert high.get_ylim()[0] > 80 and 100 < high.get_ylim()[1] <= 104
    low = plots.quality_by_size([row("conv", 8, 16, 0.3), row("conv", 8, 32, 0.1)], "repeated_4grams", CANVAS).axes[0]
    assert -3 < low.get_ylim()[0] < 0
    other = plots.quality_by_size([row("conv", 8, 16, 0.3) | {"my_score": [3.0, 1.0]}], "my_score", CANVAS)
    assert other.get_supylabel() == "my score"
    assert drawn(lines(other.axes[0])["conv"])[1] == [3.0]


# --- by cost ---


@pytest.mark.parametrize("cost", ["forwards", "seconds"])
def test_by_cost_has_a_panel_for_each_size(rows: list[Row], cost: str) -> None:
    figure = plots.quality_by_cost(rows, "repeated_4grams", cost)
    assert [axes.get_title() for axes in figure.axes] == ["size 8", "size 16", "size 32"]
    assert figure.get_supxlabel() == f"{cost} an answer"
    for size, axes in zip((8, 16, 32), figure.axes, strict=True):
        assert set(lines(axes)) == set(SIZED + UNSIZED), "types without sizes are in all panels"
        costs, shares = drawn(lines(axes)["conv"])
        factor = {"forwards": 0.9, "seconds": 0.05}[cost]
        assert costs == pytest.approx([factor * steps for steps in (8, 16)]), "few steps first"
        assert shares == pytest.approx([100 * size / steps / 8 for steps in (8, 16)])
        assert bars(lines(axes)["conv"], 1) == around(shares, 2)
        if cost == "forwards":
            assert bars(lines(axes)["conv"], 0) == around(costs, 0.1)


def test_by_cost_without_sizes_is_one_panel(rows: list[Row]) -> None:
    table = [row for row in rows if row["size"] is None]
    (axes,) = plots.quality_by_cost(table, "repeated_4grams", "forwards").axes
    assert set(lines(axes)) == set(UNSIZED) and not axes.get_title()


def test_by_cost_gives_the_whole_canvas_its_panel(rows: list[Row]) -> None:
    figure = plots.quality_by_cost([*rows, row("conv", 8, None, 0.5)], "repeated_4grams", "forwards")
    assert [axes.get_title() for axes in figure.axes][-1] == "whole canvas"
    assert set(lines(figure.axes[-1])) == {"conv", *UNSIZED}
    assert drawn(lines(figure.axes[-1])["conv"])[1] == [50]


# --- what is missing, and what is wrong ---

PLOTS: list[Callable[[list[Row]], Any]] = [
    lambda table: plots.quality_by_size(table, "repeated_4grams", CANVAS),
    lambda table: plots.quality_by_cost(table, "repeated_4grams", "forwards"),
]


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("missing", [None, [None, None], "absent"])
def test_what_was_not_measured_is_left_out(rows: list[Row], plot: Callable[[list[Row]], Any], missing: Any) -> None:
    for record in rows:
        if record["decode_type"] == "topk" or (record["decode_type"], record["size"]) == ("conv", 16):
            record["repeated_4grams"] = missing
            if missing == "absent":
                del record["repeated_4grams"]
    figure = plot(rows)
    assert sorted(legend(figure)) == sorted({*SIZED, *UNSIZED} - {"topk"})
    points = sum(len(drawn(lines(axes)["conv"])[0]) for axes in figure.axes if "conv" in lines(axes))
    assert points == 4


@pytest.mark.parametrize("plot", PLOTS)
def test_an_unknown_error_is_no_bar(plot: Callable[[list[Row]], Any]) -> None:
    (axes,) = plot([row("conv", 8, 16, 0.5, error=None)]).axes
    assert drawn(lines(axes)["conv"])[1] == [50]
    assert not bars(lines(axes)["conv"], 1)


@pytest.mark.parametrize("plot", PLOTS)
def test_a_metric_that_nobody_measured_is_named(rows: list[Row], plot: Callable[[list[Row]], Any]) -> None:
    table = [record | {"repeated_4grams": None} for record in rows]
    with pytest.raises(ValueError, match=r"`repeated_4grams`; measured are: forwards, perplexity, seconds\."):
        plot(table)
    with pytest.raises(ValueError, match="None of 0 rows has `repeated_4grams`"):
        plot([])


def test_a_metric_without_its_cost_is_named(rows: list[Row]) -> None:
    half = [record | {("forwards" if i % 2 else "perplexity"): None} for i, record in enumerate(rows)]
    with pytest.raises(ValueError, match="has both `perplexity` and `forwards`"):
        plots.quality_by_cost(half, "perplexity", "forwards")


@pytest.mark.parametrize("plot", PLOTS)
def test_a_setting_is_not_drawn_twice(rows: list[Row], plot: Callable[[list[Row]], Any]) -> None:
    with pytest.raises(ValueError, match=r"\('conv', 8, 16\) twice"):
        plot([*rows, row("conv", 8, 16, 0.3)])


@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0])
def test_a_number_that_cannot_be_drawn_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=r"`perplexity`=.* of conv, 8 steps"):
        plots.quality_by_size([row("conv", 8, 16, 0.3) | {"perplexity": [value, 0.0]}], "perplexity", CANVAS)


# --- styles ---


def without_colour(look: dict[str, Any]) -> tuple[Any, ...]:
    return look["linestyle"], look["marker"], look["markerfacecolor"] == "white"


def test_styles_differ_without_colour() -> None:
    assert len({without_colour(plot_style.style(place)) for place in range(25)}) == 25
    assert len({without_colour(plot_style.style(place))[1:] for place in range(25)}) == 25
    for one, other in itertools.combinations(map(plot_style.style, range(5)), 2):
        assert one["linestyle"] != other["linestyle"] and one["marker"] != other["marker"]


def test_all_decode_types_differ_in_a_plot() -> None:
    table = [row(name, 8, 16, 0.3) for name in (*DECODE_TYPES, "someones_own", "another")]
    (axes,) = plots.quality_by_size(table, "repeated_4grams", CANVAS).axes
    looks = [container.lines[0] for container in axes.containers]
    plain = {(str(line._dash_pattern), line.get_marker(), line.get_markerfacecolor() == "white") for line in looks}
    assert len(plain) == len(table)


def test_a_type_looks_the_same_in_all_plots(rows: list[Row]) -> None:
    alone = plots.quality_by_size([row("conv", 8, 16, 0.3)], "repeated_4grams", CANVAS)
    beside = plots.quality_by_cost(rows, "repeated_4grams", "seconds")
    one, other = (lines(figure.axes[0])["conv"].lines[0] for figure in (alone, beside))
    for name in ("color", "linestyle", "marker", "markerfacecolor"):
        assert getattr(one, f"get_{name}")() == getattr(other, f"get_{name}")()


@pytest.mark.parametrize(("count", "types"), [(1, DECODE_TYPES), (4, SIZED), (5, UNSIZED)])
def test_panels_fit_the_page(count: int, types: list[str]) -> None:
    table = [row(name, 2**i, 128, 0.3) for i in range(count) for name in types]
    figure = plots.quality_by_size(table, "repeated_4grams", 512, [0.1, 0.01])
    assert len(figure.axes) == count
    figure.draw_without_rendering()
    scale = min(1, PAGE / figure.get_figwidth())
    for text in figure.findobj(Text):
        assert not text.get_text() or scale * text.get_fontsize() >= 8
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, "nothing is cut off"
    (only,) = figure.legends
    assert not any(only.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    labelled = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes]
    assert labelled == {1: [True], 4: [False, False, True, True], 5: [False, False, True, True, True]}[count]


# --- decided positions ---


def sample(unmasked_at: list[int], tokens: int, **setting: Any) -> dict[str, Any]:
    default = {"decode_type": "conv", "steps": 2, "size": 16, "varied": "", "seed": 0, "index": 0}
    return default | {"ids": [5] * tokens, "unmasked_at": unmasked_at} | setting


def test_cells_are_as_dark_as_their_share() -> None:
    samples = [sample([0, 0, 1, 1], 3), sample([0, 1, 1, 0], 3)]
    axes = plots.decided_positions(samples).axes[0]
    image = axes.images[0].get_array()
    assert image.shape[:2] == (4, 2)
    white, black, orange = [1, 1, 1], [0, 0, 0], list(position_plots.KINDS["EOS and behind it"])
    assert image[0].tolist() == [black, white]
    assert image[1].tolist() == [pytest.approx([1 - math.sqrt(0.5)] * 3)] * 2, "half of the samples in each step"
    assert image[2].tolist() == [white, black]
    half_orange = pytest.approx([1 - math.sqrt(0.5) * (1 - part) for part in orange])
    assert image[3].tolist() == [half_orange] * 2, "behind the end"
    (mean,) = (line for line in axes.lines if line.get_label() == "mean position, text")
    assert list(mean.get_xdata()) == [1, 2]
    assert list(mean.get_ydata()) == pytest.approx([(0 + 0 + 1) / 3, (1 + 2 + 2) / 3])
    (end,) = (line for line in axes.lines if line.get_label() == "mean end of the text")
    assert end.get_ydata()[0] == 2.5
    assert axes.images[0].get_extent() == [0.5, 2.5, -0.5, 3.5] and axes.images[0].origin == "lower"


def test_text_is_darker_than_what_is_behind_it() -> None:
    def grey(colour: tuple[float, ...]) -> float:
        return sum(weight * part for weight, part in zip((0.299, 0.587, 0.114), colour, strict=True))

    text, end = map(grey, position_plots.KINDS.values())
    assert text < 0.1 and 0.5 < end < 0.8


def test_the_final_fill_is_behind_the_last_step() -> None:
    filled = plots.decided_positions([sample([0, 1, 2, 2], 4)]).axes[0]
    assert tick_labels(filled)[-1] == "fill" and filled.get_xticks()[-1] == 3
    assert "fill" not in tick_labels(plots.decided_positions([sample([0, 1, 1, 0], 4)]).axes[0])


def test_many_steps_and_positions_are_taken_together() -> None:
    """Two of each a cell; the last row has one position, the last column of steps one step, and the fill its own."""
    unmasked_at = [min(place // 2, 62) for place in range(127)]
    last = [*unmasked_at[:-1], 63]
    samples = [sample(decided, 100, steps=63) for decided in (unmasked_at, last)]
    axes = plots.decided_positions(samples).axes[0]
    image = axes.images[0].get_array()
    assert image.shape[:2] == (64, 33)
    assert image[1][0].tolist() == [0, 0, 0], "positions 2 and 3, both in step 1 of all samples"
    assert image[1][1].tolist() == [1, 1, 1]
    half_orange = [1 - math.sqrt(0.5) * (1 - part) for part in position_plots.KINDS["EOS and behind it"]]
    assert image[63][31].tolist() == image[63][32].tolist() == pytest.approx(half_orange)
    assert axes.images[0].get_extent() == [0.5, 66.5, -0.5, 127.5] and axes.get_ylim() == (-0.5, 126.5)
    assert dict(zip(tick_labels(axes), axes.get_xticks(), strict=True))["fill"] == 65.5
    (mean,) = (line for line in axes.lines if line.get_label() == "mean position, text")
    assert mean.get_ydata()[0] == 1.5 and math.isnan(mean.get_ydata()[-1])


def test_positions_that_were_given_are_white() -> None:
    image = plots.decided_positions([sample([0, -1, 1, 1], 4)]).axes[0].images[0].get_array()
    assert image[1].tolist() == [[1, 1, 1]] * 2


def test_each_setting_has_a_panel() -> None:
    settings = [
        {"decode_type": "semi_ar", "size": 8},
        {"decode_type": "topk", "size": None},
        {"decode_type": "conv", "size": None},
        {"decode_type": "conv", "size": 32},
        {"decode_type": "conv", "size": 8},
    ]
    figure = plots.decided_positions([sample([0, 1, 1, 0], 4, **setting) for setting in settings])
    assert [axes.get_title() for axes in figure.axes][:5] == [
        "topk, 2 steps",
        "conv, size 8, 2 steps",
        "conv, size 32, 2 steps",
        "conv, 2 steps",
        "semi_ar, size 8, 2 steps",
    ]
    assert legend(figure) == ["mean position, text", "mean end of the text", "text", "EOS and behind it"]


def test_samples_that_cannot_be_drawn_are_named() -> None:
    with pytest.raises(ValueError, match="`samples` is empty"):
        plots.decided_positions([])
    with pytest.raises(ValueError, match=r"\('conv', 2, 16\) have canvases of \[2, 3\] tokens"):
        plots.decided_positions([sample([0, 1], 2), sample([0, 1, 1], 3)])


# --- masses ---


def curves(level: float) -> dict[str, Any]:
    at = {"mean": [level, level / 2, None, level], "error": [0.1, None, None, 0.1]}
    return {whole: {kind: {"at": at} for kind in KINDS} for whole in ("all", "text")}


def test_masses_have_a_line_for_each_model() -> None:
    figure = plots.mass_by_distance({"before": curves(0.4), "after": curves(0.2)}, curves(0.6))
    assert legend(figure) == ["reference answers (mean of 9 distances)", "before", "after"]
    assert len(figure.axes) == 6
    for axes in figure.axes:
        reference, before, after = axes.lines
        assert list(before.get_ydata())[:2] == [0.4, 0.2] and math.isnan(before.get_ydata()[2])
        assert len({line.get_linestyle() for line in (reference, before, after)}) == 3
        assert len(axes.collections) == 2, "bands of errors"
    assert len(plots.mass_by_distance({"only": curves(0.4)}).axes[0].lines) == 1
    with pytest.raises(ValueError, match="`masses` is empty"):
        plots.mass_by_distance({})


def test_the_reference_is_a_running_mean() -> None:
    reference = curves(0)
    reference["all"]["eos"] = {"at": {"mean": [0.0] * 9 + [1.0] * 9, "error": [None] * 18}}
    axes = plots.mass_by_distance({"a": curves(0.4)}, reference).axes[2]
    smooth = list(axes.lines[0].get_ydata())
    assert smooth[:5] == [0.0] * 5 and smooth[-4:] == [1.0] * 4
    assert smooth[8:10] == pytest.approx([4 / 9, 5 / 9])


# --- files ---


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_table_gives_the_same_file(tmp_path: Path, suffix: str, start: bytes) -> None:
    for name in "ab":
        figure = plots.quality_by_size([row("conv", 8, 16, 0.3)], "repeated_4grams", CANVAS)
        plots.save(figure, tmp_path / f"{name}.{suffix}")
    one, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert one == other and one.startswith(start)
    assert matplotlib.__version__.encode() not in one, "nor does another release's differ for its name"
    assert len(list(tmp_path.iterdir())) == 2


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plot.png"
    path.write_text("old")
    figure = plots.quality_by_size([row("conv", 8, 16, 0.3)], "repeated_4grams", CANVAS)
    seen = []

    def crash(new: Path, old: Path) -> None:
        seen.append((Path(new).read_bytes()[-8:], Path(old).read_text()))
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(OSError):
            plots.save(figure, path)
    assert seen == [(b"IEND\xaeB`\x82", "old")], "whole before it takes the old one's place"
    assert path.read_text() == "old"
    plots.save(figure, path)
    assert path.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["plot.jpg", "plot"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    figure = plots.quality_by_size([row("conv", 8, 16, 0.3)], "repeated_4grams", CANVAS)
    with pytest.raises(ValueError, match=r"written as \.png, \.svg, \.pdf, not as"):
        plots.save(figure, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plots.quality_by_size([row("conv", 8, 16, 0.3)], "repeated_4grams", CANVAS)
