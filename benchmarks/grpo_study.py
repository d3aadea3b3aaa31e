"""The estimates of GRPO's log-probabilities at equal cost: what each learns in so many minutes of training.

    python -m benchmarks.grpo_study --seconds 3600

A few steps of each variant say how long one takes; each then trains for as many steps as fit into the seconds, by the
same recipe, whose rollouts are decoded like the answers. Before and after, the model answers problems of the recipe's
levels that nothing was trained on. Everything resumes by the same command. The folder gets plan.json, table.json and
table.md, and a trained model for each variant.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from benchmarks.evaluated import evaluated, shown, start, write_tables
from conv_dlm import embedded_checkpoint
from conv_dlm.utils.files import write_json
from trainers.checkpoints import last_checkpoint

VARIANTS: dict[str, tuple[str, ...]] = {
    "one_step": ("--log_prob_estimate", "one_step"),
    "coupled": ("--log_prob_estimate", "coupled", "--coupled_pairs", "1"),
    "trajectory": ("--log_prob_estimate", "trajectory", "--trajectory_stride", "8"),
    "trajectory-drafts": (
        "--log_prob_estimate", "trajectory", "--trajectory_stride", "8", "--intermediate_rewards", "3",
    ),
    "autoregressive": ("--log_prob_estimate", "autoregressive"),
    "elbo": (
        "--log_prob_estimate", "elbo", "--elbo_points", "2", "--importance_sampling_level", "sequence",
    ),
}  # fmt: skip
FIRST = 4  # steps that are timed, the first of them apart


def launch(args: argparse.Namespace, folder: Path, words: Sequence[Any]) -> None:
    """Train by the recipe into `folder`, or go on there."""
    resume = ["--resume_from_checkpoint", "true"] if last_checkpoint(folder) else []
    launcher = ["-m", "accelerate.commands.launch", "--config_file", args.accelerate]
    options = ["--config", args.config, "--model_name_or_path", args.model, "--output_dir", folder]
    start("trainers.grpo", *options, *args.options, *words, *resume, launcher=launcher)


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The log of the last checkpoint of a run."""
    state = Path(str(last_checkpoint(folder)), "trainer_state.json")
    log: list[dict[str, Any]] = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    return log


def plan(args: argparse.Namespace, names: Sequence[str], save_steps: int) -> dict[str, int]:
    """Steps that each variant takes, a multiple of those between two saves; kept in a file, so that it stays."""
    path = args.output / "plan.json"
    steps: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in names:
        if name not in steps:
            folder = args.output / "timing" / name
            if last_checkpoint(folder) is None:
                few = ["--max_steps", FIRST, "--save_steps", FIRST, "--eval_strategy", "no"]
                launch(args, folder, [*VARIANTS[name], *few])
            seconds = fmean([entry["step_time"] for entry in log_of(folder) if "step_time" in entry][1:])
            steps[name] = max(1, math.floor(args.seconds / seconds / save_steps)) * save_steps
            write_json(path, steps)
    return steps


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table for people."""
    lines = ["| | steps | reward at the end | accuracy, % | above before, % | forwards |", "|-|-:|-:|-:|-:|-:|"]
    for row in rows:
        cells = [f"`{row['name']}`", str(row["steps"]), f"{row['reward']:.2f}" if row["reward"] is not None else "–"]
        cells += [shown(row["accuracy"], 100), shown(row.get("gain"), 100, "+.1f"), shown(row["forwards"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default=embedded_checkpoint(), help="what is trained (default: the one in the package)")
    add("--config", default="configs/grpo/embedded.yaml", help="recipe")
    add("--accelerate", default="configs/accelerate/cpu.yaml", help="how it is launched")
    add("--estimates", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    add("--seconds", type=float, default=3600, help="of training, for each")
    add("--questions", type=int, default=400)
    add("--batch-size", type=int, default=32)
    add("--options", nargs=argparse.REMAINDER, default=[], help="further options of every training, at the end")
    add("--output", type=Path, default=Path("benchmarks/results/grpo"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    recipe: dict[str, Any] = yaml.safe_load(Path(args.config).read_text(encoding="utf-8"))
    said = dict(zip(args.options[::2], args.options[1::2], strict=False))
    length = said.get("--max_completion_length", recipe["max_completion_length"])
    low, high = recipe["problem_levels"]

    def ask(model: str | Path, name: str) -> dict[str, Any]:
        words = ["--model", model, "--split", "test", "--level", f"{low}-{high}", "--questions", args.questions]
        words += ["--max-new-tokens", length]
        for option, value in recipe["rollout_kwargs"].items():
            words += [f"--{option.replace('_', '-')}", *([] if value is True else [value])]
        return evaluated(args.output / "answers" / name, [*words, "--batch-size", args.batch_size])

    steps = plan(args, args.estimates, int(said.get("--save_steps", recipe["save_steps"])))
    before = ask(args.model, "before")
    rows = [{"name": "before", "steps": 0, "reward": None, **{k: before[k] for k in ("accuracy", "forwards")}}]
    for name in args.estimates:
        folder = args.output / name
        if not (folder / "config.json").is_file():
            launch(args, folder, [*VARIANTS[name], "--max_steps", steps[name]])
        rewards = [entry["reward"] for entry in log_of(folder) if "reward" in entry]
        after = ask(folder, name)
        error = math.hypot(after["accuracy"][1] or 0.0, before["accuracy"][1] or 0.0)
        gain = [after["accuracy"][0] - before["accuracy"][0], error]
        row = {"name": name, "steps": steps[name], "reward": fmean(rewards[-10:]), "gain": gain}
        rows.append({**row, "accuracy": after["accuracy"], "forwards": after["forwards"]})
        write_tables(args.output, "grpo_study", "cpu", {"rows": rows}, to_markdown(rows))
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
