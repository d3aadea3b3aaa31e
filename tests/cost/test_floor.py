"""The floor counts what a model really computes, and no run is below it."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from conv_dlm.cost import device_speed as device
from conv_dlm.cost.device_speed import measure_peaks
from conv_dlm.cost.floor import ForwardSize, Peaks, block_weights, bytes_moved, floor_of, head_weights, operations
from conv_dlm.cost.meters import ForwardLog
from conv_dlm.cost.shapes import shape_config
from conv_dlm.cost.sizes import FOUR_BIT, Shape
from conv_dlm.models import MDLM, MDLMConfig

SHAPE = Shape(width=10, layers=2, inner=30, vocabulary=100, head_size=2, query=10, key_value=4)


def counted(model: Any, **given: Any) -> tuple[float, ForwardSize]:
    """Operations of a forward as PyTorch counts them, and what the log says of it."""
    log = ForwardLog(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**given)
    log.remove()
    (forward,) = log.forwards
    return counter.get_total_flops(), forward


@pytest.fixture
def llada(make_llada: Callable[..., Any]) -> Any:
    """With grouped keys, and attention in plain products, all of which PyTorch's counter knows."""
    model = make_llada(n_kv_heads=2, embedding_size=264)
    model.set_attn_implementation("eager")
    return model


def test_operations_are_those_that_pytorch_counts(llada: Any) -> None:
    shape, ids = Shape.of(llada.config), torch.ones(3, 20, dtype=torch.long)
    for keep, projected in ((0, 20), (2, 2), (torch.arange(5), 5), (torch.zeros(3, 7, dtype=torch.long), 7)):
        count, forward = counted(llada, input_ids=ids, logits_to_keep=keep)
        assert forward == ForwardSize(rows=3, positions=20, keys=20, projected=projected)
        assert operations(shape, forward) == count
    some = torch.arange(60).view(3, 20) % 4 == 0
    count, forward = counted(llada, input_ids=ids, logits_to_keep=some)
    assert (forward.projected, operations(shape, forward)) == (5, count)


def test_operations_with_a_cache_are_those_that_pytorch_counts(llada: Any) -> None:
    shape, ids, cache = Shape.of(llada.config), torch.ones(2, 20, dtype=torch.long), DynamicCache()
    llada(input_ids=ids, cache=cache)
    count, forward = counted(llada, input_ids=ids[:, :6], cache=cache)
    assert forward == ForwardSize(rows=2, positions=6, keys=26, projected=6)
    assert operations(shape, forward) == count


def test_operations_of_mdlm_are_those_that_pytorch_counts() -> None:
    model = MDLM(MDLMConfig(vocab_size=50, model_length=64, hidden_dim=24, n_blocks=2, n_heads=2)).eval()
    model.set_attn_implementation("eager")
    with model.constant_conditioning():  # as in `generate`
        count, forward = counted(model, input_ids=torch.ones(2, 9, dtype=torch.long))
    assert operations(Shape.of(model.config), forward) == count


def test_weights_are_those_of_the_model() -> None:
    """All matrices but the embedding: 8,015,581,184 parameters, less embedding and 65 norms."""
    shape = Shape.of(shape_config("llada-8b"))
    assert shape.layers * block_weights(shape) + head_weights(shape) == 8_015_581_184 - 126464 * 4096 - 65 * 4096


def test_bytes_are_weights_hidden_states_keys_and_logits() -> None:
    block = 10 * 10 * 2 + 10 * 4 * 2 + 10 * 30 * 3
    forward = ForwardSize(rows=3, positions=5, keys=8, projected=2)
    activations = 150 + 2 * (2 * 150 + 2 * 3 * (5 + 8) * 4) + 3 * 2 * 100
    assert bytes_moved(SHAPE, forward, 2) == 2 * (2 * block + 1000 + activations)
    assert bytes_moved(SHAPE, forward, 2, "4bit") == FOUR_BIT * 2 * block + 2 * (1000 + activations)
    without_head = bytes_moved(SHAPE, forward._replace(projected=0), 2)
    assert without_head == 2 * (2 * block + activations - 600)


def test_a_forward_takes_its_operations_or_its_bytes_whichever_takes_longer() -> None:
    small, large = ForwardSize(1, 1, 1, 1), ForwardSize(8, 500, 500, 500)
    peaks = Peaks(operations=1e9, bandwidth=1e9)
    computing, moving = operations(SHAPE, large) / 1e9, bytes_moved(SHAPE, small, 4) / 1e9
    assert bytes_moved(SHAPE, large, 4) / 1e9 < computing and operations(SHAPE, small) / 1e9 < moving
    floor = floor_of([small, large, small], SHAPE, peaks, 4)
    assert floor.seconds == pytest.approx(computing + 2 * moving)
    assert floor.by_operations == pytest.approx(computing / floor.seconds)
    assert floor.operations == operations(SHAPE, large) + 2 * operations(SHAPE, small)
    assert floor_of([large], SHAPE, replace(peaks, operations=2e9), 4).seconds < computing
    assert floor_of([], SHAPE, peaks, 4).seconds == 0


def test_peaks_are_what_the_device_was_timed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second at each look: the rates are operations, and bytes, of one call."""
    looks = iter(range(10**6))
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: float(next(looks))))
    monkeypatch.setattr(device, "SIDES", {"cpu": (8, 12, 64)})
    cpu = torch.device("cpu")
    peaks = measure_peaks(SHAPE, positions=5, weight_bytes=3 << 20, device=cpu, dtype=torch.float32)
    assert peaks.operations == 2 * 12**3, "64 is too slow on such a device"
    assert peaks.bandwidth == pytest.approx(3 << 20, rel=1e-4)
