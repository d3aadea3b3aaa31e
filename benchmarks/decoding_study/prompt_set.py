"""The prompts that decoders are compared on, with a reference answer to each if there is one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conv_dlm.evaluation.gsm8k import ANSWER_RULES, check_rules
from conv_dlm.evaluation.tasks import gsm8k, word_problems
from conv_dlm.utils.files import Row, fingerprint, first_rows, read_rows, text_in

GSM8K, WORD_PROBLEMS = "gsm8k", "word_problems"


@dataclass(frozen=True)
class PromptSet:
    """Prompts, and an answer to each as it should be, or none at all.

    Attributes:
        score (*optional*): what the text that answers a prompt, given by its number, is worth, as shares by name.
    """

    prompts: list[str]
    references: list[str] | None = None
    score: Callable[[int, str], dict[str, float]] | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Tells these rows from others."""
        return fingerprint(self.prompts, self.references)


def generated_problems(questions: int | None, levels: tuple[int, int], split: str, form: str, seed: int) -> PromptSet:
    """Word problems with their solutions; see [`word_problems.load`]."""
    rows = word_problems.load(questions, levels, split, (form,), seed).rows
    return PromptSet(
        [row["question"] for row in rows],
        [row["completion"][0]["content"] for row in rows],
        lambda number, text: word_problems.score(rows[number], [text]),
    )


def load_prompts(
    source: str,
    field: str = "prompt",
    reference_field: str = "reference",
    *,
    questions: int | None = None,
    skip_malformed: bool = False,
    rules: Sequence[str] = (),
) -> tuple[PromptSet, list[str]]:
    """Prompts of a file, or GSM8K's test split from the Hub.

    Args:
        source (`str`): JSON lines, or `gsm8k`.
        field, reference_field (`str`): where rows have the prompt and, all of them or none, the reference.
        questions (`int`, *optional*): the first so many rows; all if `None`.
        rules: names of `ANSWER_RULES` that the references are needed for.

    Returns:
        The prompts, and what was wrong with rows that were left out.

    Raises:
        ValueError: an unknown rule, malformed rows, fewer than asked for, or some without a reference.
    """
    check_rules(rules)
    if source == GSM8K:
        task, _ = gsm8k.load(questions=questions, rules=rules)
        return PromptSet([row["question"] for row in task.rows], [row["answer"] for row in task.rows]), []

    def check(row: Row) -> None:
        text_in(row, field)
        if reference_field in row or rules:
            reference = text_in(row, reference_field)
            for rule in rules:  # some raise for a reference that they can't read
                ANSWER_RULES[rule]("", reference)

    rows, wrong = read_rows(Path(source), skip_malformed, check)
    rows = first_rows(rows, questions)
    prompts = [row[field] for row in rows]
    without = [number for number, row in enumerate(rows) if reference_field not in row]
    if len(without) == len(rows):
        return PromptSet(prompts), wrong
    if without:
        raise ValueError(
            f"{source}: row {without[0]} has no {reference_field!r}, as {len(rows) - len(without)} other rows have; "
            "give one to each, or to none."
        )
    return PromptSet(prompts, [row[reference_field] for row in rows]), wrong
