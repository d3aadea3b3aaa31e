"""What holds for every decode type, over random shapes, kernels and seeds."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conv_dlm.generation import DECODE_TYPES, UNMASKING_RULES, UnmaskingRule, noise
from conv_dlm.generation.candidates import draw_candidates
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.ancestral import global_norm, unmask_probability
from conv_dlm.generation.parts.position_weights import convolution_weights
from conv_dlm.generation.parts.rules import RANKINGS
from tests.generation.test_assisted import random_causal
from trainers.unmasking_filter import new_filter
from trainers.unmasking_policy import new_policy

MASK, EOS, PAD = 3, 2, 0
NUMBERS = {
    "threshold": 1, "factor": 5, "entropy_bound": 9, "klass_threshold": 0.1, "kl_threshold": 1, "credit_weight": 5,
    "relaxed_threshold": 1, "low_threshold": 0.1, "remask_threshold": 0.1, "wino_threshold": 0.1,
    "verify_threshold": 0.2,
    "multiblock_entropy": 9, "block_add_threshold": 1, "decoded_token_threshold": 1, "editing_threshold": 0.1,
    "length_confidence": 0.02, "insert_confidence": 0.02, "unsure_below": 0.05,
    "cycle_threshold": 0.1, "cycle_deviation": 3, "branch_share": 1, "branch_memory": 1,
}  # fmt: skip
COUNTS = (
    "draft_steps", "saber_tokens", "history_length", "flight_length", "editing_tokens", "max_post_steps",
    "initial_length", "eos_check_tokens", "expansion_factor", "editing_steps", "exploration_steps", "cycle_estimates",
    "draft_length", "accept_top_k", "min_per_step", "branching_factor",
)  # fmt: skip
QUICK = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def runs(draw, decode_type=None):
    """Prompts of different lengths (some with masks inside) and settings of a decode type, or of any."""
    decode_type = decode_type or draw(st.sampled_from(sorted(DECODE_TYPES)))
    rule = UNMASKING_RULES[DECODE_TYPES[decode_type].rule]
    text = st.integers(4, 259)
    prompts = draw(
        st.lists(st.lists(st.one_of(text, text, st.just(MASK)), min_size=1, max_size=9), min_size=2, max_size=3)
    )
    first = [draw(text)] if rule.assisted else []  # a causal model begins with text
    prompts = [[*first, *prompt, draw(text)] for prompt in prompts]
    new_tokens = draw(st.one_of(st.just(9), st.integers(1, 24)))  # the first one is what examples begin with
    fields = DECODE_TYPES[decode_type].fields
    keywords = dict(decode_type=decode_type, max_new_tokens=new_tokens, eos_fill=draw(st.booleans()))
    if rule.own_scores:
        del keywords["eos_fill"]
    if "steps" in fields:
        keywords["steps"] = draw(st.integers(4, 40))
    if "kernel_size" in fields:
        keywords["kernel_size"] = draw(st.integers(2, 40))
    if "block_length" in fields:
        one_each = "steps" in fields and decode_type != "slide"  # blocks need a step each
        least = -(-(new_tokens + 9) // keywords["steps"]) if one_each else 1
        keywords["block_length"] = draw(st.integers(least, 30))
    for name, most in NUMBERS.items():
        if name in fields:
            keywords[name] = draw(st.floats(0, most))
    for name in COUNTS:
        if name in fields:
            keywords[name] = draw(st.integers(2, 9))
    if "ranked_by" in fields:
        keywords["ranked_by"] = draw(st.sampled_from(RANKINGS))
    if draw(st.booleans()) and not rule.greedy:
        keywords["top_k"] = draw(st.integers(0, 6))
    if draw(st.booleans()) and not rule.greedy:
        keywords["temperature"] = draw(st.sampled_from([0.0, 0.5, 1.0, 1.7]))
    if draw(st.booleans()):
        keywords["guidance_scale"] = draw(st.sampled_from([0.5, 2.0]))
    if draw(st.booleans()):
        keywords |= draw(shortcuts(decode_type, keywords))
    return prompts, keywords, draw(st.integers(0, 2**31))


@st.composite
def shortcuts(draw, decode_type, keywords):
    """Caches, early ends and lookaheads that go with this decode type."""
    parts = DECODE_TYPES[decode_type]
    rule = UNMASKING_RULES[parts.rule]
    remasks, found = rule.remasks, {}
    if rule.own_scores:
        return found
    varies = rule.first_end is not UnmaskingRule.first_end or rule.sight is not UnmaskingRule.sight
    in_blocks = parts.weights == "block" and (not remasks or rule.within_block)
    kept = [None, "window", *(["prefix", "dual"] if in_blocks else [])]
    cache = draw(st.sampled_from(kept)) if rule.extra is UnmaskingRule.extra else None
    if cache is not None:
        found["cache_implementation"] = cache
    if cache == "window":
        found |= dict(cache_refresh_interval=draw(st.integers(1, 9)), cache_margin=draw(st.integers(0, 5)))
    if varies:
        return found
    if not remasks and draw(st.booleans()):
        found["eos_threshold"] = draw(st.floats(0, 0.2))
    reach = keywords.get("kernel_size", 0) // 2 or keywords.get("block_length")
    if reach is not None and draw(st.booleans()):
        found["lookahead"] = draw(st.integers(reach or 1, 40))
    elif not remasks and draw(st.booleans()):
        found |= dict(exit_schedule=draw(st.sampled_from(["linear", "cosine", "exponential", "staged"])))
        found |= dict(exit_high=draw(st.floats(1, 3)), exit_low=1.0, exit_patience=draw(st.booleans()))
    return found


def batch(prompts):
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return ids, mask


def generate(model, prompts, keywords, seeds):
    ids, mask = batch(prompts)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    keywords = keywords | dict(generator=generators, return_dict_in_generate=True, output_history=True)
    return model.generate(ids, attention_mask=mask, **keywords | assistance(model, keywords))


def assistance(model, keywords):
    """A causal model for the types that need one, and weights for rules that have some of their own."""
    rule, random = UNMASKING_RULES[DECODE_TYPES[keywords["decode_type"]].rule], torch.Generator().manual_seed(0)
    if rule.head is not None:
        model.unmasking_heads = {
            "unmasking_filter": new_filter(30, 8, random), "unmasking_policy": new_policy(16, 0.01, 100.0, random),
        }  # fmt: skip
    return {"assistant_model": random_causal()} if rule.assisted else {}


@pytest.mark.parametrize("decode_type", sorted(DECODE_TYPES))
@settings(QUICK, max_examples=2)
@given(data=st.data())
def test_prompt_is_untouched_no_mask_is_left_and_rows_are_on_their_own(tiny_llada, decode_type, data):
    prompts, keywords, seed = data.draw(runs(decode_type))
    out = generate(tiny_llada, prompts, keywords, range(seed, seed + len(prompts)))
    check_text(out, *batch(prompts))
    width = max(map(len, prompts))
    for row, prompt in enumerate(prompts):
        alone = generate(tiny_llada, [prompt], keywords, [seed + row])
        start = width - len(prompt)
        assert torch.equal(alone.sequences[0], out.sequences[row, start:])
        assert torch.equal(alone.unmasked_at[0], out.unmasked_at[row, start:])
        assert alone.forwards[0] == out.forwards[row]


def check_text(out, ids, mask):
    """The prompt stays what it was, and the response is tokens up to an end token, then pad."""
    given_text = (ids != MASK) & mask.bool()
    assert torch.equal(out.sequences[:, : ids.shape[1]][given_text], ids[given_text])
    assert not (out.sequences == MASK).any()
    assert (out.unmasked_at[:, : ids.shape[1]][given_text] == -1).all()
    assert (out.history[:, :, : ids.shape[1]][:, given_text] == ids[given_text]).all()
    ends = (out.sequences[:, ids.shape[1] :] == EOS).int().cumsum(1)
    assert (out.sequences[:, ids.shape[1] :][(ends > 0) & (out.sequences[:, ids.shape[1] :] != EOS)] == PAD).all()
    assert (ends[:, -1:] <= 1).all()


@settings(QUICK, max_examples=6)
@given(runs())
def test_same_generator_same_text(tiny_llada, run):
    prompts, keywords, seed = run
    ids, mask = batch(prompts)

    def text():
        more = {"generator": torch.Generator().manual_seed(seed), **assistance(tiny_llada, keywords)}
        return tiny_llada.generate(ids, attention_mask=mask, **keywords, **more)

    assert torch.equal(text(), text())


@st.composite
def states(draw):
    """Scores and a canvas with at least one known and one masked position in each row."""
    rows, length, vocabulary = draw(st.integers(1, 3)), draw(st.integers(2, 60)), draw(st.integers(5, 40))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    undecided = torch.rand(rows, length, generator=random) < draw(st.floats(0.1, 0.95))
    undecided[:, 0], undecided[:, -1] = False, True
    scores = torch.randn(rows * length, vocabulary, generator=random) * draw(st.floats(0.1, 5))
    scores[:, 3] = -torch.inf
    return scores, undecided, draw(st.integers(1, vocabulary - 1)), draw(st.integers(2, 80))


@QUICK
@given(states(), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_token_weight_of_a_step_is_conserved(state, t, share):
    """The total token weight is |U| (t - s), for conv as for top-k."""
    scores, undecided, top_k, kernel = state
    s = t * (1 - share)
    mass = draw_candidates(scores, top_k, 1.0, torch.zeros(len(scores))).tempered_mass.view(undecided.shape)
    for weights in (torch.ones_like(mass), convolution_weights(~undecided, kernel)):
        reachable = (undecided & (weights > 0)).any(1)
        token_weight = mass * weights * (global_norm(mass, weights, undecided) * (t - s))[:, None]
        total = (token_weight * undecided).sum(1)
        torch.testing.assert_close(total[reachable], (undecided.sum(1) * (t - s))[reachable], rtol=1e-4, atol=1e-6)


@QUICK
@given(states())
def test_expected_commits_of_conv_are_close_to_topk_and_not_more(state):
    """w / (w + s) is concave in w, so the same total weight on fewer positions decides fewer of them."""
    scores, undecided, _, kernel = state
    mass = draw_candidates(scores, 0, 1.0, torch.zeros(len(scores))).tempered_mass.view(undecided.shape)
    t, s = 0.6, 0.5

    def expected(weights):
        token_weight = mass * weights * (global_norm(mass, weights, undecided) * (t - s))[:, None]
        return (unmask_probability(token_weight, torch.tensor(s), 1.0) * undecided).sum(1)

    everywhere, near = expected(torch.ones_like(mass)), expected(convolution_weights(~undecided, kernel))
    torch.testing.assert_close(everywhere, undecided.sum(1) * (t - s) / t)
    assert (near <= everywhere * (1 + 1e-4)).all()


@pytest.mark.parametrize("seed", range(3))
def test_kernel_with_much_known_text_in_reach_reduces_conv_to_topk(tiny_llada, seed):
    prompt = torch.randint(4, 260, (2, 16), generator=torch.Generator().manual_seed(seed))
    common = dict(attention_mask=torch.ones_like(prompt), steps=8, max_new_tokens=24, top_k=3)

    def text(**keywords):
        return tiny_llada.generate(prompt, generator=torch.Generator().manual_seed(seed), **common, **keywords)

    assert torch.equal(text(decode_type="conv", kernel_size=80), text(decode_type="topk"))
    assert not torch.equal(text(decode_type="conv", kernel_size=3), text(decode_type="topk"))


@pytest.mark.parametrize("seed", range(3))
def test_one_block_reduces_semi_ar_to_full_diffusion(tiny_llada, seed):
    prompt = torch.randint(4, 260, (2, 6), generator=torch.Generator().manual_seed(seed))

    def text(**keywords):
        return tiny_llada.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generator=torch.Generator().manual_seed(seed),
            steps=8,
            max_new_tokens=24,
            **keywords,
        )

    assert torch.equal(text(decode_type="semi_ar", block_length=24), text(decode_type="topk"))
    assert not torch.equal(text(decode_type="semi_ar", block_length=6), text(decode_type="topk"))


def test_drawn_tokens_follow_the_tempered_probabilities():
    scores = torch.tensor([0.0, 1.0, -torch.inf, 2.0, 0.5])
    noise_grid = (torch.arange(4000) + 0.5) / 4000
    for top_k, temperature in ((0, 1.0), (0, 0.5), (2, 1.0), (3, 2.0)):
        drawn = draw_candidates(scores.expand(4000, 5), top_k, temperature, noise_grid)
        kept = torch.zeros(5).index_fill(0, scores.topk(top_k or 5).indices, 1.0)
        expected = (scores.softmax(0) * kept) ** (1 / temperature)
        frequency = torch.bincount(drawn.token, minlength=5) / 4000
        torch.testing.assert_close(frequency, expected / expected.sum(), atol=1e-3, rtol=0)
        torch.testing.assert_close(drawn.confidence, scores.softmax(0)[drawn.token])


def test_tempered_mass():
    scores = torch.tensor([[0.0, 1.0, -torch.inf, 2.0, 0.5]])
    probs = scores.softmax(-1)[0].sort(descending=True).values
    for top_k, temperature in ((0, 0.5), (2, 1.0), (3, 2.0), (3, 0.01), (3, 0.0)):
        kept = probs[: top_k or 5]
        found = draw_candidates(scores, top_k, temperature, torch.zeros(1))
        expected = (kept ** (1 / temperature)).sum() ** temperature if temperature >= 0.5 else probs[0]
        torch.testing.assert_close(found.tempered_mass[0], expected, rtol=2e-2 if temperature == 0.01 else 1e-5, atol=0)
        torch.testing.assert_close(found.mass[0], kept.sum())


@pytest.mark.parametrize("decode_type", ["topk", "semi_ar", "slide", "categorical"])
def test_the_last_step_of_a_process_leaves_nothing_within_reach(tiny_llada, decode_type):
    """A high temperature gives the mask's last weight of 1e-5 a fair chance."""
    keywords = dict(decode_type=decode_type, steps=2, max_new_tokens=200, eos_token_id=None, temperature=4.0)
    out = generate(tiny_llada, [[5, 6, 7]], keywords, [0])
    assert out.unmasked_at.max() == 1 and int(out.forwards) == 2


def test_noise_is_uniform_and_belongs_to_seed_step_slot_and_purpose():
    seeds = noise.row_seeds(torch.Generator().manual_seed(0), 64, torch.device("cpu"))
    slots = torch.arange(512).expand(64, -1)
    draws = torch.stack([noise.uniform(seeds, step, slots, purpose) for step in range(4) for purpose in range(3)])
    assert draws.min() >= 0 and draws.max() < 1
    counts = torch.histc(draws, bins=100, min=0, max=1)
    chi_square = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
    assert chi_square < 99 + 4 * (2 * 99) ** 0.5
    flat = draws.flatten(1)
    correlation = torch.corrcoef(flat)
    assert float((correlation - torch.eye(len(flat))).abs().max()) < 5 / flat.shape[1] ** 0.5
    assert float(torch.corrcoef(draws[0]).fill_diagonal_(0).abs().max()) < 6 / 512**0.5
    assert torch.equal(noise.uniform(seeds[5:6], 2, slots[:1, 100:], 1), noise.uniform(seeds, 2, slots, 1)[5:6, 100:])


def test_slots_do_not_depend_on_padding():
    alone = Canvas.from_prompt(torch.tensor([[9, MASK, 8]]), 4, MASK)
    padded = Canvas.from_prompt(
        torch.tensor([[PAD, PAD, 9, MASK, 8]]), 4, MASK, torch.tensor([[True, True, False, False, False]])
    )
    assert torch.equal(alone.mask_index, padded.mask_index[:, 2:])
    assert alone.mask_index.tolist() == [[-1, 0, -1, 1, 2, 3, 4]]
