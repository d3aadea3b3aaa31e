"""What the device at hand does at best: a plain matrix product, and plain passes over memory, timed."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from conv_dlm.cost.floor import Peaks
from conv_dlm.cost.sizes import Shape

SIDES = {"cpu": (512, 1024, 2048)}  # of square products, the last of which is at the peak where it is quick enough
SIDES_ELSEWHERE = (2048, 8192)
SECONDS = 0.3  # for each measurement, of which the fastest repetition counts
LEAST_BYTES, MOST_BYTES = 1 << 20, 1 << 30


def measure_peaks(
    shape: Shape, positions: int, weight_bytes: float, device: torch.device, dtype: torch.dtype
) -> Peaks:
    """Time the device, for some seconds. The fastest repetition counts: neighbours only make things slower.

    Operations: square products, and that of the model's MLP for as many positions as a forward has, in the model's
    dtype; the best rate of all. Bandwidth: a sum (reads), a copy (reads and writes) and a triad a + 2 b (reads
    twice, writes), over as many bytes as the model's weights have, at most 1 GiB, so that what fits into a CPU's cache
    may be read from there; the best of the three.

    Args:
        positions (`int`): rows of a forward x positions computed in each.
        weight_bytes (`float`): of the model's weights.
        dtype (`torch.dtype`): in which the model computes. Products in 8 bits, as bitsandbytes' are, may be faster.
    """
    rate = _product_rate(positions, shape.width, shape.inner, device, dtype)
    for side in SIDES.get(device.type, SIDES_ELSEWHERE):
        if 2 * side**3 / rate > 4 * SECONDS:  # a dtype that this CPU only emulates
            break
        rate = max(rate, _product_rate(side, side, side, device, dtype))
    return Peaks(rate, _bandwidth(int(min(max(weight_bytes, LEAST_BYTES), MOST_BYTES)), device))


def _product_rate(rows: int, inner: int, columns: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of [rows, inner] x [inner, columns], of random numbers."""
    left, right = (torch.randn(sides, device=device).to(dtype) for sides in ((rows, inner), (inner, columns)))
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    return 2 * rows * inner * columns / _fastest(lambda: torch.mm(left, right, out=out), device)


def _bandwidth(size: int, device: torch.device) -> float:
    """Bytes a second of the best of three passes, which touch arrays of `size` bytes in all."""
    passes: list[tuple[int, Callable[..., Tensor]]] = [
        (1, lambda a: a.sum()),
        (2, lambda a, out: out.copy_(a)),
        (3, lambda a, b, out: torch.add(a, b, alpha=2, out=out)),
    ]
    rates = []
    for count, work in passes:
        arrays = [torch.ones(max(1, size // (4 * count)), device=device) for _ in range(count)]
        moved = count * arrays[0].numel() * 4
        rates.append(moved / _fastest(lambda work=work, arrays=arrays: work(*arrays), device))  # type: ignore[misc]
    return max(rates)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest repetition."""
    times: list[float] = []
    with torch.no_grad():
        while sum(times) < SECONDS or len(times) < 2:  # the first one is never the fastest
            _wait(device)
            start = time.perf_counter()
            work()
            _wait(device)
            times.append(time.perf_counter() - start)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
