"""A checkpoint has to have every weight of the model, and no other: what is missing would be random numbers, what is
left over was computed with where it comes from. Of both only a log speaks; of a file that was never filled, nothing."""

import warnings
from typing import Any

from torch import nn

SHOWN = 6  # names in a message


class CompleteWeights:
    """A model whose `from_pretrained` raises where Transformers' would initialise weights, or drop some. First of the
    bases."""

    @classmethod
    def from_pretrained(
        cls,
        *args: Any,
        allow_missing_weights: bool = False,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """As [`~transformers.PreTrainedModel.from_pretrained`].

        Args:
            allow_missing_weights (`bool`, *optional*, defaults to `False`):
                Whether to load what is of another layout: weights that the checkpoint doesn't have are initialised at
                random, and those that it has inside of the model, but this class hasn't, are left out. Weights beside
                the model, such as a value head's, may always be there.

        Raises:
            `ValueError`: weights are missing, or left over; the sentence names both. Or the embeddings are zero.

        Matrices that are zero in a model whose embeddings aren't cause a warning that names them.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        missing, left_over = info["missing_keys"], info["unexpected_keys"]
        inside = {key for key in left_over if key.startswith(f"{cls.base_model_prefix}.")}  # type: ignore[attr-defined]
        if (missing or inside) and not allow_missing_weights:
            raise ValueError(
                f"The checkpoint is of another layout than {cls.__name__}: {_named(missing) if missing else 'none'} "
                f"missing, {_named(left_over) if left_over else 'none'} left over. Pass "
                "`allow_missing_weights=True` to have random numbers for the former and do without the latter."
            )
        _refuse_zeros(model)
        return (model, info) if output_loading_info else model


def _refuse_zeros(model: Any) -> None:
    """Raise ValueError where a model reads nothing but zeros; warn of other matrices of zeros."""
    if _is_zero(model.get_input_embeddings().weight):
        raise ValueError(
            f"The embeddings of this {type(model).__name__} are zero: the checkpoint's file was not filled, by a "
            "download or a disk that ended early. Fetch it again."
        )
    if zeros := [name for name, weight in model.named_parameters() if weight.dim() > 1 and _is_zero(weight)]:
        warnings.warn(
            f"This {type(model).__name__} has {_named(zeros)} full of zeros: either it was not trained yet, or the "
            "checkpoint's file was not filled, and its answers are wrong.", stacklevel=3,
        )  # fmt: skip


def _is_zero(weight: nn.Parameter) -> bool:
    if weight.is_meta or not weight.is_floating_point() or not weight.numel():
        return False
    first = weight.reshape(-1)[:64]  # enough of almost every matrix
    return not first.any() and not weight.any()


def _named(keys: Any) -> str:
    shown = ", ".join(sorted(keys)[:SHOWN])
    noun = "weight" if len(keys) == 1 else "weights"
    return f"{len(keys)} {noun} ({shown}{', ...' if len(keys) > SHOWN else ''})"
