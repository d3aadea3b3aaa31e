"""Whatever a visitor's browser sends: an answer that can be drawn, or a sentence.

A few draws here, many by `pytest -m slow tests/demo/test_fuzz.py`.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("gradio")

from conv_dlm.demo.job import Job, JobQueue, LoadedModel
from conv_dlm.demo.order import NO_SECOND
from conv_dlm.demo.page import _order
from conv_dlm.demo.view import view

HOW: dict[str, Any] = dict(deadline=None, suppress_health_check=list(HealthCheck))
TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # halves of surrogate pairs too
ODD = st.sampled_from(
    ["<|mask|>", "<|end|>", "\u2028", "\ud83d", "", " ", "x" * 300, "{}", '{"type": 3}', "[", "(a*)*(", "a{9}", "\\"]
)
NUMBER = st.one_of(st.integers(-1, 6), st.integers(), st.floats(), st.none(), st.booleans())
ANY = st.one_of(TEXT, ODD, NUMBER, st.lists(TEXT, max_size=2), st.dictionaries(TEXT, NUMBER, max_size=1))
TYPE = st.sampled_from(["conv", "topk", "remdm", "threshold", NO_SECOND])


def or_any(usual: Any, share: int = 5) -> Any:
    """Mostly as a browser has it."""
    return st.integers(0, share).flatmap(lambda drawn: usual if drawn else ANY)


INPUTS = st.tuples(
    st.none() | st.integers(0, 10**6), or_any(st.just("") | ODD), or_any(TEXT | ODD), st.just("it"), or_any(TYPE),
    or_any(TYPE), *(or_any(st.integers(1, 6)) for _ in range(3)), or_any(NUMBER),
)  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tiny_checkpoint: Path) -> dict[str, LoadedModel]:
    return {"it": LoadedModel(str(tiny_checkpoint))}


def ask(loaded: dict[str, LoadedModel], values: tuple[Any, ...]) -> str:
    try:
        job = Job(_order(*values))
    except ValueError as error:
        assert len(str(error)) > 10
        return "refused"
    job.work(loaded)
    assert job.problem is None or len(job.problem) > 10
    view(job.runs)
    view(job.runs, 1)
    return "answered" if job.problem is None else "refused"


@given(INPUTS)
@settings(max_examples=40, derandomize=True, **HOW)
def test_any_order(loaded: dict[str, LoadedModel], values: tuple[Any, ...]) -> None:
    ask(loaded, values)


@pytest.mark.slow
def test_any_order_many_times(loaded: dict[str, LoadedModel]) -> None:
    counts = {"answered": 0, "refused": 0}

    @given(INPUTS)
    @settings(max_examples=2000, **HOW)
    def many(values: tuple[Any, ...]) -> None:
        counts[ask(loaded, values)] += 1

    many()
    print(f"orders: {counts}")


@given(ANY)
@settings(max_examples=30, derandomize=True, **HOW)
def test_any_model(name: Any) -> None:
    """One that isn't on offer is refused before anything is loaded."""
    queue = JobQueue(["it"])
    try:
        with pytest.raises(ValueError, match="is not offered here"):
            queue.begin(Job(_order(None, "", "2 + 3?", [name], "conv", NO_SECOND, 2, 2, 2, 0)))
    finally:
        queue.close()
