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

CONTEXT_LENGTH_NAMES = ("max_position_embeddings", "max_sequence_length", "model_length")


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


def scales_by_length(config: Any) -> bool:
    """Whether the rotary embedding depends on how long the text of a forward is."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get("rope_type", "default") in ("dynamic", "longrope")


def longest_context(config: Any) -> int | None:
    """Positions that a model is for, what its rotary embedding is scaled by included; None where nobody says."""
    limit: int | None = next((said for name in CONTEXT_LENGTH_NAMES if (said := getattr(config, name, None))), None)
    rope = getattr(config, "rope_parameters", None) or {}
    if limit is None or "factor" not in rope:
        return limit
    return max(limit, int(rope["factor"] * rope.get("original_max_position_embeddings", limit)))


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
