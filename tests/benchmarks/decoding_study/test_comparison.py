"""From a folder of samples to its table and plots, and grids that can be answered."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.decoding_study.comparison import draw, make_table, masses_by_distance
from benchmarks.decoding_study.grid import KEY, NO_SEED, Setting, pending, share
from benchmarks.decoding_study.grid_run import (
    Grid,
    answer_grid,
    make_grid,
    shared_decoding,
    wait_for_all,
    within_minutes,
)
from benchmarks.decoding_study.prompt_set import PromptSet
from conv_dlm.answering.prompting import Prompter
from conv_dlm.evaluation.processes import Processes
from conv_dlm.evaluation.sample_folder import SampleFolder

PROMPTS, REFERENCES = ["one", "a second", "three"], ["#### 1", "so #### 2", "3"]
CONV, TOPK, LLADA = Setting("conv", 2, 4), Setting("topk", 2), Setting("llada", 2)
OPTIONS = {"max_new_tokens": 6}


@pytest.fixture
def make(tiny_llada: Any, tiny_tokenizer: Any) -> Any:
    def make(*settings: Setting, prompts: list[str] = PROMPTS, raw: bool = False, **options: Any) -> Grid:
        prompter = Prompter(tiny_tokenizer, None, raw)
        return make_grid(settings, prompts, [0, 1], 2, tiny_llada, tiny_tokenizer, prompter, OPTIONS | options)

    return make


@pytest.fixture
def grid(make: Any) -> Grid:
    made: Grid = make(CONV, TOPK, LLADA)
    return made


@pytest.fixture
def folder(grid: Grid, tmp_path: Path) -> SampleFolder:
    """All samples of the grid."""
    folder = SampleFolder(tmp_path / "run", {"seed": 0})
    answer_grid(grid, share(grid.rounds, Processes()), folder, {"date": "today"})
    return folder


# --- answering ---


def test_each_setting_answers_with_each_seed_and_once_if_it_draws_nothing(grid: Grid, folder: SampleFolder) -> None:
    assert grid.done_in(folder) == (15, 15)
    seeds: dict[Setting, list[Any]] = {setting: [] for setting in grid.respondents}
    for sample in folder.samples():
        if "index" in sample:
            setting = Setting(sample["decode_type"], sample["steps"], sample["size"])
            seeds[setting].append((sample["seed"], sample["index"]))
            assert len(sample["unmasked_at"]) == 6 and sample["forwards"] <= 3
    both = [(seed, index) for seed in (0, 1) for index in range(3)]
    assert sorted(seeds[CONV]) == sorted(seeds[TOPK]) == both
    assert sorted(seeds[LLADA]) == [(NO_SEED, index) for index in range(3)]
    assert not pending(share(grid.rounds, Processes()), folder.keys(*KEY))
    wait_for_all(grid, folder)


@pytest.mark.parametrize(
    ("options", "counts"),
    [({"temperature": 0.0}, (3, 3)), ({"temperature": 0.5}, (6, 6)), ({"remasking": "random"}, (6, 6))],
)
def test_what_draws_at_random_is_decided_by_the_options(make: Any, options: Any, counts: tuple[int, int]) -> None:
    grid = make(CONV, LLADA, **options)
    work = share(grid.rounds, Processes())
    assert tuple(sum(len(w) for w in work if w.setting == setting) for setting in (CONV, LLADA)) == counts


def test_a_larger_grid_in_the_folder_is_not_taken_for_this_one(make: Any, folder: SampleFolder) -> None:
    other = make(Setting("conv", 2, 8))
    assert other.done_in(folder) == (0, 6)


def test_what_can_not_be_answered_is_told_before_anything_is(make: Any, tiny_llada: Any) -> None:
    with pytest.raises(ValueError, match=r"^row 1: `max_new_tokens`=6 and the prompt \(\d+ tokens\) need a context"):
        make(CONV, prompts=["short", "long " * 60])
    with pytest.raises(ValueError, match=r"^row 2: A prompt is empty"):
        make(CONV, prompts=["a", "b", ""], raw=True)
    with pytest.raises(ValueError, match=r"^conv, 2 steps, size 4: .*contradicts"):
        make(CONV, temperature=0.0, do_sample=True)
    with pytest.raises(ValueError, match=r"`max_new_tokens`=0: .* give at least 1"):
        shared_decoding(tiny_llada, {"max_new_tokens": 0})


def test_what_the_decode_type_decides_is_no_setting_of_the_run(tiny_llada: Any) -> None:
    decoding = shared_decoding(tiny_llada, {"conv_mult": 2.0, "temperature": 0.5})
    assert (decoding["conv_mult"], decoding["temperature"], decoding["eta"]) == (2.0, 0.5, 0.04)
    assert decoding["top_k"] is None and decoding["do_sample"] is None and decoding["max_new_tokens"] == 128
    assert not {"decode_type", "steps", "kernel_size", "block_length"} & set(decoding)
    model = copy.copy(tiny_llada)
    model.generation_config = copy.deepcopy(tiny_llada.generation_config)
    model.generation_config.update(max_length=64, top_k=3)
    assert shared_decoding(model, {"max_new_tokens": 5})["top_k"] == 3
    with pytest.raises(ValueError, match="`max_new_tokens`=None"):
        shared_decoding(model, {})


def test_an_error_names_setting_and_rows(grid: Grid, tmp_path: Path) -> None:
    broken = Grid(grid.respondents, ["", "", ""], grid.ids, grid.rounds, {})
    folder = SampleFolder(tmp_path / "other", {})
    with pytest.raises(ValueError, match=r"^conv, 2 steps, size 4, rows 0, 2: A prompt is empty"):
        answer_grid(broken, share(broken.rounds, Processes()), folder, {})


def test_no_batch_begins_when_the_time_is_over(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    work = share(grid.rounds, Processes())
    assert list(within_minutes(work, None)) == work and list(within_minutes(work, 0)) == []
    clock = iter([0.0, 10.0, 59.0, 61.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert list(within_minutes(work, 1)) == work[:2]


# --- reporting ---


def test_table(grid: Grid, folder: SampleFolder) -> None:
    table = make_table(grid, folder, PromptSet(PROMPTS, REFERENCES), ["strict"], None, 2, {"date": "tomorrow"})
    text = (folder.path / "table.json").read_text()
    result = json.loads(text)
    assert [row["n"] for row in result["rows"]] == [6, 6, 3] and result["rows"] == table.rows
    assert result["settings"] == {"seed": 0} and result["references"]["well_formed"][0] < 1
    assert (result["runs"], result["measured"]) == ([{"date": "today"}], {"date": "tomorrow"})
    lines = text.splitlines()
    rows = len(result["rows"]) + len(result["less_topk"])
    assert sum('"decode_type"' in line for line in lines) == rows and len(lines) < 40, "a row is a line"
    assert (folder.path / "table.md").read_text().count("\n| `") == rows
    folder.add([table.samples[0]])
    again = make_table(grid, folder, PromptSet(PROMPTS), [], None, 2, {})
    assert again.rows[0]["n"] == 6, "the same key twice is one sample"


def test_masses_are_measured_once(grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def progress(pieces: Any, size: Any, unit: str) -> Any:
        batches.extend(map(size, pieces))
        return pieces

    first = masses_by_distance(grid, REFERENCES, tmp_path, 2, progress)
    assert batches == [2, 1] and first["model"]["n"] == first["reference"]["n"] == 3
    assert first["reference"]["all"]["eos"]["at"]["mean"][-1] == pytest.approx(1 / 3, abs=1e-4), "one has ended"
    monkeypatch.setattr("benchmarks.decoding_study.comparison.window_masses", lambda *_: pytest.fail("measured again"))
    assert masses_by_distance(grid, REFERENCES, tmp_path, 2, progress) == json.loads(json.dumps(first))


def test_plots(grid: Grid, folder: SampleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("benchmarks.decoding_study.plots.save", lambda _, path: path.write_text(""))  # which takes long
    table = make_table(grid, folder, PromptSet(PROMPTS, REFERENCES), [], None, 2, {})
    masses = masses_by_distance(grid, REFERENCES, folder.path, 2)
    names = {path.name for path in draw(folder.path, table, 6, masses)}
    ways = ("by_size", "by_forwards", "by_seconds")
    assert names == {f"{metric}_{way}.png" for metric in ("repeated_4grams", "log_prior", "loops") for way in ways} | {
        "decided_positions.png",
        "mass_by_distance.png",
    }
    assert {path.name for path in (folder.path / "plots").iterdir()} == names
