"""When `generate` runs out of memory: an error that says what was asked for, and what would fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from conv_dlm.cost.device_memory import FITS, GIB, free_memory, largest
from conv_dlm.cost.generating import Generation, activations, cache
from conv_dlm.cost.sizes import Parameters, Shape

# what the allocators of a CPU and of MPS say, as a plain RuntimeError
MESSAGES = ("can't allocate memory", "MPS backend out of memory")
IN_4_BITS = "load the model in 4 bits (`BitsAndBytesConfig(load_in_4bit=True)`, or `--quantize 4bit`)"


@contextmanager
def explain_out_of_memory(
    model: Any, rows: int, prompt_tokens: int, new_tokens: int, *, guided: bool = False, cached: bool = False
) -> Iterator[None]:
    """Denoise inside; running out of memory names the setting that would fit, by the estimate of `conv_dlm.cost`.

    That is the largest batch; where not even one row fits, the largest `max_new_tokens`, or else the model in 4 bits.

    Args:
        model: with a `device`, a `config` and parameters, as every `PreTrainedModel`.
        rows, prompt_tokens, new_tokens (`int`): of the canvas.
        guided, cached (`bool`): whether guidance doubles the rows, and whether keys and values are kept.

    Raises:
        torch.OutOfMemoryError: from the allocator's error; any other error passes as it is.
    """
    device = torch.device(model.device)
    free = free_memory(device)
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        asked = Generation(rows, prompt_tokens, new_tokens, guided=guided, cached=cached, device_type=device.type)
        raise torch.OutOfMemoryError(_message(model, device, free, asked)) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in MESSAGES)


@dataclass
class _Estimate:
    """Bytes beside the weights, for sizes near those asked for."""

    shape: Shape
    parameters: Parameters
    asked: Generation
    storage: str

    def __call__(self, storage: str | None = None, **sizes: Any) -> float:
        asked, storage = replace(self.asked, **sizes), storage or self.storage
        return activations(self.shape, asked, storage) + cache(self.shape, asked, storage)


def _message(model: Any, device: torch.device, free: int | None, asked: Generation) -> str:
    batch = f"a batch of {asked.rows}" if asked.rows > 1 else "one row"
    told = (
        f"Out of memory on {device} while generating {batch} of {asked.prompt_tokens} + {asked.new_tokens} positions"
        f"{' with guidance' if asked.guided else ''}"
    )
    try:
        parameters = Parameters.of(model)
        estimate = _Estimate(Shape.of(model.config), parameters, asked, _storage(model))
    except ValueError:  # no transformer that the estimate knows
        free = None
    if free is None:
        return f"{told}. Lower the batch size or `max_new_tokens`, or {IN_4_BITS}."
    told += f", which by estimate take {estimate() / GIB:.2f} GiB beside the weights; {free / GIB:.2f} GiB were free."
    return f"{told} {_remedy(model, free, estimate)}"


def _remedy(model: Any, free: int, estimate: _Estimate) -> str:
    asked = estimate.asked
    # What ran out of memory doesn't fit, whatever the estimate says: half of it then.
    batch = largest(lambda rows: estimate(rows=rows), free)
    batch = batch if batch < asked.rows else asked.rows // 2
    if batch:
        return f"A batch size of {batch} would fit."
    length = largest(lambda new: estimate(rows=1, new_tokens=new), free)
    length = length if length < asked.new_tokens else asked.new_tokens // 2
    one_row = "" if asked.rows == 1 else "A batch size of 1 with "
    if length:
        return f"{one_row}`max_new_tokens`={length} would fit."
    if estimate.storage in ("8bit", "4bit"):
        return "Nothing smaller would fit: use a device with more memory."
    weights = sum(parameter.nbytes for parameter in model.parameters())
    freed = weights - estimate.parameters.stored("4bit")
    fits = estimate("4bit", rows=1) <= FITS * (free + freed)
    would = "one row would fit then" if fits else "and lower `max_new_tokens`: one row would not fit then either"
    return f"Nothing smaller would fit: {IN_4_BITS}, which frees {freed / GIB:.2f} GiB; {would}."


def _storage(model: Any) -> str:
    for storage in ("8bit", "4bit"):
        if getattr(model, f"is_loaded_in_{storage}", False):
            return storage
    return "float32" if next(model.parameters()).dtype == torch.float32 else "bfloat16"
