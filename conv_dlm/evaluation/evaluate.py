"""Answer a task's questions and score the answers; resumable, and shared by the processes of a launcher."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from conv_dlm.answering.answers import Answer, text_of
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.prompting import Message
from conv_dlm.constraints.languages import Constraint
from conv_dlm.cost.out_of_memory import is_out_of_memory
from conv_dlm.evaluation.figures import Figure, figure
from conv_dlm.evaluation.metrics import is_empty, repeated_ngrams
from conv_dlm.evaluation.processes import Processes
from conv_dlm.evaluation.respondent import Respondent
from conv_dlm.evaluation.sample_folder import Sample, SampleFolder
from conv_dlm.utils.files import Row, fingerprint, json_lines, write_atomically, write_json

RESULTS_FILE, SAMPLES_FILE = "results.json", "samples.jsonl"
COSTS = ("tokens", "forwards", "seconds", "tokens_per_forward", "tokens_per_second")  # the other figures are shares


@dataclass(frozen=True)
class Task:
    """Questions, and how their answers are scored.

    Attributes:
        name (`str`): name of the task.
        rows (`list`): the rows as they were read.
        conversations (`list` of `list[str]`): the user's turns of each row.
        score (callable): from a row and its texts to shares in [0, 1] by name; for tasks with an answer key.
        files (callable): from all rows and their texts to the contents of further files by name.
    """

    name: str
    rows: list[Row]
    conversations: list[list[str]]
    score: Callable[[Row, list[str]], dict[str, float]] = lambda row, texts: {}
    files: Callable[[list[Row], list[list[str]]], dict[str, str]] = lambda rows, texts: {}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Identifies the rows."""
        return fingerprint(self.rows, self.conversations)


def with_form(task: Task, constraint: Constraint) -> Task:
    """`task` with one more score, `valid`: the share of a row's texts that are in the language of `constraint`."""

    def score(row: Row, texts: list[str]) -> dict[str, float]:
        return task.score(row, texts) | {"valid": fmean(constraint.holds(text.strip()) for text in texts)}

    return replace(task, score=score)


def pending(task: Task, folder: SampleFolder, processes: Processes, batch_size: int) -> list[list[int]]:
    """The rows that this process still has to answer, as batches of row numbers.

    The longest prompts come first, so a prompt that does not fit into memory or the context fails at once. Rows of
    similar length share a batch, since a batch is padded to its longest row.
    """
    done = {index for (index,) in folder.keys("index")}
    mine = [index for index in processes.share(range(len(task.rows))) if index not in done]
    mine.sort(key=lambda index: len(task.conversations[index][0]), reverse=True)
    return [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]


def answer_task(
    task: Task,
    respondent: Respondent,
    folder: SampleFolder,
    batches: Iterable[list[int]],
    *,
    seed: int,
    run: dict[str, Any],
) -> None:
    """Answer the batches, and save the answers after each of them.

    Args:
        task (`Task`): the questions.
        respondent (`Respondent`): answers them.
        folder (`SampleFolder`): where the answers go.
        batches (iterable of `list[int]`): as `pending` returns them; may be wrapped in a progress bar.
        seed (`int`): seed of the run; each row and turn has random numbers of its own.
        run (`dict`): a description of the run, from `describe_run`; saved with the answers.

    Raises:
        ValueError: a prompt can't be answered (the message names the rows of its batch), or memory is too small.
    """
    for batch in batches:
        try:
            samples = _answer_batch(task, respondent, batch, seed)
        except ValueError as error:
            rows = f"row {batch[0]}" if len(batch) == 1 else f"one of the rows {', '.join(map(str, sorted(batch)))}"
            raise ValueError(f"{rows}: {error}") from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"The device has too little memory for {len(batch)} rows at a time; the same command with a smaller "
                "`batch_size` resumes from here."
            ) from error
        folder.add(samples, run)


def _answer_batch(task: Task, respondent: Respondent, batch: list[int], seed: int) -> list[Sample]:
    """Answer all turns of these rows; each turn is one batch of the rows that have it."""
    turns: dict[int, list[dict[str, Any]]] = {index: [] for index in batch}
    messages: dict[int, list[Message]] = {index: [] for index in batch}
    for turn in range(max(len(task.conversations[index]) for index in batch)):
        asked = [index for index in batch if turn < len(task.conversations[index])]
        for index in asked:
            messages[index].append({"role": "user", "content": task.conversations[index][turn]})
        prompts = [respondent.prompter(messages[index]) for index in asked]
        generators = [row_generator(seed, index, *([turn] if turn else [])) for index in asked]
        for index, given in zip(asked, respondent.ask(prompts, generators), strict=True):
            text = text_of(respondent.tokenizer, given.ids)
            messages[index].append({"role": "assistant", "content": text})
            turns[index].append({"text": text} | _without_places(given))
    return [{"index": index, "turns": turns[index]} for index in batch]


def wait_for_all(task: Task, folder: SampleFolder, seconds: float = 1.0) -> None:
    """Wait until all rows have an answer, including those of other processes."""
    while len(folder.keys("index")) < len(task.rows):
        time.sleep(seconds)


def write_results(task: Task, folder: SampleFolder) -> dict[str, Figure]:
    """Score the answers; write `samples.jsonl` in the order of the rows, the task's own files, and `results.json`.

    Returns:
        `dict`: the figures by name, each [value, standard error].
    """
    samples = folder.samples()
    turns_of = {sample["index"]: sample["turns"] for sample in samples if "index" in sample}
    turns = [turns_of[index] for index in range(len(task.rows))]
    texts = [[turn["text"] for turn in its] for its in turns]
    scores = [task.score(row, its) for row, its in zip(task.rows, texts, strict=True)]
    figures = _figures(turns, scores)
    lines = [
        {"index": index, "row": row, "scores": its_scores, "turns": its_turns}
        for index, (row, its_scores, its_turns) in enumerate(zip(task.rows, scores, turns, strict=True))
    ]
    write_atomically(folder.path / SAMPLES_FILE, json_lines(lines))
    for name, text in task.files(task.rows, texts).items():
        write_atomically(folder.path / name, text)
    result = {
        "task": task.name,
        "n": len(task.rows),
        "figures": figures,
        "settings": folder.settings,
        "runs": [sample["run"] for sample in samples if "run" in sample],
    }
    write_json(folder.path / RESULTS_FILE, result)
    return figures


def _figures(turns: Sequence[list[dict[str, Any]]], scores: Sequence[dict[str, float]]) -> dict[str, Figure]:
    """Means of the scores and of the figures that every task has. Rows are independent samples; turns are not."""
    count = [len(its) for its in turns]

    def sums(value: Callable[[dict[str, Any]], float]) -> list[float]:
        return [sum(map(value, its)) for its in turns]

    tokens = sums(lambda turn: len(turn["ids"]))
    forwards = sums(lambda turn: turn["forwards"])
    seconds = sums(lambda turn: turn["seconds"])
    return {name: figure([score[name] for score in scores]) for name in scores[0]} | {
        "repeated_4grams": figure(sums(lambda turn: repeated_ngrams(turn["ids"])), count),
        "ended": figure(sums(lambda turn: turn["ended"]), count),
        "empty": figure(sums(lambda turn: is_empty(turn["text"])), count),
        "tokens": figure(tokens, count),
        "forwards": figure(forwards, count),
        "seconds": figure(seconds, count),
        "tokens_per_forward": figure(tokens, forwards),
        "tokens_per_second": figure(tokens, seconds),
    }


def _without_places(given: Answer) -> dict[str, Any]:
    return {name: value for name, value in asdict(given).items() if name != "unmasked_at"}
