"""Problems as rows of training data, in the conversational prompt-completion format of TRL."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conv_dlm.utils.files import json_lines, replacing
from conv_dlm.word_problems.problem import LEVELS, Problem, problems


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


def drilled_rows(drill: float, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows without an end in groups that are alike; the share `drill` of the groups are worksheets, evenly spread.

    Args:
        drill (`float`): a share, at least 0 and below 1.
        options: of [`rows`], `alike` among them.
    """
    stories = rows(**options)
    sheets = rows(**options | {"levels": LEVELS, "forms": ("prose",), "scenes": ("worksheet",)})
    for group in itertools.count():
        is_sheet = int((group + 1) * drill) > int(group * drill)
        yield from itertools.islice(sheets if is_sheet else stories, options["alike"])


def write_rows(path: Path, seed: int, count: int, drill: float = 0.0, alike: int = 1, **options: Any) -> None:
    """JSON lines of [`drilled_rows`], whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        found = itertools.islice(drilled_rows(drill, options | {"seed": seed, "alike": alike}), count)
        file.writelines(json_lines([one]).encode("utf-8") for one in found)
