"""The free memory of a device, and the verdict: fits, tight, does not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Shares of the free memory, by count. Measurements of a step were within about 10 % of the count; the weights, usually
# the larger part, are exact. On a GPU, fragmentation and the kernels' own buffers come on top.
FITS, TIGHT = 0.85, 0.97
VERDICTS = ("fits", "tight", "does not")
GIB = 2**30
_MOST = 2**20  # the largest size that `largest` tries


def verdict(needed: float, free: float) -> str:
    """One of `VERDICTS`, for the needed and the free bytes."""
    share = needed / free if free > 0 else float("inf")
    return VERDICTS[0 if share <= FITS else 1 if share <= TIGHT else 2]


def largest(needed: Callable[[int], float], free: float, most: int = _MOST) -> int:
    """Find the largest size that fits.

    Memory grows almost linearly with the size, so the next size to try is where the line through the last two meets the
    limit. This tries few sizes, since each may take a count of some tenths of a second.

    Args:
        needed (callable): from a size to its bytes; must grow with the size.
        free (`float`): free bytes.
        most (`int`, *optional*, defaults to `2**20`): the largest size to try.

    Returns:
        `int`: the size, or 0 if not even 1 fits.
    """
    limit, size = FITS * free, 1
    fitting, beyond = 0, most + 1
    looked_at: list[tuple[int, float]] = []
    while beyond - fitting > 1:
        looked_at.append((size, needed(size)))
        fitting, beyond = (size, beyond) if looked_at[-1][1] <= limit else (fitting, size)
        by_line = 2 * size if len(looked_at) == 1 else _where_the_line_meets(looked_at[-2], looked_at[-1], limit)
        straight = len(looked_at) < 10  # else halve what is left
        size = min(max(by_line, fitting + 1), beyond - 1) if straight else (fitting + beyond) // 2
    return fitting


def _where_the_line_meets(one: tuple[int, float], other: tuple[int, float], limit: float) -> int:
    slope = (other[1] - one[1]) / (other[0] - one[0])
    return int(other[0] + (limit - other[1]) / slope) if slope > 0 else 2 * max(one[0], other[0])


def free_memory(device: torch.device) -> int | None:
    """Bytes that tensors can still take, including PyTorch's own reserve; on a CPU, the available RAM.

    `None` for a kind of device that does not report it.
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
