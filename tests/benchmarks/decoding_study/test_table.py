"""Figures of samples whose figures are known, and the tables that show them."""

import math
from typing import Any

import pytest
import torch

from benchmarks.decoding_study.grid import KEY
from benchmarks.decoding_study.table import (
    COLUMNS,
    SHORT,
    Measures,
    log_priors_of,
    reference_figures,
    table_of,
    to_markdown,
    to_text,
)

REFERENCES = ["#### 2", "so\n#### 5"]
Sample = dict[str, Any]


def key(sample: Sample) -> tuple[Any, ...]:
    return tuple(sample[name] for name in KEY)


@pytest.fixture
def make(tiny_tokenizer: Any) -> Any:
    def make(text: str = "", index: int = 0, **others: Any) -> Sample:
        ids = tiny_tokenizer(text, add_special_tokens=False).input_ids
        setting = {"decode_type": "conv", "steps": 8, "size": 16, "varied": "", "seed": 0, "index": index}
        return setting | {"ids": ids, "ended": True, "unmasked_at": [0], "forwards": 4, "seconds": 2.0} | others

    return make


@pytest.fixture
def pair(make: Any) -> list[Sample]:
    return [make("<<1+1=2>>\n#### 2", 0), make("aaaaaaaa", 1, ended=False, forwards=6, seconds=1.0)]


# --- figures ---


def test_figures_of_known_samples(pair: list[Sample], tiny_tokenizer: Any) -> None:
    (row,) = table_of(pair, Measures(tiny_tokenizer, REFERENCES, ("strict", "number")))
    assert {name: row[name] for name in ("decode_type", "steps", "size", "n", "prompts")} == {
        "decode_type": "conv", "steps": 8, "size": 16, "n": 2, "prompts": 2,
    }  # fmt: skip
    for name in ("accuracy_strict", "accuracy_number", "well_formed", "ended"):
        assert row[name] == pytest.approx([0.5, 0.5]), name
    assert row["repeated_4grams"][0] == pytest.approx((0 + 1 - 1 / 5) / 2)
    assert row["empty"] == [0, 0]
    assert row["tokens"] == pytest.approx([(16 + 8) / 2, 4])
    assert row["forwards"] == pytest.approx([5, 1]) and row["seconds"] == pytest.approx([1.5, 0.5])
    assert row["tokens_per_forward"][0] == pytest.approx(24 / 10)
    assert row["tokens_per_second"][0] == pytest.approx(24 / 3)
    assert not {"accuracy_paper", "perplexity", "inliers", "log_prior"} & set(row)


def test_perplexity_weighs_tokens_and_inliers_are_those_of_the_references(
    pair: list[Sample], tiny_tokenizer: Any
) -> None:
    scores = {key(pair[0]): (4.0, 2), key(pair[1]): (2.0, 4)}
    band = [(0.0, 5), (math.log(3), 1)]  # perplexities 1 and 3: 2 ± 2 * 1.41

    def row(reference_scores: list[tuple[float, int]]) -> Any:
        return table_of(pair, Measures(tiny_tokenizer, scores=scores, reference_scores=reference_scores))[0]

    assert row(band)["perplexity"] == pytest.approx([math.e, math.e * 2 / 3]), "exp(6 / 6); influences 1/3 and -1/3"
    assert row(band)["inliers"] == pytest.approx([0.5, 0.5]), "e^2 is outside, e^0.5 inside"
    assert row([*band, (0.0, 0)])["inliers"] == row(band)["inliers"], "an empty reference is no part of the band"
    assert "inliers" not in row(band[:1]) and "inliers" not in row([]), "one reference makes no band"


def test_log_prior_is_that_of_a_token(make: Any, tiny_tokenizer: Any) -> None:
    log_priors_V = torch.arange(260).float().neg()
    samples = [make(ids=[1, 2, 3]), make(index=1, ids=[10]), make(index=2, ids=[])]
    (row,) = table_of(samples, Measures(tiny_tokenizer, ["", "", ""], log_priors_V=log_priors_V))
    assert row["log_prior"][0] == pytest.approx(-16 / 4)
    of_nothing = Measures(tiny_tokenizer, log_priors_V=log_priors_V, scores={key(samples[2]): (0.0, 0)})
    (empty,) = table_of(samples[2:], of_nothing)
    assert empty["log_prior"] is None and empty["perplexity"] is None and empty["empty"][0] == 1


def test_seeds_of_one_prompt_are_one_cluster(make: Any, tiny_tokenizer: Any) -> None:
    samples = [make(index=index, seed=seed, ended=index == 0) for index in (0, 1) for seed in (0, 1, 2)]
    (row,) = table_of(samples, Measures(tiny_tokenizer))
    assert (row["n"], row["prompts"]) == (6, 2)
    assert row["ended"] == pytest.approx([0.5, 0.5]), "as of two samples, not of six"


def test_rows_are_in_the_order_of_steps_types_and_sizes(make: Any, tiny_tokenizer: Any) -> None:
    settings = [
        ("semi_ar", 4, None), ("conv", 16, 8), ("conv", 4, 16), ("topk", 4, None), ("semi_ar", 4, 8), ("conv", 4, 8),
    ]  # fmt: skip
    samples = [make(decode_type=name, steps=steps, size=size) for name, steps, size in settings]
    rows = table_of(samples, Measures(tiny_tokenizer))
    assert [(row["decode_type"], row["steps"], row["size"]) for row in rows] == [
        ("topk", 4, None), ("conv", 4, 8), ("conv", 4, 16), ("semi_ar", 4, 8), ("semi_ar", 4, None), ("conv", 16, 8),
    ]  # fmt: skip


def test_figures_of_references(tiny_tokenizer: Any) -> None:
    log_priors_V = log_priors_of(REFERENCES, tiny_tokenizer, 260)
    measures = Measures(tiny_tokenizer, REFERENCES, ("strict",), log_priors_V, {}, [(1.0, 2), (3.0, 2)])
    figures = reference_figures(measures)
    assert figures["tokens"] == pytest.approx([(6 + 9) / 2, 1.5])
    assert figures["well_formed"] == [1, 0] and figures["repeated_4grams"] == [0, 0]
    assert figures["perplexity"] is not None and figures["perplexity"][0] == pytest.approx(math.e)
    ids = [token for text in REFERENCES for token in tiny_tokenizer(text, add_special_tokens=False).input_ids]
    by_hand = [math.log((ids.count(token) + 0.5) / (len(ids) + 260 / 2)) for token in ids]
    assert figures["log_prior"] is not None
    assert figures["log_prior"][0] == pytest.approx(sum(by_hand) / len(ids), rel=1e-5)
    assert reference_figures(Measures(tiny_tokenizer)) == {}


# --- tables ---


def test_markdown(pair: list[Sample], tiny_tokenizer: Any) -> None:
    measures = Measures(tiny_tokenizer, REFERENCES, ("number",))
    rows = table_of(pair, measures)
    head, line, *lines = to_markdown(rows, reference_figures(measures)).splitlines()
    setting = "| decode type | steps | kernel or block | n | "
    assert head.startswith(setting + "right (number), % | loops, % | ends in `#### n`, % | ")
    assert line == "|-|" + "-:|" * (head.count("|") - 2)
    assert lines[0].startswith("| `conv` | 8 | 16 | 2 | 50.0 ± 50.0 | 0.0 ± 0.0 | 50.0 ± 50.0 | ")
    assert lines[1].startswith("| references | – | – | – | – | 0.0 ± 0.0 | 100.0 ± 0.0 | 0.0 ± 0.0 | – | ")
    assert {text.count("|") for text in (head, *lines)} == {head.count("|")}


def test_no_error_is_claimed_for_one_sample(pair: list[Sample], tiny_tokenizer: Any) -> None:
    text = to_markdown(table_of(pair[1:], Measures(tiny_tokenizer)), {})
    assert "| `conv` | 8 | 16 | 1 | 0.0 | 80.0 | 0 | 0.0 | 8.0 | 6.0 | 1.00 | 1.33 | 8.0 |" in text


def test_a_terminal_gets_what_there_is_room_for(pair: list[Sample], tiny_tokenizer: Any) -> None:
    measures = Measures(tiny_tokenizer, REFERENCES, ("strict", "number"))
    rows, references = table_of(pair, measures), reference_figures(measures)
    assert to_text(rows, references, 95) == (
        "decode type  steps  size  n   forwards     strict %     number %      rep-4 %     #### n %\n"
        "conv             8    16  2  5.0 ± 1.0  50.0 ± 50.0  50.0 ± 50.0  40.0 ± 40.0  50.0 ± 50.0\n"
        "references       –     –  –          –            –            –    0.0 ± 0.0  100.0 ± 0.0\n"
    )
    for width in range(20, 110):
        lines = to_text(rows, references, width).splitlines()
        assert len({len(line) for line in lines}) == 1
        assert len(lines[0]) <= max(width, 27), "the setting is always there"
    assert to_text(rows, references, 50).splitlines()[0].split() == ["decode", "type", "steps", "size", "n", "forwards"]


def test_what_terminals_show_is_a_part_of_the_table() -> None:
    assert set(SHORT) <= set(COLUMNS)
