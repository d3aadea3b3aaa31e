"""Write training data that a program makes: arithmetic word problems with worked solutions, as JSON lines.

Each row has `prompt` and `completion`, as TRL and the trainers here read them, with `level`, `scene`, `form` and
`answer`. The same seed gives the same rows on every machine; train, validation and test share no content.
"""

import argparse
from pathlib import Path

from conv_dlm.cli.parser import Parser
from conv_dlm.word_problems.problem import FORMS, LEVELS, LIMITS, SPLITS

SUMMARY = "write training data that a program makes"
USAGE = "conv-dlm data word-problems --rows N --output FILE [options]"
EXAMPLES = """examples:
  conv-dlm data word-problems --seed 1 --rows 100000 --level 1-8 --output problems.jsonl
  conv-dlm data word-problems --rows 1000 --split test --form prose json --output test.jsonl
"""


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("kind", choices=["word-problems"], metavar="word-problems", help="what to write")
    add("--rows", type=int, required=True, metavar="N", help="how many")
    add("--output", type=Path, required=True, metavar="FILE", help="JSON lines; replaced if it is there")
    add("--seed", type=int, default=0, metavar="N", help="which rows (default: 0)")
    add("--level", default="{}-{}".format(*LEVELS), metavar="N[-N]",
        help="number of operations, or a range of it (default: {}-{})".format(*LEVELS))  # fmt: skip
    add("--form", nargs="+", choices=list(FORMS), default=["prose"], metavar="FORM",
        help=f"forms of the solution, equally frequent: {', '.join(FORMS)} (default: prose)")  # fmt: skip
    add("--scene", nargs="+", default=[], metavar="NAME", help="kinds of story to keep to (default: all)")
    add("--split", choices=SPLITS, default="train",
        help="which of the splits; unseen: wordings and scenes that no other one has (default: train)")  # fmt: skip
    add("--size", choices=list(LIMITS), default="small", help="of the numbers: up to 200, or 2,000 (default: small)")


def run(args: argparse.Namespace) -> int:
    from conv_dlm.word_problems.rows import write_rows

    if args.rows < 1:
        raise ValueError(f"--rows {args.rows} must be 1 or more.")
    if args.output.is_dir():
        raise ValueError(f"--output {args.output} is a folder; name a file in it.")
    levels = read_levels(args.level)
    write_rows(args.output, args.seed, args.rows, split=args.split, levels=levels, forms=args.form, size=args.size,
               scenes=args.scene)  # fmt: skip
    print(f"{args.rows:,} problems written to {args.output}.")
    return 0


def read_levels(text: str) -> tuple[int, int]:
    """`3` or `1-8` as a range.

    Raises:
        `ValueError`: anything else.
    """
    low, _, high = text.partition("-")
    if not (low.isdecimal() and (high or low).isdecimal()):
        raise ValueError(f"--level {text!r} must be a number of operations or a range, such as 3 or 1-8.")
    return int(low), int(high or low)
