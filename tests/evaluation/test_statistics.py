import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm.evaluation import difference_with_error, mean_with_error, ratio_with_error

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
numbers = st.floats(-100, 100)
wholes = st.integers(1, 50)


def test_mean_with_error_is_the_textbook_one() -> None:
    mean, error = mean_with_error([1.0, 2.0, 4.0, 5.0])
    assert mean == 3
    assert error == pytest.approx(math.sqrt((4 + 1 + 1 + 4) / 3 / 4))
    assert math.isnan(mean_with_error([1.0])[1])
    with pytest.raises(ValueError, match="0 samples"):
        mean_with_error([])


def test_ratio_weighs_samples_by_their_wholes() -> None:
    ratio, error = ratio_with_error([3, 0, 1], [3, 0, 3])
    assert ratio == pytest.approx(4 / 6)
    # residuals 1, 0, -1
    assert error == pytest.approx(math.sqrt(2 * 3 / 2) / 6)
    with pytest.raises(ValueError, match="sum up to 0"):
        ratio_with_error([0, 0], [0, 0])
    with pytest.raises(ValueError, match="2, 1, 2 are given"):
        ratio_with_error([1, 2], [1])
    with pytest.raises(ValueError, match="2, 2, 3 are given"):
        mean_with_error([1, 2], [0, 1, 2])


@QUICK
@given(st.lists(st.tuples(numbers, wholes), min_size=2, max_size=20))
def test_clusters_of_one_sample_change_nothing(samples: list[tuple[float, int]]) -> None:
    parts, totals = zip(*samples, strict=True)
    names = [f"prompt {number}" for number in range(len(samples))]
    assert ratio_with_error(parts, totals, names) == ratio_with_error(parts, totals)


@QUICK
@given(st.lists(st.tuples(numbers, wholes), min_size=2, max_size=20), st.integers(2, 4))
def test_the_same_answer_under_each_seed_is_one_sample(samples: list[tuple[float, int]], seeds: int) -> None:
    parts, totals = zip(*samples, strict=True)
    repeated = ratio_with_error(parts * seeds, totals * seeds, list(range(len(samples))) * seeds)
    assert repeated == pytest.approx(ratio_with_error(parts, totals), abs=1e-9)


def test_a_cluster_is_the_sum_of_its_samples() -> None:
    summed = ratio_with_error([4, 2, 5], [6, 2, 9])
    assert ratio_with_error([3, 2, 1, 5], [2, 2, 4, 9], ["a", "b", "a", "c"]) == pytest.approx(summed)
    assert math.isnan(mean_with_error([1, 2], ["a", "a"])[1]), "one prompt says nothing of others"


def test_clustered_errors_are_those_that_repeated_studies_show() -> None:
    drawn = random.Random(0)

    def study() -> tuple[list[float], list[int]]:
        """40 prompts, each as hard as it is, under 3 seeds each."""
        prompts = [drawn.gauss(0, 1) for _ in range(40)]
        return [hard + drawn.gauss(0, 0.5) for hard in prompts for _ in range(3)], [i for i in range(40) for _ in "abc"]

    studies = [study() for _ in range(400)]
    means = [mean_with_error(*values)[0] for values in studies]
    spread = math.sqrt(sum(mean**2 for mean in means) / len(means))
    clustered = sum(mean_with_error(*values)[1] for values in studies) / len(studies)
    plain = sum(mean_with_error(values)[1] for values, _ in studies) / len(studies)
    assert clustered == pytest.approx(spread, rel=0.1)
    assert plain < 0.75 * spread


@QUICK
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=20), st.randoms())
def test_the_error_of_a_difference_is_that_of_the_prompts_differences(
    pairs: list[tuple[float, float]], order: random.Random
) -> None:
    expected = mean_with_error([a - b for a, b in pairs])
    prompts = list(range(len(pairs)))
    order.shuffle(prompts)
    a, b = [pair[0] for pair in pairs], [pairs[prompt][1] for prompt in prompts]
    assert difference_with_error(a, b, range(len(pairs)), prompts) == pytest.approx(expected, abs=1e-9)


def test_settings_may_have_different_numbers_of_seeds() -> None:
    a, prompts_a = [1.0, 3.0, 5.0, 5.0, 0.0, 2.0], [0, 0, 1, 1, 2, 2]
    b, prompts_b = [1.0, 2.0, 3.0], [0, 1, 2]
    assert difference_with_error(a, b, prompts_a, prompts_b) == pytest.approx(mean_with_error([1.0, 3.0, -2.0]))
    assert math.isnan(difference_with_error([1, 2], [3], ["p", "p"], ["p"])[1])


def test_a_prompt_without_its_counterpart_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"2 prompts are in one of the two settings only \(1, 7\)"):
        difference_with_error([1, 2], [1, 2], [0, 1], [0, 7])
    with pytest.raises(ValueError, match="0 samples"):
        difference_with_error([], [], [], [])
