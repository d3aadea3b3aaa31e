"""Running out of memory in `generate` is an error that names what was asked for and what would fit."""

import re
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig

from conv_dlm.cost import out_of_memory
from conv_dlm.cost.counting import GenerationMemory, GenerationStep
from conv_dlm.cost.device_memory import FITS, GIB
from conv_dlm.cost.out_of_memory import explain_out_of_memory
from conv_dlm.models import LLaDAConfig

CONFIG = LLaDAConfig(
    d_model=4096, n_layers=2, n_heads=32, n_kv_heads=32, mlp_hidden_size=12288, vocab_size=126464, mask_token_id=126336
)
FROM_CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
FROM_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you")
FROM_MPS = RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)")


class StandIn(torch.nn.Module):
    """As much of a model as the advice needs, in float32."""

    def __init__(self, config: Any = CONFIG) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2, bias=False, device="meta")
        self.config, self.device, self.generation_config = config, torch.device("cpu"), GenerationConfig()


def message(
    free: float, rows: int, new_tokens: int, model: Any = None, error: Exception = FROM_CUDA, **how: Any
) -> str:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(torch.OutOfMemoryError) as raised:
        patch.setattr(out_of_memory, "free_memory", lambda device: None if free < 0 else int(free))
        with explain_out_of_memory(model or StandIn(), rows, 128, how | {"max_new_tokens": new_tokens}):
            raise error
    assert raised.value.__cause__ is error
    return str(raised.value)


def memory(storage: str = "float32") -> GenerationMemory:
    with torch.device("meta"):
        return GenerationMemory(AutoModelForCausalLM.from_config(CONFIG), storage)


MEMORY = memory()


def needed(rows: int, new_tokens: int) -> float:
    return MEMORY.activations(GenerationStep(rows, 128, new_tokens, device_type="cpu"))


@pytest.mark.parametrize("error", [FROM_CUDA, FROM_CPU, FROM_MPS], ids=["cuda", "cpu", "mps"])
def test_the_largest_batch_that_would_fit(error: Exception) -> None:
    told = message(4 * GIB, 64, 512, error=error)
    assert "Out of memory on cpu while generating a batch of 64 of 128 + 512 positions" in told
    assert f"{needed(64, 512) / GIB:.2f} GiB beside the weights; 4.00 GiB were free" in told
    batch = int(re.search(r"A batch size of (\d+) would fit\.$", told)[1])  # type: ignore[index]
    assert needed(batch, 512) <= FITS * 4 * GIB < needed(batch + 1, 512)
    assert "\n" not in told


def test_for_one_row_the_longest_response() -> None:
    told = message(GIB / 2, 1, 2048)
    assert "generating one row of 128 + 2048 positions" in told
    length = int(re.search(r"beside the weights.* `max_new_tokens`=(\d+) would fit\.$", told)[1])  # type: ignore[index]
    assert needed(1, length) <= FITS * GIB / 2 < needed(1, length + 1)


def test_a_batch_of_which_not_one_row_fits() -> None:
    assert re.search(r"A batch size of 1 with `max_new_tokens`=\d+ would fit\.$", message(GIB / 2, 4, 2048))


def test_guidance_and_a_cache_count() -> None:
    def batch(**how: Any) -> int:
        return int(re.search(r"size of (\d+)", message(16 * GIB, 1000, 512, **how))[1])  # type: ignore[index]

    assert batch(guidance_scale=1.5) < batch(cache_implementation="dual") < batch()
    assert "positions with guidance" in message(GIB, 1000, 512, guidance_scale=1.5)


def test_where_nothing_smaller_fits_a_model_in_4_bits() -> None:
    told = message(2**20, 1, 64)
    freed = (MEMORY.weights - memory("4bit").weights) / GIB
    assert "Nothing smaller would fit: load the model in 4 bits" in told
    assert f"which frees {freed:.2f} GiB; one row would fit then." in told


def test_a_model_that_is_in_4_bits_already() -> None:
    model = StandIn()
    model.is_loaded_in_4bit = True  # type: ignore[assignment]
    assert message(2**20, 1, 64, model).endswith("Nothing smaller would fit: use a device with more memory.")


def test_what_failed_is_never_said_to_fit() -> None:
    """By the estimate it does, so the advice is half of it."""
    assert "A batch size of 4 would fit." in message(1000 * GIB, 8, 512)
    assert "`max_new_tokens`=256 would fit." in message(1000 * GIB, 1, 512)


def test_without_an_estimate_the_ways_out_are_named() -> None:
    for told in (message(GIB, 8, 512, StandIn(PretrainedConfig())), message(-1, 8, 512)):
        assert "generating a batch of 8 of 128 + 512 positions. Lower the batch size or `max_new_tokens`" in told


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("other")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, explain_out_of_memory(StandIn(), 1, 8, {}):
        raise error
    assert raised.value is error


def test_nothing_happens_where_memory_suffices() -> None:
    with explain_out_of_memory(StandIn(), 1, 8, {}):
        pass


def test_an_allocation_that_really_fails() -> None:
    explained = explain_out_of_memory(StandIn(), 1, 8, {})
    with pytest.raises(torch.OutOfMemoryError, match="Out of memory on cpu"), explained:
        torch.empty(2**60, dtype=torch.uint8)
