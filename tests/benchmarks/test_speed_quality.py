"""What caches cost in quality: answers are kept, gone on with, and compared prompt by prompt."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed_quality
from benchmarks.speed_quality import EXACT, make_rows

SMALL = "--length 16 --tokens-a-step 4 --kernel-size 4 --prompts 2"


@pytest.fixture(autouse=True)
def tiny_model(tiny_llada: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_quality, "load_model", lambda **_: (tiny_llada, tiny_tokenizer))


def test_a_run_goes_on_and_its_table_agrees_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "quality"
    speed_quality.main([*SMALL.split(), "--output", str(folder)])
    first = (folder / "samples-0.jsonl").read_text()
    report = json.loads((folder / "table.json").read_text())
    assert [row["setting"] for row in report["rows"]] == list(report["settings"]) and report["settings"][EXACT]
    assert {row["n"] for row in report["rows"]} == {2}
    samples = [json.loads(line) for line in first.splitlines() if "setting" in line and "run" not in json.loads(line)]
    for row in report["rows"]:
        mine = [sample for sample in samples if sample["setting"] == row["setting"]]
        assert row["positions"][0] == pytest.approx(sum(sample["positions"] for sample in mine) / 2)
    by_name = {row["setting"]: row for row in report["rows"]}
    assert by_name["window, interval 64"]["positions"][0] < by_name[EXACT]["positions"][0]
    assert (folder / "trade_off.png").read_bytes().startswith(b"\x89PNG")
    assert "| no cache | 2 |" in (folder / "table.md").read_text() == capsys.readouterr().out.rstrip("\n") + "\n"

    speed_quality.main([*SMALL.split(), "--seeds", "0", "1", "--output", str(folder)])
    assert (folder / "samples-0.jsonl").read_text().startswith(first)
    assert {row["n"] for row in json.loads((folder / "table.json").read_text())["rows"]} == {4}


def test_differences_are_of_the_same_prompts() -> None:
    def sample(setting: str, index: int, repeated: float) -> dict[str, Any]:
        figures = dict.fromkeys(("tokens", "forwards", "seconds", "positions", "well_formed"), 1.0)
        return {"setting": setting, "index": index, "repeated": repeated, "right": 1, "annotations": 2, **figures}

    samples = [sample(EXACT, 0, 0.1), sample(EXACT, 1, 0.3)]
    samples += [sample("a", 0, 0.2), sample("a", 1, 0.4), sample("b", 1, 0.3)]
    rows = {row["setting"]: row for row in make_rows(samples, [EXACT, "a", "b"])}
    assert rows["a"]["repeated_difference"] == pytest.approx((0.1, 0.0), abs=1e-12)
    assert rows["b"]["repeated_difference"][0] == pytest.approx(0.0)
    assert rows["a"]["arithmetic"][0] == 0.5 and "repeated_difference" not in rows[EXACT]
