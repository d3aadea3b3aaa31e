"""Prompts of one's own, in one turn or, as in MT-Bench (arXiv 2306.05685), in several."""

from pathlib import Path

from conv_dlm.evaluation.evaluate import Task
from conv_dlm.utils.files import Row, first_rows, read_rows, text_in


def load(
    path: Path, questions: int | None = None, field: str = "prompt", skip_malformed: bool = False
) -> tuple[Task, list[str]]:
    """Rows with a text in `field`, or with a list of texts in `turns`, each asked after the answer to the one before.

    Args:
        path (`Path`): JSON lines, or a JSON list.
        questions (`int`, *optional*): the first so many rows; all if `None`.

    Returns:
        The task, and what was wrong with lines that were left out.

    Raises:
        ValueError: malformed rows, or fewer than asked for.
    """
    rows, wrong = read_rows(path, skip_malformed, lambda row: _turns(row, field))
    rows = first_rows(rows, questions)
    return Task("prompts", rows, [_turns(row, field) for row in rows]), wrong


def _turns(row: Row, field: str) -> list[str]:
    turns = row.get("turns")
    if turns is None:
        return [text_in(row, field)]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise ValueError("`turns` must be a list of texts, one at least.")
    return turns
