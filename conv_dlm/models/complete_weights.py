"""A checkpoint has to have every weight: one that was not there would be random numbers, of which only a log speaks."""

from typing import Any

SHOWN = 6  # names in a message


class CompleteWeights:
    """A model whose `from_pretrained` raises where Transformers' would initialise weights. First of the bases."""

    @classmethod
    def from_pretrained(
        cls, *args: Any, allow_missing_weights: bool = False, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """As [`~transformers.PreTrainedModel.from_pretrained`].

        Args:
            allow_missing_weights (`bool`, *optional*, defaults to `False`):
                Whether weights that the checkpoint doesn't have are initialised at random.

        Raises:
            `ValueError`: weights are missing; the sentence names them, and what the checkpoint has instead.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        missing, left_over = info["missing_keys"], info["unexpected_keys"]
        if missing and not allow_missing_weights:
            raise ValueError(
                f"The checkpoint is of another layout than {cls.__name__}: {_named(missing)} missing, "
                f"{_named(left_over) if left_over else 'none'} left over. Pass `allow_missing_weights=True` to begin "
                "with random numbers there."
            )
        return (model, info) if output_loading_info else model


def _named(keys: Any) -> str:
    shown = ", ".join(sorted(keys)[:SHOWN])
    return f"{len(keys)} weights ({shown}{', ...' if len(keys) > SHOWN else ''})"
