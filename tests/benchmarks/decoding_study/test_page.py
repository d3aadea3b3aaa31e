"""The section of a page that result folders fill."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.decoding_study import page
from benchmarks.page import marks
from conv_dlm.utils.environment import ROOT


def row(name: str, steps: int, size: int | None, right: float, varied: str = "") -> dict[str, Any]:
    figures = {"accuracy": [right, 0.02], "forwards": [steps, 0], "seconds": [steps / 10, None]}
    return {"decode_type": name, "steps": steps, "size": size, "varied": varied, "n": 9, "prompts": 9} | figures


@pytest.fixture
def result() -> dict[str, Any]:
    rows = [row("conv", 16, 32, 0.5), row("topk", 16, None, 0.4), row("conv", 64, 32, 0.9), row("topk", 64, None, 0.8)]
    rows += [row("threshold", 64, 32, 0.7), row("conv", 64, 32, 0.85, "lookahead=64")]
    run = {"command": "study --canvas 64", "date": "2026-01-01T00", "commit": "abc", "device": "a CPU", "versions": {}}
    return {
        "rows": rows,
        "less_topk": [row("conv", 16, 32, 0.1)],
        "less_plain": [row("conv", 64, 32, -0.05, "lookahead=64")],
        "less_blocks": [row("conv_threshold", 64, 32, 0.15)],
        "settings": {"max_new_tokens": 64},
        "runs": [run, run, run | {"command": "study --more"}],
    }


def test_tables_are_by_tokens_a_step(result: dict[str, Any]) -> None:
    text = "\n\n".join(page.tables(result))
    assert "| tokens a step | kernel or block | 1 | 4 |\n" in text
    assert "| `conv` | 32 | 90.0 ± 2.0 | 50.0 ± 2.0 |\n" in text and "| `conv` | 32 | – | +10.0 ± 2.0 |" in text
    assert "| `threshold` | 64 | 32 | 70.0 ± 2.0 | 64.0 ± 0.0 |" in text, "has no pace"
    assert "| `conv`, lookahead=64 | 64 | 32 | -5.0 ± 2.0 |" in text
    assert "less the same rule in blocks" in text and "| `conv_threshold` | 64 | 32 | +15.0 ± 2.0 |" in text
    assert "| 1 | `conv` 32, 16 steps | 50.0 ± 2.0 | 16.0 ± 0.0 | 1.60 |" in text, "the front"


def test_one_number_of_tokens_a_step_is_one_table(result: dict[str, Any]) -> None:
    result["rows"] = [one for one in result["rows"] if one["steps"] == 64]
    text = "\n\n".join(page.tables(result))
    assert "tokens a step" not in text and "Less `topk`" not in text
    for start in ("`conv` | 64 | 32 | 90.0", "`topk` | 64 | – | 80.0", "`threshold` | 64 | 32 | 70.0"):
        assert f"| {start} ± 2.0 | 64.0 ± 0.0 |" in text


def test_a_page_is_filled_from_the_folders(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(page, "save", lambda figure, path: drawn.setdefault(path.name, figure))
    for canvas in (64, 128):
        (tmp_path / f"results/{canvas}").mkdir(parents=True)
        its = result | {"settings": {"max_new_tokens": canvas}}
        (tmp_path / f"results/{canvas}/table.json").write_text(json.dumps(its))
    document = tmp_path / "docs/page.md"
    document.parent.mkdir()
    document.write_text("a".join(marks("decoders")))
    folders = [str(tmp_path / f"results/{canvas}") for canvas in (64, 128)]
    plots = tmp_path / "docs/plots"
    page.main([*folders, "--section", "decoders", "--page", str(document), "--plots", str(plots)])
    text = document.read_text()
    assert text.count("```text\nstudy --canvas 64\nstudy --more\n```") == 2, "each command once"
    assert "(../results/128/table.md)" in text and "9 problems a setting" in text
    assert set(drawn) == {"decoders.png"} | {f"decoders_{n}_{cost}.png" for n in (64, 128) for cost in page.COSTS}
    assert all(f"](plots/{name})" in text for name in drawn)
    panels = drawn["decoders.png"].axes
    assert [axes.get_title() for axes in panels] == ["canvas of 64 tokens", "canvas of 128 tokens"]
    assert {"conv", "topk"} == set(panels[0].get_legend_handles_labels()[1])


@pytest.mark.parametrize("name", ["decoders", "caches", "rules", "rules_long", "rules_exact"])
def test_the_page_shows_the_stored_results(name: str) -> None:
    text = (ROOT / "docs/results.md").read_text()
    _, _, shown = text.partition(marks(name)[0])
    folders = sorted(path.parent for path in (ROOT / "benchmarks/results" / name).glob("**/table.json"))
    if not folders:
        assert "No result is stored yet." in shown.partition(marks(name)[1])[0]
    for folder in folders:
        tables = page.tables(page.read(folder))
        assert tables and all(table in shown for table in tables), "run decoding_study.page"
