"""Problems as rows of training data, in the conversational prompt-completion format of TRL."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conv_dlm.utils.files import json_lines, replacing
from conv_dlm.word_problems.problem import Problem, problems


def row(problem: Problem) -> dict[str, Any]:
    """`prompt` and `completion`, each a list with one message; `level`, `scene`, `form`, and the number as `answer`."""
    return {
        "prompt": [{"role": "user", "content": problem.question}],
        "completion": [{"role": "assistant", "content": problem.solution}],
        "level": problem.level,
        "scene": problem.scene,
        "form": problem.form,
        "answer": problem.answer,
    }


def rows(seed: int, count: int | None = None, start: int = 0, **options: Any) -> Iterator[dict[str, Any]]:
    """The rows of [`problems`], `count` of them from index `start` on, or without an end."""
    for problem in problems(seed, count, start, **options):
        yield row(problem)


def write_rows(path: Path, seed: int, count: int, **options: Any) -> None:
    """JSON lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.writelines(json_lines([one]).encode("utf-8") for one in rows(seed, count, **options))
