"""The Monte Carlo likelihood against the bound itself, summed over every masking of a short response."""

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conv_dlm.evaluation import likelihood
from conv_dlm.evaluation.likelihood import (
    Estimate,
    LikelihoodEstimator,
    Question,
    estimate,
    look_up,
    maskings,
    total,
)
from tests.models.families import tiny

MASK = 3
SHORT, LONG = Question((1, 70), (80, 90, 100)), Question((1, 40, 50, 60, 70), (80, 90, 100, 110))
LETTERS = [Question((1, 50, 60), (letter,)) for letter in (65, 66, 67, 68)]
TEXT = Question((1, 50, 60), tuple(range(70, 90)))


@torch.no_grad()
def bound(model, question, guidance=1.0, shift=0):
    """The definition, one forward for each masking."""
    prompt, response = list(question.prompt), question.response
    tokens, log_p = len(response), 0.0
    for k in range(1, tokens + 1):
        for chosen in itertools.combinations(range(tokens), k):
            masked = [MASK if i in chosen else token for i, token in enumerate(response)]
            logits = model(torch.tensor([prompt + masked])).logits[0].double()
            if guidance != 1:
                blind = model(torch.tensor([[MASK] * len(prompt) + masked])).logits[0].double()
                logits = blind + guidance * (logits - blind)
            logits[:, MASK] = -torch.inf
            log_probs = logits.log_softmax(1)
            summed = sum(float(log_probs[len(prompt) + i - shift, response[i]]) for i in chosen)
            log_p += tokens / k * summed / math.comb(tokens, k) / tokens
    return log_p


def answers(model, questions, greedy=False, **options):
    return dict(LikelihoodEstimator(model, MASK, **options).estimates(questions, greedy))


@pytest.mark.parametrize("batch_size", [1, 8])
def test_short_responses_are_enumerated(tiny_llada, batch_size):
    found = answers(tiny_llada, [SHORT, LETTERS[0], LONG], batch_size=batch_size)
    for question in (SHORT, LETTERS[0], LONG):
        assert found[question].log_likelihood == pytest.approx(bound(tiny_llada, question), abs=1e-4)
        assert found[question].standard_error == 0


def test_guidance_and_shifted_logits(make_llada):
    model = make_llada()
    guided = answers(model, [SHORT, LONG], guidance_scale=1.5, batch_size=4)
    model.shift_logits = True
    shifted = answers(model, [SHORT, LONG], batch_size=4)
    for question in (SHORT, LONG):
        assert guided[question].log_likelihood == pytest.approx(bound(model, question, guidance=1.5), abs=1e-4)
        assert shifted[question].log_likelihood == pytest.approx(bound(model, question, shift=1), abs=1e-4)


@pytest.mark.parametrize("name", ["SDARForCausalLM", "Fast_dLLM_QwenForCausalLM"])
def test_of_a_model_that_sees_block_by_block_it_is_the_sum_over_its_blocks(name):
    """Each block after the text before it; where logits are shifted, its first token before the rest."""
    model = tiny(name, block_length=4)
    text, start = (1, 40, 50, 60, 70, 80, 90, 100, 110), 3  # blocks of 4: 3 + 1, 4, 1
    cuts = {"SDARForCausalLM": [3, 4, 8, 9], "Fast_dLLM_QwenForCausalLM": [3, 4, 5, 8, 9]}[name]
    question, other = Question(text[:start], text[start:]), Question(text[:6], text[6:8])
    found = answers(model, [question, other], batch_size=8, greedy=True)
    parts = [Question(text[:first], text[first:end]) for first, end in itertools.pairwise(cuts)]
    expected = sum(bound(model, part, shift=int(model.shift_logits)) for part in parts)
    assert found[question].log_likelihood == pytest.approx(expected, abs=1e-3)
    assert found[other].log_likelihood == pytest.approx(bound(model, other, shift=int(model.shift_logits)), abs=1e-3)
    assert found[question].is_greedy is False
    best = model.generate(torch.tensor([text[:start]]), max_new_tokens=5, decode_type="threshold", threshold=1.0,
                          block_length=4, eos_token_id=None)[0].tolist()  # fmt: skip
    best = Question(tuple(best[:start]), tuple(best[start:]))
    assert answers(model, [best], greedy=True)[best].is_greedy
    with pytest.raises(ValueError, match="`guidance_scale`=2 is not supported"):
        LikelihoodEstimator(model, MASK, guidance_scale=2)


def test_adapters_count_inside_their_wrapper(make_llada):
    peft = pytest.importorskip("peft")
    plain = bound(make_llada(), SHORT)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False)
    tuned = peft.get_peft_model(make_llada(), config).eval()
    (found,) = answers(tuned, [SHORT]).values()
    assert found.log_likelihood == pytest.approx(bound(tuned.get_base_model(), SHORT), abs=1e-4)
    assert abs(found.log_likelihood - plain) > 0.1


def test_models_that_project_everything(tiny_llada, monkeypatch):
    """Remote code doesn't know which positions are wanted; the answer is the same."""
    monkeypatch.setattr(type(tiny_llada), "__module__", "transformers_modules.remote")
    (found,) = answers(tiny_llada, [SHORT], batch_size=3).values()
    assert found.log_likelihood == pytest.approx(bound(tiny_llada, SHORT), abs=1e-4)


def test_draws_estimate_the_bound(tiny_llada):
    """Two draws of seven maskings: the mean over seeds is the bound, and the error is neither too small nor naive."""
    found = [answers(tiny_llada, [SHORT], draws=2, seed=seed, batch_size=2)[SHORT] for seed in range(80)]
    values = [one.log_likelihood for one in found]
    spread = statistics.stdev(values)
    assert len(set(values)) > 3
    assert statistics.mean(values) == pytest.approx(bound(tiny_llada, SHORT), abs=4 * spread / math.sqrt(len(values)))


def test_standard_error_is_honest_and_shrinks(tiny_llada):
    def rms(errors):
        return math.sqrt(statistics.mean(error**2 for error in errors))

    few, many = (
        [answers(tiny_llada, [TEXT], draws=draws, seed=seed, batch_size=32)[TEXT] for seed in range(20)]
        for draws in (8, 32)
    )
    spread = statistics.stdev(one.log_likelihood for one in few)
    assert 0.7 * spread < rms(one.standard_error for one in few) < 2 * spread
    assert rms(one.standard_error for one in many) < 0.75 * rms(one.standard_error for one in few)
    agree = 4 * rms(one.standard_error for one in few) / math.sqrt(20)
    means = [statistics.mean(one.log_likelihood for one in some) for some in (few, many)]
    assert means[0] == pytest.approx(means[1], abs=agree)


def test_answers_depend_on_the_question_alone(tiny_llada):
    options = dict(draws=4, seed=5)
    alone = answers(tiny_llada, [TEXT], **options)[TEXT]
    for batch_size, questions in ((1, [LONG, TEXT]), (3, [TEXT, LONG, *LETTERS]), (16, [SHORT, TEXT, TEXT])):
        among = answers(tiny_llada, questions, batch_size=batch_size, **options)[TEXT]
        assert among.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-4)
        assert among.standard_error == pytest.approx(alone.standard_error, abs=1e-4)
    assert answers(tiny_llada, [TEXT], draws=4, seed=6)[TEXT].log_likelihood != alone.log_likelihood


def test_letters_share_a_forward(make_llada):
    model, shapes = make_llada(), []
    model.register_forward_pre_hook(lambda _, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True)
    found = answers(model, LETTERS, greedy=True)
    assert shapes == [(1, 4)]
    logits = model(input_ids=torch.tensor([[1, 50, 60, MASK]])).logits[0, -1].detach()
    logits[MASK] = -torch.inf
    for question in LETTERS:
        token = question.response[0]
        assert found[question].log_likelihood == pytest.approx(float(logits.log_softmax(0)[token]), abs=1e-4)
        assert found[question].is_greedy == (int(logits.argmax()) == token)


def test_greedy_is_what_generate_gives(tiny_llada, make_llada):
    """One token a forward, the most certain first; one wrong token is enough."""
    prompt = torch.tensor([[1, 50, 60]])
    config = dict(decode_type="llada", steps=6, max_new_tokens=6, temperature=0.0, eos_token_id=None)
    output = tiny_llada.generate(prompt, **config, return_dict_in_generate=True)
    response, surest = tuple(output.sequences[0, 3:].tolist()), int(output.unmasked_at[0, 3:].argmin())
    right = Question((1, 50, 60), response)
    wrong = [Question((1, 50, 60), (*response[:i], response[i] + 1, *response[i + 1 :])) for i in (0, 3, 5)]
    for batch_size in (1, 4):
        found = answers(tiny_llada, [wrong[0], right, *wrong[1:]], greedy=True, draws=2, batch_size=batch_size)
        assert [found[question].is_greedy for question in (right, *wrong)] == [True, False, False, False]
    assert answers(tiny_llada, [right], draws=2)[right].is_greedy is None

    model, forwards = make_llada(), []
    model.register_forward_pre_hook(lambda *_: forwards.append(1))
    at_once = Question((1, 50, 60), (*response[:surest], response[surest] + 1, *response[surest + 1 :]))
    assert dict(LikelihoodEstimator(model, MASK).are_greedy([at_once])) == {at_once: False}
    assert len(forwards) == 1


def test_the_mask_has_no_probability(tiny_llada):
    found = answers(tiny_llada, [Question((1, 50), (MASK,)), Question((1, 50), (70, MASK))], greedy=True)
    assert [one.log_likelihood for one in found.values()] == [-math.inf, -math.inf]
    assert not any(one.is_greedy for one in found.values())


def test_chunks_and_precision(monkeypatch):
    """Half precision would tie probabilities, and chunks must fit together."""
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.arange(14).reshape(2, 7) % 11
    monkeypatch.setattr(likelihood, "CHUNK", 30)
    read = look_up(logits, targets)
    log_probs = logits.float().log_softmax(1)
    torch.testing.assert_close(read.log_p, torch.stack([log_probs[range(7), row] for row in targets]))
    torch.testing.assert_close(read.top_log_p, log_probs.max(1).values)
    assert torch.equal(read.top_token, log_probs.argmax(1))


@given(st.integers(1, 40), st.integers(1, 40).map(lambda half: 2 * half), st.integers(0, 2**56 - 1))
def test_maskings_cover_all_levels_evenly(tokens, draws, seed):
    masked, factors, exact = maskings(tokens, draws, seed)
    counts = masked.sum(1)
    assert counts.min() >= 1
    assert float((factors * counts).sum()) == pytest.approx(tokens)  # each token is expected to count once
    if exact:
        assert len({tuple(row) for row in masked.tolist()}) == len(masked) == 2**tokens - 1 <= draws
    else:
        assert len(masked) == draws < 2**tokens - 1
        lowest = torch.arange(draws) * tokens // draws + 1
        highest = -(-(torch.arange(draws) + 1) * tokens // draws)
        assert bool(((lowest <= counts) & (counts <= highest)).all())  # a stratum for each draw
        assert torch.equal(masked, maskings(tokens, draws, seed)[0])


def test_every_position_is_masked_equally_often():
    masked = torch.stack([maskings(10, 2, seed << 20)[0] for seed in range(400)]).flatten(0, 1)
    share = masked.float().mean(0)
    assert float((share - 0.55).abs().max()) < 0.08  # (1 + 10) / 2 of 10


@pytest.mark.parametrize("draws", [0, 1, 7])
def test_odd_draws_are_refused(tiny_llada, draws):
    with pytest.raises(ValueError, match=rf"`draws`={draws} must be even"):
        LikelihoodEstimator(tiny_llada, MASK, draws=draws)


def test_pairs_and_parts():
    assert estimate([1.0, 4.0, -2.0, 2.0], exact=False) == (5.0, 5.0)
    assert estimate([1.0, 4.0], exact=True) == (5.0, 0.0)
    assert total([Estimate(-1.0, 3.0, True), Estimate(-2.0, 4.0, False)]) == Estimate(-3.0, 5.0, False)
    assert total([Estimate(-1.0, 3.0), Estimate(-2.0, 4.0, True)]).is_greedy is None
