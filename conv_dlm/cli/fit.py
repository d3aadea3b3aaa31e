"""Say whether a model fits on a device, from its config alone, before downloading any weights.

For generating and for training adapters: the weights in each storage format, the peak of a step, and the cache of
keys and values if there is one. The step is that of the decode type that takes most, which may unmask all new tokens
at once. Up to 85 % of the free memory fits, up to 97 % is tight. In 8 and 4 bits, what bitsandbytes doesn't quantise
is bfloat16.
"""

import argparse
import json
from importlib.util import find_spec
from logging import ERROR, getLogger
from typing import TYPE_CHECKING, Any

from conv_dlm.cli.notes import note
from conv_dlm.cli.parser import Parser
from conv_dlm.cost.counting import DEFAULT_RANK, GenerationStep
from conv_dlm.cost.device_memory import GIB, VERDICTS
from conv_dlm.cost.shapes import SHAPES, shape_config
from conv_dlm.generation.configuration import DEFAULT_MAX_NEW_TOKENS
from conv_dlm.generation.parts.cache_policies import CACHE_POLICIES

if TYPE_CHECKING:  # imports torch and Transformers
    from conv_dlm.cost.report import MemoryRow

SUMMARY = "say whether a model fits on a device, from its config alone"
USAGE = "conv-dlm fit [MODEL] [options]"
EXAMPLES = """examples:
  conv-dlm fit GSAI-ML/LLaDA-8B-Instruct --max-new-tokens 512 --batch-size 8
  conv-dlm fit --shape llada-8b --memory 24
  conv-dlm fit --shape mdlm-small --json
"""
LARGEST = 2**31  # of counts; far more than any memory has room for
LABELS = {"float32": "float32", "bfloat16": "bf16", "8bit": "8-bit", "4bit": "4-bit", "nf4": "4-bit"}


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="name on the Hub or folder (default: the embedded model)")
    add("--shape", choices=list(SHAPES), help="a model by its shape, without a network")
    add("--max-new-tokens", type=int, default=DEFAULT_MAX_NEW_TOKENS, metavar="N",
        help=f"length L of the response (default: {DEFAULT_MAX_NEW_TOKENS})")  # fmt: skip
    add("--prompt-tokens", type=int, default=GenerationStep.prompt_tokens, metavar="N",
        help=f"length of the prompt (default: {GenerationStep.prompt_tokens})")  # fmt: skip
    add("--batch-size", type=int, default=1, metavar="N", help="rows at a time (default: 1)")
    add("--cache-implementation", choices=list(CACHE_POLICIES), help="count the keys and values of the whole canvas")
    add("--guidance-scale", type=float, default=1.0, metavar="X", help="other than 1, guidance doubles the rows")
    add("--lora-r", type=int, default=DEFAULT_RANK, metavar="R", help=f"rank of adapters (default: {DEFAULT_RANK})")
    add("--device", help="cpu, cuda, cuda:1, mps (default: the first found; with --memory, cuda)")
    add("--memory", type=float, metavar="GIB", help="free memory of a device that isn't here")
    add("--json", action="store_true", help="the same numbers as JSON, in bytes")


def run(args: argparse.Namespace) -> int:
    _check(args)
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from conv_dlm.answering.embedded import EMBEDDED_NAME
    from conv_dlm.answering.loading import load_config
    from conv_dlm.cost.report import generating
    from conv_dlm.cost.sizes import Parameters, Shape

    logging.set_verbosity_error()
    getLogger("huggingface_hub").setLevel(ERROR)  # its retries; the error comes by itself
    config = shape_config(args.shape) if args.shape else load_config(args.model)
    shape = Shape.of(config)
    device, free = _device(args.device, args.memory)
    asked = GenerationStep(
        rows=args.batch_size,
        prompt_tokens=args.prompt_tokens,
        new_tokens=args.max_new_tokens,
        guided=args.guidance_scale != 1,
        cached=args.cache_implementation is not None,
        device_type=torch.device(device).type,
    )
    _check_context(asked, shape.context)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    name = args.shape or args.model or EMBEDDED_NAME
    names = ("max_new_tokens", "prompt_tokens", "batch_size", "cache_implementation", "guidance_scale", "lora_r")
    report: dict[str, Any] = {"model": name, "parameters": Parameters.of(model).total}
    report |= {"device": device, "free": free, "asked": {key: getattr(args, key) for key in names}}
    generate = generating(model, asked, free)
    train = _training(model, asked, args.lora_r, free)
    if args.json:
        rows = {"generate": [e.to_dict() for e in generate], "train": [e.to_dict() for e in train]}
        print(json.dumps(report | rows, indent=1))
    else:
        print(_text(report, asked, generate, train))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.model is not None and args.shape is not None:
        raise ValueError(f"`--shape`={args.shape} is a model already; drop it, or {args.model!r}.")
    for name, least in (("max_new_tokens", 1), ("prompt_tokens", 0), ("batch_size", 1), ("lora_r", 1)):
        if getattr(args, name) < least:
            raise ValueError(f"`--{name.replace('_', '-')}`={getattr(args, name)} must be at least {least}.")
        if getattr(args, name) >= LARGEST:
            raise ValueError(f"`--{name.replace('_', '-')}`={getattr(args, name)} must be below {LARGEST}.")
    if args.memory is not None and not 0 < args.memory < float("inf"):
        raise ValueError(f"`--memory`={args.memory} must be above 0.")
    if not 0 <= args.guidance_scale < float("inf"):
        raise ValueError(f"`--guidance-scale`={args.guidance_scale} must not be below 0, and finite; 1 is off.")


def _training(model: Any, asked: GenerationStep, rank: int, free: float) -> "list[MemoryRow]":
    """With adapters where the recipes put them; nothing where PEFT is not installed."""
    from conv_dlm.cost.report import training_adapters
    from conv_dlm.models.adapter_targets import DEFAULT_TARGETS

    if find_spec("peft") is None:
        note("training is left out: it needs `pip install conv-dlm[train]`")
        return []
    targets = DEFAULT_TARGETS.get(model.config.model_type)
    return training_adapters(model, asked, rank, tuple(targets) if isinstance(targets, list) else targets, free)


def _check_context(asked: GenerationStep, context: int | None) -> None:
    if context is not None and asked.canvas > context:
        raise ValueError(
            f"`--prompt-tokens`={asked.prompt_tokens} and `--max-new-tokens`={asked.new_tokens} need a context of "
            f"{asked.canvas}, but the model's is {context}; lower one of them."
        )


def _device(name: str | None, memory: float | None) -> tuple[str, int]:
    """Name of a device and its free bytes; one that `memory` (GiB) is given for need not be here."""
    import torch

    from conv_dlm.answering.loading import find_device
    from conv_dlm.cost.device_memory import free_memory

    if memory is not None:
        try:
            return str(torch.device(name or "cuda")), int(memory * GIB)
        except RuntimeError as error:
            raise ValueError(f"`--device`={name} is no device: {str(error).splitlines()[0]}") from error
    if name == "auto":
        raise ValueError("`--device`=auto spreads over several devices; name one, and give the memory of all together "
                         "by `--memory`.")  # fmt: skip
    device = torch.device(find_device(name))
    free = free_memory(device)
    if free is None:
        raise ValueError(f"`--device`={device} doesn't tell how much memory is free; say it by `--memory`.")
    return str(device), free


def _text(report: dict[str, Any], asked: GenerationStep, generate: "list[MemoryRow]", train: "list[MemoryRow]") -> str:
    guidance = ", with guidance" if asked.guided else ""
    head = [
        f"{report['model']}: {report['parameters']:,} parameters",
        f"{report['device']}: {report['free'] / GIB:.1f} GiB free",
        f"batch size {asked.rows}, {asked.prompt_tokens} + {asked.new_tokens} positions{guidance}; sizes in GiB",
    ]
    generating: list[list[Any]] = [[LABELS[e.storage], e.weights, e.activations, e.cache, e] for e in generate]
    training: list[list[Any]] = [[_label(e), e.weights, e.activations, e.adapters, e] for e in train]
    rank = report["asked"]["lora_r"]
    parts = {"generate": ("cache", generating)}
    if training:
        parts[f"train, rank {rank}"] = ("adapters", training)
    closing = [_what_fits(row[0], row[-1]) for row in generating + training]
    closing = [line for line in closing if line]
    return "\n".join([*head, *_table(parts), *([""] if closing else []), *closing])


def _label(estimate: "MemoryRow") -> str:
    from conv_dlm.cost.report import TRAINING

    return f"{TRAINING[estimate.storage]}{', checkpointing' if estimate.checkpointing else ''}"


def _table(parts: dict[str, tuple[str, list[list[Any]]]]) -> list[str]:
    """Aligned lines: for each part an empty one, a heading and its rows."""
    first = max(len(text) for title, (_, rows) in parts.items() for text in (title, *(row[0] for row in rows)))
    lines = []
    for title, (other, rows) in parts.items():
        cells = [(title, "weights", "activations", other, "total", "verdict", "fits up to batch")]
        for label, *sizes, estimate in rows:
            weights, activations, rest, total = map(_gib, (*sizes, estimate.total))
            cells.append((label, weights, activations, rest, total, estimate.verdict, estimate.largest_batch or "-"))
        lines.append("")
        lines += ["{:{}}  {:>9}  {:>11}  {:>9}  {:>9}  {:8}  {:>16}".format(row[0], first, *row[1:]) for row in cells]
    return lines


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}" if size else "-"


def _what_fits(label: str, estimate: "MemoryRow") -> str:
    """What would fit of a row that doesn't, in a sentence; empty for one that does."""
    if estimate.verdict != VERDICTS[-1]:
        return ""
    ways = []
    if estimate.largest_batch:
        ways.append(f"--batch-size {estimate.largest_batch}")
    if estimate.longest:
        ways.append(f"--max-new-tokens {estimate.longest}")
    return f"{label} would fit with {' or '.join(ways)}" if ways else f"{label} fits at no size"
