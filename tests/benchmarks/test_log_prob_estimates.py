"""The table of estimates: its references, and that what is exact agrees with them."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.log_prob_estimates import VARIANTS, ask, draw, main, references


def test_the_table_is_of_the_model(tiny_llada: Any) -> None:
    before, text = [7, 8, 9], [30, 40, 50]
    table = ask(tiny_llada, before, text)
    canvas = torch.tensor([[*before, 3, 40, 3]])
    with torch.no_grad():
        logits = tiny_llada(canvas).logits[0]
    logits[:, 3] = -math.inf
    log_p = logits.log_softmax(-1)
    assert table[0b101].tolist() == pytest.approx([float(log_p[3, 30]), 0.0, float(log_p[5, 50])], abs=1e-4)


def test_estimates_against_the_references(tiny_llada: Any) -> None:
    table = ask(tiny_llada, [7, 8, 9], [30, 40, 50, 60])
    bound, likelihood = references(table)
    orders = [
        sum(float(table[sum(1 << n for n in order[i:]), order[i]]) for i in range(4))
        for order in itertools.permutations(range(4))
    ]
    assert bound == pytest.approx(sum(orders) / 24) and bound <= likelihood <= max(orders)
    found = {name: draw(estimate, table, 4000, 0) for name, estimate in VARIANTS.items()}
    for name in ("trajectory", "elbo"):  # without a bias, as estimates of the bound
        sums, _ = found[name]
        assert float(sums.mean()) == pytest.approx(bound, abs=4 * float(sums.std()) / math.sqrt(4000))
    for name in ("one_step", "autoregressive"):  # without draws
        assert float(found[name][0].std()) < 1e-9
    assert [found[name][1] for name in ("one_step", "coupled", "trajectory", "elbo")] == [1, 2, 4, 2]


def test_a_run(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(tiny_checkpoint), "--texts", "1", "--tokens", "3", "--known", "4", "--draws", "50"]
    assert main([*words, "--results", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["estimates"]) == set(VARIANTS) and found["likelihood_over_bound"] >= 0
    assert "coupled, 4 pairs" in capsys.readouterr().out
