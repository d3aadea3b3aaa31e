"""What a model proposes behind prompts: on a tiny model, and averaged by hand."""

from typing import Any

import pytest
import torch

from benchmarks.decoding_study.window import mass_curves, window_masses
from conv_dlm.evaluation.statistics import mean_with_error
from conv_dlm.models import MDLM, MDLMConfig
from tests.tiny import widened

PROMPTS, CANVAS, MASK, EOS = [[10, 11, 12], [20], [30, 31, 30, 32, 10]], 7, 3, 2


def test_masses_are_averaged_by_distance_and_as_a_share_of_text() -> None:
    def row(eos: list[float], prior: list[float]) -> list[list[float]]:
        rest = [1 - e - p for e, p in zip(eos, prior, strict=True)]
        return [eos, prior, [0.0] * 3, rest]

    result = mass_curves([row([0.0, 0.5, 1.0], [0.4, 0.2, 0.0]), row([0.0, 0.1, 1.0], [0.2, 0.3, 0.0])])
    assert result is not None and result["starts"] == [0, 1]
    everything, text = result["all"]["high_prior"], result["text"]["high_prior"]
    assert everything["at"]["mean"] == pytest.approx([0.3, 0.25, 0.0])
    assert everything["at"]["error"][0] == pytest.approx(mean_with_error([0.4, 0.2])[1])
    assert everything["ranges"]["mean"] == pytest.approx([0.3, 0.125]), "distances 1 and 2 together"
    assert text["at"]["mean"] == [pytest.approx(0.3), pytest.approx(0.5 / 1.4, abs=1e-5), None], "no text, no share"
    assert mass_curves([]) is None


@pytest.fixture(scope="module")
def tiny_mdlm() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_dim": 32, "cond_dim": 12, "n_blocks": 2, "n_heads": 4, "model_length": 64}
        return widened(MDLM(MDLMConfig(vocab_size=260, mask_token_id=MASK, bos_token_id=1, eos_token_id=EOS, **sizes)))


@pytest.fixture
def high_prior_V() -> torch.Tensor:
    return torch.zeros(260, dtype=torch.bool).index_fill(0, torch.tensor([10, 40, 41, EOS]), True)


@pytest.mark.parametrize("name", ["tiny_llada", "tiny_mdlm"])
@torch.no_grad()
def test_masses_are_those_of_a_forward_over_the_masks(
    request: pytest.FixtureRequest, name: str, tiny_tokenizer: Any, high_prior_V: torch.Tensor
) -> None:
    model = request.getfixturevalue(name)
    masses_BGK = window_masses(model, tiny_tokenizer, PROMPTS, CANVAS, high_prior_V)
    for prompt, masses_GK in zip(PROMPTS, masses_BGK, strict=True):
        logits = model(torch.tensor([prompt + [MASK] * CANVAS])).logits[0, len(prompt) :].double()
        logits[:, MASK] = -torch.inf
        probs_KV = logits.softmax(1)
        groups = [[EOS], [10, 40, 41], sorted({*prompt}), sorted({*range(260)} - {EOS, 10, 40, 41, *prompt})]
        expected = torch.stack([probs_KV[:, group].sum(1) for group in groups])
        assert torch.allclose(masses_GK.double(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny_llada", "tiny_mdlm"])
def test_a_prompt_is_measured_alike_in_any_batch(
    request: pytest.FixtureRequest, name: str, tiny_tokenizer: Any, high_prior_V: torch.Tensor
) -> None:
    model = request.getfixturevalue(name)
    together = window_masses(model, tiny_tokenizer, PROMPTS, CANVAS, high_prior_V)
    alone = torch.cat([window_masses(model, tiny_tokenizer, [prompt], CANVAS, high_prior_V) for prompt in PROMPTS])
    assert torch.allclose(together, alone, atol=1e-5)
