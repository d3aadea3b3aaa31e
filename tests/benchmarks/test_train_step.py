"""The two sides of the training benchmark train alike: textbook losses equal the trainers', or the run ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import train_step
from benchmarks.textbook_training import llada_loss, mdlm_loss, r2ft_loss
from benchmarks.train_step import EOS, SIDES, Bench, make_inputs, make_parser

SMALL = "--vocabulary 300 --lengths 24 --pairs 2 --dtype float32"


@pytest.fixture(autouse=True)
def tiny_body(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = dict(d_model=32, n_layers=1, n_heads=2, n_kv_heads=2, mlp_hidden_size=48)
    monkeypatch.setitem(train_step.BODIES, "small", tiny)


def test_textbook_losses_equal_a_loop_over_positions() -> None:
    mask, logits = 3, torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0))
    clean = torch.tensor([[1, 4, 5, 6, 2], [7, 8, 4, 2, 2]])
    covered = torch.tensor([[False, True, True, True, True]] * 2)
    noisy = torch.tensor([[1, 3, 5, 3, 2], [7, 3, 3, 3, 2]])
    repeated = torch.tensor([[0, 1, 0, 1, 0], [0, 7, 7, 7, 0]])
    weight = torch.tensor([2.0, 1.25])
    without_mask = logits.index_fill(2, torch.tensor(mask), -torch.inf).log_softmax(-1)
    masked = [(row, position) for row in range(2) for position in range(5) if noisy[row, position] == mask]
    bound = -sum(weight[r] * without_mask[r, i, clean[r, i]] for r, i in masked) / 8

    def forward(ids: torch.Tensor) -> torch.Tensor:
        assert torch.equal(ids, noisy)
        return logits.clone()

    assert mdlm_loss(forward, clean, noisy, covered, weight, mask).item() == pytest.approx(float(bound), rel=1e-5)
    with_mask = logits.log_softmax(-1)  # LLaDA's code leaves the mask in
    bound = -sum(weight[r] * with_mask[r, i, clean[r, i]] for r, i in masked) / 8
    assert llada_loss(forward, clean, noisy, covered, weight, mask).item() == pytest.approx(float(bound), rel=1e-5)

    rows = []
    for row in range(2):
        here = [position for r, position in masked if r == row]
        w = sum(without_mask[row, i, clean[row, i]] for i in here) / 4
        l = sum(without_mask[row, i, repeated[row, i]] for i in here) / len(here)  # noqa: E741
        rows.append(-torch.nn.functional.logsigmoid(w - l) - 0.1 * w)
    rejects = noisy == mask
    loss = r2ft_loss(forward, clean, noisy, covered, repeated, rejects, mask, 0.1)
    assert loss.item() == pytest.approx(float(sum(rows) / 2), rel=1e-5)


def test_rows_are_a_quarter_prompt_and_a_quarter_response() -> None:
    for objective, labels in (("mdlm", 18), ("r2ft", 7)):
        inputs = make_inputs(2, 24, objective, 200, torch.device("cpu"))
        assert (inputs["labels"] != -100).sum(1).tolist() == [labels, labels]
        assert (inputs["input_ids"][:, 12:] == EOS).all()
        assert (inputs["input_ids"][:, :12] > EOS).all()


def test_both_sides_run_and_are_reported(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    train_step.main([*SMALL.split(), "--no-memory", "--results", str(results)])
    report = json.loads(results.read_text())
    assert [row["objective"] for row in report["cases"]] == ["mdlm", "r2ft"]
    assert report["settings"]["clock"] == "CPU time of the process"
    for row in report["cases"]:
        assert row["largest_difference"] < 1e-4
        for side in SIDES[row["objective"]]:
            seconds = row[side]["seconds_by_step"]
            assert row[side]["tokens_per_second"] == pytest.approx(48 / sum(seconds))
            assert len(seconds) == 2


def test_sides_that_disagree_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    args = make_parser().parse_args(SMALL.split())
    monkeypatch.setattr(train_step, "r2ft_loss", lambda *given: 1.01 * r2ft_loss(*given))
    with pytest.raises(RuntimeError, match="The sides disagree"):
        train_step.measure_time("small", "r2ft", 1, 24, args)


@pytest.mark.parametrize("objective", ["mdlm", "r2ft"])
def test_needed_positions_are_those_that_ours_projects(objective: str) -> None:
    args = make_parser().parse_args(SMALL.split())
    bench, kept = Bench("small", objective, 2, 24, args), []
    hook = lambda _, given, named: kept.append(named["logits_to_keep"])  # noqa: E731
    bench.model.register_forward_pre_hook(hook, with_kwargs=True)
    for index in range(2):
        bench.loss("ours", index)()
        assert torch.equal(kept[index], bench.noisy(index)[1])


@pytest.mark.slow
def test_memory_is_added_to_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row: dict[str, Any] = {"model": "small", "objective": "r2ft", "batch": 1, "length": 24}
    args = make_parser().parse_args(SMALL.split())
    row |= {side: {"tokens_per_second": 1.0} for side in SIDES["r2ft"]}
    train_step.add_memory(row, args)  # in processes of their own, where the body is the real one
    assert row["textbook"]["memory_factor"] == row["textbook"]["peak_mb"] / row["ours"]["peak_mb"]
    assert "MB" in train_step.line(row)
