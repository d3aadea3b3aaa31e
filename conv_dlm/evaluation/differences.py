"""What each setting of a grid does better or worse than one decode type, prompt by prompt.

What makes a prompt easy or hard for both drops out of the errors, so that smaller differences are seen than by looking
at two rows of the table.
"""

import math
from collections.abc import Sequence

from conv_dlm.evaluation.figures import Figure, shown
from conv_dlm.evaluation.sample_folder import Sample
from conv_dlm.evaluation.statistics import difference_with_error
from conv_dlm.evaluation.table import COLUMNS, Measures, TableRow, cells_of, qualities_of

HIDDEN = ("ended", "empty", "tokens")  # in the JSON alone


def differences(samples: Sequence[Sample], measures: Measures, baseline: str) -> list[TableRow]:
    """Of each setting, its mean less that of the baseline with as many steps, over the prompts that both have.

    Args:
        samples: as `distinct_samples` returns them.
        baseline (`str`): a decode type. Where it has no samples, or several sizes, of which none is the one to compare
            with, the list is empty.
    """
    cells = cells_of(samples)
    rows = []
    for (steps, decode_type, size), cell in cells.items():
        others = [other for (count, name, _), other in cells.items() if (count, name) == (steps, baseline)]
        if decode_type == baseline or len(others) != 1:
            continue
        common = {sample["index"] for sample in cell} & {sample["index"] for sample in others[0]}
        if common:
            mine, theirs = ([sample for sample in its if sample["index"] in common] for its in (cell, others[0]))
            row = {"decode_type": decode_type, "steps": steps, "size": size, "prompts": len(common)}
            rows.append(row | _difference(mine, theirs, measures))
    return rows


def _difference(mine: Sequence[Sample], theirs: Sequence[Sample], measures: Measures) -> dict[str, Figure]:
    qualities = [qualities_of(cell, measures) for cell in (mine, theirs)]
    prompts = [[sample["index"] for sample in cell] for cell in (mine, theirs)]
    figures: dict[str, Figure] = {}
    for name in qualities[0]:
        pair = difference_with_error(qualities[0][name], qualities[1][name], *prompts)
        figures[name] = [None if math.isnan(number) else number for number in pair]
    return figures


def to_markdown(rows: Sequence[TableRow], baseline: str) -> str:
    """The differences for people; nothing if there are none."""
    if not rows:
        return ""
    names = [name for name in COLUMNS if name not in HIDDEN and any(row.get(name) for row in rows)]
    headings = [f"less `{baseline}`", "steps", "kernel or block", "prompts", *(COLUMNS[name][0] for name in names)]
    lines = ["| " + " | ".join(headings) + " |", "|-|" + "-:|" * (len(headings) - 1)]
    for row in rows:
        setting = [f"`{row['decode_type']}`", str(row["steps"]), str(row["size"] or "–"), str(row["prompts"])]
        cells = [shown(row[name], COLUMNS[name][1], "+.1f") for name in names]
        lines.append("| " + " | ".join(setting + cells) + " |")
    return "\n" + "\n".join(lines) + "\n"
