"""What a cache, and how stale it may grow, costs in quality: answers of Conv to the same prompts with the same noise.

    python -m benchmarks.speed_quality --length 256 --prompts 100 --seeds 0 1 2 --output outputs/speed_quality_256
    python -m benchmarks.speed_quality --output benchmarks/results/speed_quality --minutes 0

The embedded model answers questions of GSM8K's test split (benchmarks/prompts/gsm8k_short.jsonl). Settings take turns
at each prompt, so that a run that is stopped early leaves a fair table, and the same command resumes it; with
`RANK` and `WORLD_SIZE` in the environment several processes share the prompts. Cost is counted in positions that
forwards computed, which doesn't depend on the machine. The folder gets table.md, table.json and trade_off.png.
"""

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.decoding_study.prompt_set import load_prompts
from benchmarks.plot_style import FONT_SIZE, finish, log2_axis, new_panels, save, style
from conv_dlm.answering.answers import answer
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.loading import identity, load_model
from conv_dlm.answering.prompting import Prompter
from conv_dlm.cost.meters import ForwardLog
from conv_dlm.evaluation.gsm8k import count_annotations, is_well_formed
from conv_dlm.evaluation.metrics import repeated_ngrams
from conv_dlm.evaluation.processes import Processes
from conv_dlm.evaluation.sample_folder import SampleFolder
from conv_dlm.evaluation.statistics import difference_with_error, mean_with_error, ratio_with_error
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPTS = "benchmarks/prompts/gsm8k_short.jsonl"
EXACT = "no cache"
INTERVALS = (4, 16, 64)
QUALITIES = {"well_formed": "ends in `#### n`, %", "repeated": "repeated 4-grams, %"}
KEY = ("setting", "seed", "index")


def window(interval: int, **others: Any) -> dict[str, Any]:
    return {"cache_implementation": "window", "cache_refresh_interval": interval, **others}


def make_settings(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Keywords of `generate`, by name; that of an exact run first."""
    conv = {"decode_type": "conv", "steps": args.length // args.tokens_a_step, "kernel_size": args.kernel_size}
    settings = {EXACT: conv}
    settings |= {f"window, interval {interval}": conv | window(interval) for interval in INTERVALS}
    settings["window, interval 16, lookahead 128"] = conv | window(16, lookahead=128)
    threshold = {"decode_type": "conv_threshold", "kernel_size": args.kernel_size, "eos_fill": True}
    settings["conv_threshold 0.2, window, interval 16"] = threshold | window(16, threshold=0.2)
    return {name: keywords | {"max_new_tokens": args.length} for name, keywords in settings.items()}


def make_answers(args: argparse.Namespace, folder: SampleFolder, settings: Mapping[str, Any], loaded: Any) -> None:
    """Answer this process's share of what isn't answered yet, setting by setting at each prompt."""
    model, tokenizer, texts, processes = loaded
    done, log, started = folder.keys(*KEY), ForwardLog(model), time.monotonic()
    run = describe_run("python -m benchmarks.speed_quality", model.device) | {"processes": processes.count}
    work = itertools.product(args.seeds, range(len(texts)), settings)
    for number, (seed, index, name) in enumerate(work):
        mine = (number // len(settings)) % processes.count == processes.rank
        if not mine or (name, seed, index) in done:
            continue
        if args.minutes is not None and time.monotonic() - started >= 60 * args.minutes:
            break
        log.forwards.clear()
        (given,) = answer(model, tokenizer, [texts[index]], [row_generator(seed, index)], **settings[name])
        text = str(tokenizer.decode(given.ids, skip_special_tokens=True))
        right, annotations = count_annotations(text)
        sample = {
            "setting": name, "seed": seed, "index": index, "ids": given.ids, "ended": given.ended,
            "tokens": len(given.ids), "forwards": given.forwards, "seconds": given.seconds,
            "positions": sum(forward.positions for forward in log.forwards), "well_formed": float(is_well_formed(text)),
            "repeated": repeated_ngrams(given.ids), "right": right, "annotations": annotations,
        }  # fmt: skip
        folder.add([sample], run)
    log.remove()


def make_rows(samples: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Figures with standard errors of each setting, and the differences to the exact run, prompt by prompt."""
    rows = []
    exact = [sample for sample in samples if sample["setting"] == EXACT]
    for name in names:
        mine = [sample for sample in samples if sample["setting"] == name]
        if not mine:
            continue
        prompts = [sample["index"] for sample in mine]
        row: dict[str, Any] = {"setting": name, "n": len(mine)}
        for field in ("well_formed", "repeated", "tokens", "forwards", "seconds", "positions"):
            row[field] = mean_with_error([sample[field] for sample in mine], prompts)
        wholes = [sample["annotations"] for sample in mine]
        if any(wholes):
            row["arithmetic"] = ratio_with_error([sample["right"] for sample in mine], wholes, prompts)
        row["tokens_per_forward"] = sum(s["tokens"] for s in mine) / sum(s["forwards"] for s in mine)
        both = {sample["index"] for sample in mine} & {sample["index"] for sample in exact}
        if name != EXACT and both:
            pair = [[sample for sample in side if sample["index"] in both] for side in (mine, exact)]
            clusters = [[sample["index"] for sample in side] for side in pair]
            for field in QUALITIES:
                values = [[sample[field] for sample in side] for side in pair]
                row[f"{field}_difference"] = difference_with_error(*values, *clusters)
        rows.append(row)
    return rows


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table for people."""

    def shown(value: tuple[float, float] | None, factor: float, form: str) -> str:
        return "–" if value is None else f"{factor * value[0]:{form}} ± {factor * value[1]:{form.lstrip('+')}}"

    headings = ["setting", "n", *QUALITIES.values(), "correct arithmetic, %", "tokens", "tokens / forward",
                "positions computed, thousands", "minus no cache: `####`", "repeated"]  # fmt: skip
    lines = ["| " + " | ".join(headings) + " |", "|-|" + "-:|" * (len(headings) - 1)]
    for row in rows:
        cells = [row["setting"], str(row["n"])]
        cells += [shown(row[name], 100, ".1f") for name in QUALITIES]
        cells += [shown(row.get("arithmetic"), 100, ".1f"), shown(row["tokens"], 1, ".0f")]
        cells += [f"{row['tokens_per_forward']:.2f}", shown(row["positions"], 0.001, ".1f")]
        cells += [shown(row.get(f"{name}_difference"), 100, "+.1f") for name in QUALITIES]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[dict[str, Any]]) -> "Figure":
    """Quality against the refresh interval of the window cache; 1 is exact."""
    intervals = {EXACT: 1} | {f"window, interval {interval}": interval for interval in INTERVALS}
    line = [row for row in rows if row["setting"] in intervals]
    figure, panels = new_panels(len(QUALITIES), 3.4, 2.8, sharex=True)
    for axes, (field, title) in zip(panels, QUALITIES.items(), strict=True):
        x = [intervals[row["setting"]] for row in line]
        log2_axis(axes, sorted(intervals.values()))
        y, errors = ([100 * row[field][part] for row in line] for part in (0, 1))
        axes.errorbar(x, y, yerr=errors, capsize=3, **style(0))
        axes.set_title(title.replace("`", ""), fontsize=FONT_SIZE)
        axes.set_ylim(bottom=0)
    figure.supxlabel("forwards from one full forward to the next (1: no cache)", fontsize=FONT_SIZE)
    return finish(figure)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--length", type=int, default=256, help="L")
    add("--tokens-a-step", type=int, default=8, help="of conv: it has L over this many steps")
    add("--kernel-size", type=int, default=32)
    add("--prompts", type=int, default=100)
    add("--seeds", nargs="+", type=int, default=[0])
    add("--device", default="cpu")
    add("--minutes", type=float, help="begin no answer after so many; 0: only the table and the plot")
    add("--output", type=Path, default=Path("outputs/speed_quality"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    settings, processes = make_settings(args), Processes.from_environment()
    prompt_set, _ = load_prompts(PROMPTS, "prompt", "reference", questions=args.prompts)
    model, tokenizer = load_model(device=args.device)
    prompter = Prompter(tokenizer, None, False)
    texts = [prompter([{"role": "user", "content": prompt}]) for prompt in prompt_set.prompts]
    shared = {"length": args.length, "tokens_a_step": args.tokens_a_step, "kernel_size": args.kernel_size}
    folder = SampleFolder(args.output, shared | identity(None, model), processes.rank)
    make_answers(args, folder, settings, (model, tokenizer, texts, processes))
    if processes.is_first:
        rows = make_rows([sample for sample in folder.samples() if "setting" in sample], list(settings))
        run = describe_run("python -m benchmarks.speed_quality", args.device)
        write_json(args.output / "table.json", run | {"rows": rows, "settings": settings})
        (args.output / "table.md").write_text(to_markdown(rows), encoding="utf-8")
        save(draw(rows), args.output / "trade_off.png")
        print(to_markdown(rows))


if __name__ == "__main__":
    main()
