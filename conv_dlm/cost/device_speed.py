"""The peak rates of the device: a plain matrix product, and plain passes over memory, timed."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from conv_dlm.cost.floor import Peaks
from conv_dlm.cost.sizes import Shape

SIDES = {"cpu": (512, 1024, 2048)}  # of square products; the last one reaches the peak if it is fast enough to run
SIDES_ELSEWHERE = (2048, 8192)
SECONDS = 0.3  # for each measurement; the fastest repetition counts
LEAST_BYTES, MOST_BYTES = 1 << 20, 1 << 30


def measure_peaks(
    shape: Shape, positions: int, weight_bytes: float, device: torch.device, dtype: torch.dtype
) -> Peaks:
    """Time the device for a few seconds. The fastest repetition counts, since other load only makes things slower.

    Operations: the best rate of square products and of the product in the model's MLP with as many positions as a
    forward pass, in the model's dtype. Bandwidth: the best of a sum (reads), a copy (reads and writes) and a triad a +
    2 b (reads twice, writes), over as many bytes as the model's weights have, at most 1 GiB, so that weights which fit
    into a CPU's cache may be read from there.

    Args:
        shape (`Shape`): the model's sizes.
        positions (`int`): rows of a forward pass x positions computed in each.
        weight_bytes (`float`): bytes of the model's weights.
        device (`torch.device`): the device to time.
        dtype (`torch.dtype`): the dtype of the model's computations. Products in 8 bits, as in bitsandbytes, may be
            faster.
    """
    rate = _product_rate(positions, shape.width, shape.inner, device, dtype)
    for side in SIDES.get(device.type, SIDES_ELSEWHERE):
        if 2 * side**3 / rate > 4 * SECONDS:  # a dtype that this CPU only emulates
            break
        rate = max(rate, _product_rate(side, side, side, device, dtype))
    return Peaks(rate, _bandwidth(int(min(max(weight_bytes, LEAST_BYTES), MOST_BYTES)), device))


def _product_rate(rows: int, inner: int, columns: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a product [rows, inner] x [inner, columns] of random numbers."""
    left, right = (torch.randn(sides, device=device).to(dtype) for sides in ((rows, inner), (inner, columns)))
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    return 2 * rows * inner * columns / _fastest(lambda: torch.mm(left, right, out=out), device)


def _bandwidth(size: int, device: torch.device) -> float:
    """Bytes per second of the best of three passes over arrays of `size` bytes in total."""
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
