"""Training metrics: ratios over many batches and ranks, and throughput."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import TrainerCallback, TrainerState

Ratio = tuple[Tensor | float, Tensor | float]  # numerator and denominator


class Ratios:
    """Ratios by name, summed locally and reduced over ranks only when they are read.

    Every rank must add the same names in the same order.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, ratios: Mapping[str, Ratio], device: torch.device) -> None:
        for name, ratio in ratios.items():
            pair = torch.stack([torch.as_tensor(part, dtype=torch.float32).detach().to(device) for part in ratio])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """The ratios of all ranks, without empty ones; resets the sums."""
        if not self._sums:
            return {}
        names, sums = list(self._sums), torch.stack(list(self._sums.values()))
        self._sums = {}
        pairs = zip(names, accelerator.reduce(sums, "sum").tolist(), strict=True)
        return {name: numerator / denominator for name, (numerator, denominator) in pairs if denominator}


class StepClock(TrainerCallback):
    """Throughput of the optimiser steps, including data loading, without evaluation and saving."""

    def __init__(self) -> None:
        self._seconds, self._tokens = 0.0, 0
        self._since = time.perf_counter()

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._seconds, self._tokens = 0.0, state.num_input_tokens_seen  # more than 0 in a resumed run
        self._since = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._seconds += time.perf_counter() - self._since
        self._since = time.perf_counter()

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self._since = time.perf_counter()

    on_save = on_evaluate

    def throughput(self, tokens: int) -> dict[str, float]:
        """`tokens_per_second` since the last call, given the total number of `tokens` seen."""
        new_tokens, seconds = tokens - self._tokens, self._seconds
        self._seconds, self._tokens = 0.0, tokens
        return {"tokens_per_second": new_tokens / seconds} if seconds else {}
