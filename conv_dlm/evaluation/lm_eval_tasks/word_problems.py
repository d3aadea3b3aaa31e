"""What word_problems.yaml asks for: the problems, and the scores of an answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conv_dlm.evaluation.tasks import word_problems

if TYPE_CHECKING:
    from datasets import Dataset


def load(word_problems_options: Mapping[str, Any] | None = None, **_: Any) -> "dict[str, Dataset]":
    """The problems, as the split `test`.

    Args:
        word_problems_options (`Mapping`, *optional*):
            Options of [`~conv_dlm.evaluation.tasks.word_problems.load`], which refuses unknown ones. The rest of the
            metadata is not of this task: lm-eval passes the `model_args`, too.
    """
    from datasets import Dataset

    options = dict(word_problems_options or {})
    for name in ("levels", "forms"):  # JSON has lists alone
        if name in options:
            options[name] = tuple(options[name])
    return {"test": Dataset.from_list(word_problems.load(**options).rows)}


def scores(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The scores of an answer by [`~conv_dlm.evaluation.tasks.word_problems.score`]."""
    return word_problems.score(doc, results)
