"""Decode types side by side on GSM8K: how well the answers are written, at which cost.

    python -m benchmarks.gsm8k_grid --questions 200 --results benchmarks/results/gsm8k_grid.json

All settings (decode type x steps) go forward together, a block of questions at a time, so that a run that is stopped
early leaves a fair table, and the same command resumes it. Each row has a generator of its own, seeded by its question:
a sample doesn't depend on its batch (up to rounding), and all settings see the same noise.
"""

import argparse
import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import conv_dlm
from benchmarks.environment import describe_run
from benchmarks.grid_report import GridReport
from benchmarks.gsm8k import Question, answer_losses, load_questions
from benchmarks.samples import SampleFile

DECODE_TYPES = ("categorical", "topk", "conv", "semi_ar", "llada", "llada_conv")
STEPS = (16, 32, 64, 128)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", help="name or folder; the embedded checkpoint if not given")
    add("--data", type=Path, help="JSONL with question and answer in each line; GSM8K's test split if not given")
    add("--questions", type=int, default=200, help="number of questions, from the first on")
    add_decoding_options(parser)
    add("--samples", type=Path, default=Path("outputs/gsm8k_grid.jsonl"), help="every answer; resumed if it exists")
    add("--results", type=Path, default=Path("outputs/gsm8k_grid.json"), help="the table, with a .md beside it")
    return parser


def add_decoding_options(parser: argparse.ArgumentParser, decode_types: Sequence[str] = DECODE_TYPES) -> None:
    """The options that `schedule` and `answer` read, and those of loading a model."""
    add = parser.add_argument
    add("--decode-types", nargs="+", default=decode_types, choices=sorted(conv_dlm.DECODE_TYPES), metavar="TYPE")
    add("--steps", nargs="+", type=int, default=STEPS)
    add("--new-tokens", type=int, default=192)
    add("--kernel-size", type=int, default=32, help="of types with a convolution")
    add("--block-length", type=int, default=32, help="of types with blocks")
    add("--seed", type=int, default=0)
    add("--batch-size", type=int, default=8)
    add("--block", type=int, help="questions after which the next setting has its turn; one batch if not given")
    add("--minutes", type=float, help="start no new batch after so many minutes; 0 only writes the results")
    add("--device", default="cpu")
    add("--dtype", default="float32", help="of the weights; on CPUs without AMX float32 is faster than bfloat16")


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    started = time.monotonic()
    folder = args.model or conv_dlm.embedded_checkpoint()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=args.dtype).to(args.device).eval()
    questions = load_questions(tokenizer, args.questions, args.data)
    settings = _settings(args, model)
    file = SampleFile(args.samples, settings)

    def may_go_on() -> bool:
        return args.minutes is None or time.monotonic() - started < 60 * args.minutes

    try:
        if may_go_on() and not file.keys("loss"):
            losses = answer_losses(model, tokenizer, questions, args.seed, args.batch_size)
            file.add([{"index": i, "loss": loss, "tokens": tokens} for i, (loss, tokens) in enumerate(losses)])
        done = file.keys("decode_type", "steps", "index")
        for decode_type, steps, batch in schedule(args, questions):
            batch = [question for question in batch if (decode_type, steps, question.index) not in done]
            if batch and not may_go_on():
                break
            if batch:
                file.add(answer(model, tokenizer, batch, args, decode_type, steps))
                print(f"{decode_type} {steps} steps: {len(batch)} questions up to {batch[-1].index}", flush=True)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.")
    run = describe_run("benchmarks.gsm8k_grid", args.device)
    references = {question.index: question.answer for question in questions}
    GridReport(file.samples, references, tokenizer).write(args.results, run | {"settings": settings})


def schedule(args: argparse.Namespace, questions: list[Question]) -> Iterator[tuple[str, int, list[Question]]]:
    """Decode type, steps and batch of everything to do: block after block, in each all settings, few steps first."""
    block = args.block or args.batch_size
    for start in range(0, len(questions), block):
        by_length = sorted(questions[start : start + block], key=lambda question: len(question.prompt))
        for steps, decode_type in itertools.product(sorted(args.steps), args.decode_types):
            for first in range(0, len(by_length), args.batch_size):
                yield decode_type, steps, by_length[first : first + args.batch_size]


def answer(
    model: Any, tokenizer: Any, batch: list[Question], args: argparse.Namespace, decode_type: str, steps: int
) -> list[dict[str, Any]]:
    """One sample for each question of the batch; its seconds are its share of the batch's."""
    prompts = tokenizer([q.prompt for q in batch], padding=True, add_special_tokens=False, return_tensors="pt")
    prompts = prompts.to(model.device)
    fields = conv_dlm.DECODE_TYPES[decode_type].fields
    own = {name: getattr(args, name) for name in ("kernel_size", "block_length") if name in fields}
    _synchronize(model.device)
    start = time.perf_counter()
    out = model.generate(
        **prompts,
        decode_type=decode_type,
        steps=steps,
        max_new_tokens=args.new_tokens,
        generator=[torch.Generator().manual_seed(args.seed * 1_000_000 + q.index) for q in batch],
        return_dict_in_generate=True,
        **own,
    )
    _synchronize(model.device)
    seconds = time.perf_counter() - start
    responses = out.sequences[:, prompts.input_ids.shape[1] :].tolist()
    return [
        {
            "decode_type": decode_type,
            "steps": steps,
            "index": question.index,
            "ids": ids[: ids.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in ids else ids,
            "forwards": forwards,
            "seconds": seconds / len(batch),
        }
        for question, ids, forwards in zip(batch, responses, out.forwards.tolist(), strict=True)
    ]


def _settings(args: argparse.Namespace, model: Any) -> dict[str, Any]:
    """What a sample depends on, and its speed; two runs may share a file if and only if these agree."""
    names = ("questions", "new_tokens", "kernel_size", "block_length", "seed", "batch_size", "dtype")
    return {name: getattr(args, name) for name in names} | {
        "model": Path(args.model).name if args.model else "embedded",
        "weights": weights_digest(model),
        "device": torch.device(args.device).type,
        "threads": torch.get_num_threads(),
    }


def weights_digest(model: Any) -> str:
    """Sixteen digits that say which weights these are."""
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return weights.hexdigest()[:16]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
