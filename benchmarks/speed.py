"""What the window cache and the threshold gain, side by side: plain loops, Conv without and with what makes it faster.

    python -m benchmarks.speed --results benchmarks/results/speed_cpu.json
    python -m benchmarks.speed --shape llada-8b --device cuda --batch-sizes 1 8 --results outputs/speed_cuda.json
    python -m benchmarks.speed --shape llada-8b --device cuda --quantize 4bit --results outputs/speed_4bit.json
    python -m benchmarks.speed --decode-types all --results outputs/speed_types.json
    python -m benchmarks.speed --decode-types all --shape llada-8b --device cuda --results outputs/speed_types_8b.json

The embedded model answers a question, or a model of a named shape with random weights fills its canvas. Figures are
those of `conv-dlm bench`, whose instruments these are: tokens before the end of text alone count, time is the wall's,
and the floor is what the device needs at least. Cases of one length follow each other on the same machine. What
`--decode-types` names is timed in their place, without and with the window cache; what can't be is left out by name.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from conv_dlm.cost.cases import Case
from conv_dlm.cost.device_speed import measure_peaks
from conv_dlm.cost.shapes import SHAPES
from conv_dlm.cost.sizes import Shape
from conv_dlm.cost.subject import Subject
from conv_dlm.cost.table import to_text
from conv_dlm.cost.timing import Bench, weight_bytes
from conv_dlm.generation import DECODE_TYPES, UNMASKING_RULES
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_json

TOKENS_A_STEP = 8
BLOCK, KERNEL = 32, 32


def make_cases(length: int, batch: int, args: argparse.Namespace, has_end: bool = True) -> dict[str, Case]:
    """Plain loops, then ours, of one length and batch, by name.

    has_end (`bool`): whether the model has an end token; one with random weights has none.
    """
    steps, kernel = length // args.tokens_a_step, {"kernel_size": KERNEL}
    window = kernel | {"cache_margin": args.margin, "cache_refresh_interval": args.interval}
    near = {"lookahead": args.lookahead}
    blocks = {"threshold": args.thresholds[0], "block_length": BLOCK}
    cases = {
        "plain llada": Case("llada", True, length, batch, steps, None, {"block_length": BLOCK}),
        "plain threshold": Case("threshold", True, length, batch, None, None, blocks),
        "plain dual cache": Case("dual_cache", True, length, batch, None, None, blocks),
        "threshold, dual": Case("threshold", False, length, batch, None, "dual", blocks),
        "conv": Case("conv", False, length, batch, steps, None, kernel),
        "conv, window": Case("conv", False, length, batch, steps, "window", window),
        "conv, window, lookahead": Case("conv", False, length, batch, steps, "window", window | near),
    }
    for threshold in args.thresholds:
        # without it the positions behind an end token, of which the model is sure, are decided before the text is
        options = window | {"threshold": threshold} | ({"eos_fill": True} if has_end else {})
        name = f"conv_threshold {threshold:g}, window"
        cases[name] = Case("conv_threshold", False, length, batch, None, "window", options)
        cases[f"{name}, lookahead"] = Case("conv_threshold", False, length, batch, None, "window", options | near)
    if args.compile:
        ours = {name: case for name, case in cases.items() if not case.is_baseline}
        cases |= {name: replace(case, options={**case.options, "compile": True}) for name, case in ours.items()}
    return cases


def make_type_cases(length: int, batch: int, args: argparse.Namespace) -> dict[str, Case]:
    """Decode types with the same kernel, blocks and steps, each without and with the window cache, by name."""
    cases = {}
    for name in every_type() if args.decode_types == ["all"] else args.decode_types:
        fields = DECODE_TYPES.find(name).fields
        steps = length // args.tokens_a_step if "steps" in fields else None
        sizes = {"kernel_size": KERNEL, "block_length": BLOCK}
        options = {field: value for field, value in sizes.items() if field in fields}
        window = {"cache_margin": args.margin, "cache_refresh_interval": args.interval}
        cases[name] = Case(name, False, length, batch, steps, None, options)
        cases[f"{name}, window"] = Case(name, False, length, batch, steps, "window", options | window)
    return cases


def every_type() -> list[str]:
    """The decode types that one model is enough for."""
    return [name for name, kind in DECODE_TYPES.items() if UNMASKING_RULES[kind.rule].is_alone()]


def to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of a page."""
    lines = [
        "| | L | tokens / s | tokens / forward | forwards | forward, ms | loop, % of the time | × floor |",
        "|-|-:|-:|-:|-:|-:|-:|-:|",
    ]
    for row in rows:
        tokens, share, floor = row["tokens_per_second"][0], row["loop_share"][0], row["forward_above_floor"][0]
        lines.append(
            f"| {row['setting']} | {row['max_new_tokens']} | {tokens:.1f} | {row['tokens_per_forward'][0]:.2f} | "
            f"{row['forwards'][0]:.0f} | {row['forward_ms'][0]:.0f} | {100 * share:.1f} | {floor:.2f} |"
        )
    return "\n".join(lines) + "\n"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", choices=list(SHAPES), help="random weights; without it the embedded model")
    add("--device", default="cpu")
    add("--dtype", help="of the weights; float32 on a CPU, bfloat16 elsewhere by default")
    add("--quantize", choices=("8bit", "4bit"))
    add("--lengths", nargs="+", type=int, default=[512, 1024])
    add("--batch-sizes", nargs="+", type=int, default=[1])
    add("--decode-types", nargs="+", metavar="TYPE", help="time these decode types, or all, in place of the cases here")
    add("--tokens-a-step", type=int, default=TOKENS_A_STEP, help="of types that take a number of steps")
    add("--thresholds", nargs="+", type=float, default=[0.9, 0.2])
    add("--interval", type=int, default=16, help="of full forwards with the window cache")
    add("--margin", type=int, default=0, help="of the window cache")
    add("--lookahead", type=int, default=128)
    add("--repeats", type=int, default=1)
    add("--without", nargs="+", default=[], metavar="CASE", help="cases to leave out, as the table names them")
    add("--compile", action="store_true", help="compile the forwards of ours")
    add("--no-memory", action="store_true")
    add("--results", type=Path, default=Path("outputs/speed.json"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    subject = Subject(shape=args.shape, device=args.device, dtype=args.dtype, quantize=args.quantize)
    loaded = subject.load()
    model = loaded.model
    # a canvas behind the embedded model's context is timed all the same; its text means nothing there
    model.config.max_position_embeddings = max(model.config.max_position_embeddings, 256 + max(args.lengths))
    shape, positions = Shape.of(model.config), max(args.batch_sizes) * max(args.lengths)
    peaks = measure_peaks(shape, positions, weight_bytes(model), model.device, model.dtype)
    settings = {name: value for name, value in vars(args).items() if name != "results"}
    run = describe_run("python -m benchmarks.speed", args.device) | {"settings": settings, "peaks": asdict(peaks)}
    run |= {"threads": torch.get_num_threads()}
    has_end = model.generation_config.eos_token_id is not None
    bench, rows, left_out = Bench(subject, loaded, peaks), list[dict[str, Any]](), dict[str, str]()
    for length, batch in itertools.product(args.lengths, args.batch_sizes):
        types = args.decode_types is not None
        cases = make_type_cases(length, batch, args) if types else make_cases(length, batch, args, has_end)
        for name, case in cases.items():
            if name in args.without or name in left_out:
                continue
            try:
                row = bench.measure(case, args.repeats, [0], memory=not args.no_memory) | {"setting": name}
            except ValueError as error:
                if not types:
                    raise
                left_out[name] = str(error)
                print(f"{name}: {error}", flush=True)
            else:
                print(to_text([row], 140).splitlines()[-1], flush=True)
                rows.append(row)
            write_json(args.results, run | {"rows": rows, "left_out": left_out})
    print(to_text(rows, 140))


if __name__ == "__main__":
    main()
