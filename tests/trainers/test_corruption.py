"""Corruption rules: equal to the recorded draws of the published implementation, and sound on draws of our own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from conv_dlm.generation import setting
from trainers import CORRUPTIONS, CorruptionRule, R2FTConfig, noise
from trainers.corruption import (
    MIN_SPAN,
    SETTINGS,
    Corruption,
    Examples,
    HoleChoices,
    NaiveChoices,
    RepeatChoices,
    choose_hole,
    choose_naive,
    choose_repeat,
    hole_repeat,
    naive,
    repeat,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "r2ft"
RECORDED = json.loads((FIXTURES / "corruptions.json").read_text())
EOS, MASK = RECORDED["eos_id"], RECORDED["mask_id"]


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return {name: value.long() for name, value in load_file(FIXTURES / "corruptions.safetensors").items()}


def config(tmp_path: Path | str = "out", **settings: Any) -> R2FTConfig:
    return R2FTConfig(output_dir=str(tmp_path), **(dict(canvas_length=64, bf16=False) | settings))


def column(draws: list[dict[str, Any]], key: str) -> torch.Tensor:
    return torch.tensor([-1 if row[key] is None else row[key] for row in draws])


def recorded_examples(golden: dict[str, torch.Tensor], name: str, draws: list[dict[str, Any]]) -> Examples:
    ids = golden[f"{name}.x0"]
    start = column(draws, "prompt_length")
    return Examples(
        ids_BL=ids,
        response_BL=golden[f"{name}.attention_mask"].bool(),
        start_B=start,
        end_B=start + column(draws, "response_length"),
        length_B=torch.full((len(ids),), ids.shape[1]),
    )


def assert_as_recorded(golden: dict[str, torch.Tensor], name: str, corruption: Corruption) -> None:
    """The three texts of the released code: x_t, x_b (masks where nothing is repeated), and the mask of its loss."""
    ids = golden[f"{name}.x0"]
    noisy = ids.masked_fill(corruption.masked_BL, MASK)
    assert torch.equal(noisy, golden[f"{name}.xt"])
    assert torch.equal(corruption.rejected_BL.where(corruption.rejects_BL, noisy), golden[f"{name}.xb"])


# Parity


@pytest.mark.parametrize("name", [name for name in RECORDED["rules"] if name.startswith("repeat.")])
def test_repeat_equals_the_published_rule(golden, name):
    rule = RECORDED["rules"][name]
    draws = rule["draws"]
    examples = recorded_examples(golden, name, draws)
    choices = RepeatChoices(*(column(draws, key) for key in ("c", "g", "z", "shift", "eos_position")))
    corruption = repeat(examples, choices, eos_token_id=EOS, longer_than_x0=rule["repeat_longer_than_x0"])
    assert torch.equal(corruption.rejects_BL, golden[f"{name}.repeat_mask"].bool())
    assert_as_recorded(golden, name, corruption)
    assert torch.equal(corruption.chosen_count_B, golden[f"{name}.attention_mask"].sum(1))
    assert torch.equal(corruption.rejected_count_B, golden[f"{name}.repeat_mask"].sum(1))


def test_naive_equals_the_published_rule(golden):
    draws = RECORDED["rules"]["naive"]["draws"]
    examples = recorded_examples(golden, "naive", draws)
    segment = torch.tensor([row["segment"] for row in draws])
    choices = NaiveChoices(segment[:, 0], segment[:, 1], column(draws, "shift"), column(draws, "extension"))
    corruption = naive(examples, choices)
    assert torch.equal(corruption.rejects_BL, golden["naive.repeat_mask"].bool())
    assert_as_recorded(golden, "naive", corruption)


@pytest.mark.parametrize("name", ["in_mask_repeat", "out_mask_repeat", "pretrain_batch"])
def test_hole_rules_equal_the_published_ones(golden, name):
    draws = [{"rule": name, "side": "left"} | row for row in RECORDED["rules"][name]["draws"]]
    ids = golden[f"{name}.x0"]
    length = torch.full((len(ids),), ids.shape[1])
    examples = Examples(ids, torch.ones_like(ids).bool(), torch.zeros_like(length), length, length)
    inside = [row["rule"] == "in_mask_repeat" for row in draws]
    phrase, shift = [], []
    for row in draws:
        inner = row.get("phase_length", 1)
        sides = [inner, 1] if row["side"] == "left" else [1, inner]  # the other side's phrase is not used
        phrase.append([row.get("left_phase_length", sides[0]), row.get("right_phase_length", sides[1])])
        shift.append([row.get("left_shift", 0), row.get("right_shift", 0)])
    choices = HoleChoices(
        column(draws, "left"),
        column(draws, "right"),
        torch.tensor(inside),
        torch.tensor([row["side"] == "left" for row in draws]),
        torch.tensor(phrase),
        torch.tensor(shift),
    )
    corruption = hole_repeat(examples, choices, over_sequence=False)
    assert torch.equal(corruption.masked_BL, golden[f"{name}.mask"].bool())
    assert_as_recorded(golden, name, corruption)
    assert torch.equal(corruption.rejected_count_B, golden[f"{name}.mask"].sum(1))
    over_sequence = hole_repeat(examples, choices, over_sequence=True)
    assert over_sequence.chosen_count_B.unique().tolist() == [ids.shape[1]]


# Draws of our own


def random_examples(seed: int, rows: int, prompt: int, response: int, canvas: int) -> Examples:
    """Rows of several lengths, padded to the longest, whose tokens are all different."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(1, prompt + 1, (rows,), generator=generator)
    end = start + torch.randint(1, response + 1, (rows,), generator=generator)
    length = end + torch.randint(1, canvas + 1, (rows,), generator=generator)
    positions = torch.arange(int(length.max()))
    ids = (100 + positions).expand(rows, -1)
    behind = (positions >= end[:, None]) & (positions < length[:, None])
    response_mask = (positions >= start[:, None]) & (positions <= end[:, None])
    return Examples(ids.masked_fill(behind, EOS), response_mask, start, end, length)


def uniform(seed: int, rows: int, slots: int) -> torch.Tensor:
    return noise.uniform(noise.row_seeds(seed, 0, torch.arange(rows)), noise.CORRUPTION, slots)


examples_of_any_shape = st.builds(
    random_examples,
    st.integers(0, 10**6),
    rows=st.just(7),
    prompt=st.integers(1, 20),
    response=st.integers(1, 60),
    canvas=st.integers(1, 60),
)


@given(examples_of_any_shape, st.integers(0, 10**6), st.booleans(), st.sampled_from([0.0, 1.0]))
def test_repeat_on_any_canvas(examples: Examples, seed: int, longer: bool, eos_p: float):
    args = config(repeat_longer_than_x0=longer, eos_p=eos_p)
    choices = choose_repeat(examples, uniform(seed, 7, 6), args)
    corruption = repeat(examples, choices, eos_token_id=EOS, longer_than_x0=longer)
    for row in range(7):
        start, end, length = (int(bound[row]) for bound in (examples.start_B, examples.end_B, examples.length_B))
        cut, phrase, span, eos_at = (
            int(choice[row]) for choice in (choices.cut_B, choices.phrase_B, choices.span_B, choices.eos_at_B)
        )
        assert start <= cut < end
        assert 1 <= phrase <= min(14, cut)
        assert MIN_SPAN <= span < args.max_z
        stop = min(length, cut + span)
        stop = max(stop, end) if longer else stop
        assert corruption.masked_BL[row].nonzero().flatten().tolist() == list(range(cut, length))
        assert corruption.rejects_BL[row].nonzero().flatten().tolist() == list(range(cut, stop))
        repeated = corruption.rejected_BL[row, cut:stop].tolist()
        assert (eos_at == -1) == (eos_p == 0 or stop - cut == 1)
        if eos_at >= 0:
            assert cut <= eos_at < stop - 1
            assert repeated.pop(eos_at - cut) == EOS
        source = examples.ids_BL[row, cut - phrase : cut].tolist()
        assert set(repeated) <= set(source)
        if eos_at < 0:
            assert all(a == b for a, b in zip(repeated, repeated[phrase:], strict=False))
            assert set(repeated[:phrase]) == set(source) or stop - cut < phrase


@given(examples=examples_of_any_shape, seed=st.integers(0, 10**6))
def test_naive_on_any_canvas(examples: Examples, seed: int):
    examples = Examples(
        examples.ids_BL, examples.response_BL, examples.start_B.clamp(min=2), examples.end_B + 2, examples.length_B + 2
    )
    padded = torch.cat([examples.ids_BL, torch.full((7, 2), EOS)], 1)
    examples = Examples(
        padded, torch.cat([examples.response_BL, torch.zeros(7, 2).bool()], 1),
        examples.start_B, examples.end_B, examples.length_B,
    )  # fmt: skip
    choices = choose_naive(examples, uniform(seed, 7, 4))
    corruption = naive(examples, choices)
    assert (choices.phrase_start_B >= 1).all()
    assert (choices.phrase_end_B > choices.phrase_start_B).all()
    assert (choices.phrase_end_B <= examples.start_B).all()
    assert (choices.shift_B < choices.phrase_end_B - choices.phrase_start_B).all()
    assert ((examples.end_B + choices.extension_B) <= examples.length_B).all()
    assert torch.equal(corruption.masked_BL, examples.within(examples.start_B, examples.length_B))


@given(seed=st.integers(0, 10**6), length=st.integers(12, 70), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_hole_rules_on_any_length(seed: int, length: int, share: float):
    lengths = torch.tensor([length, 12, length + 9])
    ids = (100 + torch.arange(int(lengths.max()))).expand(3, -1)
    examples = Examples(ids, torch.ones_like(ids).bool(), torch.zeros_like(lengths), lengths, lengths)
    choices = choose_hole(examples, uniform(seed, 3, 8), 14, share)
    corruption = hole_repeat(examples, choices, over_sequence=False)
    assert share == 0.5 or choices.inside_B.unique().tolist() == [share == 1.0]
    for row, whole in enumerate(lengths.tolist()):
        left, right = int(choices.left_B[row]), int(choices.right_B[row])
        assert 5 <= left < right <= whole - 6
        hole = set(range(left, right))
        masked = hole if choices.inside_B[row] else set(range(whole)) - hole
        assert set(corruption.masked_BL[row].nonzero().flatten().tolist()) == masked
        assert set(corruption.rejects_BL[row].nonzero().flatten().tolist()) == masked - {0, whole - 1}
        visible = {int(ids[row, i]) for i in set(range(whole)) - masked}
        repeated = corruption.rejected_BL[row][corruption.rejects_BL[row]].tolist()
        assert set(repeated) <= visible - {100, 100 + whole - 1}


def test_phrases_and_cuts_reach_their_extremes():
    examples = random_examples(0, 1, 20, 40, 60)
    many = Examples(*(getattr(examples, name).expand(3000, *getattr(examples, name).shape[1:]) for name in (
        "ids_BL", "response_BL", "start_B", "end_B", "length_B")))  # fmt: skip
    choices = choose_repeat(many, uniform(1, 3000, 6), config())
    assert set(choices.cut_B.tolist()) == set(range(int(examples.start_B), int(examples.end_B)))
    assert (choices.phrase_B.min(), choices.phrase_B.max()) == (1, 14)
    assert (choices.span_B.min(), choices.span_B.max()) == (30, 49)
    assert (choices.shift_B >= choices.phrase_B).sum() == 0
    some = choose_repeat(many, uniform(1, 3000, 6), config(eos_p=0.25)).eos_at_B >= 0
    assert some.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_a_row_does_not_depend_on_its_batch():
    examples = random_examples(5, 6, 20, 40, 60)
    rule = config().corruption_rule()
    seeds = noise.row_seeds(0, 0, torch.arange(6))
    together = rule(examples, lambda n: noise.uniform(seeds, noise.CORRUPTION, n), EOS)
    for row in range(6):
        length = int(examples.length_B[row])
        alone = Examples(
            examples.ids_BL[row : row + 1, :length], examples.response_BL[row : row + 1, :length],
            examples.start_B[row : row + 1], examples.end_B[row : row + 1], examples.length_B[row : row + 1],
        )  # fmt: skip
        single = rule(alone, lambda n, row=row: noise.uniform(seeds[row : row + 1], noise.CORRUPTION, n), EOS)
        assert torch.equal(single.masked_BL[0], together.masked_BL[row, :length])
        rejects = single.rejects_BL[0]
        assert torch.equal(rejects, together.rejects_BL[row, :length])
        assert torch.equal(single.rejected_BL[0][rejects], together.rejected_BL[row, :length][rejects])


# Names and bad input


def test_a_phrase_longer_than_what_stands_before_the_cut_is_named():
    examples = random_examples(0, 2, 5, 9, 9)
    cut = torch.tensor([3, 2])
    phrase, span, zero = torch.tensor([3, 4]), torch.tensor([30, 30]), torch.tensor([0, 0])
    choices = RepeatChoices(cut, phrase, span, zero, zero - 1)
    with pytest.raises(ValueError, match=r"phrase_B\[1\]=4.*cut at 2"):
        repeat(examples, choices, eos_token_id=EOS, longer_than_x0=False)


def test_a_rule_of_ones_own_is_chosen_by_name_and_has_settings_of_its_own():
    @CORRUPTIONS.register("mine")
    @dataclass(frozen=True)
    class Mine(CorruptionRule):
        max_phrase_length: int = CORRUPTIONS["repeat"].settings()["max_phrase_length"].field()
        my_share: float = setting(0.5, "of something", low=0, high=1)

    try:
        rule = config(corruption="mine", canvas_length=None, max_phrase_length=3).corruption_rule()
        assert rule == Mine(3, 0.5)
        own = {"my_share": 0.25}
        assert config(corruption="mine", canvas_length=None, corruption_kwargs=own).corruption_rule().my_share == 0.25
        as_json = config(corruption="mine", canvas_length=None, corruption_kwargs='{"my_share": 0.75}')
        assert as_json.corruption_rule().my_share == 0.75
        with pytest.raises(ValueError, match="`my_share`=2 must be between 0 and 1"):
            config(corruption="mine", canvas_length=None, corruption_kwargs={"my_share": 2})
        with pytest.raises(ValueError, match="has 'my_shrae', and `corruption='mine'` has the settings"):
            config(corruption="mine", canvas_length=None, corruption_kwargs={"my_shrae": 1})
        with pytest.raises(ValueError, match="corruption rule 'repeat' exists already"):
            CORRUPTIONS.register("repeat", CORRUPTIONS["naive"])
    finally:
        del CORRUPTIONS["mine"], SETTINGS["my_share"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corruption": "repaet"}, "corruption='repaet'.*'repeat', 'naive'"),
        ({"max_z": 30}, "`max_z`=30"),
        ({"max_phrase_length": 0}, "`max_phrase_length`=0"),
        ({"eos_p": 1.1}, r"`eos_p`=1\.1"),
        ({"beta_l": -1.0}, "beta_l=-1"),
        ({"gamma": float("nan")}, "gamma=nan"),
        ({"denominator": "length"}, "`denominator='length'`"),
        ({"loss_cover": "eos"}, "loss_cover='eos'"),
        ({"loss_norm": "sequence"}, "loss_norm='sequence'"),
        ({"masking": "window"}, "masking='window'"),
        ({"loss_weights": "uniform"}, "loss_weights='uniform'"),
        ({"canvas_length": None}, "canvas_length"),
        ({"packing": True}, "packing=True"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)
