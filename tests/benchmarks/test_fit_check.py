"""The benchmark runs and writes what it compares; the stored results say what the documents say."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import fit_check
from conv_dlm.cost.counting import GenerationMemory, GenerationStep
from conv_dlm.cost.shapes import shape_config

STORED = Path(__file__).resolve().parents[2] / "benchmarks/results/fit_check_cpu.json"


@pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")
def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_check, "measure", fit_check._measure)  # in this process, which is not to be measured well
    results = tmp_path / "results.json"
    fit_check.main(["--shapes", "embedded", "--lengths", "16", "--batch-sizes", "1", "--results", str(results)])
    run = json.loads(results.read_text())
    (case,) = run["cases"]
    assert {"command", "date", "versions", "device"} <= set(run)
    assert case["asked"]["new_tokens"] == 16 and case["weights"]["count"] == case["weights"]["measured"]
    assert set(case["activations"]) == {"count", "measured"}
    assert "embedded float32 L 16 batch 1: count" in capsys.readouterr().out


def test_stored_counts_are_todays_and_near_the_measurement() -> None:
    for case in json.loads(STORED.read_text())["cases"]:
        model = fit_check.make_model(shape_config(case["shape"]), case["storage"], "meta")
        counted = GenerationMemory(model, case["storage"]).activations(GenerationStep(**case["asked"]))
        assert case["activations"]["count"] == counted
        assert case["count_over_measured"] == pytest.approx(1, abs=0.07)
