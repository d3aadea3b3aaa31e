"""Rules that go at their own pace, against their definitions written out for one row."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm import DECODE_TYPES, DecodeType
from conv_dlm.generation import UNMASKING_RULES
from conv_dlm.generation.candidates import draw_candidates
from conv_dlm.generation.parts.confidence import above_threshold, within_entropy_bound, within_factor
from conv_dlm.generation.parts.statistics import Entropy, Margin

OWN_PACE = sorted(
    name
    for name, parts in DECODE_TYPES.items()
    if "steps" not in parts.fields
    and not ((rule := UNMASKING_RULES[parts.rule]).remasks or rule.reads_end or not rule.is_alone())
)
QUICK = settings(max_examples=150, deadline=None, derandomize=True)
ones = torch.ones(1, 3, dtype=torch.long)


@st.composite
def rows(draw):
    """Scores of one to three rows and which positions are eligible, some row perhaps without any."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    values = st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.62, 0.7, 0.71, 0.9, 0.95, 1.0])
    score = [[draw(values) for _ in range(shape[1])] for _ in range(shape[0])]
    eligible = [[draw(st.booleans()) for _ in range(shape[1])] for _ in range(shape[0])]
    return torch.tensor(score), torch.tensor(eligible)


def ranked(score, eligible, sign):
    """Positions of a row from the best to the worst, the left one first among equals."""
    places = [place for place, is_eligible in enumerate(eligible) if is_eligible]
    return sorted(places, key=lambda place: (sign * float(score[place]), place))


def check(found, score, eligible, sign, count):
    for row in range(len(score)):
        order = ranked(score[row], eligible[row], sign)
        wanted = order[: max(1, count([float(score[row][place]) for place in order]))]
        assert found[row].nonzero().flatten().tolist() == sorted(wanted)


@QUICK
@given(rows(), st.sampled_from([0.0, 0.3, 0.7, 0.9, 1.0]))
def test_threshold(state, threshold):
    found = above_threshold(*state, threshold)
    check(found, *state, -1, lambda best: sum(score >= torch.tensor(threshold) for score in best))


@QUICK
@given(rows(), st.sampled_from([0.0, 0.5, 1.0, 1.7, 4.0]))
def test_factor(state, factor):
    """The largest n with c_(n) >= 1 - f / (n + 1); a last candidate that fails by itself is not taken along."""

    def count(best):
        fits = [n for n, score in enumerate(best, 1) if torch.tensor(score) >= 1 - factor / (n + 1)]
        return max(fits, default=1)

    check(within_factor(*state, factor), *state, -1, count)


@QUICK
@given(rows(), st.sampled_from([0.0, 0.04, 0.35, 0.8, 3.0]))
def test_entropy_bound(state, bound):
    def count(best):
        entropies = torch.tensor(best)
        return sum(bool(entropies[:n].sum() - entropies[n - 1] <= bound) for n in range(1, len(best) + 1))

    score, eligible = state
    found = within_entropy_bound(score, eligible, bound)
    for row in range(len(score)):
        order = ranked(score[row], eligible[row], 1)
        best = score[row][order].cumsum(0) - score[row][order]
        wanted = order[: max(1, int((best <= bound).sum()))]
        assert found[row].nonzero().flatten().tolist() == sorted(wanted)


def test_entropy_is_that_of_the_whole_vocabulary_and_the_margin_that_of_the_scores():
    scores = torch.tensor([[0.0, 1.0, -torch.inf, 3.0], [2.0, 2.0, 2.0, 2.0]])
    found = {**Entropy()(scores, None), **Margin()(scores, None)}
    p = scores[0].softmax(0)
    assert float(found["entropy"][0]) == pytest.approx(float(-(p[[0, 1, 3]] * p[[0, 1, 3]].log()).sum()))
    assert float(found["entropy"][1]) == pytest.approx(float(torch.tensor(4.0).log()))
    assert found["margin"].tolist() == [2.0, 0.0] and int(found["best"][0]) == 3


def test_best_tokens_are_known_beside_drawn_ones():
    scores = torch.tensor([[0.0, 1.0, 3.0]]).expand(64, 3)
    drawn, margin = draw_candidates(scores, 0, 2.0, torch.arange(64) / 64), Margin()(scores, None)
    assert (margin["best"] == 2).all() and set(drawn.token.tolist()) == {0, 1, 2}
    torch.testing.assert_close(margin["best_log_prob"], scores.log_softmax(-1)[:, 2])


@pytest.mark.parametrize("decode_type", OWN_PACE)
def test_every_step_decides_something_in_every_unfinished_row(tiny_llada, decode_type):
    prompts = torch.tensor([[1, 40, 50], [1, 3, 60]])
    out = tiny_llada.generate(
        prompts, attention_mask=torch.ones_like(prompts), decode_type=decode_type, max_new_tokens=20,
        eos_token_id=None, return_dict_in_generate=True, output_history=True,
    )  # fmt: skip
    masks = (out.history == 3).sum(2)
    for row in range(2):
        left = masks[: int((masks[:, row] > 0).sum()) + 1, row]
        assert (left.diff() < 0).all() and int(left[-1]) == 0
        assert int(out.forwards[row]) == len(left) - 1


def test_blocks_follow_each_other_at_the_pace_of_each_row(tiny_llada):
    prompts = torch.tensor([[1, 40, 50], [1, 44, 60]])
    out = tiny_llada.generate(
        prompts, attention_mask=torch.ones_like(prompts), decode_type="threshold", threshold=0.15, block_length=5,
        max_new_tokens=20, eos_token_id=None, return_dict_in_generate=True,
    )  # fmt: skip
    for row in out.unmasked_at[:, 3:]:
        blocks = row.view(4, 5)
        assert all(before.max() < after.min() for before, after in itertools.pairwise(blocks))
    assert int(out.forwards[0]) != int(out.forwards[1])


def test_a_threshold_is_on_confidence_times_weight(tiny_llada):
    """At the rim of the kernel one known neighbour gives tanh(1) = 0.76: even a certain token does not reach 0.9."""
    settings = dict(decode_type="conv_threshold", kernel_size=2, threshold=0.0, max_new_tokens=4, eos_token_id=None)
    prompt = torch.tensor([[1, 40]])
    low = tiny_llada.generate(prompt, attention_mask=ones[:, :2], return_dict_in_generate=True, **settings)
    assert low.unmasked_at[0, 2:].tolist() == [0, 1, 2, 3]  # one in reach at a time, whatever the threshold
    wide = settings | dict(kernel_size=8)
    assert tiny_llada.generate(prompt, attention_mask=ones[:, :2], return_dict_in_generate=True, **wide).unmasked_at[
        0, 2:
    ].tolist() == [0, 0, 0, 0]


def test_a_window_that_slides_by_steps_needs_steps():
    with pytest.raises(ValueError, match="'slide' moves by the steps"):
        DecodeType("slide", "threshold", "impossible")


def test_a_step_unmasks_as_many_as_one_says_at_least(tiny_llada):
    prompt = torch.tensor([[1, 40, 50, 60], [1, 44, 45, 46]])
    out = tiny_llada.generate(
        prompt, attention_mask=torch.ones_like(prompt), decode_type="threshold", threshold=1.0, min_per_step=3,
        max_new_tokens=10, eos_token_id=None, return_dict_in_generate=True,
    )  # fmt: skip
    for row in out.unmasked_at[:, 4:]:
        assert row.bincount().tolist() == [3, 3, 3, 1]


@pytest.mark.parametrize("decode_type", ["d2f", "lopa"])
def test_blocks_that_are_not_open_are_out_of_sight(tiny_llada, decode_type):
    """Of the canvas and of every branch, where attention goes both ways: a query sees prompt and open blocks alone."""
    seen = []

    def look(module, args, kwargs):
        length, mask = kwargs["input_ids"].shape[1], kwargs.get("attention_mask")
        seen.append(length if mask is None else int(mask.sum(-1).max()))

    handle = tiny_llada.register_forward_pre_hook(look, with_kwargs=True)
    try:
        settings = {"flight_length": 4, "threshold": 0.2, "block_add_threshold": 0.5, "max_new_tokens": 24}
        tiny_llada.generate(torch.tensor([[1, 40, 50]]), decode_type=decode_type, eos_token_id=None, **settings)
    finally:
        handle.remove()
    assert seen == sorted(seen) and set(seen) == {3 + 4 * opened for opened in range(1, 7)}
