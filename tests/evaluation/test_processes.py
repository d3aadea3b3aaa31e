"""The processes of a launcher: every piece of work belongs to one, and each knows its device."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm.evaluation.processes import Processes

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_CPU")


@pytest.fixture
def two_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Processes(0, 1, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Processes(5, 8, 1)),
        ({"ACCELERATE_USE_CPU": "true"}, Processes(use_cpu=True)),
        ({"ACCELERATE_USE_CPU": "False"}, Processes()),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "ACCELERATE_USE_CPU": "1"}, Processes(1, 2, 1, True)),
        ({"LOCAL_RANK": "0", "RANK": "0"}, Processes()),
    ],
)
def test_the_launcher_says_which(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], expected: Processes) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Processes.from_environment() == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers()), st.integers(1, 5))
def test_shares_are_all_of_the_work(work: list[int], count: int) -> None:
    shares = [Processes(rank, count).share(work) for rank in range(count)]
    assert sorted(piece for share in shares for piece in share) == sorted(work)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Processes().share(work) == work


def test_the_first_process_writes_the_results() -> None:
    assert Processes().is_first and Processes(0, 2).is_first and not Processes(1, 2).is_first


def test_each_process_has_its_accelerator(two_accelerators: None) -> None:
    assert Processes(5, 8, 1).device() == "cuda:1"
    assert Processes().device() is None  # the usual choice
    with pytest.raises(ValueError, match=r"Process 2 of this machine has no accelerator: there are 2\."):
        Processes(2, 3, 2).device()


def test_the_launcher_may_leave_accelerators_alone(two_accelerators: None) -> None:
    assert Processes(2, 3, 2, use_cpu=True).device() == Processes(use_cpu=True).device() == "cpu"


def test_without_accelerators_the_usual_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert Processes(1, 2, 1).device() is None
