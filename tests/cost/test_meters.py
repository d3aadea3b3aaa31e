"""The instruments see compiled forwards too, and leave the model as it was."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conv_dlm.cost import meters
from conv_dlm.cost.floor import ForwardSize
from conv_dlm.cost.meters import observed

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall's, which goes on by a second at each look."""
    looks = iter(range(10**6))
    monkeypatch.setattr(meters, "time", SimpleNamespace(perf_counter=lambda: float(next(looks))))


def test_forwards_are_timed_and_noted(tiny_llada: Any, clock: None) -> None:
    ids = torch.ones(2, 9, dtype=torch.long)
    with observed(tiny_llada, CPU) as (watch, log):
        times = watch.run(lambda: (tiny_llada(ids), tiny_llada(input_ids=ids, logits_to_keep=1)))
    assert times == {"total_s": 5.0, "model_s": 2.0, "loop_s": 3.0, "forwards": 2}
    assert log.forwards == [ForwardSize(2, 9, 9, 9), ForwardSize(2, 9, 9, 1)]
    tiny_llada(ids)
    assert len(log.forwards) == 2, "the hooks are off"


def test_compiled_forwards_are_timed_and_noted(tiny_llada: Any, clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around the compiled call: nothing of it may be compiled."""
    asked, ids = [], torch.ones(1, 9, dtype=torch.long)

    def get_compiled_call(config: Any) -> Any:
        asked.append(config)
        assert not tiny_llada._forward_hooks and not tiny_llada._forward_pre_hooks
        return tiny_llada

    monkeypatch.setattr(type(tiny_llada), "get_compiled_call", lambda _, config: get_compiled_call(config))
    with observed(tiny_llada, CPU, compiled=True) as (watch, log):
        call = tiny_llada.get_compiled_call("config")
        times = watch.run(lambda: call(input_ids=ids))
    assert asked == ["config"]
    assert times == {"total_s": 3.0, "model_s": 1.0, "loop_s": 2.0, "forwards": 1}
    assert log.forwards == [ForwardSize(1, 9, 9, 9)]
    assert "get_compiled_call" not in vars(tiny_llada)
