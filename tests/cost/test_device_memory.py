"""Verdicts at their limits, the largest size that fits, and what a device says it has left."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from conv_dlm.cost.device_memory import FITS, TIGHT, free_memory, largest, verdict


@pytest.mark.parametrize(
    ("needed", "expected"),
    [(0, "fits"), (850, "fits"), (851, "tight"), (970, "tight"), (971, "does not"), (10**6, "does not")],
)
def test_verdicts_at_the_limits(needed: int, expected: str) -> None:
    assert (FITS, TIGHT) == (0.85, 0.97)
    assert verdict(needed, 1000) == expected


def test_nothing_fits_where_nothing_is_free() -> None:
    assert verdict(1, 0) == "does not"


def test_largest() -> None:
    assert largest(lambda size: 100 * size, 1000) == 8
    assert largest(lambda size: 900 + size, 1000) == 0
    assert largest(lambda size: size, 1000, most=5) == 5
    assert largest(lambda size: size, 1000, most=0) == 0


@pytest.mark.parametrize("limit", [1, 7, 10, 11, 849, 850, 1000, 54321, 10**9])
@pytest.mark.parametrize(
    "needed",
    [
        lambda n: n,
        lambda n: 7 * n + 300,
        lambda n: n * n,
        lambda n: max(3 * n, 20 * n - 600),
        lambda n: min(50 * n, n + 98),
    ],
    ids=["line", "beside weights", "square", "steeper later", "steeper first"],
)
def test_largest_is_the_last_that_fits(needed: Callable[[int], int], limit: int) -> None:
    asked: list[int] = []

    def counted(size: int) -> int:
        asked.append(size)
        return needed(size)

    size = largest(counted, limit / FITS, most=5000)
    assert size == 0 or needed(size) <= limit
    assert size == 5000 or needed(size + 1) > limit
    assert len(asked) <= 24 and len(set(asked)) == len(asked)


def test_a_line_is_looked_at_four_times() -> None:
    asked: list[int] = []
    assert largest(lambda size: asked.append(size) or 7 * size + 300, 100_000) == 12100  # type: ignore[func-returns-value]
    assert len(asked) <= 4


def test_free_memory_of_the_cpu() -> None:
    assert 2**20 < (free_memory(torch.device("cpu")) or 0) < 2**50


def test_free_memory_of_a_gpu_counts_the_allocators_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SimpleNamespace(
        mem_get_info=lambda device: (1000, 5000),
        memory_reserved=lambda device: 300,
        memory_allocated=lambda device: 100,
    )
    monkeypatch.setattr(torch, "cuda", backend)
    assert free_memory(torch.device("cuda")) == 1200


def test_a_device_that_does_not_tell() -> None:
    assert free_memory(torch.device("meta")) is None
