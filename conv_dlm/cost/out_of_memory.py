"""When `generate` runs out of memory, the error says what was requested and what would fit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from conv_dlm.cost.counting import GenerationMemory, GenerationStep
from conv_dlm.cost.device_memory import FITS, GIB, free_memory, largest

# messages of the allocators of CPU and MPS, raised as a plain RuntimeError
MESSAGES = ("can't allocate memory", "MPS backend out of memory")
IN_4_BITS = "load the model in 4 bits (`BitsAndBytesConfig(load_in_4bit=True)`, or `--quantize 4bit`)"


def is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in MESSAGES)


@contextmanager
def explain_out_of_memory(model: Any, rows: int, prompt_tokens: int, options: Mapping[str, Any]) -> Iterator[None]:
    """Generate inside this context; an out-of-memory error then names a setting that would fit, by counting tensors.

    That is the largest batch; if not even one row fits, the largest `max_new_tokens`, or else the model in 4 bits.

    Args:
        model (`PreTrainedModel`): the model.
        rows, prompt_tokens (`int`): the shape of the batch.
        options (`dict`): keyword arguments of `generate`; the generation config has the rest.

    Raises:
        torch.OutOfMemoryError: in place of the allocator's error. Other errors pass unchanged.
    """
    device = torch.device(model.device)
    free = free_memory(device)  # read first, since the failed run's tensors may still be alive afterwards
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise

        def said(name: str) -> Any:
            return options.get(name, getattr(model.generation_config, name, None))

        asked = GenerationStep(
            rows=rows,
            prompt_tokens=prompt_tokens,
            new_tokens=said("max_new_tokens") or GenerationStep.new_tokens,
            guided=said("guidance_scale") not in (None, 1),
            cached=said("cache_implementation") is not None,
            device_type=device.type,
        )
        raise torch.OutOfMemoryError(_message(model, device, free, asked)) from error


def _message(model: Any, device: torch.device, free: int | None, asked: GenerationStep) -> str:
    batch = f"a batch of {asked.rows}" if asked.rows > 1 else "one row"
    told = (
        f"Out of memory on {device} while generating {batch} of {asked.prompt_tokens} + {asked.new_tokens} positions"
        f"{' with guidance' if asked.guided else ''}"
    )
    try:
        with torch.device("meta"):
            memory = GenerationMemory(AutoModelForCausalLM.from_config(model.config), _storage(model))
        needed = _beside_the_weights(memory, asked)
    except (ValueError, RuntimeError):  # a model that can't be counted
        free = None
    if free is None:
        return f"{told}. Lower the batch size or `max_new_tokens`, or {IN_4_BITS}."
    told += f", which take {needed / GIB:.2f} GiB beside the weights; {free / GIB:.2f} GiB were free."
    return f"{told} {_remedy(memory, free, asked)}"


def _beside_the_weights(memory: GenerationMemory, step: GenerationStep) -> float:
    return memory.activations(step) + memory.cache(step)


def _remedy(memory: GenerationMemory, free: int, asked: GenerationStep) -> str:
    # The request did not fit, whatever the count says, so suggest half of it.
    batch = largest(lambda rows: _beside_the_weights(memory, replace(asked, rows=rows)), free)
    batch = batch if batch < asked.rows else asked.rows // 2
    if batch:
        return f"A batch size of {batch} would fit."
    one = replace(asked, rows=1)
    length = largest(lambda new: _beside_the_weights(memory, replace(one, new_tokens=new)), free)
    length = length if length < asked.new_tokens else asked.new_tokens // 2
    if length:
        return f"{'' if asked.rows == 1 else 'A batch size of 1 with '}`max_new_tokens`={length} would fit."
    if memory.storage in ("8bit", "4bit"):
        return "Nothing smaller would fit: use a device with more memory."
    in_4_bits = GenerationMemory(memory.model, "4bit")
    freed = memory.weights - in_4_bits.weights
    fits = _beside_the_weights(in_4_bits, one) <= FITS * (free + freed)
    would = "one row would fit then" if fits else "and lower `max_new_tokens`: one row would not fit then either"
    return f"Nothing smaller would fit: {IN_4_BITS}, which frees {freed / GIB:.2f} GiB; {would}."


def _storage(model: Any) -> str:
    for storage in ("8bit", "4bit"):
        if getattr(model, f"is_loaded_in_{storage}", False):
            return storage
    return "float32" if next(model.parameters()).dtype == torch.float32 else "bfloat16"
