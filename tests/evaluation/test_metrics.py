import math
import random
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm.evaluation import (
    distinct_ngrams,
    distinct_ngrams_with_error,
    inlier_rate,
    inliers,
    is_empty,
    mauve,
    mean_with_error,
    repeated_ngrams,
)

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
corpora = st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=8)


def test_empty_texts() -> None:
    assert [is_empty(text) for text in ("", " \n\t", ".", " a ")] == [True, True, False, False]


def test_repeated_ngrams() -> None:
    assert repeated_ngrams([1, 2, 3, 4, 5, 6]) == 0
    assert repeated_ngrams([7] * 8) == pytest.approx(1 - 1 / 5)
    assert repeated_ngrams([1, 2, 1, 2, 1, 2]) == pytest.approx(1 - 2 / 3)
    assert repeated_ngrams([1, 1, 1]) == 0, "too short to repeat anything"
    assert repeated_ngrams([1, 1, 1], n=2) == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="`n`=0"):
        repeated_ngrams([1, 2], n=0)


def test_distinct_ngrams_are_counted_over_all_texts() -> None:
    assert distinct_ngrams([[1, 2, 3], [2, 3, 4]]) == pytest.approx(3 / 4), "(2, 3) is in both"
    assert distinct_ngrams([[1, 2], [3, 1]], n=2) == 1, "(2, 3) is across two texts"
    assert distinct_ngrams([[1, 2], [3, 1]], n=1) == pytest.approx(3 / 4)
    assert math.isnan(distinct_ngrams([[1], []]))


@QUICK
@given(corpora, st.integers(1, 3), st.randoms())
def test_distinct_ngrams_are_a_share_and_have_no_order(corpus: list[list[int]], n: int, order: random.Random) -> None:
    share = distinct_ngrams(corpus, n)
    assert 0 < share <= 1 or (math.isnan(share) and all(len(text) < n for text in corpus))
    shuffled = order.sample(corpus, len(corpus))
    assert distinct_ngrams(shuffled, n) == pytest.approx(share, nan_ok=True)
    assert distinct_ngrams_with_error(shuffled, n) == pytest.approx(distinct_ngrams_with_error(corpus, n), nan_ok=True)
    assert distinct_ngrams_with_error(corpus, n)[0] == pytest.approx(share, nan_ok=True)


@QUICK
@given(corpora, st.integers(1, 3), st.data())
def test_the_jackknife_leaves_out_one_cluster_after_the_other(corpus: list[list[int]], n: int, data: Any) -> None:
    clusters = data.draw(st.lists(st.integers(0, 3), min_size=len(corpus), max_size=len(corpus)))
    names = sorted(set(clusters))
    rest = [[text for text, of in zip(corpus, clusters, strict=True) if of != name] for name in names]
    shares = [distinct_ngrams(some, n) for some in rest]
    error = distinct_ngrams_with_error(corpus, n, clusters)[1]
    if len(names) < 2 or any(map(math.isnan, shares)):
        assert math.isnan(error)
    else:
        squares = sum((share - sum(shares) / len(shares)) ** 2 for share in shares)
        assert error == pytest.approx(math.sqrt(squares * (len(shares) - 1) / len(shares)), abs=1e-12)


def test_inliers_are_within_two_standard_deviations() -> None:
    references = [8.0, 10.0, 12.0]  # mean 10, standard deviation 2
    texts = [5.9, 6.1, 10.0, 13.9, 14.1, math.inf, math.nan]
    assert inliers(texts, references) == [False, True, True, True, False, False, False]
    assert inlier_rate(texts, references) == mean_with_error([0, 1, 1, 1, 0, 0, 0])
    prompts = [0, 0, 1, 1, 2, 2, 2]
    assert inlier_rate(texts, references, prompts) == mean_with_error([0, 1, 1, 1, 0, 0, 0], prompts)


@pytest.mark.parametrize("references", [[], [10.0], [10.0, 12.0, math.nan], [10.0, math.inf]])
def test_a_band_needs_finite_references(references: list[float]) -> None:
    with pytest.raises(ValueError, match=f"has {len(references)} numbers"):
        inliers([10.0], references)


def test_mauve_comes_from_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def compute_mauve(**options: Any) -> SimpleNamespace:
        asked.update(options)
        return SimpleNamespace(mauve=0.75)

    library = ModuleType("mauve")
    library.compute_mauve = compute_mauve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mauve", library)
    assert mauve(("made",), ("written",), seed=3) == 0.75
    assert asked == {"p_text": ["written"], "q_text": ["made"], "seed": 3}


def test_without_the_library_mauve_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(ImportError, match="pip install mauve-text"):
        mauve(["made"], ["written"])
