"""`conv-dlm bench`: a grid of timings as one table and one file."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conv_dlm.cli.bench import _length
from conv_dlm.cost import device_speed as device
from conv_dlm.cost import subject as bench_subject
from conv_dlm.cost import timing
from conv_dlm.cost.floor import Peaks

Run = Any
PEAKS = Peaks(operations=1e15, bandwidth=1e15)


@pytest.fixture(autouse=True)
def known_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the device takes seconds."""
    monkeypatch.setattr(device, "measure_peaks", lambda *_: PEAKS)


@pytest.fixture
def bench(run: Run, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "100")

    def bench(*words: object) -> Any:
        few = ("--max-new-tokens", 8, "--steps", 2, "--repeats", 1, "--no-memory", "--device", "cpu")
        return run("bench", *few, *words)

    return bench


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_subject, "load_model", lambda *_, **__: pytest.fail("the model is loaded"))


def test_from_options_to_table_and_file(
    bench: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "bench.json"
    monkeypatch.setattr("sys.argv", ["conv-dlm", "bench", "--as", "--said"])
    outcome = bench(
        *("--model", tiny_checkpoint, "--decode-types", "conv", "llada", "--max-new-tokens", 8, 16, "--steps", 4),
        *("--block-length", 4, "--caches", "none", "dual", "--output", file),
    )
    assert outcome.code == 0, outcome.err
    settings = ["plain llada 4", "plain threshold", "plain dual_cache", "conv 4", "llada 4", "llada 4 dual"]
    lines = outcome.out.splitlines()
    assert lines[1].split()[:4] == ["setting", "L", "B", "/s"]
    assert [line for line in lines[2:] if line] == [line for line in lines if line.startswith(tuple(settings))]
    assert max(map(len, lines)) <= 100

    result = json.loads(file.read_text())
    assert [(row["setting"], row["max_new_tokens"]) for row in result["cases"]] == [
        (setting, length) for length in (8, 16) for setting in settings
    ]
    for row, line in zip(result["cases"], [line for line in lines[2:] if line], strict=True):
        figures = line.removeprefix(row["setting"]).split()
        assert figures[:2] == [str(row["max_new_tokens"]), "1"]
        assert figures[2] == f"{row['tokens_per_second'][0]:.1f}"
        (one,) = row["runs"]
        assert one["seconds"] == pytest.approx(one["forward_seconds"] + one["loop_seconds"])
        assert 0 < row["floor_ms_per_forward"][0] < row["forward_ms"][0]
        assert 1 < row["forward_above_floor"][0] < row["whole_above_floor"][0]
    assert [one["case"] for one in result["left_out"]] == [f"conv 4 dual, {n} tokens, batch 1" for n in (8, 16)]
    assert "has no blocks" in result["left_out"][0]["reason"]
    assert "left out: conv 4 dual, 8 tokens, batch 1: `cache_implementation`='dual'" in outcome.err
    assert result["peaks"] == {"operations_per_second": 1e15, "bytes_per_second": 1e15}
    assert result["settings"]["weights"] and result["prompts"]["count"] == 4
    assert result["command"] == "conv-dlm bench --as --said" and result["device"]


def test_prompts_of_ones_own_are_all_answered(bench: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    data, file = tmp_path / "prompts.txt", tmp_path / "bench.json"
    data.write_text("one\nand two\nand then three\n")
    outcome = bench("--model", tiny_checkpoint, "--data", data, "--baselines", "none", "--decode-types", "llada",
                    "--batch-sizes", 1, 2, "--output", file)  # fmt: skip
    assert outcome.code == 0, outcome.err
    rows = json.loads(file.read_text())["cases"]
    assert [(row["batch_size"], row["batches"], row["tokens_per_forward"][0] > 0) for row in rows] == [
        (1, 3, True),
        (2, 2, True),
    ]


def test_random_weights_by_shape(
    bench: Run, tiny_llada: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = type(tiny_llada.config)(**tiny_llada.config.to_dict() | {"max_sequence_length": 70})
    monkeypatch.setattr(bench_subject, "shape_config", lambda name: tiny)
    file = tmp_path / "bench.json"
    outcome = bench("--shape", "embedded", "--batch-sizes", 2, "--decode-types", "conv", "--output", file,
                    "--baselines", "llada", "dual_cache", "--guidance-scale", 2)  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "context of 70 tokens is raised to 72" in outcome.err
    result = json.loads(file.read_text())
    assert [row["tokens"][0] for row in result["cases"]] == [16, 16, 16], "there is no end"
    assert (result["settings"]["weights"], result["settings"]["shape"]) == ("random", "embedded")
    conv = result["cases"][-1]
    assert conv["tokens_per_forward"][0] == 16 / conv["runs"][0]["row_forwards"]
    assert conv["runs"][0]["row_forwards"] == 2 * conv["forwards"][0], "two canvases of guidance are one forward"


def test_what_was_timed_before_an_interruption_is_shown(
    bench: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conv_dlm.cost.timing import Bench

    measure = Bench.measure

    def interrupted(self: Bench, case: Any, *given: Any) -> Any:
        if case.name == "topk":
            raise KeyboardInterrupt
        return measure(self, case, *given)

    monkeypatch.setattr(Bench, "measure", interrupted)
    file = tmp_path / "bench.json"
    outcome = bench("--model", tiny_checkpoint, "--baselines", "none", "--decode-types", "llada", "topk", "--output",
                    file)  # fmt: skip
    assert outcome.code == 130
    assert "llada 2" in outcome.out
    assert [row["name"] for row in json.loads(file.read_text())["cases"]] == ["llada"]


# --- mistakes ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", 0], "`--steps`=0 must be at least 1."),
        (["--batch-sizes", 1, 0], "`--batch-sizes`=0 must be at least 1."),
        (["--repeats", 0], "`--repeats`=0 must be at least 1."),
        (["--batch-sizes", 10**30], "must be below 2147483648."),
        (["--shape", "llada"], "`shape`='llada' is not known"),
        (["--shape", "embedded", "--model", "x"], "Give `--model` or `--shape`, not both."),
        (["--shape", "embedded", "--data", "x"], "`--data` has no effect with `--shape`"),
        (["--shape", "embedded", "--device", "auto"], "`device`='auto'"),
        (["--kernel-size", 4, "--decode-types", "llada"], "`--kernel-size`=4 has no effect here"),
        (["--top-k", -1], "`top_k`=-1 must be"),
        (["--data", "/nowhere/prompts.txt"], "No such file"),
        (["--decode-types", "lada"], "did you mean 'llada'"),
        (["--caches", "lru"], "invalid choice: 'lru'"),
        (["--baselines", "fast"], "invalid choice: 'fast'"),
    ],
)
@pytest.mark.usefixtures("nothing_is_loaded")
def test_mistakes_are_told_in_one_line(bench: Run, words: list[object], message: str) -> None:
    outcome = bench(*words)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("\n") == 1
    assert not outcome.out


def test_nothing_that_can_be_timed_is_a_mistake(bench: Run, tiny_checkpoint: Path) -> None:
    outcome = bench("--model", tiny_checkpoint, "--decode-types", "semi_ar", "--block-length", 2, "--baselines", "none")
    assert outcome.code == 2
    assert "Nothing could be timed; the first case: `steps`=2 is too few for 4 blocks" in outcome.err
    assert not outcome.out


@pytest.mark.parametrize("words", [("--shape", "embedded"), ()])
def test_prompts_of_a_length_and_the_memory_that_they_take(
    run: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    seen, batches = [], bench_subject.Loaded.batches

    def watched(self: Any, size: int) -> Any:
        seen.append([batch["input_ids"].shape[1] for batch in batches(self, size)])
        return batches(self, size)

    monkeypatch.setattr(bench_subject.Loaded, "batches", watched)
    monkeypatch.setattr(timing, "peak_in_a_process", lambda *_: 12.3)
    words = words or ("--model", str(tiny_checkpoint))
    outcome = run(
        "bench", *words, "--length", "200", "--max-new-tokens", 8, "--decode-types", "llada", "--steps", 2, "--repeats",
        1, "--baselines", "none", "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    told = re.search(r"200 positions take up to ([\d,]+) MB, of which ([\d,]+) MB are weights", outcome.err)
    assert told
    peak, weights = (int(number.replace(",", "")) for number in told.groups())
    assert peak - weights in (12, 13)
    assert {length for lengths in seen for length in lengths} == {192}


def test_a_length_that_is_none(bench: Run, nothing_is_loaded: None) -> None:
    assert "is no length, such as 4096 or 32k" in bench("--length", "3x").err
    assert "is no length, such as 4096 or 32k" in bench("--length", "9" * 30 + "k").err
    assert "`--length`=8 leaves no room for a prompt" in bench("--length", "8").err
    assert _length("32k") == 32768
