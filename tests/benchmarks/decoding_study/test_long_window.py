"""The figures of the long decoding window against loops over plain Python lists."""

import math
from collections import Counter
from itertools import chain

import pytest
import torch

from benchmarks.decoding_study.long_window import (
    KINDS,
    high_prior_tokens,
    kind_masses,
    kinds_of_tokens,
    log_priors,
    token_counts,
    token_kinds,
)

PAD, EOS, MASK, TURN, V = 0, 2, 3, 1, 12
NOT_TEXT = (PAD, TURN, EOS, MASK)
RESPONSES = [[5, 6, 5, 7, EOS], [5, 8, 6, EOS], [9, 5, EOS]]
PROMPTS = [[TURN, 6, 7, 6, EOS], [PAD, PAD, 10, 11, EOS]]


@pytest.fixture
def kinds_BGV() -> torch.Tensor:
    high_prior_V = high_prior_tokens(token_counts(RESPONSES, V), count=2, exclude=NOT_TEXT)
    return token_kinds(torch.tensor(PROMPTS), high_prior_V, EOS, NOT_TEXT)


def naive_kinds(token: int, prompt: list[int], high_prior: set[int]) -> dict[str, bool]:
    eos, frequent = token == EOS, token in high_prior
    repeated = token in prompt and token not in NOT_TEXT
    return {"eos": eos, "high_prior": frequent, "repetition": repeated, "other": not (eos or frequent or repeated)}


def test_high_prior_tokens_are_the_most_frequent_that_are_text() -> None:
    counts_V = token_counts(RESPONSES, V)
    assert counts_V.tolist() == [Counter(chain(*RESPONSES))[token] for token in range(V)]
    assert high_prior_tokens(counts_V, 3, exclude=NOT_TEXT).nonzero().flatten().tolist() == [5, 6, 7], "ties: lower ids"
    assert high_prior_tokens(counts_V, 1, exclude=()).nonzero().flatten().tolist() == [5]
    assert high_prior_tokens(counts_V, 100, exclude=NOT_TEXT).sum() == 5, "what never occurs has no high prior"


def test_kinds_are_those_of_a_loop(kinds_BGV: torch.Tensor) -> None:
    for row, prompt in enumerate(PROMPTS):
        for token in range(V):
            expected = naive_kinds(token, prompt, {5, 6})
            assert dict(zip(KINDS, kinds_BGV[row, :, token].tolist(), strict=True)) == expected


def test_masses_are_those_of_a_loop(kinds_BGV: torch.Tensor) -> None:
    torch.manual_seed(0)
    logits_BKV = 3 * torch.randn(2, 4, V, dtype=torch.float64)
    masses_BGK = kind_masses(logits_BKV, kinds_BGV, MASK)
    assert masses_BGK.dtype == torch.float32
    for row in range(2):
        for distance in range(4):
            weights = [math.exp(logit) for logit in logits_BKV[row, distance].tolist()]
            weights[MASK] = 0.0
            for g, kind in enumerate(KINDS):
                mass = sum(w for token, w in enumerate(weights) if naive_kinds(token, PROMPTS[row], {5, 6})[kind])
                assert masses_BGK[row, g, distance].item() == pytest.approx(mass / sum(weights), rel=1e-5)


def test_masses_of_low_precision_logits_are_summed_in_float32(kinds_BGV: torch.Tensor) -> None:
    logits_BKV = torch.randn(2, 1, V, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(kind_masses(logits_BKV, kinds_BGV, MASK), kind_masses(logits_BKV.float(), kinds_BGV, MASK))


def test_a_text_has_its_mass_on_its_tokens(kinds_BGV: torch.Tensor) -> None:
    ids_BK = torch.tensor([[6, 7, 8, EOS], [5, 10, EOS, EOS]])
    one_hot_BKV = torch.full((2, 4, V), -torch.inf).scatter(2, ids_BK[..., None], 0.0)
    assert torch.equal(kinds_of_tokens(ids_BK, kinds_BGV), kind_masses(one_hot_BKV, kinds_BGV, MASK))
    assert kinds_of_tokens(ids_BK, kinds_BGV)[0, :, 0].tolist() == [0, 1, 1, 0], "6 is frequent and in the prompt"


def test_priors_are_shares_of_the_counts() -> None:
    priors_V = log_priors(torch.tensor([7, 0, 2]))
    assert priors_V.exp().tolist() == pytest.approx([7.5 / 10.5, 0.5 / 10.5, 2.5 / 10.5])
