"""Does it fit? Estimates for generating and for LoRA training, side by side, with verdicts and what would fit."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from conv_dlm.cost import training
from conv_dlm.cost.device_memory import largest, verdict
from conv_dlm.cost.generating import Generation, activations, cache
from conv_dlm.cost.sizes import Parameters, Shape
from conv_dlm.cost.training import TrainingStep

GENERATING = ("float32", "bfloat16", "8bit", "4bit")
TRAINING = {"bfloat16": "LoRA", "nf4": "QLoRA"}


@dataclass(frozen=True)
class Estimate:
    """One way to hold the weights, in bytes.

    Attributes:
        storage: how the weights are stored.
        weights, activations, cache, adapters: the parts; adapters are their weights, gradients and optimiser states.
        verdict: one of `conv_dlm.cost.device_memory.VERDICTS`.
        largest_batch: rows that fit with this length.
        longest: new tokens that fit with this batch size, as far as the model's context goes.
        checkpointing: activation checkpointing; `None` for generating.
    """

    storage: str
    weights: float
    activations: float
    cache: float
    adapters: float
    verdict: str
    largest_batch: int
    longest: int
    checkpointing: bool | None = None

    @property
    def total(self) -> float:
        return self.weights + self.activations + self.cache + self.adapters

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"total": self.total}


def generating(shape: Shape, parameters: Parameters, asked: Generation, free: float) -> list[Estimate]:
    """`generate` with each of the storages in `GENERATING`."""

    def total(storage: str, **sizes: Any) -> float:
        step = replace(asked, **sizes)
        taken = activations(shape, step, storage) + cache(shape, step, storage)
        return parameters.stored(storage) + taken

    return [
        Estimate(
            storage=storage,
            weights=parameters.stored(storage),
            activations=activations(shape, asked, storage),
            cache=cache(shape, asked, storage),
            adapters=0,
            verdict=verdict(total(storage), free),
            largest_batch=largest(lambda rows: total(storage, rows=rows), free),  # noqa: B023  # called at once
            longest=largest(lambda new: total(storage, new_tokens=new), free, _room(shape, asked)),  # noqa: B023
        )
        for storage in GENERATING
    ]


def training_adapters(
    shape: Shape, parameters: Parameters, asked: Generation, rank: int, free: float
) -> list[Estimate]:
    """A LoRA step on canvases of the same size, with and without activation checkpointing; all new tokens masked."""

    def parts(storage: str, checkpointing: bool, rows: int, new_tokens: int) -> dict[str, float]:
        step = TrainingStep(
            rows=rows,
            length=asked.prompt_tokens + new_tokens,
            projected=rows * new_tokens,
            rank=rank,
            storage=storage,
            checkpointing=checkpointing,
            mask_bytes=4 if asked.device_type == "cpu" else 1,
        )
        return training.estimate(shape, parameters, step)

    estimates = []
    for storage in TRAINING:
        for checkpointing in (True, False):

            def peak(rows: int, new: int, storage: str = storage, checkpointing: bool = checkpointing) -> float:
                return parts(storage, checkpointing, rows, new)["peak"]

            at = parts(storage, checkpointing, asked.rows, asked.new_tokens)
            estimates.append(
                Estimate(
                    storage=storage,
                    weights=at["weights"],
                    activations=at["peak"] - at["weights"] - at["adapters"],
                    cache=0,
                    adapters=at["adapters"],
                    verdict=verdict(at["peak"], free),
                    largest_batch=largest(lambda rows: peak(rows, asked.new_tokens), free),
                    longest=largest(lambda new: peak(asked.rows, new), free, _room(shape, asked)),
                    checkpointing=checkpointing,
                )
            )
    return estimates


def _room(shape: Shape, asked: Generation) -> int:
    """New tokens that the model's context has room for behind the prompt."""
    return max(0, (shape.context or asked.canvas) - asked.prompt_tokens)
