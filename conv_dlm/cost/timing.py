"""Time cases: a warm-up, then runs, of which the median counts."""

import contextlib
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import BatchEncoding

from conv_dlm.answering.answers import end_tokens, until_end
from conv_dlm.answering.batching import row_generator
from conv_dlm.cost.cases import BASELINES, Case
from conv_dlm.cost.floor import Peaks, floor_of
from conv_dlm.cost.meters import ForwardLog, PeakMemory, Stopwatch, observed
from conv_dlm.cost.sizes import Shape
from conv_dlm.cost.subject import Loaded, Subject

WARM_UP_FORWARDS = 3
FORWARDS_FOR_PEAK = 4  # the first ones, when memory is measured in a separate process: every position is still masked


@dataclass(frozen=True)
class Done:
    """The result of a batch.

    Attributes:
        ids (`LongTensor` [B, L]): the responses.
        steps (`int`): steps of the loop until the last token was unmasked.
        forwards (`int`): forward passes (NFE) of all rows together.
    """

    ids: Tensor
    steps: int
    forwards: int


class Bench:
    """Times cases on one model.

    Args:
        subject (`Subject`): what `loaded` was loaded from.
        loaded (`Loaded`): the model and its prompts.
        peaks (`Peaks`): the peak rates of the device.
    """

    def __init__(self, subject: Subject, loaded: Loaded, peaks: Peaks) -> None:
        self.subject, self.loaded, self.peaks = subject, loaded, peaks
        self.shape = Shape.of(loaded.model.config)

    def measure(self, case: Case, repeats: int, seeds: Sequence[int], memory: bool = True) -> dict[str, Any]:
        """Measure a case for a row of the table.

        Args:
            case (`Case`): the case.
            repeats (`int`): runs per seed.
            seeds (sequence of `int`): deterministic cases use only the first.
            memory (`bool`, *optional*, defaults to `True`): whether to measure peak memory too.

        Returns:
            `dict`: the row; see `describe`.

        Raises:
            ValueError: the case is impossible.
        """
        model, batches = self.loaded.model, self.loaded.batches(case.batch_size)
        seeds = seeds if draws(model, case) else seeds[:1]
        compiled = bool(case.options.get("compile"))
        with observed(model, model.device, compiled) as (watch, log):
            self._warm_up(case, batches, seeds[0], compiled)
            peak = PeakMemory(model.device) if memory and model.device.type == "cuda" else None
            runs = [self._run(case, batches, seed, watch, log) for _ in range(repeats) for seed in seeds]
            peak_mb = None if peak is None else peak.in_mb()
        if memory and peak is None and PeakMemory.can_be_measured(model.device):
            peak_mb = peak_in_a_process(self.subject, case)
        return describe(case, batches, runs, peak_mb, weight_bytes(model))

    def _warm_up(self, case: Case, batches: Sequence[BatchEncoding], seed: int, compiled: bool) -> None:
        """Warm up: with compiled code a whole run, which meets all shapes, otherwise some forward passes."""
        if compiled:
            for batch in batches:
                answer(self.loaded.model, case, batch, seed)
        else:
            answer_begun(self.loaded.model, case, batches[0], WARM_UP_FORWARDS)

    def _run(
        self, case: Case, batches: Sequence[BatchEncoding], seed: int, watch: Stopwatch, log: ForwardLog
    ) -> dict[str, float]:
        """One run over all batches: seconds, tokens, forward passes, steps, and their floor."""
        done: list[Done] = []
        log.forwards.clear()
        times = watch.run(lambda: done.extend(answer(self.loaded.model, case, batch, seed) for batch in batches))
        value_bytes = torch.finfo(self.loaded.model.dtype).bits // 8
        floor = floor_of(log.forwards, self.shape, self.peaks, value_bytes, self.subject.quantize)
        ends, mask = end_tokens(self.loaded.model, {}), mask_of(self.loaded.model, case)
        tokens = sum(count_tokens(row, ends, mask) for one in done for row in one.ids.tolist())
        return {
            "seed": seed,
            "seconds": times["total_s"],
            "forward_seconds": times["model_s"],
            "loop_seconds": times["loop_s"],
            "forwards": times["forwards"],
            "row_forwards": sum(one.forwards for one in done),
            "steps": sum(one.steps for one in done),
            "tokens": tokens,
            "floor_seconds": floor.seconds,
            "floor_by_operations": floor.by_operations,
            "operations": floor.operations,
            "bytes": floor.bytes_moved,
        }


def answer(model: Any, case: Case, batch: BatchEncoding, seed: int) -> Done:
    """Generate a batch, with a generator for each row."""
    prompts, length = batch["input_ids"], batch["input_ids"].shape[1]
    if case.is_baseline:
        return _answer_plainly(model, case, batch)
    generators = [row_generator(seed, row) for row in range(len(prompts))]
    output = model.generate(**batch, **case.keywords(), generator=generators, return_dict_in_generate=True)
    unmasked_at = output.unmasked_at[output.unmasked_at >= 0]
    # every step of an adaptive type unmasks something, and the final fill has a much higher number
    steps = len(unmasked_at.unique()) if case.steps is None else int(unmasked_at.max()) + 1
    return Done(output.sequences[:, length:], steps, int(output.forwards.sum()))


def _answer_plainly(model: Any, case: Case, batch: BatchEncoding) -> Done:
    prompts = batch["input_ids"]
    if not bool(batch["attention_mask"].all()):
        raise ValueError("plain loops know no padding, and the prompts of a batch have different lengths.")
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and prompts.shape[1] + case.max_new_tokens > limit:
        raise ValueError(f"prompt and response need more than the model's context of {limit} tokens.")
    options = dict(case.options) | ({} if case.steps is None else {"steps": case.steps})
    calls = ForwardLog(model)
    try:
        sequences = BASELINES[case.name].run(model, prompts, mask_of(model, case), case.max_new_tokens, **options)
    finally:
        calls.remove()
    steps = len(calls.forwards)
    return Done(sequences[:, prompts.shape[1] :], steps, steps * len(prompts))


def draws(model: Any, case: Case) -> bool:
    """Whether a case samples. Raises ValueError if its options contradict each other."""
    if case.is_baseline:
        return False
    return bool(model.resolve_settings(**case.keywords()).is_random)


def mask_of(model: Any, case: Case) -> int:
    """The id of the mask token. Raises ValueError if it is unknown."""
    mask = case.options.get("mask_token_id", model.generation_config.mask_token_id)
    if mask is None:
        raise ValueError("`mask_token_id` is not known: the model's config names no mask token.")
    return int(mask)


def count_tokens(ids: list[int], ends: set[int], mask_token_id: int) -> int:
    """The number of unmasked tokens in a response before its first end token."""
    text, _ = until_end(ids, ends)
    return len(text) - text.count(mask_token_id)


def weight_bytes(model: Any) -> float:
    """Bytes of parameters and buffers in memory."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def describe(
    case: Case,
    batches: Sequence[BatchEncoding],
    runs: Sequence[dict[str, float]],
    peak_mb: float | None,
    weights: float,
) -> dict[str, Any]:
    """The table row of a case. Each figure is [median, minimum, maximum] over the runs, which are included too.

    Args:
        case (`Case`): the case.
        batches (sequence of `BatchEncoding`): its inputs.
        runs (sequence of `dict`): its runs.
        peak_mb (`float`, *optional*): peak memory in MB, without the weights.
        weights (`float`): bytes of the weights.
    """

    def over_runs(parts: str, wholes: str | None = None, factor: float = 1.0) -> list[float]:
        values = [factor * run[parts] / max(run[wholes], 1e-12) if wholes else run[parts] for run in runs]
        return [median(values), min(values), max(values)]

    return {
        "setting": case.setting,
        "kind": "baseline" if case.is_baseline else "decode type",
        "name": case.name,
        "steps": case.steps,
        "cache": case.cache,
        "max_new_tokens": case.max_new_tokens,
        "batch_size": case.batch_size,
        "batches": len(batches),
        "prompt_tokens": max(batch["input_ids"].shape[1] for batch in batches),
        "options": dict(case.options),
        "tokens_per_second": over_runs("tokens", "seconds"),
        "tokens_per_forward": over_runs("tokens", "row_forwards"),
        "tokens": over_runs("tokens"),
        "forwards": over_runs("forwards"),
        "seconds": over_runs("seconds"),
        "forward_ms": over_runs("forward_seconds", "forwards", 1000),
        "loop_ms_per_step": over_runs("loop_seconds", "steps", 1000),
        "loop_share": over_runs("loop_seconds", "seconds"),
        "floor_ms_per_forward": over_runs("floor_seconds", "forwards", 1000),
        "forward_above_floor": over_runs("forward_seconds", "floor_seconds"),
        "whole_above_floor": over_runs("seconds", "floor_seconds"),
        "weights_mb": weights / 1e6,
        "peak_mb": None if peak_mb is None else weights / 1e6 + peak_mb,
        "runs": list(runs),
    }


class _EnoughError(Exception):
    """A plain loop has made the wanted number of forward passes."""


def answer_begun(model: Any, case: Case, batch: BatchEncoding, forwards: int) -> None:
    """Start a batch, and stop after `forwards` forward passes."""
    if case.is_baseline:
        _begin_plainly(model, case, batch, forwards)
        return
    generators = [row_generator(0, row) for row in range(len(batch["input_ids"]))]
    enough = lambda now: max(now.forwards) >= forwards  # noqa: E731
    model.generate(**batch, **case.keywords(), generator=generators, callback_on_step_end=enough)


def _begin_plainly(model: Any, case: Case, batch: BatchEncoding, forwards: int) -> None:
    """The same for a loop without a callback."""
    begun = 0

    def stop(*_: Any) -> None:
        nonlocal begun
        begun += 1
        if begun > forwards:
            raise _EnoughError

    hook = model.register_forward_pre_hook(stop)
    try:
        with contextlib.suppress(_EnoughError):
            answer(model, case, batch, seed=0)
    finally:
        hook.remove()


def peak_in_a_process(subject: Subject, case: Case) -> float:
    """Peak memory of the first forward passes in MB, without the weights, measured in a separate process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (subject, case, torch.get_num_threads()))


def _peak_memory(subject: Subject, case: Case, threads: int) -> float:
    torch.set_num_threads(threads)
    loaded = subject.load()
    loaded.make_room(case.max_new_tokens)
    model, (batch, *_) = loaded.model, loaded.batches(case.batch_size)
    with torch.no_grad():
        model(input_ids=batch["input_ids"][:1, :2])  # memory that libraries take at their first call
    peak = PeakMemory(model.device)
    answer_begun(model, case, batch, FORWARDS_FOR_PEAK)
    return peak.in_mb()
