"""A row of the table holds what a run did: times that add up, tokens before the end of text, a floor below."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from conv_dlm.cost import subject as bench_subject
from conv_dlm.cost import timing as bench_run
from conv_dlm.cost.cases import Case, make_cases
from conv_dlm.cost.floor import Peaks, block_weights
from conv_dlm.cost.meters import PeakMemory
from conv_dlm.cost.sizes import Shape
from conv_dlm.cost.subject import Loaded, Subject, random_model
from conv_dlm.cost.table import to_text
from conv_dlm.cost.timing import Bench, count_tokens, peak_in_a_process, weight_bytes

SLOW = Peaks(operations=1.0, bandwidth=1.0)  # of a device that needs seconds for a forward


@pytest.fixture
def loaded(tiny_llada: Any, tiny_tokenizer: Any) -> Loaded:
    return Loaded(copy.deepcopy(tiny_llada), tiny_tokenizer, ["one", "a second one"], all_of_them=True)


@pytest.fixture
def bench(loaded: Loaded) -> Bench:
    return Bench(Subject(), loaded, Peaks(operations=1e15, bandwidth=1e15))


def case(name: str, is_baseline: bool = False, batch: int = 1, **more: Any) -> Case:
    return Case(name, is_baseline, 16, batch, **more)


# --- rows ---


def test_a_row_adds_up(bench: Bench) -> None:
    row = bench.measure(case("llada", steps=4), repeats=2, seeds=[0, 1], memory=False)
    assert (row["setting"], row["batches"], row["peak_mb"]) == ("llada 4", 2, None)
    assert row["forwards"] == [8, 8, 8], "two prompts, one after the other, in four steps each"
    assert row["tokens_per_forward"][0] == row["tokens"][0] / 8
    assert len(row["runs"]) == 2, "it draws nothing: one seed is enough"
    for run in row["runs"]:
        assert run["seconds"] == pytest.approx(run["forward_seconds"] + run["loop_seconds"])
        assert 0 < run["floor_seconds"] <= run["forward_seconds"] < run["seconds"]
    middle, least, most = row["tokens_per_second"]
    assert [least, most] == sorted(run["tokens"] / run["seconds"] for run in row["runs"])
    assert least <= middle <= most
    assert row["loop_ms_per_step"][0] == pytest.approx(
        1000 * sum(run["loop_seconds"] for run in row["runs"]) / 2 / 8
    )


def test_types_that_draw_run_with_every_seed(bench: Bench) -> None:
    row = bench.measure(case("conv", steps=4), repeats=2, seeds=[5, 6, 7], memory=False)
    assert [run["seed"] for run in row["runs"]] == [5, 6, 7, 5, 6, 7]


def test_the_floor_is_of_what_was_computed(bench: Bench) -> None:
    """On a device of 1 byte and 1 operation a second; a cache computes less, and so does a shorter projection."""
    bench.peaks = SLOW
    rows = {}
    for cache in (None, "dual"):
        options = {"block_length": 4}
        rows[cache] = bench.measure(case("llada", steps=8, cache=cache, options=options), 1, [0], memory=False)
    floors = {cache: row["runs"][0]["operations"] for cache, row in rows.items()}
    assert floors["dual"] < floors[None]
    assert rows[None]["forward_above_floor"][0] < 1e-3
    plain = bench.measure(case("llada", True, steps=8, options={"block_length": 4}), 1, [0], memory=False)
    assert plain["runs"][0]["operations"] > floors[None], "all positions are projected to the vocabulary"


@pytest.mark.parametrize("is_baseline", [True, False])
def test_tokens_are_those_before_the_first_end(bench: Bench, loaded: Loaded, is_baseline: bool) -> None:
    loaded.model.generation_config.eos_token_id = None
    one = case("llada", is_baseline, steps=16)
    (batch, _) = loaded.batches(1)
    text = bench_run.answer(loaded.model, one, batch, 0).ids[0].tolist()
    end = text[9]
    loaded.model.generation_config.eos_token_id = end
    row = bench.measure(Case("llada", is_baseline, 16, 1, steps=16), 1, [0], memory=False)
    ids = [bench_run.answer(loaded.model, one, batch, 0).ids[0].tolist() for batch in loaded.batches(1)]
    assert row["tokens"][0] == sum(row.index(end) if end in row else 16 for row in ids) < 32


def test_counting_tokens() -> None:
    assert count_tokens([7, 8, 2, 9, 2], {2}, mask_token_id=3) == 2
    assert count_tokens([7, 8, 9], {2}, mask_token_id=3) == 3
    assert count_tokens([7, 3, 9], set(), mask_token_id=3) == 2, "a mask that a loop has left is no token"


def test_steps_of_types_at_their_own_pace(bench: Bench) -> None:
    row = bench.measure(case("threshold", options={"threshold": 1.0}), 1, [0], memory=False)
    assert row["steps"] is None
    assert row["runs"][0]["steps"] == row["runs"][0]["forwards"]


def test_plain_loops_know_no_padding(bench: Bench) -> None:
    with pytest.raises(ValueError, match="plain loops know no padding"):
        bench.measure(case("threshold", True, batch=2), 1, [0], memory=False)
    with pytest.raises(ValueError, match="context of 256 tokens"):
        bench.measure(Case("threshold", True, 300, 1), 1, [0], memory=False)
    with pytest.raises(ValueError, match="can't be shared out evenly"):
        bench.measure(case("llada", True, steps=5, options={"block_length": 8}), 1, [0], memory=False)


@pytest.mark.skipif(not PeakMemory.can_be_measured(torch.device("cpu")), reason="reads /proc")
def test_memory_is_that_of_the_first_forwards(tiny_checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here in this process; the answer is given up as soon as the peak has been seen."""
    asked, begin = [], bench_run.answer_begun

    def noting(model: Any, *given: Any, **named: Any) -> Any:
        model.register_forward_hook(lambda *_: asked.append(1))
        return begin(model, *given, **named)

    monkeypatch.setattr(bench_run, "answer_begun", noting)
    subject = Subject(model=str(tiny_checkpoint), device="cpu")
    assert bench_run._peak_memory(subject, case("llada", steps=16), torch.get_num_threads()) >= 0
    assert len(asked) == bench_run.FORWARDS_FOR_PEAK


@pytest.mark.slow
def test_memory_in_a_process_of_its_own(tiny_checkpoint: Any) -> None:
    subject = Subject(model=str(tiny_checkpoint), device="cpu")
    assert 0 < peak_in_a_process(subject, case("llada", steps=4)) < 500


# --- subjects ---


@pytest.fixture
def tiny_shape(tiny_llada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_subject, "shape_config", lambda _: copy.deepcopy(tiny_llada.config))


def test_prompts_fill_batches(loaded: Loaded) -> None:
    shapes = [batch["input_ids"].shape[0] for batch in loaded.batches(3)]
    assert shapes == [3], "two prompts, and the first again"
    assert [batch["input_ids"].shape[0] for batch in loaded.batches(1)] == [1, 1]


def test_random_weights_are_the_same_each_time_and_never_end(tiny_shape: None) -> None:
    one, two = (random_model("any", "cpu", None, None) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.dtype == torch.float32 and one.generation_config.eos_token_id is None
    assert random_model("any", "cpu", "bfloat16", None).dtype == torch.bfloat16
    (batch,) = Loaded(one, None).batches(2)
    assert batch["input_ids"].shape == (2, 64)
    assert not set(batch["input_ids"].flatten().tolist()) & {0, 1, 2, 3}


def test_a_shape_gets_the_room_it_needs(tiny_shape: None, loaded: Loaded) -> None:
    shape = Loaded(random_model("any", "cpu", None, None), None)
    assert shape.make_room(192) is None
    assert "raised to 364" in (shape.make_room(300) or "")
    assert Bench(Subject(), shape, SLOW).measure(Case("llada", False, 300, 1, steps=1), 1, [0], memory=False)
    assert loaded.make_room(300) is None, "a real model's context is what it is"


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_random_weights_can_be_quantised(quantize: str, make_llada: Callable[..., Any], monkeypatch: Any) -> None:
    pytest.importorskip("bitsandbytes")
    config = make_llada(d_model=64, mlp_hidden_size=128).config
    monkeypatch.setattr(bench_subject, "shape_config", lambda _: config)
    model, dense = random_model("any", "cpu", None, quantize), random_model("any", "cpu", None, None)
    assert type(model.lm_head) is torch.nn.Linear
    shape = Shape.of(config)
    saved = weight_bytes(dense) - weight_bytes(model)
    assert saved >= 0.7 * 4 * shape.layers * block_weights(shape)
    out = model.generate(torch.ones(1, 4, dtype=torch.long), steps=2, max_new_tokens=4)
    assert out.shape == (1, 8)


# --- cases and their table ---


def test_cases_are_the_combinations_that_differ() -> None:
    options = {"block_length": 8, "cache_margin": 2, "top_k": 5}
    cases = make_cases(
        ["conv", "threshold"], ["llada", "threshold"], [16, 32], [4, 8], [1], ["none", "window"], options
    )
    assert [one.setting for one in cases[: len(cases) // 2]] == [
        *("plain llada 4", "plain llada 8", "plain threshold"),
        *("conv 4", "conv 8", "conv 4 window", "conv 8 window", "threshold", "threshold window"),
    ]
    by_name = {one.setting: one for one in cases}
    assert by_name["conv 4"].keywords() == {"decode_type": "conv", "steps": 4, "max_new_tokens": 32, "top_k": 5}
    assert by_name["threshold window"].keywords() == {
        **{"decode_type": "threshold", "max_new_tokens": 32, "cache_implementation": "window"},
        **options,
    }
    assert by_name["plain threshold"].options == {"block_length": 8}


def test_the_table_fits_a_terminal() -> None:
    names = ("tokens_per_second", "tokens_per_forward", "forwards", "forward_ms", "loop_ms_per_step")
    figures = {name: [1234.5, 1, 2000] for name in names} | {"loop_share": [0.25, 0, 1]}
    figures |= {"forward_above_floor": [1.5, 1, 2], "whole_above_floor": [2.5, 1, 3], "peak_mb": None}
    rows = [
        {"setting": setting, "max_new_tokens": length, "batch_size": 8} | figures
        for length in (512, 1024)
        for setting in ("conv 64", "conv_threshold window")
    ]
    wide, narrow = to_text(rows, 200).splitlines(), to_text(rows, 60).splitlines()
    assert wide[2].split() == ["conv", "64", "512", "8", *["1234.5", "1234.50", "1234", *2 * ["1234.5"]], "25", "1.50",
                               "2.50", "–"]  # fmt: skip
    assert max(map(len, to_text(rows, 100).splitlines())) <= 100
    assert max(map(len, narrow)) <= 60
    assert narrow[1].split()[:4] == ["setting", "L", "B", "/s"] and "%" not in narrow[1]
    assert [line for line in wide if not line] == [""], "between the lengths"
