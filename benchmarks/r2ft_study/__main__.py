"""What R2FT changes in a model: checkpoints before and after it, side by side on problems that neither has seen.

    python -m benchmarks.r2ft_study --models sft=outputs/embedded/first-eos \\
        repeat=outputs/embedded/r2ft-0 repeat=outputs/embedded/r2ft-1 naive=outputs/embedded/r2ft-naive

Models of one name, such as of several seeds, are reported together, with their spread. Three cheap measures, a forward
a row each: held-out loss; log p of the answer (chosen) and of its corruption by R2FT's rule (rejected); probability
mass on frequent tokens and repetitions by distance from the prompt. Then answers in a grid of decode types and tokens
a step, a hundred times as dear, judged by the checker of the generated problems. All models take their turn at each
batch of each measure and setting, on the same rows and draws, so that a run that is stopped early leaves a fair table;
the same command resumes it, and more `--questions`, `--tokens-per-step` or `--models` add to what is there.
`r2ft_study.plots` draws the result.
"""

import argparse
import hashlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import conv_dlm
from benchmarks.decoding_study.prompt_set import WORD_PROBLEMS, PromptSet, generated_problems, load_prompts
from benchmarks.r2ft_study.losses import Question, as_questions
from benchmarks.r2ft_study.measures import MEASURES, R2FTMeasures, Record
from benchmarks.r2ft_study.report import R2FTReport
from conv_dlm.answering.answers import answer
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.loading import identity
from conv_dlm.cli.data import read_levels
from conv_dlm.evaluation.sample_folder import SampleFolder
from conv_dlm.utils.environment import describe_run
from conv_dlm.word_problems import SPLITS, problems

# What a row's figures depend on besides the weights and the data.
SETTINGS = ("rows", "new_tokens", "kernel_size", "seed", "batch_size", "dtype")


@dataclass(frozen=True)
class Task:
    """Rows to be measured, and by what: a measure (`part`), or an answer in a setting (`decode_type`, `steps`)."""

    setting: dict[str, Any]
    questions: list[Question]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", required=True, type=_named, metavar="NAME=PATH",
        help="the first is compared with; several seeds of one training have one name")
    add("--data", default=WORD_PROBLEMS, metavar="FILE", help="JSONL, or gsm8k; default: generated problems")
    add("--field", default="prompt", metavar="NAME", help="of JSONL: where rows have the prompt")
    add("--reference-field", default="reference", metavar="NAME", help="and the answer")
    add("--answer-rules", nargs="+", default=[], metavar="RULE", help="of GSM8K's references: strict, flexible, number")
    add("--level", default="1-8", metavar="N[-N]", help="of generated problems: number of operations")
    add("--split", choices=SPLITS[1:], default="test", help="of generated problems")
    add("--problem-seed", type=int, default=0, metavar="N", help="which of them")
    add("--training-rows", type=int, default=2000, help="generated training answers, which say how frequent tokens are")
    add("--rows", type=int, default=500, help="rows of the cheap measures, from the first on")
    add("--questions", type=int, default=200, help="of those, rows that are answered; 0 for the cheap measures alone")
    add("--decode-types", nargs="+", default=("topk", "conv"), choices=sorted(conv_dlm.DECODE_TYPES), metavar="TYPE")
    add("--tokens-per-step", nargs="+", type=int, default=(4, 8, 16))
    add("--new-tokens", type=int, default=256)
    add("--kernel-size", type=int, default=32, help="of types with a convolution")
    add("--seed", type=int, default=0)
    add("--batch-size", type=int, default=8, help="questions after which the next setting has its turn")
    add("--minutes", type=float, help="start no new batch after so many minutes; 0 only writes the results")
    add("--device", default="cpu")
    add("--dtype", default="float32", help="of the weights; on CPUs without AMX float32 is faster than bfloat16")
    add("--samples", type=Path, default=Path("outputs/r2ft_study"), help="folder of what was measured; resumed")
    add("--results", type=Path, default=Path("outputs/r2ft_study.json"), help="the figures, with a .md beside it")
    return parser


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path) or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH, as in `before=outputs/embedded`")
    return name, Path(path)


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    started = time.monotonic()
    paths = folders_of(args.models)
    models = {name: _load(path, args) for name, path in paths.items()}
    data = load_data(args)
    measures = make_measures(args, models, paths, data)
    settings = {name: _settings(args, paths[name], model, measures) for name, model in models.items()}
    folders = {name: SampleFolder(args.samples / name, settings[name]) for name in models}
    try:
        for task, name in itertools.product(tasks(args, measures.questions), models):
            if args.minutes is not None and time.monotonic() - started >= 60 * args.minutes:
                print("Out of time; the same command resumes from here.")
                break
            if rows := measure(task, models[name], measures, args, folders[name]):
                print(f"{name}: {' '.join(map(str, task.setting.values()))}, {rows} rows", flush=True)
    except KeyboardInterrupt:
        print("Stopped; the same command resumes from here.")
    samples: dict[str, list[Record]] = {name: [] for name, _ in args.models}
    for number, ((name, _), folder) in enumerate(zip(args.models, folders.values(), strict=True)):
        samples[name] += [record | {"model": number} for record in folder.samples()]
    report = R2FTReport(samples, measures, args.answer_rules, data.score)
    report.write(args.results, describe_run("python -m benchmarks.r2ft_study", args.device) | {"settings": settings})


def folders_of(models: list[tuple[str, Path]]) -> dict[str, Path]:
    """The models by the folders of what is measured of them: those of one name are numbered from the second on.

    Raises:
        ValueError: a model is there twice.
    """
    paths: dict[str, Path] = {}
    for name, path in models:
        if path in paths.values():
            raise ValueError(f"`models` have {path} twice; name each model once.")
        same = sum(other == name for other, _ in models[: len(paths)])
        folder = f"{name}-{same + 1}" if same else name
        if folder in paths:
            raise ValueError(f"`models` have {folder!r} as a name, and several of the name {name!r}; rename one.")
        paths[folder] = path
    return paths


def load_data(args: argparse.Namespace) -> PromptSet:
    """The rows that are measured: generated, or the first of a file or of GSM8K's test split.

    Raises:
        ValueError: fewer rows than asked for, or rows without an answer.
    """
    if args.questions > args.rows:
        raise ValueError(f"`questions`={args.questions} are more than `rows`={args.rows}; lower it, or raise `rows`.")
    if args.data == WORD_PROBLEMS:
        return generated_problems(args.rows, read_levels(args.level), args.split, "prose", args.problem_seed)
    data, _ = load_prompts(
        args.data, args.field, args.reference_field, questions=args.rows, rules=args.answer_rules
    )
    if data.references is None:
        raise ValueError(f"{args.data} has no {args.reference_field!r}; name the field with answers.")
    return data


def make_measures(
    args: argparse.Namespace, models: dict[str, Any], paths: dict[str, Path], data: PromptSet
) -> R2FTMeasures:
    """The measures on the data. How frequent tokens are is counted in generated training answers, else in the data's.

    Raises:
        ValueError: tokenizers that differ.
    """
    tokenizers = {name: AutoTokenizer.from_pretrained(path, padding_side="left") for name, path in paths.items()}
    first, tokenizer = next(iter(tokenizers.items()))
    for name, other in tokenizers.items():
        if other.get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"`models`: {name!r} has another vocabulary than {first!r}; compare them apart.")
    answers = list(data.references or ())
    trained = problems(args.problem_seed, args.training_rows, split="train", levels=read_levels(args.level))
    return R2FTMeasures(
        tokenizer=tokenizer,
        questions=as_questions(tokenizer, data.prompts, answers),
        training_answers=[one.solution for one in trained] if args.data == WORD_PROBLEMS else answers,
        vocab_size=models[first].config.vocab_size,
        canvas=args.new_tokens,
        seed=args.seed,
        batch_size=args.batch_size,
    )


def tasks(args: argparse.Namespace, questions: list[Question]) -> Iterator[Task]:
    """Everything that is to be done with each model: the cheap measures, then answers, few steps first."""
    yield Task({"part": "loss"}, questions)  # its noise is stratified over all rows
    for start in range(0, len(questions), args.batch_size):
        for part in ("log_p", "masses"):
            yield Task({"part": part}, questions[start : start + args.batch_size])
    for start in range(0, args.questions, args.batch_size):
        batch = questions[start : min(start + args.batch_size, args.questions)]
        paces = sorted({-(-args.new_tokens // tokens) for tokens in args.tokens_per_step})
        for steps, decode_type in itertools.product(paces, args.decode_types):
            yield Task({"decode_type": decode_type, "steps": steps}, batch)


def measure(task: Task, model: Any, measures: R2FTMeasures, args: argparse.Namespace, folder: SampleFolder) -> int:
    """Measure the rows of the task that the folder has not yet, and keep them there; how many these were."""
    done = folder.keys(*task.setting, "index")
    rows = [question for question in task.questions if (*task.setting.values(), question.index) not in done]
    if not rows:
        return 0
    records: list[Record]
    if "part" in task.setting:
        records = MEASURES[task.setting["part"]](measures, model, rows)
    else:
        records = answers(model, measures.tokenizer, rows, args, **task.setting)
    folder.add(task.setting | {"index": row.index} | record for row, record in zip(rows, records, strict=True))
    return len(rows)


def answers(
    model: Any, tokenizer: Any, questions: list[Question], args: argparse.Namespace, decode_type: str, steps: int
) -> list[Record]:
    """Answers to a batch of questions, each from a seed of its own: all models and settings see the same noise."""
    sized = {"kernel_size": args.kernel_size} if "kernel_size" in conv_dlm.DECODE_TYPES[decode_type].fields else {}
    given = answer(
        model,
        tokenizer,
        [question.prompt for question in questions],
        [row_generator(args.seed, question.index) for question in questions],
        decode_type=decode_type,
        steps=steps,
        max_new_tokens=args.new_tokens,
        **sized,
    )
    return [{"ids": row.ids, "ended": row.ended, "forwards": row.forwards, "seconds": row.seconds} for row in given]


def _load(path: Path, args: argparse.Namespace) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=args.dtype).to(args.device).eval()


def _settings(args: argparse.Namespace, path: Path, model: Any, measures: R2FTMeasures) -> dict[str, Any]:
    """What the figures depend on; two runs may share a folder if and only if these agree."""
    data = [(question.prompt, question.answer) for question in measures.questions], list(measures.training_answers)
    return {name: getattr(args, name) for name in SETTINGS} | {
        "weights": identity(str(path), model)["weights"],
        "data": hashlib.sha256(repr(data).encode()).hexdigest()[:16],
        "device": torch.device(args.device).type,
    }


if __name__ == "__main__":
    main()
