"""MDPO's rewards in the middle of denoising: stages, values and advantages."""

import pytest
import torch

from trainers.drafts import stage_advantages, stage_values, stages_of


def test_steps_are_shared_out_among_stages() -> None:
    unmasked_at = torch.tensor([[0, 1, 2, 3, 4, 9], [0, 0, 1, 1, 1, 1]])
    text = torch.tensor([[True] * 5 + [False], [True] * 6])
    stage, last = stages_of(unmasked_at, text, 2)
    assert stage[0, :5].tolist() == [0, 0, 0, 1, 1] and stage[1].tolist() == [0, 0, 1, 1, 1, 1]
    assert last.tolist() == [[2, 4], [0, 1]]  # each stage's last step is the last that a token of it was written in
    stage, last = stages_of(unmasked_at, text, 3)  # more stages than steps: one of them has no token
    assert stage[1].tolist() == [0, 0, 1, 1, 1, 1] and last[1].tolist() == [0, 1, 1]


def test_a_stage_gets_credit_for_what_it_changed_and_what_came_of_it() -> None:
    values = stage_values(torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.5]]))
    assert values.tolist() == [[0 + 1.0, 1 + 1.0, 0 + 1.0], [1 + 0.25, -1 + 0.5, 0.5 + 0.5]]
    assert stage_values(torch.tensor([[3.0]])).tolist() == [[6.0]]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_relative_to_the_group(scale: str) -> None:
    values = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 2.0], [5.0, 6.0]])
    found = stage_advantages(values, 2, scale)
    assert found.view(2, 2, 2).sum(1).abs().max() < 1e-5
    spread = {"group": 2**-0.5, "batch": 1 / float(values[:, 0].std()), "none": 1.0}[scale]
    assert found[:, 0].tolist() == pytest.approx([-spread, spread, 0.0, 0.0], abs=1e-3)
