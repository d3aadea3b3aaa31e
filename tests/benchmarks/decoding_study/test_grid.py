"""Which settings a grid has, and who answers what in which order."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.decoding_study.grid import (
    KEY,
    NO_SEED,
    Setting,
    Work,
    check_options,
    distinct_samples,
    pending,
    schedule,
    settings_of,
    share,
    size_field,
)
from conv_dlm.evaluation.processes import Processes
from conv_dlm.generation import DECODE_TYPES

CONV, TOPK, LLADA = Setting("conv", 8, 16), Setting("topk", 8), Setting("llada", 8)


def flat(rounds: list[list[Work]]) -> list[Work]:
    return [work for turns in rounds for work in turns]


# --- settings ---


def test_types_with_sizes_have_a_cell_for_each_and_others_one() -> None:
    cells, impossible = settings_of(["topk", "conv", "semi_ar"], [8, 4], [16, 8], canvas=32)
    of_eight = [TOPK, *(Setting(name, 8, size) for name in ("conv", "semi_ar") for size in (8, 16))]
    assert cells == [Setting(cell.decode_type, 4, cell.size) for cell in of_eight] + of_eight, "few steps first"
    assert not impossible


def test_blocks_that_outnumber_the_steps_are_told_apart() -> None:
    cells, impossible = settings_of(["llada", "conv", "slide"], [2], [8, 16], canvas=32)
    assert impossible == [Setting("llada", 2, 8)]
    assert cells == [
        Setting("llada", 2, 16),
        *(Setting(name, 2, size) for name in ("conv", "slide") for size in (8, 16)),
    ], "a kernel is no block, and a window that slides is one only"
    assert settings_of(["llada"], [2], [8], canvas=17)[1] == [Setting("llada", 2, 8)], "the last block may be shorter"
    assert settings_of(["llada"], [3], [8], canvas=17) == ([Setting("llada", 3, 8)], [])


def test_blocks_as_long_as_the_canvas_are_one_cell_and_kernels_stay() -> None:
    cells, _ = settings_of(["semi_ar", "conv"], [4], [16, 32, 64], canvas=32)
    assert cells == [
        Setting("semi_ar", 4, 16),
        Setting("semi_ar", 4, None),
        *(Setting("conv", 4, size) for size in (16, 32, 64)),
    ]


@given(
    types=st.lists(st.sampled_from(sorted(DECODE_TYPES)), min_size=1, max_size=4),
    steps=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    canvas=st.integers(1, 40),
)
def test_all_cells_are_distinct_and_none_is_lost(
    types: list[str], steps: list[int], sizes: list[int], canvas: int
) -> None:
    cells, impossible = settings_of(types, steps, sizes, canvas)
    assert len({*cells, *impossible}) == len(cells) + len(impossible)
    assert {(cell.decode_type, cell.steps) for cell in cells + impossible} == {
        (name, count if "steps" in DECODE_TYPES[name].fields else canvas) for name in types for count in steps
    }
    for cell in cells + impossible:
        field = size_field(cell.decode_type)
        assert cell.size is None or (field is not None and cell.size in sizes)
        if field == "kernel_size":
            assert cell in cells and cell.size is not None
    for cell in impossible:
        assert cell.size is not None and cell.steps * cell.size < canvas


def test_a_setting_takes_the_options_that_its_type_reads() -> None:
    shared = {"conv_mult": 2.0, "remasking": "random", "eta": 0.1, "temperature": 0.5, "max_new_tokens": 9}
    common = {"temperature": 0.5, "max_new_tokens": 9}
    own_pace = Setting("conv_threshold", 9, 16).options(shared | {"threshold": 0.5})
    assert own_pace == common | {"decode_type": "conv_threshold", "kernel_size": 16, "conv_mult": 2.0, "threshold": 0.5}
    assert TOPK.options(shared) == common | {"decode_type": "topk", "steps": 8}
    assert CONV.options(shared) == common | {"decode_type": "conv", "steps": 8, "kernel_size": 16, "conv_mult": 2.0}
    assert Setting("llada", 8, 4).options(shared) == common | {
        "decode_type": "llada", "steps": 8, "block_length": 4, "remasking": "random",
    }  # fmt: skip


def test_an_option_that_no_type_reads_is_refused() -> None:
    check_options(["topk", "conv"], {"conv_mult": 2.0, "temperature": 0.5, "max_new_tokens": 9})
    with pytest.raises(ValueError, match=r"`conv_mult`=2\.0 has no effect with topk llada; .* one of conv llada_conv"):
        check_options(["topk", "llada"], {"conv_mult": 2.0})


def test_a_type_is_varied_in_what_it_reads() -> None:
    vary = {"threshold": [0.5, 0.9], "lookahead": [None, 64]}
    cells, _ = settings_of(["topk", "threshold"], [8], [16], 32, vary)
    far = ("lookahead", 64)
    assert [cell.variation for cell in cells if cell.decode_type == "topk"] == [(), (far,)]
    assert [cell.variation for cell in cells if cell.decode_type == "threshold"] == [
        variation for value in (0.5, 0.9) for variation in ((("threshold", value),), (("threshold", value), far))
    ]
    last = cells[-1]
    assert last.varied == "threshold=0.9, lookahead=64" and str(last).endswith(f", {last.varied}")
    assert last.options({"threshold": 0.7, "max_new_tokens": 32}).items() >= {"threshold": 0.9, "lookahead": 64}.items()


# --- order ---


def test_every_setting_has_its_turn_at_a_batch_before_the_next() -> None:
    rounds = schedule([TOPK, CONV], [0, 1], lengths=[9 - index for index in range(20)], batch_size=2)
    turns = [(TOPK, 0), (TOPK, 1), (CONV, 0), (CONV, 1)]
    assert [[(work.setting, work.seed) for work in its] for its in rounds] == [turns] * 10
    batches = [its[0].prompts for its in rounds]
    assert all(work.prompts == batch for its, batch in zip(rounds, batches, strict=True) for work in its)
    assert batches[:3] == [[15, 14], [13, 12], [11, 10]], "neighbours are of like length"
    assert batches[8:] == [[19, 18], [17, 16]], "the first prompts are not kept waiting for the last ones"


@given(
    count=st.integers(1, 40),
    seeds=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    batch_size=st.integers(1, 7),
    processes=st.integers(1, 5),
)
def test_every_sample_is_made_once_by_one_process(
    count: int, seeds: list[int], batch_size: int, processes: int
) -> None:
    settings = [TOPK, CONV, LLADA]
    rounds = schedule(settings, seeds, [index * 7 % 5 for index in range(count)], batch_size, constant=[LLADA])
    shares = [share(rounds, Processes(rank, processes)) for rank in range(processes)]
    made = Counter((work.setting, work.seed, index) for mine in shares for work in mine for index in work.prompts)
    wanted = {(setting, seed, index) for setting in (TOPK, CONV) for seed in seeds for index in range(count)}
    wanted |= {(LLADA, NO_SEED, index) for index in range(count)}
    assert set(made) == wanted and set(made.values()) == {1}
    assert max(len(work) for work in flat(rounds)) <= batch_size
    per_setting = [Counter(work.setting for work in mine) for mine in shares]
    for setting in settings:  # a process that has all of the slow ones keeps the others waiting
        turns = [counts[setting] for counts in per_setting]
        most = len(set(seeds)) if setting != LLADA else 1
        assert max(turns) - min(turns) <= most


def test_a_seed_that_is_named_twice_is_one() -> None:
    assert len(flat(schedule([TOPK], [3, 3], [1], 1))) == 1


def test_what_is_done_is_not_done_again() -> None:
    work = [Work(CONV, 0, [0, 1, 2]), Work(CONV, 1, [0, 1]), Work(TOPK, 0, [2])]
    done = {("conv", 8, 16, "", 0, 1), ("topk", 8, None, "", 1, 2)}
    done |= {("conv", 8, 16, "", 1, 0), ("conv", 8, 16, "", 1, 1)}
    assert pending(work, done) == [Work(CONV, 0, [0, 2]), Work(TOPK, 0, [2])]
    assert work[0].prompts == [0, 1, 2]


def test_of_records_the_samples_are_taken_each_once_in_the_order_of_prompts() -> None:
    sample = dict(zip(KEY, ("conv", 8, 16, "", 0, 1), strict=True))
    others = [sample | {"seed": 1, "ids": [2]}, sample | {"index": 0, "seed": 2, "ids": [3]}]
    records = [{"run": {}}, sample | {"ids": [1]}, *others, sample | {"ids": [1]}]
    assert [record["ids"] for record in distinct_samples(records)] == [[3], [1], [2]]
