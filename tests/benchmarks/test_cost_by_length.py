"""The cost of a step against the length: each setting computes what it is said to, over one cycle."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cost_by_length
from benchmarks.cost_by_length import SETTINGS
from conv_dlm.cost import subject

SMALL = "--lengths 128 256 --prompt 8 --block 16 --interval 4 --lookahead 96 --steps 3"


@pytest.fixture(autouse=True)
def tiny_shape(tiny_llada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "shape_config", lambda _: copy.deepcopy(tiny_llada.config))


def test_rows_and_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = tmp_path / "cost.json"
    cost_by_length.main([*SMALL.split(), "--results", str(results)])
    report = json.loads(results.read_text())
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert (report["settings"]["clock"], report["settings"]["dtype"]) == ("wall", "float32")
    rows = {(row["setting"], row["length"]): row for row in report["rows"]}
    assert set(rows) == {(setting, length) for setting in SETTINGS for length in (128, 256)}
    for (setting, length), row in rows.items():
        assert len(row["seconds_by_step"]) == (3 if setting == "no cache" else 4)
        assert min(row["seconds_by_step"]) <= row["median_s"] <= max(row["seconds_by_step"])
        canvas, sight = 8 + length, 128  # of the lookahead, rounded up to the next 64
        assert row["keys"] == (sight if setting == "window, lookahead" else canvas)
        if setting == "no cache":
            assert row["positions"] == canvas
        else:
            assert row["positions"] < row["keys"] == row["most_positions"], "one full forward in a cycle"
    for setting in SETTINGS[1:]:
        assert rows[setting, 128]["positions"] == rows[setting, 256]["positions"], "the window is fixed"


def test_a_block_has_to_last_for_the_cycle(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cost_by_length.main(["--block", "16"])
    assert "--block 16 must be at least 2 more" in capsys.readouterr().err
