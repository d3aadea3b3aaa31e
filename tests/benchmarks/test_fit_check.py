"""The benchmark runs and writes what it compares; the stored results say what the documents say."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import fit_check

STORED = Path(__file__).resolve().parents[2] / "benchmarks/results/fit_check_cpu.json"


@pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")
def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    fit_check.main(["--lengths", "16", "--batch-sizes", "1", "--no-count", "--results", str(results)])
    run = json.loads(results.read_text())
    (case,) = run["cases"]
    assert {"command", "date", "versions", "device"} <= set(run)
    assert case["asked"]["new_tokens"] == 16 and case["weights"]["estimate"] == case["weights"]["measured"]
    assert set(case["activations"]) == {"estimate", "measured"}
    assert "embedded float32 L 16 batch 1: estimate" in capsys.readouterr().out


def test_stored_estimates_are_todays_and_near_the_measurement() -> None:
    from conv_dlm.cost.generating import Generation, activations
    from conv_dlm.cost.shapes import shape_config
    from conv_dlm.cost.sizes import Shape

    for case in json.loads(STORED.read_text())["cases"]:
        estimate = activations(Shape.of(shape_config(case["shape"])), Generation(**case["asked"]), case["storage"])
        assert case["activations"]["estimate"] == estimate
        assert case["estimate_over_measured"] == pytest.approx(1, abs=0.15)
