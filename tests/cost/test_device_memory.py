"""Verdicts at their limits, the largest size that fits, and what a device says it has left."""

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
