"""What each setting of a grid does better or worse than one decode type, prompt by prompt.

What makes a prompt easy or hard for both drops out of the errors, so that smaller differences are seen than by looking
at two rows of the table.
"""

from collections.abc import Collection, Sequence

from benchmarks.decoding_study.table import COLUMNS, Measures, TableRow, cells_of, qualities_of
from conv_dlm.evaluation.figures import as_figure, shown
from conv_dlm.evaluation.sample_folder import Sample
from conv_dlm.evaluation.statistics import difference_with_error

HIDDEN = ("ended", "empty", "tokens")  # in the JSON alone


def differences(samples: Sequence[Sample], measures: Measures, baseline: str) -> list[TableRow]:
    """Of each setting, its mean less that of the baseline with as many steps, over the prompts that both have.

    Args:
        samples: as `distinct_samples` returns them.
        baseline (`str`): a decode type. Where it has no samples, or several sizes, of which none is the one to compare
            with, the list is empty.
    """
    cells = cells_of(samples)
    prompts = {key: [sample["index"] for sample in cell] for key, cell in cells.items()}
    qualities = {key: qualities_of(cell, measures) for key, cell in cells.items()}
    rows = []
    for key in cells:
        steps, decode_type, size = key
        others = [other for other in cells if other[:2] == (steps, baseline)]
        if decode_type == baseline or len(others) != 1:
            continue
        pair = (key, others[0])
        common = set(prompts[pair[0]]) & set(prompts[pair[1]])
        if common:
            clusters = [[index for index in prompts[one] if index in common] for one in pair]
            row: TableRow = {"decode_type": decode_type, "steps": steps, "size": size, "prompts": len(common)}
            for name in qualities[key]:
                values = [_of_prompts(qualities[one][name], prompts[one], common) for one in pair]
                row[name] = as_figure(difference_with_error(*values, *clusters))
            rows.append(row)
    return rows


def _of_prompts(values: Sequence[float], prompts: Sequence[int], wanted: Collection[int]) -> list[float]:
    return [value for value, prompt in zip(values, prompts, strict=True) if prompt in wanted]


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
