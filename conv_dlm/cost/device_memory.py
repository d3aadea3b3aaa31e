"""What a device has left, and what is made of that: fits, tight, does not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Shares of the free memory, by estimate. Estimates have been within some 10 % of what was measured for a step's part;
# the weights, mostly the larger one, are exact. On a GPU fragments and kernels' own buffers come on top.
FITS, TIGHT = 0.85, 0.97
VERDICTS = ("fits", "tight", "does not")
GIB = 2**30
_MOST = 2**20  # that `largest` looks at


def verdict(needed: float, free: float) -> str:
    """One of `VERDICTS` for bytes that are needed where so many are free."""
    share = needed / free if free > 0 else float("inf")
    return VERDICTS[0 if share <= FITS else 1 if share <= TIGHT else 2]


def largest(needed: Callable[[int], float], free: float, most: int = _MOST) -> int:
    """The largest size, at most `most`, that fits; 0 if not even 1 does. What is needed must grow with the size."""
    fitting, beyond = 0, most + 1
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        if verdict(needed(middle), free) == VERDICTS[0]:
            fitting = middle
        else:
            beyond = middle
    return fitting


def free_memory(device: torch.device) -> int | None:
    """Bytes that tensors could still take, PyTorch's own reserve included; of a CPU, the available RAM.

    `None` for a kind of device that doesn't tell.
    """
    if device.type == "cpu":
        return _available_ram()
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    backend: Any = getattr(torch, device.type, None)
    if not hasattr(backend, "mem_get_info"):
        return None
    reserve = backend.memory_reserved(device) - backend.memory_allocated(device)
    return int(backend.mem_get_info(device)[0] + reserve)


def _available_ram() -> int:
    info = Path("/proc/meminfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS: all there is
