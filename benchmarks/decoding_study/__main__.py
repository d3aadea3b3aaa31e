"""Compare decoders on a prompt set: decode types x steps x kernel or block sizes x seeds, in one run.

`--vary` adds any other setting to the grid, such as a cache or a threshold.

The output folder gets settings.json, samples-RANK.jsonl as the answers come, and at the end table.md, table.json and
plots/: quality against size, forwards and seconds, which settings no other one beats, the position decided at each
step, and what the model proposes by distance from the prompt. The same command resumes an interrupted run; more
--decode-types, --steps, --sizes, --vary or --seeds add to what is there. Under `accelerate launch`, or torchrun, every
process takes its share.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.decoding_study.comparison import PLOTS, TABLE_FOR_PEOPLE, draw, make_table, masses_by_distance
from benchmarks.decoding_study.grid import KEY, VARIED, check_options, pending, settings_of, share
from benchmarks.decoding_study.grid_run import (
    Grid,
    answer_grid,
    make_grid,
    shared_decoding,
    wait_for_all,
    within_minutes,
)
from benchmarks.decoding_study.prompt_set import WORD_PROBLEMS, PromptSet, generated_problems, load_prompts
from benchmarks.decoding_study.scoring import Scorer
from benchmarks.decoding_study.table import to_text
from benchmarks.decoding_study.variations import read_variations
from conv_dlm.answering.prompting import Prompter
from conv_dlm.cli.data import read_levels
from conv_dlm.cli.notes import note
from conv_dlm.cli.options import add_generation_options, add_model_options, decode_type, generation_options
from conv_dlm.cli.parser import Parser
from conv_dlm.cli.progress import with_progress
from conv_dlm.cli.session import load, model_settings
from conv_dlm.evaluation.processes import Processes
from conv_dlm.evaluation.sample_folder import SampleFolder, check_folder
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.running import exit_code_of
from conv_dlm.word_problems import FORMS, SPLITS

PROGRAM = "python -m benchmarks.decoding_study"
USAGE = f"{PROGRAM} --data FILE --output FOLDER [options]"
EXAMPLES = """examples:
  python -m benchmarks.decoding_study --data prompts.jsonl --output runs/grid --max-new-tokens 64 --steps 8 16
  python -m benchmarks.decoding_study --data prompts.jsonl --output runs/grid \\
    --decode-types conv semi_ar --sizes 16 32 64 --seeds 0 1 2
  python -m benchmarks.decoding_study --data prompts.jsonl --output runs/grid --scorer openai-community/gpt2-large
  python -m benchmarks.decoding_study --data word_problems --output runs/problems --questions 500 --level 4-8 \\
    --max-new-tokens 256 --tokens-per-step 1 2 4 8 16
  python -m benchmarks.decoding_study --data word_problems --output runs/problems --questions 500 --level 4-8 \\
    --max-new-tokens 256 --decode-types threshold conv_threshold --sizes 32 --vary threshold 0.5 0.7 0.9
  python -m benchmarks.decoding_study --data word_problems --output runs/caches --questions 500 --level 4-8 \\
    --max-new-tokens 256 --tokens-per-step 4 --decode-types conv --sizes 32 --vary cache_implementation none dual window
  python -m benchmarks.decoding_study --data gsm8k --output runs/gsm8k --answer-rules strict flexible --questions 100
"""


def make_parser() -> Parser:
    parser = Parser(prog=PROGRAM, usage=USAGE, description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="prompts: JSON lines; or word_problems, which are generated; or "
        "gsm8k, its test split from the Hub")
    add("--field", metavar="NAME", default="prompt", help="where rows have the prompt (default: prompt)")
    add("--reference-field", metavar="NAME", default="reference", help="where all, or none, have an answer as it "
        "should be (default: reference)")
    add("--questions", type=int, metavar="N", help="the first N rows (default: all)")
    add("--level", default="1-8", metavar="N[-N]", help="of generated problems: number of operations (default: 1-8)")
    add("--split", choices=SPLITS[1:], default="test", help="of generated problems (default: test)")
    add("--form", choices=list(FORMS), default="prose", help="of their solutions (default: prose)")
    add("--problem-seed", type=int, default=0, metavar="N", help="which of them (default: 0)")
    add("--skip-malformed", action="store_true", help="leave malformed rows of --data out")
    add("--output", required=True, metavar="FOLDER", help="where the run is written, or resumed")
    add("--batch-size", type=int, default=8, metavar="N", help="prompts at a time (default: 8)")
    add("--minutes", type=float, metavar="X", help="begin no batch after X minutes; 0: only the table and the plots")
    _add_grid_and_measures(parser)
    add_model_options(parser, without=("seed",))
    add_generation_options(parser, without=VARIED)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    return exit_code_of(PROGRAM, lambda: run(args))


def _add_grid_and_measures(parser: Parser) -> None:
    group = parser.add_argument_group("grid", "Every decode type with every number of steps, size and seed.")
    add = group.add_argument
    types = ["categorical", "topk", "conv", "semi_ar", "llada"]
    numbers: dict[str, Any] = {"nargs": "+", "type": int, "metavar": "N"}
    add("--decode-types", nargs="+", type=decode_type, default=types, metavar="TYPE",
        help=f"see below (default: {' '.join(types)})")
    paces = group.add_mutually_exclusive_group()
    paces.add_argument("--steps", **numbers, default=[16, 32, 64], help="denoising steps (default: 16 32 64)")
    paces.add_argument("--tokens-per-step", **numbers, help="or the canvas over the steps, as 1 2 4 8 16")
    add("--sizes", **numbers, default=[8, 16, 32, 64],
        help="kernel size of types with a convolution, block length of those with blocks (default: 8 16 32 64)")
    add("--vary", nargs="+", action="append", default=[], metavar=("FIELD", "VALUE"),
        help="any other setting below with its values, none for as it is; of several all combinations")
    add("--seeds", **numbers, default=[0], help="types that draw nothing at random answer once (default: 0)")
    add = parser.add_argument_group("measures", "These can differ from run to run into one folder.").add_argument
    add("--answer-rules", nargs="+", default=[], metavar="RULE",
        help="GSM8K's references: what is right by strict, flexible, number, paper")
    add("--scorer", metavar="NAME", help="causal LM for perplexities: a name, a folder, a .gguf file, or smollm2")


def run(args: argparse.Namespace) -> int:
    options = generation_options(args, without=VARIED)
    vary = read_variations(args.vary)
    _check(args, options, vary)

    prompt_set, wrong = _load_prompts(args)
    processes = Processes.from_environment()
    args.device = args.device or processes.device()
    grid, settings, impossible = _load_grid(args, options, vary, prompt_set)
    for line in (*wrong, *impossible) if processes.is_first else ():
        note(f"left out: {line}")
    folder = SampleFolder(Path(args.output), settings, processes.rank)
    scorer = None if args.scorer is None else Scorer(args.scorer, grid.one.model.device)
    try:
        _answer(args, grid, folder, processes, scorer)
        if not processes.is_first:
            return 0
        if args.minutes is None:
            wait_for_all(grid, folder)
        _report(args, grid, prompt_set, folder, scorer)
    except KeyboardInterrupt:
        done, total = grid.done_in(folder)
        raise KeyboardInterrupt(
            f"interrupted: {done} of {total} samples are in {args.output}; the same command resumes from there"
        ) from None
    return 0


def _load_prompts(args: argparse.Namespace) -> tuple[PromptSet, list[str]]:
    if args.data == WORD_PROBLEMS:
        if args.answer_rules:
            raise ValueError("`--answer-rules` are GSM8K's; generated problems are checked by their own: drop them.")
        levels = read_levels(args.level)
        return generated_problems(args.questions, levels, args.split, args.form, args.problem_seed), []
    return load_prompts(
        args.data,
        args.field,
        args.reference_field,
        questions=args.questions,
        skip_malformed=args.skip_malformed,
        rules=args.answer_rules,
    )


def _check(args: argparse.Namespace, options: dict[str, Any], vary: dict[str, list[Any]]) -> None:
    """Refuse before anything is loaded what can't be done, or makes no sense together."""
    for name in ("steps", "tokens_per_step", "sizes", "batch_size"):
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [1 if values is None else values]:
            if value < 1:
                raise ValueError(f"`--{name.replace('_', '-')}`={value} must be at least 1.")
    if args.minutes is not None and args.minutes < 0:
        raise ValueError(f"`--minutes`={args.minutes:g} must not be negative.")
    if options.get("max_new_tokens") == 0:
        raise ValueError("`--max-new-tokens`=0 leaves no room for an answer; give at least 1.")
    check_options(args.decode_types, options | vary)
    if twice := sorted(options.keys() & vary.keys()):
        raise ValueError(f"`--vary` has `{twice[0]}`, and it is given as an option too; drop one.")
    check_folder(Path(args.output))


def _load_grid(
    args: argparse.Namespace, options: dict[str, Any], vary: dict[str, list[Any]], prompt_set: PromptSet
) -> tuple[Grid, dict[str, Any], list[str]]:
    """The grid; what all samples depend on, which can't grow; and which cells can't be."""
    model, tokenizer = load(args)
    decoding = shared_decoding(model, options)
    canvas = decoding["max_new_tokens"]
    steps = [-(-canvas // tokens) for tokens in args.tokens_per_step] if args.tokens_per_step else args.steps
    cells, impossible = settings_of(args.decode_types, steps, args.sizes, canvas, vary)
    why = [f"{cell}: {canvas} tokens have more blocks than steps" for cell in impossible]
    if not cells:
        raise ValueError(f"Nothing can be compared ({'; '.join(why)}); raise `--steps` or `--sizes`.")
    prompter = Prompter(tokenizer, args.system, args.raw)
    grid = make_grid(cells, prompt_set.prompts, args.seeds, args.batch_size, model, tokenizer, prompter, options)
    rows = {"command": "compare", "rows": prompt_set.fingerprint}
    why += [f"{cell}: {message}" for cell, message in grid.refused.items()]
    return grid, rows | model_settings(args, model) | decoding, why


def _answer(
    args: argparse.Namespace, grid: Grid, folder: SampleFolder, processes: Processes, scorer: Scorer | None
) -> None:
    """Answer this process's share of what isn't answered yet."""
    mine = share(grid.rounds, processes)
    work = pending(mine, folder.keys(*KEY))
    if work and args.minutes != 0 and scorer is not None and processes.is_first:
        _ = scorer.loaded  # one that can't be had is told now rather than after hours
    run = describe_run(PROGRAM, grid.one.model.device)
    run |= {"process": processes.rank, "processes": processes.count, "batch_size": args.batch_size}
    done = sum(map(len, mine)) - sum(map(len, work))
    shown = with_progress(work, len, "sample", done, quiet=not processes.is_first)
    answer_grid(grid, within_minutes(shown, args.minutes), folder, run)


def _report(
    args: argparse.Namespace,
    grid: Grid,
    prompt_set: PromptSet,
    folder: SampleFolder,
    scorer: Scorer | None,
) -> None:
    """Write the table and the plots, and show what matters most."""
    done, total = grid.done_in(folder)
    if done < total:
        note(f"{done} of {total} samples are there; the same command resumes from here")
    if not folder.keys(*KEY):
        return
    run = describe_run(PROGRAM, grid.one.model.device)
    table = make_table(grid, folder, prompt_set, args.answer_rules, scorer, args.batch_size, run, with_progress)
    width = shutil.get_terminal_size((100, 24)).columns
    print(to_text(table.rows, table.references, width), end="", flush=True)
    note(f"all figures: {folder.path / TABLE_FOR_PEOPLE}")
    masses = None
    if prompt_set.references is not None:
        masses = masses_by_distance(grid, prompt_set.references, folder.path, args.batch_size, with_progress)
    try:
        paths = draw(folder.path, table, grid.one.decoding["max_new_tokens"], masses)
    except ImportError as error:
        note(f"no plots: {error}")
    else:
        note(f"{len(paths)} plots: {folder.path / PLOTS}")


if __name__ == "__main__":
    sys.exit(main())
