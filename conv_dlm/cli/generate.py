"""Answer a prompt, or many from a file, by denoising.

A terminal shows the answer while it is denoised: unmasked tokens plain, the rest of the draft dimmed. A pipe gets plain
text. With --input or --output one JSON object is written per prompt, with the fields index, prompt, text, forwards,
tokens, seconds and settings; the same command resumes an interrupted --output.
"""

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from conv_dlm.cli.notes import note
from conv_dlm.cli.options import (
    add_constraint_options,
    add_generation_options,
    add_model_options,
    constraint_of,
    generation_options,
    option_settings,
)
from conv_dlm.cli.parser import Parser
from conv_dlm.cli.prompts import read_prompts, read_stdin
from conv_dlm.cli.results import Results
from conv_dlm.utils.text import check_bytes

if TYPE_CHECKING:  # imports torch and Transformers
    from conv_dlm.cli.session import Completion, Session

SUMMARY = "answer a prompt, or many from a file"
USAGE = "conv-dlm generate [PROMPT] [options]"
EXAMPLES = """examples:
  conv-dlm generate "A box holds 12 pencils. How many do 3 boxes hold?"
  conv-dlm generate "..." --decode-type llada --block-length 32 --steps 64
  conv-dlm generate "..." --model GSAI-ML/LLaDA-8B-Instruct --max-new-tokens 512
  conv-dlm generate --raw --max-new-tokens 0 "The box holds<|mask|><|mask|><|mask|> pencils."
  conv-dlm generate "..." --max-new-tokens 96 --json-schema answer.json
  conv-dlm generate --input questions.txt --output answers.jsonl --batch-size 8
  cat prompts.jsonl | conv-dlm generate --input - > answers.jsonl
"""


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("prompt", nargs="?", help="the prompt; without it standard input is the prompt")
    parser.add_argument(
        "--input", metavar="FILE", help="prompts: .jsonl, else one a line; - is standard input (text or JSON lines)"
    )
    parser.add_argument("--field", default="prompt", help="where .jsonl has the prompt (default: prompt)")
    parser.add_argument("--output", metavar="FILE", help="write JSON lines here, or resume the file")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="prompts at a time (default: 1)")
    add_model_options(parser)
    add_generation_options(parser)
    add_constraint_options(parser)


def run(args: argparse.Namespace) -> int:
    options, constraint = generation_options(args), constraint_of(args)
    if args.prompt is not None and args.input is not None:
        raise ValueError("Give a prompt or `--input`, not both.")
    if args.batch_size < 1:
        raise ValueError(f"`--batch-size`={args.batch_size} must be at least 1.")
    prompts = [_single_prompt(args.prompt)] if args.input is None else read_prompts(args.input, args.field)

    from conv_dlm.cli.session import Session, summary

    session = Session(args, options, constraint)
    if args.input is None and args.output is None:
        answers = session.answer([session.prompt(prompts[0])], [0], session.streamer())
        note(summary(answers))
        return 0
    with Results(args.output, prompts, session.settings(option_settings())) as results:
        return _run_many(session, results, args.batch_size)


def _run_many(session: "Session", results: Results, batch_size: int) -> int:
    """Answer what is pending, batch by batch; says where a run stands when it is interrupted."""
    from tqdm import tqdm

    from conv_dlm.cli.session import Completion, summary

    todo, total = list(results.pending), len(results.prompts)
    answers: list[Completion] = []
    show_bar = total > 1 and sys.stderr.isatty() and not (results.path is None and sys.stdout.isatty())
    try:
        with tqdm(total=total, initial=total - len(todo), unit="prompt", disable=not show_bar) as bar:
            for start in range(0, len(todo), batch_size):
                batch = todo[start : start + batch_size]
                for index, answer in zip(batch, _answer(session, results.prompts, batch), strict=True):
                    results.write(index, asdict(answer))
                    answers.append(answer)
                bar.update(len(batch))
    except KeyboardInterrupt:
        if results.path is None:
            raise
        done = total - len(results.pending)
        raise KeyboardInterrupt(
            f"interrupted: {done} of {total} rows are in {results.path}; the same command resumes from there"
        ) from None
    if answers:
        note(f"{len(answers)} prompts: {summary(answers)}")
    else:
        note(f"all {total} prompts are answered in {results.path} already")
    return 0


def _answer(session: "Session", prompts: list[str], batch: list[int]) -> "list[Completion]":
    try:
        return session.answer([session.prompt(prompts[index]) for index in batch], batch)
    except ValueError as error:
        which = f"prompt {batch[0]}" if len(batch) == 1 else f"prompts {batch[0]} to {batch[-1]}"
        raise ValueError(f"{which}: {error}") from error


def _single_prompt(prompt: str | None) -> str:
    if prompt is not None:
        return check_bytes("The prompt", prompt)
    if sys.stdin.isatty():
        raise ValueError("Give a prompt, or `--input FILE`, or pipe one in.")
    return read_stdin().rstrip("\n")
