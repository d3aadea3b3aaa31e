"""The cache of a forward is `cache` since Transformers 5.24, `past_key_values` before; these models take both names.

Modules inside a model say `cache` with every release.
"""

from dataclasses import fields
from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

CACHE_NAMES = ["cache", "past_key_values"]
# The name in the outputs of the installed release; newer ones answer to the old name too, with a warning.
CACHE_FIELD = next(field.name for field in fields(BaseModelOutputWithPast) if field.name in CACHE_NAMES)


def returned_cache(cache: Cache | None) -> dict[str, Any]:
    """The cache as a keyword for an output of the installed release."""
    return {CACHE_FIELD: cache}


def given_cache(model: Any, cache: Cache | None, past_key_values: Cache | None) -> Cache | None:
    """The cache that a forward of `model` was given, under either name; none under gradient checkpointing.

    Raises:
        ValueError: given under both names.
    """
    if cache is not None and past_key_values is not None:
        raise ValueError("`cache` and `past_key_values` are two names of one argument; pass one of them.")
    if model.gradient_checkpointing and model.training and torch.is_grad_enabled():
        return None  # a block that runs again for its gradient would write to it twice
    return past_key_values if cache is None else cache
