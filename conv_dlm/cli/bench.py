"""Time generation: decode types and plain loops x lengths x steps x batch sizes x caches, in one table.

The time of a run is split into that of the model's forwards and that of the loop around them. Tokens after
the end of the text don't count. `x floor` compares forwards, and whole runs, with the least time that this device needs
for what the forwards compute; its rates are measured first, with a plain matrix product and plain passes over memory.
Figures are medians after one warm-up run; --output has their spread and everything else. Plain loops are never compiled
and, except for dual_cache, keep no keys and values.

With --shape weights and prompts are random: the time is meaningful, but tokens per forward of decode types that go by
confidence are not. Otherwise the model answers the prompts of --data, or a few built-in ones.
"""

import argparse
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conv_dlm.cli.notes import note
from conv_dlm.cli.options import add_generation_options, add_model_options, decode_type, generation_options
from conv_dlm.cli.parser import Parser
from conv_dlm.cli.progress import with_progress
from conv_dlm.cli.prompts import read_prompts

if TYPE_CHECKING:  # imports torch and Transformers
    from conv_dlm.cost.cases import Case
    from conv_dlm.cost.floor import Peaks
    from conv_dlm.cost.subject import Loaded, Subject
    from conv_dlm.cost.timing import Bench

SUMMARY = "time generation, beside plain loops and a floor"
USAGE = "conv-dlm bench [--model NAME | --shape NAME] [options]"
EXAMPLES = """examples:
  conv-dlm bench
  conv-dlm bench --shape llada-8b --decode-types conv llada --max-new-tokens 256 512 --steps 64 --batch-sizes 1 8
  conv-dlm bench --shape llada-8b --device cuda --length 32k --decode-types llada --block-length 32 --caches dual
  conv-dlm bench --model GSAI-ML/LLaDA-8B-Instruct --data questions.jsonl --decode-types llada threshold \\
    --block-length 32 --caches none prefix dual window --output outputs/bench.json
"""
LARGEST = 2**31  # of counts; far more than any memory has room for
WITH_WEIGHTS_ONLY = ("tokenizer", "data", "system", "raw")  # options that make no sense with random weights


def add_arguments(parser: Parser) -> None:
    from conv_dlm.cost.cases import BASELINES, VARIED

    parser.epilog = EXAMPLES
    add = parser.add_argument_group("what is timed", "Every combination that can be.").add_argument
    numbers: dict[str, Any] = {"nargs": "+", "type": int, "metavar": "N"}
    types = ["conv", "llada", "threshold", "conv_threshold"]
    add("--decode-types", nargs="+", type=decode_type, default=types, metavar="TYPE",
        help=f"see below (default: {' '.join(types)})")
    add("--baselines", nargs="+", choices=[*BASELINES, "none"], default=list(BASELINES), metavar="NAME",
        help=f"plain loops: {', '.join(f'{name} ({loop.summary})' for name, loop in BASELINES.items())}; or none "
        "(default: all)")
    add("--max-new-tokens", **numbers, default=[128], help="L, lengths of the response (default: 128)")
    add("--length", type=_length, metavar="N",
        help="positions of prompt and longest response together, such as 32k: prompts are made as long, and the memory "
        "is said")
    add("--steps", **numbers, default=[32], help="S, of what reads it (default: 32)")
    add("--batch-sizes", **numbers, default=[1], help="prompts at a time (default: 1)")
    caches = ["none", "prefix", "dual", "window", "block", "sub_block"]
    add("--caches", nargs="+", choices=caches, default=["none"], metavar="NAME",
        help=f"of keys and values: {', '.join(caches)}; the last two where a model sees block by block (default: none)")
    add = parser.add_argument_group("how").add_argument
    add("--repeats", type=int, default=3, metavar="N", help="runs with each seed (default: 3)")
    add("--seeds", **numbers, default=[0], help="what draws nothing at random takes the first (default: 0)")
    add("--no-memory", action="store_true", help="don't measure the peak: on a CPU it takes a process for each case")
    add("--data", metavar="FILE", help="prompts, all of which each run answers: .jsonl, else one a line")
    add("--field", metavar="NAME", default="prompt", help="where .jsonl has the prompt (default: prompt)")
    add("--output", metavar="FILE", help="write all figures here, as JSON, after each case")
    add_model_options(parser, without=("seed",))
    parser.add_argument("--shape", metavar="NAME", help="random weights: llada-8b, mdlm-small, embedded")
    add_generation_options(parser, without=VARIED)


def run(args: argparse.Namespace) -> int:
    from conv_dlm.cost.cases import VARIED, make_cases

    options = generation_options(args, without=VARIED)
    args.baselines = [name for name in args.baselines if name != "none"]
    _check(args, options)
    cases = make_cases(
        args.decode_types, args.baselines, args.max_new_tokens, args.steps, args.batch_sizes, args.caches, options
    )
    subject = _subject(args)
    loaded = _load(subject, args)
    peaks = _measure_device(loaded, args)

    from conv_dlm.cost.timing import Bench

    rows, left_out = _time(args, Bench(subject, loaded, peaks), cases, _record(args, subject, loaded, peaks))
    if not rows:
        raise ValueError(f"Nothing could be timed; the first case: {left_out[0]['reason']}")
    return 0


def _check(args: argparse.Namespace, options: dict[str, Any]) -> None:
    """Refuse before anything is loaded what can't be done, or makes no sense together."""
    from conv_dlm.cost.cases import check_options
    from conv_dlm.cost.shapes import shape_config

    for name in ("max_new_tokens", "steps", "batch_sizes", "repeats"):
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value < 1:
                raise ValueError(f"`--{name.replace('_', '-')}`={value} must be at least 1.")
            if value >= LARGEST:
                raise ValueError(f"`--{name.replace('_', '-')}`={value} must be below {LARGEST}.")
    if args.length is not None and args.length <= max(args.max_new_tokens):
        longest = max(args.max_new_tokens)
        raise ValueError(f"`--length`={args.length} leaves no room for a prompt beside `--max-new-tokens`={longest}.")
    if args.shape is not None:
        shape_config(args.shape)
        if args.model is not None:
            raise ValueError("Give `--model` or `--shape`, not both.")
        for name in WITH_WEIGHTS_ONLY:
            if getattr(args, name):
                raise ValueError(f"`--{name}` has no effect with `--shape`: weights and prompts are random; drop it.")
    check_options(args.decode_types, args.caches, args.baselines, options)
    if args.output is not None:
        _check_output(Path(args.output))


def _check_output(path: Path) -> None:
    """Refuse a place that can't be written to, or holds something else than figures of a former run."""
    from conv_dlm.utils.files import read_text
    from conv_dlm.utils.text import from_json

    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise ValueError(f"`--output`={path} is a folder; name a file.")
    if path.is_file() and path.stat().st_size:
        try:
            old = from_json(read_text(path))
        except ValueError:
            old = None
        if not isinstance(old, dict) or "cases" not in old:
            raise ValueError(f"`--output`={path} holds something else than figures of `conv-dlm bench`; name another.")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise ValueError(f"`--output`={path} can't be written to; name another place.")


def _subject(args: argparse.Namespace) -> "Subject":
    from conv_dlm.cost.subject import Subject

    return Subject(
        model=args.model,
        shape=args.shape,
        tokenizer=args.tokenizer,
        device=args.device,
        dtype=args.dtype,
        quantize=args.quantize,
        prompts=None if args.data is None else tuple(read_prompts(args.data, args.field)),
        system=args.system,
        raw=args.raw,
        prompt_tokens=None if args.length is None else args.length - max(args.max_new_tokens),
    )


def _length(text: str) -> int:
    """A number of positions; "32k" is 32 times 1,024."""
    number, thousands = (text[:-1], 1024) if text.lower().endswith("k") else (text, 1)
    if not number.isdecimal() or not 1 <= int(number) * thousands < LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no length, such as 4096 or 32k")
    return int(number) * thousands


def _load(subject: "Subject", args: argparse.Namespace) -> "Loaded":
    from conv_dlm.cli.session import quiet_loading

    quiet_loading(args.model)
    loaded = subject.load()
    made_room = loaded.make_room(max(args.max_new_tokens))
    if made_room:
        note(made_room)
    return loaded


def _measure_device(loaded: "Loaded", args: argparse.Namespace) -> "Peaks":
    from conv_dlm.cost.device_speed import measure_peaks
    from conv_dlm.cost.sizes import Shape
    from conv_dlm.cost.timing import weight_bytes

    model = loaded.model
    longest = loaded.batches(1)[0]["input_ids"].shape[1] + max(args.max_new_tokens)
    positions = max(args.batch_sizes) * longest
    peaks = measure_peaks(Shape.of(model.config), positions, weight_bytes(model), model.device, model.dtype)
    note(
        f"measured here: {peaks.operations / 1e9:,.0f} GFLOP/s in {str(model.dtype).removeprefix('torch.')}, "
        f"{peaks.bandwidth / 1e9:,.1f} GB/s"
    )
    return peaks


def _record(args: argparse.Namespace, subject: "Subject", loaded: "Loaded", peaks: "Peaks") -> dict[str, Any]:
    """What the file says before its cases."""
    from dataclasses import asdict

    from conv_dlm.cli.session import model_settings
    from conv_dlm.cost.sizes import Shape
    from conv_dlm.utils.environment import describe_run
    from conv_dlm.utils.files import fingerprint

    settings = model_settings(args, loaded.model)
    if subject.shape is not None:
        settings |= {"model": None, "weights": "random"}
    return describe_run("conv-dlm", loaded.model.device) | {
        "settings": settings | {"shape": subject.shape, "repeats": args.repeats, "seeds": args.seeds},
        "prompts": None if loaded.texts is None else fingerprint(loaded.texts),
        "clock": "wall",
        "sizes": asdict(Shape.of(loaded.model.config)),
        "peaks": {"operations_per_second": peaks.operations, "bytes_per_second": peaks.bandwidth},
    }


def _time(
    args: argparse.Namespace, bench: "Bench", cases: "list[Case]", record: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Time what can be timed, keep the file up to date, and show the table, even of a run that is interrupted."""
    import torch

    from conv_dlm.cost.table import to_text
    from conv_dlm.utils.files import write_json

    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    try:
        for case in with_progress(cases, lambda _: 1, "case"):
            try:
                rows.append(bench.measure(case, args.repeats, args.seeds, not args.no_memory))
            except (ValueError, torch.OutOfMemoryError) as error:
                left_out.append({"case": str(case), "reason": str(error).splitlines()[0]})
            if args.output is not None:
                write_json(Path(args.output), record | {"cases": rows, "left_out": left_out})
    finally:
        for one in left_out:
            note(f"left out: {one['case']}: {one['reason']}")
        if rows:
            print(to_text(rows, shutil.get_terminal_size((100, 24)).columns), end="", flush=True)
    if args.length is not None and (peaks := [row["peak_mb"] for row in rows if row["peak_mb"] is not None]):
        from conv_dlm.cost.timing import weight_bytes

        weights = weight_bytes(bench.loaded.model) / 1e6
        note(f"{args.length:,} positions take up to {max(peaks):,.0f} MB, of which {weights:,.0f} MB are weights")
    if args.output is not None:
        note(f"all figures: {args.output}")
    return rows, left_out
