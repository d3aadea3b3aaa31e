"""Plots of an R2FT study, and its tables.

    python -m benchmarks.r2ft_study.plots benchmarks/results/r2ft_study.json --page docs/r2ft.md

The first model is dashed, the second solid; each has a colour that colour-blind readers tell apart, and a kind of line
and a marker of its own for black and white.
"""

import argparse
import json
import math
import os
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from benchmarks.decoding_study.plots import mass_by_distance
from benchmarks.decoding_study.table import COLUMNS
from benchmarks.page import fill_in, measured
from benchmarks.plot_style import REFERENCE, add_legend, finish, log2_axis, new_figure, rendered, style
from benchmarks.r2ft_study.tables import (
    answers_table,
    changes_table,
    log_p_table,
    masses_table,
    to_markdown,
)

ANSWERS = {"accuracy": 100, "loops": None, "repeated_4grams": None}  # the top of the axis, where it is fixed
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
    "answers": "Right answers, loops and repeated 4-grams against tokens a step, by decode type and model",
}


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
        fill_in(args.page, "study", page_section(result, Path(os.path.relpath(args.plots, args.page.parent)), drawn))
    print(to_markdown(result))


# --- plots; None where there is nothing to draw ---


def plot_log_p(result: dict[str, Any]) -> Figure | None:
    """log p of chosen and rejected, model beside model; after the paper's figure 12a."""
    names = [name for name, model in result["models"].items() if model["log_p"]["n"]]
    if not names:
        return None
    figure, (axes,) = new_figure(1, 1, (1.5 + 1.5 * len(names), 3.4))
    for place, key in enumerate(("chosen", "rejected")):
        means, errors = zip(*(_numbers(result["models"][name]["log_p"][key]) for name in names), strict=True)
        axes.errorbar(range(len(names)), means, errors, label=key, capsize=3, **style(1 - place))
        for x, mean in enumerate(means):
            axes.annotate(f"{mean:.2f}", (x, mean), (7, 4), textcoords="offset points", fontsize=9)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.3, len(names) - 0.5)
    axes.margins(y=0.15)
    axes.set_ylabel("log p, nats a token")
    add_legend(figure, columns=2)
    return finish(figure)


def plot_training(log: list[dict[str, Any]]) -> Figure | None:
    """log p of chosen and rejected over the steps of a run, on held-out data; the paper's figure 12a."""
    rows = [entry for entry in log if "eval_logps/chosen" in entry]
    if not rows:
        return None
    figure, (axes,) = new_figure(1, 1, (5, 3.4))
    for place, key in enumerate(("chosen", "rejected")):
        steps, values = [row["step"] for row in rows], [row[f"eval_logps/{key}"] for row in rows]
        axes.plot(steps, values, label=key, **style(1 - place))
    axes.set_xlabel("steps of R2FT")
    axes.set_ylabel("held-out log p, nats a token")
    add_legend(figure, columns=2)
    return finish(figure)


def plot_masses(result: dict[str, Any]) -> Figure | None:
    """Mass on kinds of tokens by distance from the prompt; after the paper's figures 3 and 13."""
    models = {name: model["masses"] for name, model in result["models"].items() if model["masses"]}
    if not models:
        return None
    return mass_by_distance(models, result["reference"]["masses"])


def plot_answers(result: dict[str, Any]) -> Figure | None:
    """Right answers, loops and repeated 4-grams against tokens a step, a column for each decode type."""
    grids = {name: model["grid"] for name, model in result["models"].items()}
    types = list(dict.fromkeys(setting["decode_type"] for grid in grids.values() for setting in grid))
    if not types:
        return None
    known = {key for grid in grids.values() for setting in grid for key in setting if key in ANSWERS}
    keys = [key for key in ANSWERS if key in known]
    size = (1.5 + 3.5 * len(types), 3 * len(keys))
    figure, panels = new_figure(len(keys), len(types), size, sharex=True, sharey="row")
    for row, key in enumerate(keys):
        title, top = COLUMNS[key][0], ANSWERS[key]
        for column, decode_type in enumerate(types):
            axes = panels[row * len(types) + column]
            for place, (name, grid) in enumerate(grids.items()):
                settings = [setting for setting in grid if setting["decode_type"] == decode_type]
                if settings:
                    means, errors = zip(*(_numbers(setting[key], 100) for setting in settings), strict=True)
                    # side by side, so that error bars don't cover each other
                    shift = 1.06 ** (place - (len(grids) - 1) / 2)
                    paces = [setting["tokens_per_step"] * shift for setting in settings]
                    axes.errorbar(paces, means, errors, label=name, capsize=3, **style(place))
            if key in result["reference"]:
                axes.axhline(100 * result["reference"][key][0], label="reference answers", **REFERENCE)
            ticks = {setting["tokens_per_step"] for grid in grids.values() for setting in grid}
            log2_axis(axes, {tick: f"{tick:g}" for tick in ticks})
            axes.set_title(decode_type if row == 0 else "", fontsize=10)
        first = panels[row * len(types)]
        first.set_ylabel(title)
        highest = first.get_ylim()[1] if top is None else top
        first.set_ylim(-0.04 * max(highest, 1), 1.04 * max(highest, 1))  # markers at the edges are seen whole
    figure.supxlabel("tokens a step", fontsize=10)
    add_legend(figure, columns=4)
    return finish(figure)


def _numbers(figure: list[float | None] | None, factor: float = 1) -> tuple[float, float]:
    """Value and error to draw; NaN, which is not drawn, for what isn't known."""
    value, error = (math.nan if number is None else factor * number for number in (figure or (None, None))[:2])
    return value, error


def save(figure: Figure, path: Path) -> None:
    """As a PNG of 64 colours, which is a third as large and looks the same."""
    drawn = Image.open(BytesIO(rendered(figure)))
    drawn.convert("RGB").quantize(64).save(path, optimize=True)


# --- page ---


def page_section(result: dict[str, Any], plots: Path, drawn: list[str]) -> str:
    """How the figures came about, the tables, each with its plots; `plots` is the folder as seen from the page."""
    parts = [measured(result)]
    for heading, table, names in SECTIONS:
        text = table(result)
        parts += [f"### {heading}", text] if text else []
        parts += [f"![{CAPTIONS[name]}]({plots.as_posix()}/r2ft_{name}.png)" for name in names if name in drawn]
    return "\n\n".join(part for part in parts if part)


if __name__ == "__main__":
    main()
