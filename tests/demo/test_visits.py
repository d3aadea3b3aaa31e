"""Orders are checked at the door; visitors wait, stop, leave, and get what they asked for."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conv_dlm.demo.job import JobQueue
from conv_dlm.demo.order import Order
from conv_dlm.demo.view import view
from conv_dlm.demo.visits import Look, Visits
from conv_dlm.generation import DECODE_TYPES, UNMASKING_RULES

MakeOrder = Callable[..., Order]


@pytest.fixture
def order(tiny_checkpoint: Path) -> MakeOrder:
    """`order(steps=..., ...)`: one that differs from the usual by that."""

    def order(**changes: Any) -> Order:
        usual = dict(
            prompt="2 + 3?", model=str(tiny_checkpoint), decode_types=("conv",), steps=4, size=4, length=12, seed=0
        )
        return Order(**(usual | changes))

    return order


@pytest.fixture(scope="module")
def visits(tiny_checkpoint: Path) -> Iterator[Visits]:
    jobs = JobQueue([str(tiny_checkpoint)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conv_dlm.demo.visits.PAUSE", 0.01)
        yield Visits(jobs)
    jobs.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": " \n"}, "The prompt is empty"),
        ({"decode_types": ("conv", "conv")}, "Both decode types are 'conv'"),
        ({"decode_types": ("cnov",)}, "did you mean 'conv'"),
        ({"steps": 0}, "Steps: 0 must be a whole number from 1 to 512"),
        ({"steps": 2.5}, "Steps: 2.5"),
        ({"size": None}, "Kernel or block: no number"),
        ({"length": 513}, "Canvas: 513"),
        ({"seed": -1}, "Seed: -1"),
    ],
)
def test_impossible_orders(order: MakeOrder, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        order(**changes)


@pytest.mark.parametrize(
    "decode_type", [name for name, kind in DECODE_TYPES.items() if UNMASKING_RULES[kind.rule].is_alone()]
)
def test_a_type_gets_what_it_has(order: MakeOrder, visits: Visits, decode_type: str) -> None:
    """`generate` refuses what has no effect."""
    looks = watch(visits, order(decode_types=(decode_type,)))
    assert (looks[-1].note, looks[-1].problem) == ("", False)
    assert looks[-1].runs[0].answer is not None


def watch(visits: Visits, order: Order, visitor: str = "anna") -> list[Look]:
    async def collect() -> list[Look]:
        return [look async for look in visits.watch(visitor, order)]

    return asyncio.run(collect())


def test_the_answer_is_that_of_the_command_line(
    order: MakeOrder, visits: Visits, tiny_checkpoint: Path, capsys: Any
) -> None:
    from conv_dlm.cli import main

    [run] = watch(visits, order(decode_types=("categorical",), seed=5))[-1].runs
    assert run.answer is not None and run.pieces is not None
    words = ["generate", "2 + 3?", "--model", str(tiny_checkpoint), "--decode-type", "categorical", "--seed", "5"]
    assert main([*words, "--steps", "4", "--max-new-tokens", "12"]) == 0
    text = "".join(run.pieces[index] for index in run.answer.ids if not run.pieces.special(index))
    assert text.replace("\ufffd", "") == capsys.readouterr().out.rstrip("\n").replace("\ufffd", "")


def test_two_types_with_the_same_seed(order: MakeOrder, visits: Visits) -> None:
    both = watch(visits, order(decode_types=("topk", "categorical"), seed=3))[-1].runs
    alone = watch(visits, order(decode_types=("categorical",), seed=3))[-1].runs
    assert [run.answer.ids for run in both][1:] == [run.answer.ids for run in alone]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": 300 * "long "}, "context"),
        ({"decode_types": ("semi_ar",), "steps": 2}, "`steps`=2 is too few for 3 blocks"),
        ({"model": "elsewhere"}, "'elsewhere' is not offered here"),
    ],
)
def test_what_generate_refuses_is_said(order: MakeOrder, visits: Visits, changes: dict[str, Any], said: str) -> None:
    last = watch(visits, order(**changes))[-1]
    assert last.problem and said in last.note and not last.runs


def test_one_type_refused_leaves_the_other(order: MakeOrder, visits: Visits) -> None:
    last = watch(visits, order(decode_types=("topk", "semi_ar"), steps=2))[-1]
    assert last.problem and [run.decode_type for run in last.runs] == ["topk"]


def test_stop(order: MakeOrder, visits: Visits, long: int) -> None:
    async def stop_soon() -> list[Look]:
        looks = []
        async for look in visits.watch("anna", order(steps=long, decode_types=("conv", "topk"))):
            looks.append(look)
            if look.runs and look.runs[0].steps:
                visits.stop("anna")
        return looks

    last = asyncio.run(stop_soon())[-1]
    steps = last.runs[0].steps
    assert 0 < steps < long and last.note == f"Stopped after {steps} steps of conv."
    assert "not begun" in view(last.runs) and "<dl>" not in view(last.runs)


def test_visitors_wait_for_each_other(order: MakeOrder, visits: Visits, long: int) -> None:
    """Stopping one that waits, and one that is at work, lets the next one in."""
    at_work = False

    async def visit(visitor: str, stops: str) -> list[Look]:
        nonlocal at_work
        looks = []
        async for look in visits.watch(visitor, order(steps=4 if visitor == "cleo" else long)):
            looks.append(look)
            at_work |= visitor == "anna" and bool(look.runs and look.runs[0].steps)
            if "Another run" in look.note and (visitor == stops or at_work):
                visits.stop(stops)
        return looks

    async def three() -> list[list[Look]]:
        return await asyncio.gather(visit("anna", ""), visit("bob", "bob"), visit("cleo", "anna"))

    anna, bob, cleo = asyncio.run(three())
    assert "Stopped after" in anna[-1].note
    assert bob[-1] == Look([], "Stopped before it began.")
    assert any("Another run is at work" in look.note for look in cleo) and cleo[-1].runs[0].answer is not None


def test_who_leaves_makes_room(order: MakeOrder, visits: Visits, long: int) -> None:
    async def leave_and_ask() -> Look:
        watching = visits.watch("anna", order(steps=long))
        async for look in watching:
            if look.runs[0].steps:
                break
        await watching.aclose()
        return [look async for look in visits.watch("anna", order())][-1]

    assert asyncio.run(asyncio.wait_for(leave_and_ask(), 120)).runs[0].answer is not None


def test_one_run_for_each_visitor(order: MakeOrder, visits: Visits, long: int) -> None:
    async def twice() -> Look:
        first = visits.watch("anna", order(steps=long))
        await anext(first)
        last = [look async for look in visits.watch("anna", order())][-1]
        await first.aclose()
        return last

    assert asyncio.run(twice()).note == "A run of yours is not done yet. Stop it first."
