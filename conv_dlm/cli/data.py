"""Write training data that a program makes, or check data of one's own before training on it.

`word-problems` writes arithmetic word problems with worked solutions, as JSON lines. `check` says all at once what is
wrong with a file, and its roles, lengths in tokens, cut answers, duplicates and leaks; its exit code is 1 if a row
can't be trained on.

Each word problem has `prompt` and `completion`, as TRL and the trainers here read them, with `level`, `scene`, `form`
and `answer`. The same seed gives the same rows on every machine; train, validation and test share no content.
"""

import argparse
from pathlib import Path
from typing import Any

from conv_dlm.cli.parser import Parser
from conv_dlm.word_problems.problem import FORMS, LEVELS, LIMITS, SPLITS

SUMMARY = "write training data that a program makes, or check a file"
USAGE = "conv-dlm data word-problems --rows N --output FILE [options]\n       conv-dlm data check FILE [options]"
EXAMPLES = """examples:
  conv-dlm data word-problems --seed 1 --rows 100000 --level 1-8 --output problems.jsonl
  conv-dlm data word-problems --rows 1000 --split test --form prose json --output test.jsonl
  conv-dlm data check train.jsonl --held-out test.jsonl --model GSAI-ML/LLaDA-8B-Instruct --max-length 1024
"""


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("kind", choices=["word-problems", "check"], help="what to write, or to check FILE")
    add("file", nargs="?", type=Path, metavar="FILE", help="to check: .jsonl, .json, .csv or .parquet")
    for_check = [
        add("--held-out", type=Path, metavar="FILE", help="rows to evaluate on, which FILE shall not hold"),
        add("--model", metavar="NAME", help="whose tokenizer and limits count (default: the embedded model)"),
        add("--max-length", type=int, metavar="N", help="tokens to which training will cut rows"),
        add("--text-column", default="text", metavar="NAME", help="column of plain texts (default: text)"),
    ]
    for_writing = [
        add("--rows", type=int, metavar="N", help="how many to write"),
        add("--output", type=Path, metavar="FILE", help="JSON lines; replaced if it is there"),
        add("--seed", type=int, default=0, metavar="N", help="which rows (default: 0)"),
        add("--level", default="{}-{}".format(*LEVELS), metavar="N[-N]",
            help="number of operations, or a range of it (default: {}-{})".format(*LEVELS)),
        add("--form", nargs="+", choices=list(FORMS), default=["prose"], metavar="FORM",
            help=f"forms of the solution, equally frequent: {', '.join(FORMS)} (default: prose)"),
        add("--scene", nargs="+", default=[], metavar="NAME", help="kinds of story to keep to (default: all)"),
        add("--alike", type=int, default=1, metavar="N",
            help="so many rows in a row share level and form, for batches with little padding (default: 1)"),
        add("--drill", type=float, default=0.0, metavar="SHARE",
            help="share of these groups that are worksheets, bare sums (default: 0)"),
        add("--plain", action="store_true", help="say the same step of a solution in the same words always"),
        add("--split", choices=SPLITS, default="train",
            help="which of the splits; unseen: wordings and scenes that no other one has (default: train)"),
        add("--size", choices=list(LIMITS), default="small",
            help="of the numbers: up to 200, or 2,000 (default: small)"),
    ]  # fmt: skip
    parser.set_defaults(in_vain={"check": for_writing, "word-problems": for_check})


def run(args: argparse.Namespace) -> int:
    for option in args.in_vain[args.kind]:
        if getattr(args, option.dest) != option.default:
            raise ValueError(f"`{option.option_strings[0]}` has no use for {args.kind}; drop it.")
    if args.kind == "check":
        return check(args)
    from conv_dlm.word_problems.rows import write_rows

    if args.file is not None or args.rows is None or args.output is None:
        raise ValueError("word-problems needs `--rows N` and `--output FILE`, and no other file.")
    if args.rows < 1:
        raise ValueError(f"--rows {args.rows} must be 1 or more.")
    if args.alike < 1:
        raise ValueError(f"--alike {args.alike} must be 1 or more.")
    if not 0 <= args.drill < 1:
        raise ValueError(f"--drill {args.drill:g} must be a share, at least 0 and below 1.")
    if args.output.is_dir():
        raise ValueError(f"--output {args.output} is a folder; name a file in it.")
    levels = read_levels(args.level)
    write_rows(args.output, args.seed, args.rows, args.drill, args.alike, split=args.split, levels=levels,
               forms=args.form, size=args.size, scenes=args.scene, plain=args.plain)  # fmt: skip
    print(f"{args.rows:,} problems written to {args.output}.")
    return 0


def check(args: argparse.Namespace) -> int:
    """Print what is to be said of a file; 1 if a row can't be trained on. Raises ValueError, OSError."""
    if args.file is None:
        raise ValueError("check needs a FILE.")
    if args.max_length is not None and args.max_length < 1:
        raise ValueError(f"--max-length {args.max_length} must be 1 or more.")
    from transformers import AutoTokenizer

    from conv_dlm.answering.embedded import embedded_checkpoint
    from trainers.data_check import check_rows
    from trainers.mdlm_trainer import limits_of

    rows, malformed = read_file(args.file)
    held_out = [] if args.held_out is None else read_file(args.held_out)[0]
    name = args.model or embedded_checkpoint()
    tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"The tokenizer of {name} has no EOS token, so responses could not end.")
    limits = limits_of(name, None, tokenizer)
    report = check_rows(
        rows, tokenizer, limits, max_length=args.max_length, text_column=args.text_column, held_out=held_out
    )
    print("\n".join([*malformed, *report.lines()]))
    return 1 if malformed or report.problems else 0


def read_file(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a file, and a sentence for each that can't be read. Raises ValueError, OSError."""
    if not path.is_file():
        raise ValueError(f"{path} is no file.")
    if path.suffix in (".csv", ".parquet"):
        from datasets import load_dataset

        try:
            return list(load_dataset(path.suffix[1:], data_files=str(path), split="train")), []
        except Exception as error:  # of the reader's many kinds
            raise ValueError(f"{path} can't be read as {path.suffix[1:]}: {error.__cause__ or error}") from error
    from conv_dlm.utils.files import read_rows

    return read_rows(path, skip_malformed=True)


def read_levels(text: str) -> tuple[int, int]:
    """`3` or `1-8` as a range.

    Raises:
        `ValueError`: anything else.
    """
    low, _, high = text.partition("-")
    if not (low.isdecimal() and (high or low).isdecimal()):
        raise ValueError(f"--level {text!r} must be a number of operations or a range, such as 3 or 1-8.")
    return int(low), int(high or low)
