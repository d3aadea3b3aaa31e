"""Nucleus sampling with noise of the row's own: right in distribution, the same in every batch."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TopPLogitsWarper

from conv_dlm.answering.answers import Answer
from conv_dlm.answering.batching import row_generator
from conv_dlm.evaluation.autoregressive import RowNoise, answer_autoregressively
from conv_dlm.generation.noise import row_seeds

PROMPTS = ["one", "a second and longer prompt", "3"]
DRAWS = 5_000


def ask(model: Any, tokenizer: Any, indices: list[int], **options: Any) -> list[Answer]:
    prompts, generators = [PROMPTS[index] for index in indices], [row_generator(0, index) for index in indices]
    answers = answer_autoregressively(model, tokenizer, prompts, generators, **({"max_new_tokens": 10} | options))
    return [replace(one, seconds=0.0) for one in answers]


def greedy(model: Any, tokenizer: Any, prompt: str, count: int) -> list[int]:
    """The most probable tokens one after the other, by plain forwards."""
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(count):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    return ids[0, start:].tolist()


@pytest.fixture(scope="module")
def seeds_B() -> Tensor:
    return row_seeds([row_generator(0, row) for row in range(DRAWS)], DRAWS, torch.device("cpu"))


def draws(seeds_B: Tensor, logits_V: Tensor, top_p: float, step: int) -> Tensor:
    """How often each token is drawn, over all rows: [V]."""
    input_ids = torch.zeros(DRAWS, 5 + step, dtype=torch.long)
    scores_BV = TopPLogitsWarper(top_p)(input_ids, logits_V.expand(DRAWS, -1).clone())
    tokens_B = RowNoise(seeds_B, start=5)(input_ids, scores_BV).argmax(-1)
    return tokens_B.bincount(minlength=len(logits_V))


@pytest.mark.parametrize(("top_p", "step"), [(0.95, 0), (0.6, 3), (1.0, 1)])
def test_draws_follow_the_nucleus(seeds_B: Tensor, top_p: float, step: int) -> None:
    probabilities_V = torch.tensor([0.02, 0.45, 0.08, 0.25, 0.15, 0.03, 0.02])
    nucleus_V = probabilities_V.clone()
    ranked = probabilities_V.argsort(descending=True, stable=True)
    before = probabilities_V[ranked].cumsum(0) - probabilities_V[ranked]
    if top_p < 1:
        nucleus_V[ranked[before >= top_p]] = 0  # what comes behind the mass that is asked for
    nucleus_V = nucleus_V / nucleus_V.sum()
    counts_V = draws(seeds_B, probabilities_V.log(), top_p, step)
    inside = nucleus_V > 0
    assert counts_V[~inside].sum() == 0
    expected = DRAWS * nucleus_V[inside]
    chi_square = float(((counts_V[inside] - expected) ** 2 / expected).sum())
    freedom = int(inside.sum()) - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)  # five standard deviations


def test_steps_draw_anew(seeds_B: Tensor) -> None:
    """A token drawn says nothing about the next."""
    logits_V = torch.zeros(2)
    first, second = (
        RowNoise(seeds_B, 5)(torch.zeros(DRAWS, 5 + step, dtype=torch.long), logits_V.expand(DRAWS, -1)).argmax(-1)
        for step in (0, 1)
    )
    assert float((first == second).double().mean()) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(DRAWS))


def test_an_answer_does_not_depend_on_its_batch(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    alone = [ask(tiny_llama, tiny_tokenizer, [index])[0] for index in range(3)]
    assert ask(tiny_llama, tiny_tokenizer, [0, 1, 2]) == alone
    assert ask(tiny_llama, tiny_tokenizer, [2, 0]) == [alone[2], alone[0]]
    assert len({tuple(one.ids) for one in alone}) == 3


def test_without_nucleus_the_most_probable_token(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    answers = ask(tiny_llama, tiny_tokenizer, [0, 1, 2], top_p=0)
    for prompt, one in zip(PROMPTS, answers, strict=True):
        expected = greedy(tiny_llama, tiny_tokenizer, prompt, 10)
        assert one.ids == expected[: len(one.ids)] and (one.ended or len(one.ids) == 10)
    assert ask(tiny_llama, tiny_tokenizer, [0], top_p=1e-9)[0] == answers[0]  # a nucleus of one token
    assert ask(tiny_llama, tiny_tokenizer, [0])[0].ids != answers[0].ids


def test_an_answer_ends_at_the_first_end_token(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    model = copy.copy(tiny_llama)
    model.generation_config = copy.deepcopy(tiny_llama.generation_config)
    whole = ask(model, tiny_tokenizer, [0, 1], top_p=0)[0]
    end = whole.ids[4]
    model.generation_config.eos_token_id = [2, end]
    first, _ = ask(model, tiny_tokenizer, [0, 1], top_p=0)
    place = whole.ids.index(end)
    assert first == Answer(whole.ids[:place], True, list(range(place + 1)), place + 1, 0.0)
    assert (whole.ended, whole.forwards) == (False, 10)


@pytest.mark.parametrize(
    "settings", [{"do_sample": True, "temperature": 5.0, "top_k": 0}, {"suppress_tokens": list(range(4, 260, 2))}]
)
def test_the_checkpoints_own_settings_are_left_out(
    tiny_llama: Any, tiny_tokenizer: Any, settings: dict[str, Any]
) -> None:
    model = copy.copy(tiny_llama)
    model.generation_config = copy.deepcopy(tiny_llama.generation_config)
    model.generation_config.update(**settings)
    own = model.generation_config
    assert ask(model, tiny_tokenizer, [0, 1]) == ask(tiny_llama, tiny_tokenizer, [0, 1])
    assert model.generation_config is own


def test_special_tokens_on_request(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|start|> $A", special_tokens=[("<|start|>", 1)])
    assert ask(tiny_llama, tokenizer, [0]) == ask(tiny_llama, tiny_tokenizer, [0])
    assert ask(tiny_llama, tokenizer, [0], add_special_tokens=True) != ask(tiny_llama, tiny_tokenizer, [0])


def test_a_prompt_that_does_not_fit(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=r"The prompt \(250 tokens\) and `max_new_tokens`=10 need a context of 260"):
        answer_autoregressively(tiny_llama, tiny_tokenizer, ["x" * 250], [row_generator(0)], max_new_tokens=10)
    with pytest.raises(ValueError, match="A prompt is empty"):
        answer_autoregressively(tiny_llama, tiny_tokenizer, [""], [row_generator(0)], max_new_tokens=10)
