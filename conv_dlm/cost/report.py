"""Does it fit? Memory for generating and for LoRA training, side by side, with verdicts and what would fit."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from conv_dlm.cost.counting import GenerationMemory, GenerationStep, TrainingMemory, TrainingStep
from conv_dlm.cost.device_memory import VERDICTS, largest, verdict
from conv_dlm.cost.sizes import Shape

GENERATING = ("float32", "bfloat16", "8bit", "4bit")
TRAINING = {"bfloat16": "LoRA", "nf4": "QLoRA"}


@dataclass(frozen=True)
class MemoryRow:
    """One way to hold the weights, in bytes.

    Attributes:
        storage: how the weights are stored.
        weights, activations, cache, adapters: the parts; adapters are their weights, gradients and optimiser states.
        verdict: one of `conv_dlm.cost.device_memory.VERDICTS`.
        largest_batch: rows that fit with this length.
        longest (*optional*): where this doesn't fit, new tokens that do with this batch size, as far as the model's
            context goes.
        checkpointing (*optional*): activation checkpointing; `None` for generating.
    """

    storage: str
    weights: float
    activations: float
    cache: float
    adapters: float
    verdict: str
    largest_batch: int
    longest: int | None = None
    checkpointing: bool | None = None

    @property
    def total(self) -> float:
        return self.weights + self.activations + self.cache + self.adapters

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"total": self.total}


def generating(model: Any, asked: GenerationStep, free: float) -> list[MemoryRow]:
    """`generate` with each of the storages in `GENERATING`.

    Args:
        model: on the meta device.
        asked: what `generate` is to do.
        free: bytes.
    """
    rows = []
    for storage in GENERATING:
        memory = GenerationMemory(model, storage)

        def total(step: GenerationStep, memory: GenerationMemory = memory) -> float:
            return memory.total(step)

        rows.append(
            MemoryRow(
                storage=storage,
                weights=memory.weights,
                activations=memory.activations(asked),
                cache=memory.cache(asked),
                adapters=0,
                **_what_fits(total, asked, memory.weights, free, _room(model.config, asked)),
            )
        )
    return rows


def training_adapters(
    model: Any, asked: GenerationStep, rank: int, targets: tuple[str, ...] | str | None, free: float
) -> list[MemoryRow]:
    """A LoRA step on canvases of the same size, with and without activation checkpointing; all new tokens masked."""
    rows = []
    for storage in TRAINING:
        memory = TrainingMemory(model, storage, rank, targets)
        for checkpointing in (True, False):

            def step(of: GenerationStep, checkpointing: bool = checkpointing) -> TrainingStep:
                return TrainingStep(of.rows, of.canvas, of.rows * of.new_tokens, checkpointing, of.device_type)

            def total(of: GenerationStep, memory: TrainingMemory = memory, step: Any = step) -> float:
                return memory.total(step(of))

            rows.append(
                MemoryRow(
                    storage=storage,
                    weights=memory.weights,
                    activations=memory.activations(step(asked)),
                    cache=0,
                    adapters=memory.adapters,
                    checkpointing=checkpointing,
                    **_what_fits(total, asked, memory.weights, free, _room(model.config, asked)),
                )
            )
    return rows


def _what_fits(
    total: Callable[[GenerationStep], float], asked: GenerationStep, weights: float, free: float, room: int
) -> dict[str, Any]:
    """Verdict, largest batch and, where this doesn't fit, the longest response."""
    judged = verdict(total(asked), free)
    if verdict(weights, free) != VERDICTS[0]:
        return {"verdict": judged, "largest_batch": 0, "longest": 0 if judged == VERDICTS[-1] else None}
    batch = largest(lambda rows: total(replace(asked, rows=rows)), free)
    longest = None
    if judged == VERDICTS[-1]:
        longest = largest(lambda new: total(replace(asked, new_tokens=new)), free, room)
    return {"verdict": judged, "largest_batch": batch, "longest": longest}


def _room(config: Any, asked: GenerationStep) -> int:
    """New tokens that the model's context has room for behind the prompt."""
    return max(0, (Shape.of(config).context or asked.canvas) - asked.prompt_tokens)
