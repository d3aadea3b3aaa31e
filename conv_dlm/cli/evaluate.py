"""Ask a model a task's questions, and score its answers.

The output folder gets settings.json, samples-RANK.jsonl as the answers come, and at the end samples.jsonl in the order
of the questions and results.json: figures with standard errors, settings, versions, device. The same command
resumes an interrupted run. Under `accelerate launch`, or torchrun, every process takes its share of the questions.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conv_dlm.cli.data import read_levels
from conv_dlm.cli.notes import note
from conv_dlm.cli.options import (
    add_constraint_options,
    add_generation_options,
    add_model_options,
    constraint_of,
    generation_options,
)
from conv_dlm.cli.parser import Parser
from conv_dlm.cli.progress import with_progress
from conv_dlm.word_problems import FORMS, SPLITS

if TYPE_CHECKING:  # imports torch and Transformers
    from conv_dlm.constraints.languages import Constraint
    from conv_dlm.evaluation.evaluate import Task
    from conv_dlm.evaluation.figures import Figure
    from conv_dlm.evaluation.processes import Processes
    from conv_dlm.evaluation.respondent import Respondent
    from conv_dlm.evaluation.sample_folder import SampleFolder

SUMMARY = "answer a task's questions, and score the answers"
USAGE = "conv-dlm eval TASK --output FOLDER [options]"
EXAMPLES = """examples:
  conv-dlm eval word_problems --questions 64 --level 1-3 --steps 64 --max-new-tokens 128 --output runs/embedded
  conv-dlm eval word_problems --form json --json-schema configs/embedded/answer.schema.json --output runs/json
  conv-dlm eval needle --model GSAI-ML/LLaDA-8B-Instruct --words 1000 2000 --max-new-tokens 32 --output runs/needle
  conv-dlm eval gsm8k --data test.jsonl --questions 20 --steps 32 --output runs/first
  conv-dlm eval gsm8k --model GSAI-ML/LLaDA-8B-Instruct --max-new-tokens 512 --output runs/conv
  conv-dlm eval prompts --data questions.jsonl --output runs/own
  accelerate launch --num_processes 8 -m conv_dlm eval alpaca_eval --model GSAI-ML/LLaDA-8B-Instruct --output runs/dlm
  conv-dlm eval alpaca_eval --autoregressive --model meta-llama/Llama-3.1-8B-Instruct --output runs/ar
  conv-dlm eval alpaca_eval --model GSAI-ML/LLaDA-8B-Instruct --output runs/dlm --reference runs/ar \\
    --judge weighted_alpaca_eval_gpt4_turbo

The options of a task are in its own help: conv-dlm eval gsm8k --help
"""
WORD_PROBLEMS = """Ask word problems from the generator, and check every equation of the answers.

accuracy: the final number is right; sound: that, in the right form, by a working without a wrong step. The same by
number of operations goes to levels.json."""
NEEDLE = """Hide a sentence in long texts, and ask for the number in it.

accuracy: the number stands in the answer. The same by length and depth goes to needle.json. A word is one to two
tokens; text and answer have to fit into the model's context (docs/models.md: longer ones)."""
GSM8K = """Ask GSM8K's questions, without examples, and compare the answers with the right ones.

answer rules:
  strict    lm-evaluation-harness' strict-match: the first `#### number`
  flexible  lm-evaluation-harness' flexible-extract: the last number
  number    the last number, compared as a number: 18.00 is 18
  paper     that of arXiv 2509.15188, for comparing with its figures"""
ALPACA_EVAL = """Answer AlpacaEval's instructions, into the model_outputs.json that `alpaca_eval` takes.

The judge is a paid model behind an API key. With --autoregressive any causal language model answers, whose run can be
the --reference of another."""
PROMPTS = """Answer prompts of your own: rows with a text, or with a list `turns`, as MT-Bench has them."""


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    tasks = parser.add_subparsers(title="tasks", dest="task", metavar="TASK", required=True, prog=parser.prog)

    own = _add_task(tasks, "word_problems", "generated word problems, down to each equation", WORD_PROBLEMS)
    own.add_argument("--level", default="1-12", metavar="N[-N]", help="number of operations (default: 1-12)")
    own.add_argument("--split", choices=SPLITS[1:], default="test", help="unseen: wordings and scenes never trained")
    own.add_argument("--form", nargs="+", choices=list(FORMS), default=["prose"], metavar="FORM",
                     help=f"of the solutions: {', '.join(FORMS)} (default: prose)")  # fmt: skip
    own.add_argument("--problem-seed", type=int, default=0, metavar="N", help="which problems (default: 0)")

    needle = _add_task(tasks, "needle", "a sentence in a long text, by length and depth", NEEDLE)
    needle.add_argument("--words", nargs="+", type=int, metavar="N", help="of a text (default: 500 1000 2000 4000)")
    needle.add_argument("--depths", nargs="+", type=int, metavar="P",
                        help="where the sentence is, in percent of the text (default: 0 25 50 75 100)")  # fmt: skip

    gsm8k = _add_task(tasks, "gsm8k", "grade-school sums, by the right answer", GSM8K)
    gsm8k.add_argument("--data", metavar="FILE", help="rows with `question` and `answer` (default: the test split)")
    gsm8k.add_argument(
        "--answer-rules", nargs="+", metavar="RULE", help="how answers are judged (default: strict flexible)"
    )

    alpaca = _add_task(tasks, "alpaca_eval", "AlpacaEval: outputs for its judge", ALPACA_EVAL)
    alpaca.add_argument("--data", metavar="FILE", help="rows with `instruction` (default: AlpacaEval's 805)")
    alpaca.add_argument("--name", help="the model's on the leaderboard (default: the output folder's)")
    alpaca.add_argument("--judge", metavar="CONFIG", help="a configuration of alpaca_eval; needs an API key")
    alpaca.add_argument("--reference", metavar="RUN", help="judge against this run or file (default: AlpacaEval's own)")

    prompts = _add_task(tasks, "prompts", "prompts of your own, in one turn or several", PROMPTS)
    prompts.add_argument("--data", required=True, metavar="FILE", help="rows with a prompt, or with a list `turns`")
    prompts.add_argument("--field", default="prompt", help="where rows have the prompt (default: prompt)")

    for task in (gsm8k, alpaca, prompts):
        task.add_argument("--skip-malformed", action="store_true", help="leave malformed rows of --data out")
    for task in (own, needle, gsm8k, alpaca, prompts):
        _add_common_arguments(task)


def _add_task(tasks: Any, name: str, summary: str, description: str) -> Parser:
    data = " --data FILE" if name == "prompts" else ""
    usage = f"conv-dlm eval {name}{data} --output FOLDER [options]"
    parser: Parser = tasks.add_parser(name, help=summary, usage=usage, description=description)
    return parser


def _add_common_arguments(parser: Parser) -> None:
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the run is written, or resumed")
    parser.add_argument("--questions", type=int, metavar="N", help="the first N rows (default: all, or 1,000)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="prompts at a time (default: 8)")
    parser.add_argument("--autoregressive", action="store_true", help="the model predicts the next token: sample it")
    parser.add_argument("--top-p", type=float, metavar="P", help="nucleus of --autoregressive, 0: none (default: 0.95)")
    add_model_options(parser)
    add_generation_options(parser)
    form = add_constraint_options(parser)
    form.add_argument("--free", action="store_true", help="only count the answers that have it, don't enforce it")


def run(args: argparse.Namespace) -> int:
    options, constraint = generation_options(args), constraint_of(args)
    _check(args, options)

    from conv_dlm.evaluation.evaluate import wait_for_all, with_form, write_results
    from conv_dlm.evaluation.processes import Processes
    from conv_dlm.evaluation.sample_folder import SampleFolder

    task, wrong = _load_task(args)
    if constraint is not None:
        task = with_form(task, constraint)
    processes = Processes.from_environment()
    if processes.is_first:
        for line in wrong:
            note(f"left out: {line}")
    args.device = args.device or processes.device()
    respondent = _load_respondent(args, options, None if args.free else constraint)
    respondent.prompter.check_turns(max(map(len, task.conversations)))
    folder = SampleFolder(Path(args.output), _settings(args, task, respondent, constraint), processes.rank)
    try:
        _answer(args, task, respondent, folder, processes)
        if not processes.is_first:
            return 0
        if processes.count > 1:
            note("waiting for the other processes")
        wait_for_all(task, folder)
    except KeyboardInterrupt:
        done = len(folder.keys("index"))
        raise KeyboardInterrupt(
            f"interrupted: {done} of {len(task.rows)} rows are in {args.output}; the same command resumes from there"
        ) from None
    _show(write_results(task, folder))
    note(f"{len(task.rows)} rows; all of it in {args.output}")
    if args.task == "alpaca_eval" and args.judge:
        from conv_dlm.evaluation.tasks import alpaca_eval

        alpaca_eval.judge(folder.path, args.judge, Path(args.reference) if args.reference else None)
    return 0


def _check(args: argparse.Namespace, options: dict[str, Any]) -> None:
    """Refuse before anything is loaded what can't be done, or makes no sense together."""
    from conv_dlm.evaluation.sample_folder import check_folder

    if args.batch_size < 1:
        raise ValueError(f"`--batch-size`={args.batch_size} must be at least 1.")
    if options.get("max_new_tokens") == 0:
        raise ValueError("`--max-new-tokens`=0 leaves no room for an answer; give at least 1.")
    if args.autoregressive and (without := sorted(set(options) - {"max_new_tokens"})):
        raise ValueError(f"`--{without[0].replace('_', '-')}` has no effect with `--autoregressive`; drop it.")
    asked = any(getattr(args, name) is not None for name in ("json_schema", "regex", "choice"))
    if args.free and not asked:
        raise ValueError("`--free` is for `--json-schema`, `--regex` and `--choice`; drop it.")
    if args.autoregressive and asked and not args.free:
        raise ValueError("`--autoregressive` answers can't be given a form; add `--free` to count those that have it.")
    if args.top_p is not None and not args.autoregressive:
        raise ValueError("`--top-p` is for `--autoregressive`; drop it.")
    if args.top_p is not None and not 0 <= args.top_p <= 1:
        raise ValueError(f"`--top-p`={args.top_p} must lie between 0 and 1.")
    if getattr(args, "skip_malformed", False) and not args.data:
        raise ValueError("`--skip-malformed` is for `--data`; drop it.")
    check_folder(Path(args.output))
    if args.task == "alpaca_eval":
        _check_judge(args)


def _check_judge(args: argparse.Namespace) -> None:
    from conv_dlm.evaluation.tasks import alpaca_eval

    if args.reference and not args.judge:
        raise ValueError("`--reference` is for `--judge`; name its configuration, or drop it.")
    if args.judge:
        alpaca_eval.check_judge()
    if args.reference:
        alpaca_eval.reference_outputs(Path(args.reference))


def _load_task(args: argparse.Namespace) -> "tuple[Task, list[str]]":
    from conv_dlm.evaluation.tasks import alpaca_eval, gsm8k, needle, prompts, word_problems

    if args.task == "word_problems":
        if args.questions is not None and args.questions < 1:
            raise ValueError(f"`--questions`={args.questions} must be at least 1.")
        levels = read_levels(args.level)
        return word_problems.load(args.questions, levels, args.split, tuple(args.form), args.problem_seed), []
    if args.task == "needle":
        words, depths = args.words or needle.DEFAULT_WORDS, args.depths or needle.DEFAULT_DEPTHS
        return needle.load(args.questions, tuple(words), tuple(depths)), []
    path = Path(args.data) if args.data else None
    common: dict[str, Any] = {"questions": args.questions, "skip_malformed": args.skip_malformed}
    if args.task == "gsm8k":
        args.answer_rules = args.answer_rules or list(gsm8k.DEFAULT_RULES)
        return gsm8k.load(path, rules=args.answer_rules, **common)
    if args.task == "alpaca_eval":
        return alpaca_eval.load(args.name or Path(args.output).resolve().name, path, **common)
    return prompts.load(Path(args.data), field=args.field, **common)


def _load_respondent(
    args: argparse.Namespace, options: dict[str, Any], constraint: "Constraint | None"
) -> "Respondent":
    from conv_dlm.answering.prompting import Prompter
    from conv_dlm.cli.session import load
    from conv_dlm.evaluation.respondent import denoiser, next_token_predictor

    model, tokenizer = load(args, args.autoregressive)
    prompter = Prompter(tokenizer, args.system, args.raw)
    if not args.autoregressive:
        return denoiser(model, tokenizer, prompter, constraint, **options)
    nucleus = {} if args.top_p is None else {"top_p": args.top_p}
    return next_token_predictor(model, tokenizer, prompter, **options, **nucleus)


def _settings(
    args: argparse.Namespace, task: "Task", respondent: "Respondent", constraint: "Constraint | None"
) -> dict[str, Any]:
    """What the answers and their scores depend on; a run with others needs another folder."""
    from conv_dlm.cli.session import model_settings

    return {
        "task": args.task,
        "rows": task.fingerprint,
        **({"answer_rules": args.answer_rules} if args.task == "gsm8k" else {}),
        **model_settings(args, respondent.model),
        "seed": args.seed,
        **({"counted": constraint.expression} if constraint is not None and args.free else {}),
        **respondent.decoding,
    }


def _answer(
    args: argparse.Namespace, task: "Task", respondent: "Respondent", folder: "SampleFolder", processes: "Processes"
) -> None:
    """Answer this process's share of what isn't answered yet."""
    from conv_dlm.evaluation.evaluate import answer_task, pending
    from conv_dlm.utils.environment import describe_run

    batches = pending(task, folder, processes, args.batch_size)
    run = describe_run("conv-dlm", respondent.model.device)
    run |= {"process": processes.rank, "processes": processes.count, "batch_size": args.batch_size}
    done = len(processes.share(task.rows)) - sum(map(len, batches))
    shown = with_progress(batches, len, "row", done, quiet=not processes.is_first)
    answer_task(task, respondent, folder, shown, seed=args.seed, run=run)


def _show(figures: "dict[str, Figure]") -> None:
    from conv_dlm.evaluation.evaluate import COSTS
    from conv_dlm.evaluation.figures import shown

    values = {name: shown(value) if name in COSTS else f"{shown(value, 100)} %" for name, value in figures.items()}
    width, places = max(map(len, values)), max(len(value.split()[0]) for value in values.values())
    for name, value in values.items():
        mean, space, error = value.partition(" ")
        print(f"{name:{width}}  {mean:>{places}}{space}{error}")
