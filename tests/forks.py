"""Processes of their own that import nothing again, which takes most of what a new one takes."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch


def context() -> Any:
    """How processes start: as forks of the test, or new where PyTorch does not survive a fork."""
    return multiprocessing.get_context("spawn" if torch.accelerator.is_available() else "fork")


def in_fork(function: Callable[..., Any], *args: Any) -> Any:
    """What a function of a module returns, or raises, in a process whose changes end with it."""
    with ProcessPoolExecutor(1, context()) as pool:
        return pool.submit(function, *args).result()
