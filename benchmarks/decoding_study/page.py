"""Write what a comparison of decoders has found into a page: tables and plots from result folders alone.

    python -m benchmarks.decoding_study.page benchmarks/results/decoders/* --section decoders --page docs/results.md

Each folder, of which `table.json` is read, is a part of the section. The tables have one figure for each decode type,
by tokens a step; types at their own pace, and variations, are in a table of their own. With one number of tokens a step
for all of them, one table has everything.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.decoding_study.comparison import BASELINE, COSTS, TABLE, TABLE_FOR_PEOPLE
from benchmarks.decoding_study.pareto import front, setting_of, settings_by_cost
from benchmarks.decoding_study.plots import as_axis, save, styles_of
from benchmarks.decoding_study.table import COLUMNS, TableRow, markdown_table, name_of
from benchmarks.page import fill_in, measured
from benchmarks.plot_style import FONT_SIZE, add_legend, finish, log2_axis, new_panels
from conv_dlm.evaluation.figures import shown
from conv_dlm.generation import DECODE_TYPES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BY_PACE = ("accuracy", "form", "steps_right", "repeated_4grams", "loops", "seconds")  # a table each
OWN_PACE = ("accuracy", "form", "repeated_4grams", "loops", "forwards", "seconds", "tokens_per_forward")
CHANGES = ("accuracy", "form", "repeated_4grams", "loops", "forwards", "seconds")
RIGHT = "accuracy"
Result = dict[str, Any]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folders", nargs="+", type=Path, help="output folders of benchmarks.decoding_study")
    add("--section", required=True, help="name of the page's marks, and of the plots")
    add("--page", type=Path, required=True)
    add("--plots", type=Path, default=Path("docs/plots"), help="folder for the plots")
    add("--size", type=int, default=32, help="kernel size or block length that the picture of all folders shows")
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    results = [read(folder) for folder in args.folders]
    args.plots.mkdir(parents=True, exist_ok=True)
    for name, figure in draw(results, args.section, args.size).items():
        save(figure, args.plots / name)
    plots = Path(os.path.relpath(args.plots, args.page.parent))
    folders = [Path(os.path.relpath(folder, args.page.parent)) for folder in args.folders]
    fill_in(args.page, args.section, section(results, folders, args.section, plots))


def read(folder: Path) -> Result:
    """What a comparison left in its folder."""
    return dict(json.loads((folder / TABLE).read_text(encoding="utf-8")))


def canvas_of(result: Result) -> int:
    return int(result["settings"]["max_new_tokens"])


# --- plots ---


def draw(results: Sequence[Result], name: str, size: int) -> dict[str, "Figure"]:
    """The plots of a section by their files' names: all folders side by side, and the front of each."""
    figures = {}
    if any(len(_paces(result)) > 1 for result in results):
        figures[f"{name}.png"] = right_by_pace(results, size)
    for result in results:
        for cost in COSTS:
            figures[_front_plot(name, result, cost)] = settings_by_cost(result["rows"], RIGHT, cost)
    return figures


def right_by_pace(results: Sequence[Result], size: int) -> "Figure":
    """Right answers against tokens a step: a panel for each canvas, a line for each decode type.

    Args:
        results: of the folders.
        size (`int`): kernel size or block length of the types that have one.
    """
    figure, panels = new_panels(len(results), 3.4, 3.2, sharex=True, sharey=True)
    rows = [row for result in results for row in _paced(result["rows"]) if row["size"] in (size, None)]
    paces = sorted({pace for result in results for pace in _paces(result)})
    for axes, result in zip(panels, results, strict=True):
        log2_axis(axes, {pace: f"{pace:g}" for pace in paces})
        mine = [row for row in _paced(result["rows"]) if row in rows]
        for decode_type, look in styles_of(rows).items():
            line = [row for row in mine if row["decode_type"] == decode_type and row.get(RIGHT)]
            values, errors = ([100 * (row[RIGHT][part] or 0) for row in line] for part in (0, 1))
            xs = [canvas_of(result) / row["steps"] for row in line]
            axes.errorbar(xs, values, errors, label=decode_type, capsize=2.5, elinewidth=1, **look)
        axes.set_title(f"canvas of {canvas_of(result)} tokens", fontsize=FONT_SIZE)
        axes.set_ylim(-4, 104)
    figure.supxlabel(f"tokens a step (kernels and blocks of {size})", fontsize=FONT_SIZE)
    figure.supylabel(as_axis(RIGHT).label, fontsize=FONT_SIZE)
    add_legend(figure)
    return finish(figure)


def _front_plot(name: str, result: Result, cost: str) -> str:
    return f"{name}_{canvas_of(result)}_{cost}.png"


# --- tables ---


def section(results: Sequence[Result], folders: Sequence[Path], name: str, plots: Path) -> str:
    """The text of a section; folders and plots are named as seen from the page."""
    parts = []
    if any(len(_paces(result)) > 1 for result in results):
        caption = "Right answers against tokens a step, by decode type and canvas"
        parts.append(f"![{caption}]({plots.as_posix()}/{name}.png)")
    for result, folder in zip(results, folders, strict=True):
        commands = list(dict.fromkeys(run["command"] for run in result["runs"]))
        counts = sorted({row["prompts"] for row in result["rows"]})
        how_many = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
        parts += [
            f"### A canvas of {canvas_of(result)} tokens",
            measured(result["runs"][-1] | {"command": "\n".join(commands)}),
            f"{how_many} problems a setting. [All figures]({(folder / TABLE_FOR_PEOPLE).as_posix()}).",
            *tables(result),
        ]
        for cost in COSTS:
            caption = f"Right answers against {cost}: every setting, and those that no other one beats"
            parts.append(f"![{caption}]({plots.as_posix()}/{_front_plot(name, result, cost)})")
    return "\n\n".join(parts)


def tables(result: Result) -> list[str]:
    """All tables of a folder, each below a line that says what it shows."""
    texts = []
    if len(_paces(result)) > 1:
        texts += [(COLUMNS[metric][0], by_pace(result["rows"], result, metric)) for metric in BY_PACE]
        less = by_pace(result[f"less_{BASELINE}"], result, RIGHT, "+")
        texts.append((f"Less `{BASELINE}`, problem by problem: {COLUMNS[RIGHT][0]}", less))
        own = [row for row in result["rows"] if row not in _paced(result["rows"])]
        texts.append(("Types at their own pace, and variations", _listed(own, OWN_PACE, "")))
    else:
        texts.append(("All settings", _listed(result["rows"], OWN_PACE, "")))
    texts.append(("Variations less the same without, problem by problem", _listed(result["less_plain"], CHANGES, "+")))
    less = _listed(result["less_blocks"], CHANGES, "+")
    texts.append(("Near known text, less the same rule in blocks, problem by problem", less))
    texts.append(("Settings that no other one beats, by forwards", front_table(result["rows"])))
    return [part for heading, text in texts if text for part in (f"**{heading[0].upper()}{heading[1:]}**", text)]


def by_pace(rows: Sequence[TableRow], result: Result, metric: str, sign: str = "") -> str:
    """A figure of decode types by tokens a step; empty where there is none."""
    known = [row for row in _paced(rows) if row.get(metric)]
    cells = {(row["decode_type"], row["size"], row["steps"]): row[metric] for row in known}
    lines = []
    for decode_type, size in dict.fromkeys((kind, size) for kind, size, _ in cells):
        found = [cells.get((decode_type, size, round(canvas_of(result) / pace))) for pace in _paces(result)]
        lines.append([f"`{decode_type}`", str(size or "–"), *(_shown(figure, metric, sign) for figure in found)])
    order = list(DECODE_TYPES)
    lines.sort(key=lambda line: order.index(line[0].strip("`")))
    headings = ["tokens a step", "kernel or block", *(f"{pace:g}" for pace in _paces(result))]
    return markdown_table(headings, lines).strip() if lines else ""


def _listed(rows: Sequence[TableRow], metrics: Sequence[str], sign: str) -> str:
    names = [name for name in metrics if any(row.get(name) for row in rows)]
    headings = ["decode type", "steps", "kernel or block", *(COLUMNS[name][0] for name in names)]
    lines = [
        [name_of(row), str(row["steps"]), str(row["size"] or "–"), *(_shown(row.get(one), one, sign) for one in names)]
        for row in rows
    ]
    return markdown_table(headings, lines).strip() if lines else ""


def front_table(rows: Sequence[TableRow]) -> str:
    """The front by forwards, numbered as in the picture."""
    best = front(rows, RIGHT, "forwards")
    headings = ["", "setting", *(COLUMNS[name][0] for name in (RIGHT, *COSTS))]
    lines = [
        [str(place), setting_of(row), *(_shown(row[name], name, "") for name in (RIGHT, *COSTS))]
        for place, row in enumerate(best, 1)
    ]
    return markdown_table(headings, lines, words=2).strip() if lines else ""


def _shown(figure: Any, metric: str, sign: str) -> str:
    return shown(figure, COLUMNS[metric][1], sign + COLUMNS[metric][2])


def _paced(rows: Sequence[TableRow]) -> list[TableRow]:
    """Those with a number of steps, and nothing else varied."""
    return [row for row in rows if "steps" in DECODE_TYPES[row["decode_type"]].fields and not row["varied"]]


def _paces(result: Result) -> list[float]:
    """Tokens a step."""
    return sorted({canvas_of(result) / row["steps"] for row in _paced(result["rows"])})


if __name__ == "__main__":
    main()
