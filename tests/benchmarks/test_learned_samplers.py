"""python -m benchmarks.learned_samplers: the comparison at equal forwards, and the command."""

import json

import pytest

from benchmarks.learned_samplers import main, make_rows, on_line, to_markdown


def test_a_point_is_compared_with_the_line_at_its_forwards():
    points = [(40.0, 0.8, 0.03), (10.0, 0.2, 0.04), (20.0, 0.6, 0.02)]
    assert on_line(points, 15.0) == pytest.approx((0.4, 0.02236), abs=1e-4)
    assert on_line(points, 20.0)[0] == pytest.approx(0.6)
    assert on_line(points, 9.0) is None and on_line(points, 41.0) is None

    def figures(accuracy, forwards):
        return {"accuracy": [accuracy, 0.03], "forwards": [forwards, 1.0], "tokens_per_forward": [2.0, 0.1]}

    rows = make_rows(
        {
            ("threshold", 0.5): figures(0.2, 10.0),
            ("threshold", 0.9): figures(0.6, 20.0),
            ("learned_filter", 0.96): figures(0.5, 15.0),
            ("learned_policy", 1.0): figures(0.5, 30.0),
        }
    )
    assert rows[2]["above"] == pytest.approx([0.1, 0.0367], abs=1e-3) and "above" not in rows[3]
    assert "| `learned_filter` | 0.96 | 50.0 ± 3.0 | 15.0 ± 1.0 | 2.00 ± 0.10 | 40.0 ± 2.1 | +10.0 ± 3.7 |" in (
        to_markdown(rows).splitlines()
    )


def test_the_command(tiny_checkpoint, tmp_path, capsys):
    main(
        [
            "--model", str(tiny_checkpoint), "--thresholds", "0.01", "0.9", "--filter-thresholds",
            "--policy-temperatures", "--questions", "2", "--max-new-tokens", "16", "--block-length", "8",
            "--output", str(tmp_path),
        ]
    )  # fmt: skip
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["value"] for row in table["rows"]] == [0.01, 0.9] and "learned_samplers" in table["command"]
    assert table["rows"][0]["forwards"][0] < table["rows"][1]["forwards"][0]
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
