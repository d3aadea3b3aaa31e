"""Activation checkpointing: gradient checkpointing in Transformers before 5.24, which warns of that name since."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any


def checkpoint_activations(model: Any) -> None:
    """Have the blocks of `model` compute their activations again for the gradient, without PyTorch's older form of it.

    Args:
        model (`PreTrainedModel` or `PeftModel`): changed in place; it acts in training mode only.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


@contextlib.contextmanager
def old_names() -> Iterator[None]:
    """Let PEFT (0.21) use the old name without a warning, of which nobody here can do anything."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
        yield
