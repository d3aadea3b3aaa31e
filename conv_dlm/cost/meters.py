"""Meters: the time inside and outside a model's forward passes, the size of these passes, and memory."""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conv_dlm.cost.floor import ForwardSize


class Stopwatch:
    """Times the forward passes of a model, through hooks, and whole runs around them.

    On an accelerator it synchronizes and reads the wall clock. On a CPU it reads the process's CPU time by default,
    which ignores other load on the machine but counts each thread.

    Args:
        model (`nn.Module`): the model; the hooks stay on it until `remove`.
        device (`torch.device`): its device.
        wall (`bool`, *optional*, defaults to `False`): whether to use the wall clock on a CPU too.
        hook (`bool`, *optional*, defaults to `True`): whether to add hooks; otherwise call `enter` and `leave`
            yourself.
    """

    def __init__(self, model: nn.Module, device: torch.device, wall: bool = False, hook: bool = True) -> None:
        self.device, self.wall, self.inside, self.calls = device, wall, 0.0, 0
        self._hooks = []
        if hook:
            self._hooks = [model.register_forward_pre_hook(self.enter), model.register_forward_hook(self.leave)]

    def run(self, work: Callable[[], object]) -> dict[str, float]:
        """Run `work`. Returns `total_s`, `model_s` in forward passes, `loop_s` outside, and how many `forwards`."""
        self.inside, self.calls = 0.0, 0
        start = self.now()
        work()
        total = self.now() - start
        return {"total_s": total, "model_s": self.inside, "loop_s": total - self.inside, "forwards": self.calls}

    def now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
            return time.perf_counter()
        return time.perf_counter() if self.wall else time.process_time()

    def remove(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    def enter(self, *_: Any) -> None:
        """A forward pass starts."""
        self._start = self.now()

    def leave(self, *_: Any) -> None:
        """A forward pass ends."""
        self.inside += self.now() - self._start
        self.calls += 1


class ForwardLog:
    """Records the size of each forward pass of a model, from the shapes of its arguments.

    Attributes:
        forwards (list of [`~conv_dlm.cost.floor.ForwardSize`]): the passes since the start, or since it was cleared.
    """

    def __init__(self, model: nn.Module, hook: bool = True) -> None:
        self.forwards: list[ForwardSize] = []
        self._hooks = [model.register_forward_pre_hook(self.note, with_kwargs=True)] if hook else []

    def remove(self) -> None:
        """Take the hook off the model."""
        for hook in self._hooks:
            hook.remove()

    def note(self, _: nn.Module | None, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A forward pass starts with these arguments."""
        rows, positions = (named["input_ids"] if "input_ids" in named else given[0]).shape
        keep = named.get("logits_to_keep", 0)
        if isinstance(keep, Tensor):
            projected = int(keep.sum()) / rows if keep.dtype == torch.bool else keep.shape[-1]
        else:
            projected = keep or positions
        cache = named.get("cache", named.get("past_key_values"))
        keys = positions if cache is None else cache.get_mask_sizes(positions, 0)[0]
        self.forwards.append(ForwardSize(rows, positions, keys, projected))


@contextmanager
def observed(model: Any, device: torch.device, compiled: bool = False) -> Iterator[tuple[Stopwatch, ForwardLog]]:
    """Put a wall-clock stopwatch and a forward log on a model.

    Args:
        model: the model.
        device (`torch.device`): its device.
        compiled (`bool`, *optional*, defaults to `False`): whether `generate` compiles the forward pass. Hooks would be
            compiled too, so the compiled call is wrapped instead, and other passes are not seen.
    """
    log, watch = ForwardLog(model, not compiled), Stopwatch(model, device, wall=True, hook=not compiled)
    if compiled:
        get_compiled_call = model.get_compiled_call

        def observed_call(config: Any) -> Callable[..., Any]:
            call = get_compiled_call(config)

            def forward(**named: Any) -> Any:
                log.note(None, (), named)
                watch.enter()
                output = call(**named)
                watch.leave()
                return output

            return forward

        model.get_compiled_call = observed_call
    try:
        yield watch, log
    finally:
        watch.remove()
        log.remove()
        if compiled:
            del model.get_compiled_call


class PeakMemory:
    """Peak memory since its creation, minus the memory used then: of the GPU, or the resident set (Linux)."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            gc.collect()
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
            if trim is not None:
                trim(0)  # otherwise memory freed earlier would be reused unseen
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self._resident("VmRSS")

    @staticmethod
    def can_be_measured(device: torch.device) -> bool:
        return device.type == "cuda" or (device.type == "cpu" and Path("/proc/self/clear_refs").exists())

    def in_mb(self) -> float:
        after = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else self._resident("VmHWM")
        return (after - self.before) / 1e6

    @staticmethod
    def _resident(name: str) -> int:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines[name].split()[0]) * 1024
