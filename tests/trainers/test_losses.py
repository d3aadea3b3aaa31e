"""The objective: stratified noise, masks with unbiased weights, and losses equal to a naive loop."""

import pytest
import torch

from trainers.losses import draw_masks, noise_levels, token_losses


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ranks", [1, 2])
def test_noise_has_one_level_in_each_stratum_of_the_global_batch(ranks):
    rows, low = 8, 1e-3
    levels = torch.cat([noise_levels(rows, low, rank=r, ranks=ranks, generator=seeded(r)) for r in range(ranks)])
    strata = ((levels - low) / (1 - low) * rows * ranks).floor().long()
    assert strata.sort().values.tolist() == list(range(rows * ranks))
    assert levels.min() >= low
    assert levels.max() < 1


def test_noise_does_not_follow_the_order_of_rows():
    first = torch.stack([noise_levels(4, 1e-3, generator=seeded(s)) for s in range(400)])[:, 0]
    assert abs(first.mean() - 0.5) < 0.05
    assert first.min() < 0.05
    assert first.max() > 0.95


def test_every_row_is_masked_somewhere_and_only_where_it_may_be():
    maskable = torch.zeros(64, 12, dtype=torch.bool)
    maskable[:, 5:9] = True
    maskable[::2, 8] = False
    masked, weight = draw_masks(maskable, torch.linspace(1e-3, 1.0, 64), generator=seeded())
    assert masked.any(1).all()
    assert not (masked & ~maskable).any()
    assert torch.isfinite(weight).all()


def test_at_full_noise_everything_is_masked_with_weight_one():
    maskable = torch.ones(2, 7, dtype=torch.bool)
    masked, weight = draw_masks(maskable, torch.ones(2), generator=seeded())
    assert masked.all()
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("noise", [0.002, 0.1, 0.5, 0.9])
def test_masking_is_unbiased_for_each_position(noise):
    """The mean of `masked * weight` is 1 everywhere: the weighted sum estimates the sum over all positions."""
    rows, length = 40_000, 6
    maskable = torch.ones(rows, length, dtype=torch.bool)
    masked, weight = draw_masks(maskable, torch.full((rows,), noise), generator=seeded(3))
    assert torch.allclose((masked * weight[:, None]).mean(0), torch.ones(length), atol=0.06)


def test_masks_are_those_of_independent_draws_given_that_there_is_one():
    rows, length, noise = 40_000, 4, 0.3
    masked, weight = draw_masks(
        torch.ones(rows, length, dtype=torch.bool), torch.full((rows,), noise), generator=seeded(1)
    )
    some = 1 - (1 - noise) ** length
    assert weight[0].item() == pytest.approx(some / noise)
    for count in range(1, length + 1):
        ways = torch.lgamma(torch.tensor([length + 1.0, count + 1.0, length - count + 1.0])).tolist()
        binomial = torch.tensor(ways[0] - ways[1] - ways[2]).exp().item()
        expected = binomial * noise**count * (1 - noise) ** (length - count) / some
        assert (masked.sum(1) == count).float().mean().item() == pytest.approx(expected, abs=0.01)


def test_weight_is_one_over_t_for_long_responses_and_never_more_than_their_length():
    maskable = torch.ones(3, 200, dtype=torch.bool)
    _, weight = draw_masks(maskable, torch.tensor([1e-6, 0.25, 0.5]), generator=seeded())
    assert weight[0].item() == pytest.approx(200, rel=1e-3)
    assert weight[1:].tolist() == pytest.approx([4.0, 2.0])


def test_losses_equal_a_naive_loop_that_never_predicts_the_mask():
    logits = torch.randn(5, 9, generator=seeded())
    targets = torch.tensor([0, 8, 1, 2, 4])
    mask = 3
    expected = []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        others = torch.tensor([value for index, value in enumerate(row) if index != mask])
        expected.append(float(torch.logsumexp(others, 0)) - row[target])
    assert token_losses(logits, targets, mask).tolist() == pytest.approx(expected, abs=1e-6)
    assert token_losses(logits.bfloat16(), targets, mask).dtype == torch.float32


def test_gradients_reach_masked_positions_alone_and_not_the_mask_token():
    logits = torch.randn(2, 6, requires_grad=True)
    token_losses(logits, torch.tensor([1, 2]), 3).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, 3], torch.zeros(2))
    assert (logits.grad[:, :3] != 0).all()
