"""Learned samplers beside `threshold` at equal forwards: accuracy on held-out word problems.

    python -m benchmarks.learned_samplers --seconds 3600

The model writes answers, from which the filter is learnt, and the policy is learnt by rewards, each by its recipe;
`--unmasking-head` names a folder where they are already. All settings then take turns at rounds of problems, until
`--seconds` are over. The same command resumes. The line of `threshold` goes through its thresholds; a learned sampler
is compared with that line at its own number of forwards. The folder gets table.json and table.md.
"""

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluated import in_turns, shown, start, write_tables
from conv_dlm import embedded_checkpoint

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


def learn(args: argparse.Namespace) -> Path:
    """Train filter and policy by their recipes: the folder of both."""
    heads: Path = args.output / "heads"
    its = ["--model_name_or_path", args.model, "--output_dir", heads]
    if args.filter_thresholds and not (heads / "unmasking_filter.safetensors").is_file():
        answers, rows = args.output / "answers.jsonl", [] if args.rows is None else ["--rows", args.rows]
        start("trainers.trajectories", "--config", args.trajectories, "--model_name_or_path", args.model, "--output",
              answers, *rows)  # fmt: skip
        rows += [] if args.rows is None else ["--held_out_rows", max(1, args.rows // 10)]
        start("trainers.learn_filter", "--config", args.filter, *its, "--trajectories", answers, *rows)
    if args.policy_temperatures:
        updates = [] if args.updates is None else ["--updates", args.updates]
        start("trainers.learn_policy", "--config", args.policy, *its, *updates)
    return heads


def words_of(args: argparse.Namespace, name: str, value: float, heads: Path | str | None) -> list[Any]:
    """How a setting is evaluated."""
    words = [
        "--model", args.model, "--split", args.split, "--level", args.level, "--decode-type", name,
        f"--{KNOBS[name]}", value, "--block-length", args.block_length, "--eos-fill", "--max-new-tokens",
        args.max_new_tokens, "--batch-size", args.batch_size, "--device", args.device,
    ]  # fmt: skip
    return words if name == LINE else [*words, "--unmasking-head", heads]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default=embedded_checkpoint(), help="default: the one in the package")
    add("--unmasking-head", help="folder of a filter and a policy (default: they are trained)")
    add("--trajectories", default="configs/distill/embedded_trajectories.yaml", help="recipe of the filter's answers")
    add("--filter", default="configs/unmasking/embedded_filter.yaml", help="recipe of the filter")
    add("--policy", default="configs/unmasking/embedded_policy.yaml", help="recipe of the policy")
    add("--rows", type=int, help="answers that the filter learns from (default: the recipes')")
    add("--updates", type=int, help="of the policy (default: the recipe's)")
    add("--thresholds", nargs="*", type=float, default=[0.5, 0.6, 0.7, 0.8, 0.9])
    add("--filter-thresholds", nargs="*", type=float, default=[0.8, 0.9, 0.96])
    add("--policy-temperatures", nargs="*", type=float, default=[0.5, 1.0])
    add("--block-length", type=int, default=32)
    add("--max-new-tokens", type=int, default=128)
    add("--split", default="test")
    add("--level", default="1-4")
    add("--questions", type=int, default=400)
    add("--seconds", type=float, help="of answering, after which no further round of problems begins")
    add("--batch-size", type=int, default=50)
    add("--device", default="cpu")
    add("--output", type=Path, default=Path("benchmarks/results/learned"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    values = dict(zip(KNOBS, (args.thresholds, args.filter_thresholds, args.policy_temperatures), strict=True))
    settings = [(name, value) for name in KNOBS for value in values[name]]
    is_learned = any(name != LINE for name, _ in settings)
    heads = args.unmasking_head or (learn(args) if is_learned else None)
    words = {f"{name}-{value:g}": words_of(args, name, value, heads) for name, value in settings}
    found, n = in_turns(words, args.output / "evaluated", args.questions, args.seconds)
    rows = make_rows({(name, value): found[f"{name}-{value:g}"] for name, value in settings})
    text = f"{n} problems a setting.\n\n{to_markdown(rows)}"
    write_tables(args.output, "learned_samplers", args.device, {"n": n, "rows": rows}, text)
    print(text)


if __name__ == "__main__":
    main()
