"""Learned samplers beside `threshold` at equal forwards: accuracy on held-out word problems.

    python -m benchmarks.learned_samplers --model outputs/embedded/diffusion --output runs/learned

Each setting is a run of `conv-dlm eval word_problems` in a folder of its own, so that the same command resumes. The
line of `threshold` goes through its thresholds; a learned sampler is compared with that line at its own number of
forwards. The folder gets table.json and table.md.
"""

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluated import evaluated, shown, write_tables

LINE = "threshold"
KNOBS = {"threshold": "threshold", "learned_filter": "filter-threshold", "learned_policy": "policy-temperature"}


def on_line(points: Sequence[tuple[float, float, float]], forwards: float) -> tuple[float, float] | None:
    """Accuracy and error at a number of forwards, between the neighbours among `points` (forwards, accuracy, error);
    None outside of them."""
    points = sorted(points)
    for left, right in itertools.pairwise(points):
        if left[0] <= forwards <= right[0]:
            share = (forwards - left[0]) / (right[0] - left[0]) if right[0] > left[0] else 0.0
            value = left[1] + share * (right[1] - left[1])
            return value, math.hypot((1 - share) * left[2], share * right[2])
    return None


def make_rows(results: dict[tuple[str, float], dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each setting; learned ones with the line's accuracy at their forwards, and what they are above it."""
    line = [
        (found["forwards"][0], found["accuracy"][0], found["accuracy"][1] or 0.0)
        for (name, _), found in results.items()
        if name == LINE
    ]
    rows = []
    for (name, value), found in results.items():
        row: dict[str, Any] = {"decode_type": name, "value": value}
        row |= {field: found[field] for field in ("accuracy", "forwards", "tokens_per_forward")}
        if name != LINE and (there := on_line(line, found["forwards"][0])) is not None:
            error = math.hypot(found["accuracy"][1] or 0.0, there[1])
            row |= {"threshold_there": list(there), "above": [found["accuracy"][0] - there[0], error]}
        rows.append(row)
    return rows


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [
        "| decode type | setting | accuracy, % | forwards | tokens / forward | `threshold` there, % | above it |",
        "|-|-:|-:|-:|-:|-:|-:|",
    ]
    for row in rows:
        cells = [f"`{row['decode_type']}`", f"{row['value']:g}", shown(row["accuracy"], 100)]
        cells += [shown(row["forwards"]), shown(row["tokens_per_forward"], 1, ".2f")]
        cells += [shown(row.get("threshold_there"), 100), shown(row.get("above"), 100, "+.1f")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def evaluate(args: argparse.Namespace, name: str, value: float) -> dict[str, Any]:
    """The figures of one setting."""
    words = [
        "--model", args.model, "--split", args.split, "--level", args.level, "--questions", args.questions,
        "--decode-type", name, f"--{KNOBS[name]}", value, "--block-length", args.block_length, "--max-new-tokens",
        args.max_new_tokens, "--batch-size", args.batch_size, "--device", args.device,
    ]  # fmt: skip
    if name != LINE and args.unmasking_head is not None:
        words += ["--unmasking-head", args.unmasking_head]
    return evaluated(args.output / f"{name}-{value:g}", words)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True)
    add("--unmasking-head", help="folder of filter and policy (default: the model's)")
    add("--thresholds", nargs="*", type=float, default=[0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
    add("--filter-thresholds", nargs="*", type=float, default=[0.8, 0.9, 0.96])
    add("--policy-temperatures", nargs="*", type=float, default=[0.5, 1.0])
    add("--block-length", type=int, default=32)
    add("--max-new-tokens", type=int, default=256)
    add("--split", default="test")
    add("--level", default="1-6")
    add("--questions", type=int, default=500)
    add("--batch-size", type=int, default=32)
    add("--device", default="cpu")
    add("--output", type=Path, required=True)
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    values = dict(zip(KNOBS, (args.thresholds, args.filter_thresholds, args.policy_temperatures), strict=True))
    settings = [(name, value) for name in KNOBS for value in values[name]]
    rows = make_rows({(name, value): evaluate(args, name, value) for name, value in settings})
    write_tables(args.output, "learned_samplers", args.device, {"rows": rows}, to_markdown(rows))
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
