"""What a model's `forward` can do beyond mapping ids to logits. Its class says so:

    class MyModel(DiffusionGenerationMixin, PreTrainedModel):
        supports_window_logits = True  # `logits_to_keep` may be LongTensor [B, W], positions of each row
        supports_canvas_cache = True   # computes the positions `position_ids`, and reads the others from a `Cache`

Where nothing is declared, Transformers' own models are known to have both as far as their arguments go, and others to
have neither: a checkpoint's own `forward` may have an argument of that name and mean something else by it.
"""

import inspect
from collections.abc import Set
from typing import Any

from transformers.modeling_utils import slice_logits_to_keep


def supports_window_logits(model: Any) -> bool:
    """Whether only the window's positions reach the vocabulary projection."""
    declared = getattr(model, "supports_window_logits", None)
    return _follows_transformers(model) if declared is None else declared


def supports_canvas_cache(model: Any) -> bool:
    """Whether a forward may compute some positions of the canvas and take the others from a cache."""
    declared = getattr(model, "supports_canvas_cache", None)
    if declared is not None:
        return declared
    return _follows_transformers(model) and {"position_ids", cache_argument(model)} <= _arguments(model)


def cache_argument(model: Any) -> str:
    """The name under which `forward` takes a cache, if it does: Transformers has changed it in 5.24."""
    return "cache" if "cache" in _arguments(model) else "past_key_values"


def _arguments(model: Any) -> Set[str]:
    return inspect.signature(model.forward).parameters.keys()


def _follows_transformers(model: Any) -> bool:
    """Whether `forward` cuts out the logits to keep by Transformers' own function, which may differ by row."""
    code = inspect.unwrap(type(model).forward)
    return getattr(code, "__globals__", {}).get("slice_logits_to_keep") is slice_logits_to_keep


def check_canvas_cache(model: Any, cache_implementation: str) -> None:
    """Raise ValueError for a model whose forward can't read keys and values that were kept."""
    if not supports_canvas_cache(model):
        raise ValueError(
            f"`cache_implementation={cache_implementation!r}` needs a model that reads keys and values from a cache, "
            f"and {type(model).__name__} doesn't declare that its forward does (`supports_canvas_cache = True`); "
            "drop it."
        )
