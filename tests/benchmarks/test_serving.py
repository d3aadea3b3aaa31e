"""The benchmark runs and writes what it compares; the page shows the stored result."""

import json
from pathlib import Path

from benchmarks import serving

ROOT = Path(__file__).resolve().parents[2]


def test_it_runs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    sizes = ["--requests", "3", "--level", "1", "--max-tokens", "8", "--steps", "4", "--batch-sizes", "1", "2"]
    serving.main(["--model", str(tiny_checkpoint), *sizes, "--results", str(results)])
    run = json.loads(results.read_text())
    assert {"command", "date", "versions", "device"} <= set(run) and run["same_answers"]
    assert [case["max_batch_size"] for case in run["cases"]] == [1, 2]
    assert all(0 < case["tokens"] <= 24 and case["seconds"] > 0 for case in run["cases"])


def test_the_page_has_the_stored_result() -> None:
    page = (ROOT / "docs/serving.md").read_text()
    for case in json.loads((ROOT / "benchmarks/results/serving_cpu.json").read_text())["cases"]:
        assert f"| {case['max_batch_size']} | {case['seconds']:.1f} | {case['tokens_per_second']:.1f} |" in page
