"""The settings that no other one beats, by hand."""

from typing import Any

import pytest

from benchmarks.decoding_study.pareto import NAMED, front, setting_of, settings_by_cost
from conv_dlm.generation import DECODE_TYPES


def row(name: str, right: float | None, cost: float, size: int | None = None, varied: str = "") -> dict[str, Any]:
    figures = {"accuracy": None if right is None else [right, 0.01], "forwards": [cost, None]}
    return {"decode_type": name, "steps": 8, "size": size, "varied": varied} | figures


ROWS = [
    row("topk", 0.8, 64),
    row("conv", 0.9, 64, 32),
    row("conv", 0.9, 80, 16),
    row("llada", 0.5, 8),
    row("semi_ar", 0.4, 16),
    row("threshold", 0.7, 16, 32, "threshold=0.5"),
    row("categorical", None, 1),
]


def test_who_is_better_costs_more() -> None:
    names = [setting_of(one) for one in front(ROWS, "accuracy", "forwards")]
    assert names == ["`llada`, 8 steps", "`threshold` 32, threshold=0.5", "`conv` 32, 8 steps"]
    assert front(ROWS[-1:], "accuracy", "forwards") == []


def test_the_front_is_numbered_in_the_picture() -> None:
    pytest.importorskip("matplotlib")
    (axes,) = settings_by_cost(ROWS, "accuracy", "forwards").axes
    places = {text.get_text(): tuple(text.xy) for text in axes.texts}
    assert places == {"1": (8, 50), "2": (16, 70), "3": (64, 90)}
    labels = axes.get_legend_handles_labels()[1]
    assert set(labels) == {"semi_ar", "conv", "topk", "llada", "threshold", "the front"}


def test_of_many_types_only_those_on_the_front_are_named() -> None:
    pytest.importorskip("matplotlib")
    many = [row(name, 0.1, 90) for name in list(DECODE_TYPES)[: NAMED + 5] if name not in ("conv", "llada")]
    (axes,) = settings_by_cost([*many, row("llada", 0.5, 8), row("conv", 0.9, 64, 32)], "accuracy", "forwards").axes
    handles, labels = axes.get_legend_handles_labels()
    assert labels == ["conv", "llada", "other types", "the front"]
    assert len(handles[2].get_xdata()) == len(many)
