"""Ask the model a generated word problem, watch the answer being denoised, and check it.

The problem is from the test set, which no training data shares. The check covers the final number and each equation.
"""

import argparse
import secrets

from conv_dlm.cli.data import read_levels
from conv_dlm.cli.notes import note
from conv_dlm.cli.options import add_generation_options, add_model_options, generation_options
from conv_dlm.cli.parser import Parser
from conv_dlm.word_problems import FORMS, SPLITS, check, problem

SUMMARY = "ask a generated word problem, and check the answer"
USAGE = "conv-dlm problem [N] [options]"
EXAMPLES = """examples:
  conv-dlm problem
  conv-dlm problem 7 --level 4-8 --decode-type topk --steps 32
  conv-dlm problem --form json --split unseen
"""


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("number", nargs="?", type=int, metavar="N", help="which problem (default: any)")
    add("--level", default="1-3", metavar="N[-N]", help="number of operations, or a range of it (default: 1-3)")
    add("--split", choices=SPLITS[1:], default="test", help="unseen: wordings and scenes never trained (default: test)")
    add("--form", choices=list(FORMS), default="prose", help="of the solution (default: prose)")
    add_model_options(parser)
    add_generation_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.number is not None and args.number < 0:
        raise ValueError(f"The problem {args.number} must be 0 or more.")
    number = secrets.randbelow(10**6) if args.number is None else args.number
    asked = problem(0, number, split=args.split, levels=read_levels(args.level), forms=(args.form,))
    options = generation_options(args)

    from conv_dlm.cli.session import Session, summary

    session = Session(args, options)
    print(f"{asked.question}\n", flush=True)
    answers = session.answer([session.prompt(asked.question)], [0], session.streamer())
    print(f"\n{check(asked.question, answers[0].text, asked.answer).in_words(asked.answer)}", flush=True)
    note(f"problem {number}: {summary(answers)}")
    return 0
