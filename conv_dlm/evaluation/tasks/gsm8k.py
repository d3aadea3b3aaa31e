"""GSM8K (arXiv 2110.14168): grade-school sums, asked without examples, in the model's chat format."""

from collections.abc import Sequence
from pathlib import Path

from conv_dlm.evaluation.evaluate import Task
from conv_dlm.evaluation.gsm8k import ANSWER_RULES, check_rules, is_well_formed
from conv_dlm.evaluation.tasks.hub import rows_of_hub
from conv_dlm.utils.files import Row, first_rows, read_rows, text_in

DATASET = "openai/gsm8k"
DEFAULT_RULES = ("strict", "flexible")  # lm-evaluation-harness'; see ANSWER_RULES for the others


def load(
    path: Path | None = None,
    questions: int | None = None,
    rules: Sequence[str] = DEFAULT_RULES,
    skip_malformed: bool = False,
) -> tuple[Task, list[str]]:
    """The test split, or a file with its columns `question` and `answer`.

    Args:
        path (`Path`, *optional*): JSON lines; from the Hub if `None`.
        questions (`int`, *optional*): the first so many rows; all if `None`.
        rules: names of `ANSWER_RULES`: how answers are judged.

    Returns:
        The task, and what was wrong with lines that were left out.

    Raises:
        ValueError: an unknown rule, malformed rows, or fewer than asked for.
    """
    check_rules(rules)

    def check(row: Row) -> None:
        text_in(row, "question")
        for rule in rules:  # some raise for an answer that they can't read
            ANSWER_RULES[rule]("", text_in(row, "answer"))

    wrong: list[str] = []
    if path is None:
        rows = rows_of_hub("GSM8K", DATASET, "main", split="test")
    else:
        rows, wrong = read_rows(path, skip_malformed, check)
    rows = first_rows(rows, questions)

    def score(row: Row, texts: list[str]) -> dict[str, float]:
        right = {f"accuracy_{rule}": float(ANSWER_RULES[rule](texts[-1], row["answer"])) for rule in rules}
        return right | {"well_formed": float(is_well_formed(texts[-1]))}

    return Task("gsm8k", rows, [[row["question"]] for row in rows], score), wrong
