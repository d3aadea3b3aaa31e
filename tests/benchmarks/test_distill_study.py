"""python -m benchmarks.distill_study: tokens per forward at equal accuracy, and the command."""

import json

import pytest

from benchmarks import distill_study


def row(model, threshold, accuracy, tokens, kind="threshold"):
    figures = {"accuracy": [accuracy, 0.03], "forwards": [100 / tokens, 1.0], "tokens_per_forward": [tokens, 0.1]}
    return {"model": model, "decode_type": kind, "threshold": threshold, **figures}


def test_the_fastest_setting_of_equal_accuracy_counts():
    rows = [
        row("before", 0.5, 0.60, 4.0), row("before", 0.9, 0.77, 2.0), row("before", 0.99, 0.80, 1.5),
        row("after", 0.5, 0.70, 8.0), row("after", 0.9, 0.79, 5.0), row("after", 0.99, 0.81, 3.0),
        row("before", 0.9, 0.80, 2.0, "conv_threshold"), row("after", 0.9, 0.50, 9.0, "conv_threshold"),
    ]  # fmt: skip
    found = {(its["decode_type"], its["model"]): its for its in distill_study.summary(rows)}
    assert found["threshold", "before"]["fastest"] == rows[1] and found["threshold", "before"]["times"] == 1.0
    assert found["threshold", "after"]["fastest"] == rows[4] and found["threshold", "after"]["times"] == 2.5
    assert found["conv_threshold", "after"]["fastest"] is None
    lines = distill_study.to_markdown(rows).splitlines()
    assert "| `threshold` | after | 0.9 | 5.00 ± 0.10 | 2.50 |" in lines
    assert "| `conv_threshold` | after | – | – | – |" in lines


def test_the_command(monkeypatch, tmp_path, capsys):
    asked = []

    def evaluated(folder, words):
        asked.append((folder.name, [str(word) for word in words]))
        return {key: row("", 0, 0.5, 2.0)[key] for key in ("accuracy", "forwards", "tokens_per_forward")}

    monkeypatch.setattr(distill_study, "evaluated", evaluated)
    words = ["--models", "before=a", "after=b/c", "--thresholds", "0.5", "0.9", "--output", str(tmp_path)]
    distill_study.main(words)
    assert len(asked) == 8 and asked[-1][0] == "after-conv_threshold-0.9"
    assert asked[-1][1][:2] == ["--model", "b/c"] and "--kernel-size" in asked[-1][1]
    assert len(json.loads((tmp_path / "table.json").read_text())["rows"]) == 8
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    with pytest.raises(SystemExit):
        distill_study.main(["--models", "a", "--output", str(tmp_path)])
    assert "must be a name and a folder" in capsys.readouterr().err
