"""python -m benchmarks.distill_study: tokens per forward at equal accuracy, and the command."""

import json

import pytest

from benchmarks import distill_study, evaluated


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


@pytest.fixture
def asked(monkeypatch):
    """Folders and words of the evaluations, which are made up."""
    asked = []

    def evaluate(folder, words):
        asked.append((folder, [str(word) for word in words]))
        return {key: row("", 0, 0.5, 2.0)[key] for key in ("accuracy", "forwards", "tokens_per_forward")}

    monkeypatch.setattr(evaluated, "evaluated", evaluate)
    return asked


def test_the_command(asked, tmp_path, capsys):
    words = ["--models", "before=a", "after=b/c", "--thresholds", "0.5", "0.9", "--output", str(tmp_path)]
    distill_study.main([*words, "--questions", "50"])
    assert len(asked) == 8 and asked[-1][0] == tmp_path / "evaluated" / "after-conv_threshold-0.9" / "round-0"
    assert asked[-1][1][:2] == ["--model", "b/c"] and "--kernel-size" in asked[-1][1]
    table = json.loads((tmp_path / "table.json").read_text())
    assert len(table["rows"]) == 8 and table["n"] == 50
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    with pytest.raises(SystemExit):
        distill_study.main(["--models", "a", "--output", str(tmp_path)])
    assert "must be a name and a folder" in capsys.readouterr().err


def test_it_writes_answers_and_trains_once(asked, monkeypatch, tmp_path):
    started = []

    def start(module, *words):
        started.append((module, [str(word) for word in words]))
        if module == "trainers.distill":
            (tmp_path / "distilled").mkdir()
            (tmp_path / "distilled" / "config.json").write_text("{}")

    monkeypatch.setattr(distill_study, "start", start)
    words = ["--model", "m", "--rows", "9", "--thresholds", "0.5", "--questions", "5", "--output", str(tmp_path)]
    for _ in range(2):
        distill_study.main([*words, "--options", "--max_steps", "3"])
    (_, answers), (_, training) = started
    assert answers[-2:] == ["--rows", "9"] and training[-2:] == ["--max_steps", "3"]
    assert training[training.index("--data_files") + 1] == answers[answers.index("--output") + 1]
    models = {words[words.index("--model") + 1] for _, words in asked}
    assert models == {"m", str(tmp_path / "distilled")}


def test_settings_take_turns_until_the_time_is_over(asked, monkeypatch, tmp_path):
    clock = iter([0.0, 5.0, 11.0])
    monkeypatch.setattr(evaluated.time, "monotonic", lambda: next(clock))
    found, n = evaluated.in_turns({"one": ["--a"], "two": ["--b"]}, tmp_path, 220, 10.0)
    assert [(folder.parent.name, folder.name) for folder, _ in asked] == [
        ("one", "round-0"), ("two", "round-0"), ("one", "round-1"), ("two", "round-1"),
    ]  # fmt: skip
    assert n == 100 and asked[2][1] == ["--a", "--questions", "50", "--problem-seed", "1"]
    assert found["one"]["accuracy"] == pytest.approx([0.5, 0.03 / 2**0.5])
    pooled = evaluated.pooled([(30, {"accuracy": [0.9, 0.02]}), (10, {"accuracy": [0.5, 0.04]})])
    assert pooled["accuracy"] == pytest.approx([0.8, 0.0180278], rel=1e-4)
