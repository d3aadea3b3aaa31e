"""Differences of settings, by hand: prompt by prompt, on the prompts that both have."""

from typing import Any

import pytest

from benchmarks.decoding_study.differences import differences, to_markdown, with_blocks, with_type, with_unvaried
from benchmarks.decoding_study.table import Measures
from conv_dlm.evaluation.statistics import mean_with_error


def sample(
    decode_type: str, index: int, length: int, seed: int = 0, size: int | None = None, varied: str = ""
) -> dict[str, Any]:
    """A response of `length` tokens, all the same."""
    key = {"decode_type": decode_type, "steps": 4, "size": size, "varied": varied, "seed": seed, "index": index}
    return key | {"ids": [65] * length, "ended": True, "forwards": 4, "seconds": 1.0}


def test_prompts_are_compared_one_by_one(tiny_tokenizer: Any) -> None:
    samples = [sample("topk", index, 10 * index + 4, seed) for index in range(3) for seed in range(2)]
    samples += [sample("conv", index, 10 * index + 5 + index % 2, size=8) for index in range(3)]
    (row,) = differences(samples, Measures(tiny_tokenizer), with_type("topk"))
    assert (row["decode_type"], row["size"], row["prompts"]) == ("conv", 8, 3)
    assert row["tokens"] == pytest.approx(mean_with_error([1, 2, 1])), "what is common to a prompt drops out"


def test_only_prompts_that_both_have_count(tiny_tokenizer: Any) -> None:
    samples = [sample("topk", 0, 4), sample("topk", 1, 4), sample("llada", 1, 9), sample("llada", 2, 99)]
    (row,) = differences(samples, Measures(tiny_tokenizer), with_type("topk"))
    assert row["prompts"] == 1
    assert row["tokens"] == [5.0, None], "one prompt has no error"


def test_nothing_is_compared_with_several_sizes_or_none(tiny_tokenizer: Any) -> None:
    samples = [sample("conv", 0, 4, size=8), sample("conv", 0, 4, size=16), sample("topk", 0, 4)]
    measures = Measures(tiny_tokenizer)
    assert differences(samples, measures, with_type("conv")) == []
    assert differences(samples[:2], measures, with_type("topk")) == []
    assert to_markdown([], "topk") == ""


def test_a_difference_shows_its_sign(tiny_tokenizer: Any) -> None:
    samples = [sample("topk", index, 8) for index in range(2)]
    samples += [sample("conv", index, 1 + index, size=8) for index in range(2)]
    text = to_markdown(differences(samples, Measures(tiny_tokenizer), with_type("topk")), "less `topk`")
    assert text.startswith("\n| less `topk` | steps |")
    assert "| `conv` | 4 | 8 | 2 | +0.0 ± 0.0 | -80.0 ± 0.0 | +0.0 ± 0.0 | +0.00 ± 0.00 |" in text


def test_a_variation_is_compared_with_the_same_without(tiny_tokenizer: Any) -> None:
    samples = [sample("conv", index, 4 + index, size=8) for index in range(2)]
    samples += [sample("conv", index, 5 + index, size=8, varied="lookahead=64") for index in range(2)]
    samples += [sample("topk", index, 9) | {"seconds": 3.0} for index in range(2)]
    samples += [sample("conv", index, 9, size=16, varied="lookahead=64") for index in range(2)]
    measures = Measures(tiny_tokenizer)
    (row,) = differences(samples, measures, with_unvaried)
    assert (row["size"], row["varied"], row["tokens"], row["seconds"]) == (8, "lookahead=64", [1, 0], [0, 0])
    (row,) = differences(samples, measures, with_type("topk"))
    assert (row["size"], row["varied"], row["seconds"]) == (8, "", [-2, 0]), "variations have their own table"


def test_near_known_text_is_compared_with_the_same_rule_in_blocks(tiny_tokenizer: Any) -> None:
    """As long as the kernel, and with the same variation; `semi_ar` is the one of `conv`, and `remdm_conv` has none."""
    samples = [sample("threshold", 0, 4, size=8), sample("conv_threshold", 0, 5, size=8)]
    samples += [sample("threshold", 0, 1, size=16), sample("conv_threshold", 0, 9, size=32)]
    samples += [sample("threshold", 0, 4, size=8, varied="threshold=0.5"), sample("conv_klass", 0, 9, size=8)]
    samples += [sample("semi_ar", 0, 6, size=8), sample("conv", 0, 4, size=8), sample("remdm_conv", 0, 4, size=8)]
    rows = differences(samples, Measures(tiny_tokenizer), with_blocks)
    assert [(row["decode_type"], row["size"], row["tokens"][0]) for row in rows] == [
        ("conv", 8, -2), ("conv_threshold", 8, 1),
    ]  # fmt: skip
