"""What each setting of a grid does better or worse than another one, prompt by prompt.

What makes a prompt easy or hard for both drops out of the errors, so that smaller differences are seen than by looking
at two rows of the table.
"""

from collections.abc import Callable, Collection, Sequence

from benchmarks.decoding_study.table import (
    COLUMNS,
    Cell,
    Measures,
    TableRow,
    cells_of,
    markdown_table,
    name_of,
    qualities_of,
)
from conv_dlm.evaluation.figures import as_figure, shown
from conv_dlm.evaluation.sample_folder import Sample
from conv_dlm.evaluation.statistics import difference_with_error
from conv_dlm.generation import DECODE_TYPES

HIDDEN = ("ended", "empty", "tokens")  # in the JSON alone
COSTS = ("forwards", "seconds")
Choice = Callable[[Cell, Collection[Cell]], Cell | None]  # what a cell is compared with, of all there are


def with_type(baseline: str) -> Choice:
    """The baseline with as many steps: none for itself, for variations, and where it has several sizes."""

    def choose(cell: Cell, cells: Collection[Cell]) -> Cell | None:
        steps, decode_type, _, varied = cell
        others = [other for other in cells if other[:2] == (steps, baseline) and not other[3]]
        return others[0] if len(others) == 1 and decode_type != baseline and not varied else None

    return choose


def with_blocks(cell: Cell, cells: Collection[Cell]) -> Cell | None:
    """The same rule in blocks as long as the kernel, for a type that unmasks near known text."""
    steps, name, size, varied = cell
    its = DECODE_TYPES[name]
    forms = [form for form, of in DECODE_TYPES.items() if (of.weights, of.rule) == ("block", its.rule)]
    others = [(steps, form, size, varied) for form in forms if its.weights == "convolution"]
    return next((other for other in others if other in cells), None)


def with_unvaried(cell: Cell, cells: Collection[Cell]) -> Cell | None:
    """The same without its variation."""
    plain = (*cell[:3], "")
    return plain if cell[3] and plain in cells else None


def differences(samples: Sequence[Sample], measures: Measures, choose: Choice) -> list[TableRow]:
    """Of each setting, its mean less that of another one, over the prompts that both have.

    Args:
        samples: as `distinct_samples` returns them.
        choose: with what a setting is compared; left out where it says nothing.
    """
    cells = cells_of(samples)
    prompts = {key: [sample["index"] for sample in cell] for key, cell in cells.items()}
    values_of = {key: qualities_of(cell, measures) | _costs_of(cell) for key, cell in cells.items()}
    rows = []
    for key in cells:
        other = choose(key, cells)
        common = set() if other is None else set(prompts[key]) & set(prompts[other])
        if other is None or not common:
            continue
        steps, decode_type, size, varied = key
        clusters = [[index for index in prompts[one] if index in common] for one in (key, other)]
        row: TableRow = {"decode_type": decode_type, "steps": steps, "size": size, "varied": varied}
        row["prompts"] = len(common)
        for name in values_of[key]:
            values = [_of_prompts(values_of[one][name], prompts[one], common) for one in (key, other)]
            row[name] = as_figure(difference_with_error(*values, *clusters))
        rows.append(row)
    return rows


def _costs_of(cell: Sequence[Sample]) -> dict[str, list[float]]:
    return {name: [sample[name] for sample in cell] for name in COSTS}


def _of_prompts(values: Sequence[float], prompts: Sequence[int], wanted: Collection[int]) -> list[float]:
    return [value for value, prompt in zip(values, prompts, strict=True) if prompt in wanted]


def to_markdown(rows: Sequence[TableRow], heading: str) -> str:
    """The differences for people, under a heading that says to what; nothing if there are none."""
    if not rows:
        return ""
    names = [name for name in COLUMNS if name not in HIDDEN and any(row.get(name) for row in rows)]
    headings = [heading, "steps", "kernel or block", "prompts", *(COLUMNS[name][0] for name in names)]
    lines = []
    for row in rows:
        setting = [name_of(row), str(row["steps"]), str(row["size"] or "–"), str(row["prompts"])]
        lines.append(setting + [shown(row[name], COLUMNS[name][1], "+" + COLUMNS[name][2]) for name in names])
    return "\n" + markdown_table(headings, lines)
