"""The objective: stratified noise, masks with unbiased weights, and log-probabilities equal to a naive loop."""

import pytest
import torch

from trainers import losses, noise
from trainers.losses import are_top, draw_masks, noise_levels, row_sums, token_log_probs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(rows: int, slots: int, seed: int = 0) -> torch.Tensor:
    return noise.uniform(noise.row_seeds(seed, 0, torch.arange(rows)), noise.MASK, slots)


def levels(rows: torch.Tensor, total: int, low: float = 1e-3, seed: int = 0) -> torch.Tensor:
    uniform = noise.uniform(noise.row_seeds(seed, 0, rows), noise.LEVEL, 1).squeeze(1)
    return noise_levels(uniform, noise.strata(seed, 0, rows, total), total, low)


def test_draws_belong_to_seed_step_row_and_slot():
    rows = torch.arange(6)
    here = noise.uniform(noise.row_seeds(3, 5, rows), noise.MASK, 9)
    assert torch.equal(noise.uniform(noise.row_seeds(3, 5, rows[2:4]), noise.MASK, 4), here[2:4, :4])
    for other in (
        noise.uniform(noise.row_seeds(4, 5, rows), noise.MASK, 9),
        noise.uniform(noise.row_seeds(3, 6, rows), noise.MASK, 9),
        noise.uniform(noise.row_seeds(3, 5, rows + 1), noise.MASK, 9),
        noise.uniform(noise.row_seeds(3, 5, rows), noise.PADDING, 9),
    ):
        assert not (here == other).any()


def test_draws_are_uniform_and_independent():
    sample = draws(400, 50).double()
    assert sample.min() >= 0
    assert sample.max() < 1
    assert abs(sample.mean() - 0.5) < 0.01
    assert abs(sample.var() - 1 / 12) < 0.002
    assert torch.corrcoef(sample.T).fill_diagonal_(0).abs().max() < 0.25  # 400 rows: s.e. 0.05
    assert torch.corrcoef(sample[:40]).fill_diagonal_(0).abs().max() < 0.6  # 50 slots: s.e. 0.14


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_noise_has_one_level_in_each_stratum_of_the_global_batch(parts):
    total, low = 8, 1e-3
    drawn = torch.cat([levels(rows, total, low) for rows in torch.arange(total).chunk(parts)])
    strata = ((drawn - low) / (1 - low) * total).floor().long()
    assert strata.sort().values.tolist() == list(range(total))
    assert drawn.min() >= low
    assert drawn.max() < 1
    assert torch.equal(drawn, levels(torch.arange(total), total, low))


def test_noise_does_not_follow_the_order_of_rows():
    first = torch.stack([levels(torch.arange(4), 4, seed=seed) for seed in range(400)])[:, 0]
    assert abs(first.mean() - 0.5) < 0.05
    assert first.min() < 0.05
    assert first.max() > 0.95


def test_every_row_is_masked_somewhere_and_only_where_it_may_be():
    maskable = torch.zeros(64, 12, dtype=torch.bool)
    maskable[:, 5:9] = True
    maskable[::2, 8] = False
    masked, weight = draw_masks(maskable, torch.linspace(1e-3, 1.0, 64), draws(64, 12))
    assert masked.any(1).all()
    assert not (masked & ~maskable).any()
    assert torch.isfinite(weight).all()


def test_at_full_noise_everything_is_masked_with_weight_one():
    maskable = torch.ones(2, 7, dtype=torch.bool)
    masked, weight = draw_masks(maskable, torch.ones(2), draws(2, 7))
    assert masked.all()
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("noise_level", [0.002, 0.1, 0.5, 0.9])
def test_masking_is_unbiased_for_each_position(noise_level):
    """The mean of `masked * weight` is 1 everywhere: the weighted sum estimates the sum over all positions."""
    rows, length = 40_000, 6
    maskable = torch.ones(rows, length, dtype=torch.bool)
    masked, weight = draw_masks(maskable, torch.full((rows,), noise_level), draws(rows, length, 3))
    assert torch.allclose((masked * weight[:, None]).mean(0), torch.ones(length), atol=0.06)


def test_masks_are_those_of_independent_draws_given_that_there_is_one():
    rows, length, level = 40_000, 4, 0.3
    masked, weight = draw_masks(
        torch.ones(rows, length, dtype=torch.bool), torch.full((rows,), level), draws(rows, length, 1)
    )
    some = 1 - (1 - level) ** length
    assert weight[0].item() == pytest.approx(some / level)
    for count in range(1, length + 1):
        ways = torch.lgamma(torch.tensor([length + 1.0, count + 1.0, length - count + 1.0])).tolist()
        binomial = torch.tensor(ways[0] - ways[1] - ways[2]).exp().item()
        expected = binomial * level**count * (1 - level) ** (length - count) / some
        assert (masked.sum(1) == count).float().mean().item() == pytest.approx(expected, abs=0.01)


def test_weight_is_one_over_t_for_long_responses_and_never_more_than_their_length():
    maskable = torch.ones(3, 200, dtype=torch.bool)
    _, weight = draw_masks(maskable, torch.tensor([1e-6, 0.25, 0.5]), draws(3, 200))
    assert weight[0].item() == pytest.approx(200, rel=1e-3)
    assert weight[1:].tolist() == pytest.approx([4.0, 2.0])


def test_log_probabilities_equal_a_naive_loop_that_never_predicts_the_mask():
    logits = torch.randn(5, 9, generator=seeded())
    targets = torch.tensor([[0, 1], [8, 8], [1, 0], [2, 5], [4, 2]])
    mask = 3
    expected = []
    for row, pair in zip(logits.tolist(), targets.tolist(), strict=True):
        others = torch.tensor([value for index, value in enumerate(row) if index != mask])
        expected.append([row[target] - float(torch.logsumexp(others, 0)) for target in pair])
    torch.testing.assert_close(token_log_probs(logits, targets, mask), torch.tensor(expected))
    assert token_log_probs(logits.bfloat16(), targets, mask).dtype == torch.float32


def test_gradients_reach_masked_positions_alone_and_not_the_mask_token():
    logits = torch.randn(2, 6, requires_grad=True)
    token_log_probs(logits, torch.tensor([[1], [2]]), 3).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, 3], torch.zeros(2))
    assert (logits.grad[:, [0, 1, 2, 4, 5]] != 0).all()


def naive_log_probs(logits: torch.Tensor, targets: torch.Tensor, mask: int | None) -> torch.Tensor:
    if mask is not None:
        logits = logits.index_fill(1, torch.tensor(mask), -torch.inf)
    return logits.log_softmax(1).gather(1, targets)


@pytest.mark.parametrize("mask", [3, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_log_probabilities_in_chunks_of_rows_have_the_gradients_of_a_log_softmax(monkeypatch, rows, dtype, mask):
    monkeypatch.setattr(losses._TokenLogProbs, "CHUNK", 3 * 11)
    values = (torch.randn(rows, 11, generator=seeded()) * 4).to(dtype)
    targets = torch.tensor([[1, 4], [4, 4], [0, 10], [9, 2], [1, 1], [8, 0], [6, 7]])[:rows]
    weights = torch.randn(rows, 2, generator=seeded(1)).to(torch.promote_types(dtype, torch.float32))
    grads = []
    for function in (token_log_probs, naive_log_probs):
        logits = values.clone().requires_grad_()
        log_p = function(logits if function is token_log_probs else logits.to(weights.dtype), targets, mask)
        (log_p * weights).sum().backward()
        grads.append(logits.grad)
    torch.testing.assert_close(*grads)


def test_nothing_as_wide_as_the_vocabulary_is_kept_but_the_logits():
    logits = torch.randn(50, 400, requires_grad=True)
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_log_probs(logits, torch.zeros(50, 2, dtype=torch.long), 3)
    assert [tensor.data_ptr() for tensor in kept if tensor.numel() >= 50 * 400] == [logits.data_ptr()]


def test_a_target_that_is_the_mask_is_impossible():
    log_p = token_log_probs(torch.randn(1, 6), torch.tensor([[3, 2]]), 3)
    assert log_p[0, 0] == -torch.inf
    assert log_p[0, 1].isfinite()


def test_the_most_probable_token_is_told():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 1.0, 5.0]])
    assert are_top(logits, torch.tensor([1, 1, 2])).tolist() == [True, False, True]


def test_values_are_summed_by_row():
    kept = torch.tensor([[True, False, True], [False, False, False], [True, False, False]])
    assert row_sums(torch.tensor([1.0, 2.0, 4.0]), kept).tolist() == [3.0, 0.0, 4.0]
