"""Models that are not simply on one device: where a canvas has to be, and weights that are nowhere."""

from collections.abc import Iterator
from typing import Any

import torch

META = "meta"


def canvas_device(model: Any) -> torch.device:
    """The device on which a model takes ids and gives logits.

    `model.device` is that of its first weight, which is none where Accelerate keeps it on the CPU or on a disk until it
    is needed; its hooks know then.

    Raises ValueError where there are weights on no device.
    """
    lost = _somewhere_else(model)
    if lost is not None:
        raise ValueError(
            f"Weights of {type(lost).__name__} are on no device (`meta`): it was made, but not loaded. Load it by "
            "`from_pretrained`, with `device_map` where it has to be spread."
        )
    device = torch.device(model.device)
    if device.type != META:
        return device
    for module in model.modules():
        for hook in _hooks(module):
            execution = getattr(hook, "execution_device", None)
            if execution is not None:
                return torch.device(execution)
    return device


def _somewhere_else(module: torch.nn.Module) -> torch.nn.Module | None:
    """The first module that has weights on no device, and no hook that brings them."""
    hooks = [hook for hook in _hooks(module) if getattr(hook, "offload", False)]
    if any(getattr(hook, "place_submodules", False) for hook in hooks):
        return None
    if not hooks and any(weight.is_meta for weight in _own_weights(module)):
        return module
    for child in module.children():
        lost = _somewhere_else(child)
        if lost is not None:
            return lost
    return None


def _own_weights(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from (weight for weight in module._parameters.values() if weight is not None)
    yield from (buffer for buffer in module._buffers.values() if buffer is not None)


def _hooks(module: torch.nn.Module) -> list[Any]:
    """Accelerate's hooks of a module."""
    hook = getattr(module, "_hf_hook", None)
    return [] if hook is None else list(getattr(hook, "hooks", [hook]))
