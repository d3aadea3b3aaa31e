"""The side-by-side benchmark: each case is what its name says, and leaves one row."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed
from conv_dlm.cost import subject
from conv_dlm.cost.floor import Peaks
from conv_dlm.generation import DECODE_TYPES

ROOT = Path(__file__).parents[2]
SMALL = "--shape embedded --lengths 32 64 --tokens-a-step 8 --lookahead 16 --thresholds 0.9 0.1 --no-memory"


@pytest.fixture(autouse=True)
def tiny_shape(tiny_llada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "shape_config", lambda _: copy.deepcopy(tiny_llada.config))
    monkeypatch.setattr(speed, "measure_peaks", lambda *_: Peaks(operations=1e15, bandwidth=1e15))


def test_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "speed.json"
    speed.main([*SMALL.split(), "--without", "plain threshold", "--results", str(results)])
    report = json.loads(results.read_text())
    names = [
        *("plain llada", "plain dual cache", "threshold, dual", "conv", "conv, window", "conv, window, lookahead"),
        *("conv_threshold 0.9, window", "conv_threshold 0.9, window, lookahead"),
        *("conv_threshold 0.1, window", "conv_threshold 0.1, window, lookahead"),
    ]
    assert [(row["setting"], row["max_new_tokens"]) for row in report["rows"]] == [
        (name, length) for length in (32, 64) for name in names
    ]
    rows = {(row["setting"], row["max_new_tokens"]): row for row in report["rows"]}
    assert all(row["tokens_per_second"][0] > 0 for row in rows.values())
    for length in (32, 64):
        assert rows["conv", length]["steps"] == rows["plain llada", length]["forwards"][0] == length // 8
        computed = {name: rows[name, length]["runs"][0]["operations"] for name in ("conv", "conv, window")}
        assert computed["conv, window"] < computed["conv"]
    assert report["settings"]["lookahead"] == 16 and report["command"].startswith("python -m benchmarks.speed")
    table = capsys.readouterr().out
    assert all(name in table for name in names) and "plain threshold" not in table


def test_every_decode_type_has_a_row_or_a_reason(tmp_path: Path) -> None:
    results = tmp_path / "speed.json"
    short = "--lengths 8 --tokens-a-step 4 --decode-types all"
    speed.main([*SMALL.split(), *short.split(), "--results", str(results)])
    report = json.loads(results.read_text())
    rows = {row["setting"]: row for row in report["rows"]}
    types = speed.every_type()
    assert set(DECODE_TYPES) - set(types) == {"guided", "speculative", "learned_filter", "learned_policy"}
    assert rows.keys() | report["left_out"].keys() == {f"{name}{cache}" for name in types for cache in ("", ", window")}
    assert all(row["tokens_per_forward"][0] > 0 for row in rows.values())
    without_a_row = {name for name in types if name not in rows}
    assert without_a_row == {"daedal", "conv_daedal"}  # random weights have no end token


def test_the_page_shows_what_was_measured() -> None:
    page, results = (ROOT / "docs/speed.md").read_text(), ROOT / "benchmarks/results"
    shown = [row for row in page.splitlines() if row.count("|") == 9]
    measured = [
        line
        for name in ("speed_cpu_1024", "speed_cpu_1024_interval_64")
        for line in speed.to_markdown(json.loads((results / f"{name}.json").read_text())["rows"]).splitlines()[2:]
    ]
    assert len(shown) > 4 and set(shown) - set(measured) <= {shown[0], shown[1]}
