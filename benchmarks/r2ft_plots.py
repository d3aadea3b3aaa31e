"""Plots of an R2FT study, and its tables.

    python -m benchmarks.r2ft_plots benchmarks/results/r2ft_study.json --page docs/r2ft.md

The first model is dashed, the others solid; colours are those of Okabe and Ito, told apart by colour-blind readers, and
each model has a marker of its own for black and white.
"""

import argparse
import json
import math
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")  # files only: no display is needed

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.r2ft_tables import (
    answers_table,
    changes_table,
    log_p_table,
    masses_table,
    to_markdown,
)

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v")
REFERENCE = dict(color="black", linestyle=":", linewidth=1.2)
PANELS = (
    ("all", "high_prior", "high-prior tokens"),
    ("all", "repetition", "repetitions of the prompt"),
    ("all", "eos", "EOS"),
    ("text", "high_prior", "high-prior tokens, of what is not EOS"),
    ("text", "repetition", "repetitions, of what is not EOS"),
    ("text", "other", "neither, of what is not EOS"),
)
SMOOTHING = 9  # distances that the reference's running mean takes together: tokens are all or nothing
ANSWERS = {"repeated_4grams": ("repeated 4-grams, %", None), "well_formed": ("ends in #### n, %", 100)}  # title, top
SECTIONS = (  # heading, table, plots
    ("Log-probabilities", log_p_table, ("log_p", "training")),
    ("What is proposed far from the prompt", masses_table, ("masses",)),
    ("Answers", answers_table, ("answers",)),
    ("Changes on the same questions", changes_table, ()),
)
CAPTIONS = {
    "log_p": "Held-out log-probability of chosen and rejected, by model",
    "training": "Held-out log-probability of chosen and rejected over the steps of R2FT",
    "masses": "Probability mass on high-prior tokens, repetitions and EOS by distance from the prompt",
    "answers": "Repeated 4-grams and well-formed answers against steps, by decode type and model",
}
MARKS = "<!-- study: begin -->", "<!-- study: end -->"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("result", type=Path, help="result file of benchmarks.r2ft_study")
    add("--log", type=Path, help="trainer_state.json of the R2FT run, for log p over its steps")
    add("--plots", type=Path, default=Path("docs/plots"), help="folder for the plots")
    add("--page", type=Path, help="page whose marked section is replaced by tables and plots")
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    result = json.loads(args.result.read_text(encoding="utf-8"))
    log = json.loads(args.log.read_text(encoding="utf-8"))["log_history"] if args.log else []
    plots = {
        "log_p": plot_log_p(result),
        "training": plot_training(log),
        "masses": plot_masses(result),
        "answers": plot_answers(result),
    }
    args.plots.mkdir(parents=True, exist_ok=True)
    for name, figure in plots.items():
        if figure is not None:
            save(figure, args.plots / f"r2ft_{name}.png")
    if args.page:
        drawn = [name for name, figure in plots.items() if figure is not None]
        fill_in(args.page, page_section(result, Path(os.path.relpath(args.plots, args.page.parent)), drawn))
    print(to_markdown(result))


# --- plots; None where there is nothing to draw ---


def plot_log_p(result: dict[str, Any]) -> Figure | None:
    """log p of chosen and rejected, model beside model; after the paper's figure 12a."""
    names = [name for name, model in result["models"].items() if model["log_p"]["n"]]
    if not names:
        return None
    figure, axes = plt.subplots(figsize=(1.5 + 1.5 * len(names), 3.4), layout="constrained")
    for place, key in enumerate(("chosen", "rejected")):
        means, errors = zip(*(_numbers(result["models"][name]["log_p"][key]) for name in names), strict=True)
        axes.errorbar(range(len(names)), means, errors, label=key, capsize=3, **_style(1 - place))
        for x, mean in enumerate(means):
            axes.annotate(f"{mean:.2f}", (x, mean), (7, 4), textcoords="offset points", fontsize=9)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.3, len(names) - 0.5)
    axes.margins(y=0.15)
    axes.set_ylabel("log p, nats a token")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return _finish(figure)


def plot_training(log: list[dict[str, Any]]) -> Figure | None:
    """log p of chosen and rejected over the steps of a run, on held-out data; the paper's figure 12a."""
    rows = [entry for entry in log if "eval_logps/chosen" in entry]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for place, key in enumerate(("chosen", "rejected")):
        steps, values = [row["step"] for row in rows], [row[f"eval_logps/{key}"] for row in rows]
        axes.plot(steps, values, label=key, **_style(1 - place))
    axes.set_xlabel("steps of R2FT")
    axes.set_ylabel("held-out log p, nats a token")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return _finish(figure)


def plot_masses(result: dict[str, Any]) -> Figure | None:
    """Mass on kinds of tokens by distance from the prompt; after the paper's figures 3 and 13."""
    models = {name: model["masses"] for name, model in result["models"].items() if model["masses"]}
    if not models:
        return None
    figure, panels = plt.subplots(2, 3, figsize=(11, 6), sharex=True, layout="constrained")
    for axes, (whole, kind, title) in zip(panels.flat, PANELS, strict=True):
        reference = result["reference"]["masses"][whole][kind]["at"]["mean"]
        label = f"reference answers (mean of {SMOOTHING} distances)"
        axes.plot(range(len(reference)), _smooth(reference), label=label, **REFERENCE)
        for place, (name, curves) in enumerate(models.items()):
            at = curves[whole][kind]["at"]
            means, errors = (np.array(at[key], dtype=float) for key in ("mean", "error"))
            style = _style(place) | {"marker": ""}
            (line,) = axes.plot(means, label=name, **style)
            axes.fill_between(
                range(len(means)), means - errors, means + errors, color=line.get_color(), alpha=0.2, lw=0
            )
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 1)
    figure.supxlabel("distance from the prompt, tokens", fontsize=10)
    figure.supylabel("probability mass", fontsize=10)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return _finish(figure)


def plot_answers(result: dict[str, Any]) -> Figure | None:
    """Repeated 4-grams and well-formed answers against steps, a column for each decode type."""
    grids = {name: model["grid"] for name, model in result["models"].items()}
    types = list(dict.fromkeys(setting["decode_type"] for grid in grids.values() for setting in grid))
    if not types:
        return None
    figure, panels = plt.subplots(
        2,
        len(types),
        figsize=(1.5 + 3.5 * len(types), 6),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for row, (key, (title, top)) in enumerate(ANSWERS.items()):
        for column, decode_type in enumerate(types):
            axes = panels[row, column]
            for place, (name, grid) in enumerate(grids.items()):
                settings = [setting for setting in grid if setting["decode_type"] == decode_type]
                if settings:
                    means, errors = zip(*(_numbers(setting[key], 100) for setting in settings), strict=True)
                    # side by side, so that error bars don't cover each other
                    steps = [setting["steps"] * 1.06 ** (place - (len(grids) - 1) / 2) for setting in settings]
                    axes.errorbar(steps, means, errors, label=name, capsize=3, **_style(place))
            if key in result["reference"]:
                axes.axhline(100 * result["reference"][key][0], label="reference answers", **REFERENCE)
            _axis_of_steps(axes, grids)
            axes.set_title(decode_type if row == 0 else "", fontsize=10)
        panels[row, 0].set_ylabel(title)
        highest = panels[row, 0].get_ylim()[1] if top is None else top
        panels[row, 0].set_ylim(-0.04 * max(highest, 1), 1.04 * max(highest, 1))  # markers at the edges are seen whole
    figure.supxlabel("steps", fontsize=10)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return _finish(figure)


def _axis_of_steps(axes: Axes, grids: dict[str, list[dict[str, Any]]]) -> None:
    steps = sorted({setting["steps"] for grid in grids.values() for setting in grid})
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(number) for number in steps])
    axes.set_xlim(steps[0] / 1.3, steps[-1] * 1.3)
    axes.minorticks_off()


def _style(place: int) -> dict[str, Any]:
    """Of the model at this place: the first dashed, each with colour and marker of its own."""
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    return dict(color=colour, marker=marker, markersize=5, linewidth=1.5, linestyle="--" if place == 0 else "-")


def _numbers(figure: list[float | None] | None, factor: float = 1) -> tuple[float, float]:
    """Value and error to draw; NaN, which is not drawn, for what isn't known."""
    value, error = (math.nan if number is None else factor * number for number in figure or (None, None))
    return value, error


def _smooth(values: list[float | None]) -> list[float]:
    """Running mean, of fewer values at the ends; of what is not known, nothing is drawn."""
    numbers, half = np.array(values, dtype=float), SMOOTHING // 2
    return [float(np.mean(numbers[max(0, k - half) : k + half + 1])) for k in range(len(numbers))]


def _finish(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """As a PNG of 64 colours, which is a third as large and looks the same."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)


# --- page ---


def page_section(result: dict[str, Any], plots: Path, drawn: list[str]) -> str:
    """How the figures came about, the tables, each with its plots; `plots` is the folder as seen from the page."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    run = f"Measured on {result['date'][:10]} at commit {result['commit']}, on {result['device']} with {versions}:"
    parts = [run, f"```bash\n{result['command']}\n```"]
    for heading, table, names in SECTIONS:
        text = table(result)
        parts += [f"### {heading}", text] if text else []
        parts += [f"![{CAPTIONS[name]}]({plots.as_posix()}/r2ft_{name}.png)" for name in names if name in drawn]
    return "\n\n".join(part for part in parts if part)


def fill_in(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page.

    Raises:
        ValueError: the page has not both marks.
    """
    begin, end = MARKS
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{page} has no section between `{begin}` and `{end}` to replace; put both marks into it.")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
