"""What distillation gained: accuracy against forwards of several models, by rules that commit what is sure.

    python -m benchmarks.distill_study --seconds 3600

The model writes its answers and is trained on them, by two recipes; models that are there already are named by
`--models before=... after=...`. All settings of all models then take turns at rounds of problems that nothing was
trained on, until `--seconds` are over. The same command resumes. The folder gets table.json and table.md: the curves,
and how many tokens per forward each model unmasks at most while it is as accurate as the first model at its best,
within one standard error of the difference.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluated import in_turns, shown, start, write_tables
from conv_dlm import embedded_checkpoint
from trainers.checkpoints import last_checkpoint


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
    add("--model", default=embedded_checkpoint(), help="what is distilled (default: the one in the package)")
    add("--models", nargs="+", metavar="NAME=FOLDER", help="instead; the others are compared with the first")
    add("--trajectories", default="configs/distill/embedded_trajectories.yaml", help="recipe of the answers")
    add("--config", default="configs/distill/embedded.yaml", help="recipe of the training")
    add("--rows", type=int, help="answers to be written (default: the recipe's)")
    add("--decode-types", nargs="+", default=["threshold", "conv_threshold"])
    add("--thresholds", nargs="+", type=float, default=[0.5, 0.6, 0.7, 0.8, 0.9])
    add("--size", type=int, default=8, help="block length or kernel size")
    add("--max-new-tokens", type=int, default=128)
    add("--level", default="1-4")
    add("--questions", type=int, default=400)
    add("--seconds", type=float, help="of answering, after which no further round of problems begins")
    add("--batch-size", type=int, default=50)
    add("--device", default="cpu")
    add("--options", nargs=argparse.REMAINDER, default=[], help="further options of the training, at the end")
    add("--output", type=Path, default=Path("benchmarks/results/distill"))
    return parser


def write_answers(args: argparse.Namespace) -> Path:
    """The model's own answers, by the recipe: the file."""
    path: Path = args.output / "answers.jsonl"
    rows = [] if args.rows is None else ["--rows", args.rows]
    start("trainers.trajectories", "--config", args.trajectories, "--model_name_or_path", args.model,
          "--output", path, *rows)  # fmt: skip
    return path


def distilled(args: argparse.Namespace) -> Path:
    """The model after training on its own answers, by the recipes: its folder."""
    folder: Path = args.output / "distilled"
    if not (folder / "config.json").is_file():
        resume = ["--resume_from_checkpoint", "true"] if last_checkpoint(folder) else []
        start("trainers.distill", "--config", args.config, "--model_name_or_path", args.model, "--data_files",
              write_answers(args), "--output_dir", folder, *args.options, *resume)  # fmt: skip
    return folder


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(arguments)
    if wrong := [said for said in args.models or () if "=" not in said]:
        parser.error(f"--models {wrong[0]} must be a name and a folder, before=outputs/run say")
    if args.models:
        models = dict(said.split("=", 1) for said in args.models)
    else:
        models = {"before": args.model, "after": distilled(args)}
    settings, rows = {}, {}
    for name, folder in models.items():
        for kind in args.decode_types:
            size = "--kernel-size" if kind.startswith("conv") else "--block-length"
            for threshold in args.thresholds:
                setting = f"{name}-{kind}-{threshold:g}"
                rows[setting] = {"model": name, "decode_type": kind, "threshold": threshold}
                settings[setting] = [
                    "--model", folder, "--split", "test", "--level", args.level, "--decode-type", kind,
                    "--threshold", threshold, size, args.size, "--eos-fill", "--max-new-tokens", args.max_new_tokens,
                    "--batch-size", args.batch_size, "--device", args.device,
                ]  # fmt: skip
    found, n = in_turns(settings, args.output / "evaluated", args.questions, args.seconds)
    for setting, row in rows.items():
        row |= {field: found[setting][field] for field in ("accuracy", "forwards", "tokens_per_forward")}
    table = list(rows.values())
    text = f"{n} problems a setting.\n\n{to_markdown(table)}"
    write_tables(args.output, "distill_study", args.device, {"n": n, "rows": table, "summary": summary(table)}, text)
    print(text)


if __name__ == "__main__":
    main()
