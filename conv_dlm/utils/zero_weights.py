"""Weights of zeros, as of a file that was reserved and never filled: such a model answers, and nobody says a word."""

import warnings
from typing import Any

from torch import Tensor

SHOWN = 6  # names in a message


def refuse_zero_embeddings(model: Any) -> None:
    """Raise ValueError where a model reads nothing but zeros."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    if weight is not None and _is_zero(weight):
        raise ValueError(
            f"The embeddings of this {type(model).__name__} are zero: the checkpoint's file was not filled, by a "
            "download or a disk that ended early. Fetch it again."
        )


def warn_of_zeros(model: Any) -> None:
    """Name a model's matrices of zeros."""
    if zeros := [name for name, weight in model.named_parameters() if weight.dim() > 1 and _is_zero(weight)]:
        warnings.warn(
            f"This {type(model).__name__} has {named(zeros)} full of zeros: either it was not trained yet, or the "
            "checkpoint's file was not filled, and its answers are wrong.", stacklevel=3,
        )  # fmt: skip


def _is_zero(weight: Tensor) -> bool:
    if weight.is_meta or not weight.is_floating_point() or not weight.numel():
        return False
    first = weight.reshape(-1)[:64]  # enough of almost every matrix
    return not first.any() and not weight.any()


def named(keys: Any) -> str:
    """How many weights, and the names of the first ones."""
    shown = ", ".join(sorted(keys)[:SHOWN])
    noun = "weight" if len(keys) == 1 else "weights"
    return f"{len(keys)} {noun} ({shown}{', ...' if len(keys) > SHOWN else ''})"
