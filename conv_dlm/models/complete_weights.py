"""A checkpoint has to have every weight of the model, and no other: what is missing would be random numbers, what is
left over was computed with where it comes from. Of both only a log speaks; of a file that was never filled, nothing."""

from typing import Any

from conv_dlm.utils.zero_weights import named, refuse_zero_embeddings, warn_of_zeros


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
                f"The checkpoint is of another layout than {cls.__name__}: {named(missing) if missing else 'none'} "
                f"missing, {named(left_over) if left_over else 'none'} left over. Pass "
                "`allow_missing_weights=True` to have random numbers for the former and do without the latter."
            )
        refuse_zero_embeddings(model)
        warn_of_zeros(model)
        return (model, info) if output_loading_info else model
