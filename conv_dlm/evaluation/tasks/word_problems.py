"""Arithmetic word problems from the project's own generator, judged down to each equation."""

import json
from typing import Any

from conv_dlm.evaluation.evaluate import Task
from conv_dlm.evaluation.figures import figure
from conv_dlm.utils.files import Row
from conv_dlm.word_problems import LEVELS, check, loops, problems, row

LEVELS_FILE = "levels.json"
DEFAULT_QUESTIONS = 1000


def load(
    questions: int | None = None,
    levels: tuple[int, int] = LEVELS,
    split: str = "test",
    forms: tuple[str, ...] = ("prose",),
    seed: int = 0,
) -> Task:
    """Problems of a split, the levels evenly mixed.

    Args:
        questions (`int`, *optional*): how many; 1,000 if `None`.
        levels (`tuple[int, int]`, *optional*, defaults to `(1, 12)`): least and largest number of operations.
        split (`str`, *optional*, defaults to `"test"`): `test`, `validation`, or `unseen`: wordings and scenes that no
            training data has.
        forms (`tuple[str, ...]`, *optional*, defaults to `("prose",)`): forms of the solution that are asked for.
        seed (`int`, *optional*, defaults to `0`): which problems.

    Returns:
        The task. Its scores: `accuracy` of the final number; `sound`, that and a working without a wrong step; `form`;
        `equations`, the share of those in the answer that hold; `first_step`, whether the first step is right;
        `steps_right`, how many of the problem's steps come before the first wrong one, as a share; `loops`, a phrase
        said four times in a row. The same by level go to `levels.json`.

    Raises:
        ValueError: options that `conv_dlm.word_problems.problem` refuses.
    """
    found = problems(seed, questions or DEFAULT_QUESTIONS, split=split, levels=levels, forms=forms)
    rows: list[Row] = [row(one) | {"question": one.question} for one in found]
    return Task("word_problems", rows, [[one["question"]] for one in rows], score, _files)


def score(row: Row, texts: list[str]) -> dict[str, float]:
    """What `check` says of the last text, as shares."""
    verdict = check(row["question"], texts[-1], row["answer"])
    right = [one.right for one in verdict.equations]
    before_wrong = len(right) if verdict.first_wrong_step is None else verdict.first_wrong_step
    return {
        "accuracy": float(verdict.right),
        "sound": float(verdict.sound),
        "form": float(verdict.form),
        "equations": sum(right) / len(right) if right else 0.0,
        "first_step": float(bool(right) and verdict.first_wrong_step != 0),
        "steps_right": min(before_wrong, row["level"]) / row["level"],
        "loops": float(loops(texts[-1])),
    }


def _files(rows: list[Row], texts: list[list[str]]) -> dict[str, str]:
    by_level: dict[int, list[dict[str, float]]] = {}
    for one, its in zip(rows, texts, strict=True):
        by_level.setdefault(one["level"], []).append(score(one, its))
    table: dict[str, Any] = {
        str(level): {"n": len(scores)} | {name: figure([one[name] for one in scores]) for name in scores[0]}
        for level, scores in sorted(by_level.items())
    }
    return {LEVELS_FILE: json.dumps(table, indent=1) + "\n"}
