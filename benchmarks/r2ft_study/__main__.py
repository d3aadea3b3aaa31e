"""What R2FT changes in a model: checkpoints before and after it, side by side on held-out rows of GSM8K.

    python -m benchmarks.r2ft_study --models before=outputs/embedded sft=outputs/sft after=outputs/r2ft

Three cheap measures, a forward a row each: held-out loss; log p of the answer (chosen) and of its corruption by R2FT's
rule (rejected); probability mass on frequent tokens and repetitions by distance from the prompt. Then answers in a grid
of decode types and steps, a hundred times as dear. All models take their turn at each batch of each measure and
setting, on the same rows and draws, so that a run that is stopped early leaves a fair table; the same command resumes
it, and more `--questions`, `--steps` or `--models` add to what is there. `r2ft_study.plots` draws the result.
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
from benchmarks.gsm8k import Question, as_questions, load_rows
from benchmarks.r2ft_study.measures import MEASURES, R2FTMeasures, Record
from benchmarks.r2ft_study.report import R2FTReport
from conv_dlm.answering.answers import answer
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.loading import identity
from conv_dlm.evaluation.sample_folder import SampleFolder
from conv_dlm.utils.environment import describe_run

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
    add("--models", nargs="+", required=True, type=_named, metavar="NAME=PATH", help="the first is compared with")
    add("--train", type=Path, help="training split as JSONL with question and answer; from the Hub if not given")
    add("--held-out-rows", type=int, default=500, help="last rows of the training split, kept out of training")
    add("--test", type=Path, help="JSONL to measure on instead of the held-out rows")
    add("--rows", type=int, default=100, help="held-out rows of the cheap measures, from the first on")
    add("--questions", type=int, default=20, help="of those, rows that are answered; 0 for the cheap measures alone")
    add("--decode-types", nargs="+", default=("topk", "conv"), choices=sorted(conv_dlm.DECODE_TYPES), metavar="TYPE")
    add("--steps", nargs="+", type=int, default=(16, 32, 64, 128))
    add("--new-tokens", type=int, default=192)
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
    models = {name: _load(path, args) for name, path in args.models}
    measures = make_measures(args, models)
    paths = dict(args.models)
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
    report = R2FTReport({name: folder.samples() for name, folder in folders.items()}, measures)
    report.write(args.results, describe_run("python -m benchmarks.r2ft_study", args.device) | {"settings": settings})


def make_measures(args: argparse.Namespace, models: dict[str, Any]) -> R2FTMeasures:
    """The measures on the rows that are kept out of training.

    Raises:
        ValueError: two models of one name, tokenizers that differ, or fewer rows than asked for.
    """
    if len(models) < len(args.models):
        raise ValueError(f"`models` have one name twice: {', '.join(name for name, _ in args.models)}. Rename one.")
    tokenizers = {name: AutoTokenizer.from_pretrained(path, padding_side="left") for name, path in args.models}
    first, tokenizer = next(iter(tokenizers.items()))
    for name, other in tokenizers.items():
        if other.get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"`models`: {name!r} has another vocabulary than {first!r}; compare them apart.")
    if args.questions > args.rows:
        raise ValueError(f"`questions`={args.questions} are more than `rows`={args.rows}; lower it, or raise `rows`.")
    train = load_rows("train", args.train)
    if not 0 < args.held_out_rows < len(train):
        raise ValueError(f"`held_out_rows`={args.held_out_rows} must leave something of {len(train)} training rows.")
    train, held_out = train[: -args.held_out_rows], train[-args.held_out_rows :]
    rows = load_rows("test", args.test) if args.test else held_out
    return R2FTMeasures(
        tokenizer=tokenizer,
        questions=as_questions(tokenizer, rows, args.rows),
        training_answers=[row["answer"] for row in train],
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
        for steps, decode_type in itertools.product(sorted(args.steps), args.decode_types):
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
    return [{"ids": row.ids, "forwards": row.forwards, "seconds": row.seconds} for row in given]


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
