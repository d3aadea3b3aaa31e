"""What distillation gained: accuracy against forwards of several models, by rules that commit what is sure.

    python -m benchmarks.distill_study --models before=outputs/embedded/diffusion after=outputs/embedded/distilled \\
        --output runs/distill_study

Each setting is a run of `conv-dlm eval word_problems` in a folder of its own, so that the same command resumes. The
folder gets table.json and table.md: the curves, and how many tokens per forward each model unmasks at most while it is
as accurate as the first model at its best, within one standard error of the difference.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluated import evaluated, shown, write_tables


def fastest(rows: Sequence[dict[str, Any]], best: dict[str, Any]) -> dict[str, Any] | None:
    """The row with the most tokens per forward among those as accurate as `best`; None if none is."""
    good = [
        row
        for row in rows
        if row["accuracy"][0] >= best["accuracy"][0] - math.hypot(row["accuracy"][1] or 0, best["accuracy"][1] or 0)
    ]
    return max(good, key=lambda row: row["tokens_per_forward"][0], default=None)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each decode type and model its fastest setting, and how many times as fast it is as the first model's."""
    found = []
    for kind in dict.fromkeys(row["decode_type"] for row in rows):
        curves: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["decode_type"] == kind:
                curves.setdefault(row["model"], []).append(row)
        best = max(next(iter(curves.values())), key=lambda row: row["accuracy"][0])
        first = fastest(next(iter(curves.values())), best)
        assert first is not None
        for model, curve in curves.items():
            its = fastest(curve, best)
            times = None if its is None else its["tokens_per_forward"][0] / first["tokens_per_forward"][0]
            found.append({"decode_type": kind, "model": model, "fastest": its, "times": times})
    return found


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Both tables for people."""
    lines = ["| model | decode type | threshold | accuracy, % | forwards | tokens / forward |", "|-|-|-:|-:|-:|-:|"]
    for row in rows:
        cells = [row["model"], f"`{row['decode_type']}`", f"{row['threshold']:g}", shown(row["accuracy"], 100)]
        cells += [shown(row["forwards"]), shown(row["tokens_per_forward"], 1, ".2f")]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| decode type | model | threshold | tokens / forward at equal accuracy | times |", "|-|-|-:|-:|-:|"]
    for its in summary(rows):
        row = its["fastest"]
        cells = [f"`{its['decode_type']}`", its["model"]]
        cells += ["–", "–", "–"] if row is None else [
            f"{row['threshold']:g}", shown(row["tokens_per_forward"], 1, ".2f"), f"{its['times']:.2f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="NAME=FOLDER", help="the first is what others are compared with")
    add("--decode-types", nargs="+", default=["threshold", "conv_threshold"])
    add("--thresholds", nargs="+", type=float, default=[0.5, 0.7, 0.8, 0.9, 0.95, 0.99])
    add("--size", type=int, default=32, help="block length or kernel size")
    add("--max-new-tokens", type=int, default=256)
    add("--level", default="1-8")
    add("--questions", type=int, default=500)
    add("--batch-size", type=int, default=32)
    add("--device", default="cpu")
    add("--output", type=Path, required=True)
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(arguments)
    if wrong := [said for said in args.models if "=" not in said]:
        parser.error(f"--models {wrong[0]} must be a name and a folder, before=outputs/run say")
    rows = []
    for name, folder in (said.split("=", 1) for said in args.models):
        for kind in args.decode_types:
            size = "--kernel-size" if kind.startswith("conv") else "--block-length"
            for threshold in args.thresholds:
                words = [
                    "--model", folder, "--split", "test", "--level", args.level, "--questions", args.questions,
                    "--decode-type", kind, "--threshold", threshold, size, args.size, "--max-new-tokens",
                    args.max_new_tokens, "--batch-size", args.batch_size, "--device", args.device,
                ]  # fmt: skip
                figures = evaluated(args.output / f"{name}-{kind}-{threshold:g}", words)
                row = {"model": name, "decode_type": kind, "threshold": threshold}
                rows.append(row | {field: figures[field] for field in ("accuracy", "forwards", "tokens_per_forward")})
    text = to_markdown(rows)
    write_tables(args.output, "distill_study", args.device, {"rows": rows, "summary": summary(rows)}, text)
    print(text)


if __name__ == "__main__":
    main()
