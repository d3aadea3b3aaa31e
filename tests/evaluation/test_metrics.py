import math
from fractions import Fraction

import pytest

from conv_dlm.evaluation import (
    count_annotations,
    gsm8k_correct,
    is_well_formed,
    last_number,
    mean_with_error,
    ratio_with_error,
    repeated_ngrams,
)

WRONG_ANNOTATIONS = (
    *("16-3-4=8", "10/3=3", "10/3=3.34", "1/0=0", "2**3=8", "x*2=4", "4=", "=4", "(2+3=5", "9", "2+3=5=5"),
    *("1_0+1=11", "1e3+1=1001", "0x10+1=17", "True+1=2", "9**9**9=1", "__import__('os')=1"),
)
ANSWER = "She has 16 - 3 = <<16-3=13>>13 eggs.\nShe gets 13 * $2 = $<<13*2=26>>26.\n#### 26"


@pytest.mark.parametrize("ending", ["26", "-4", "1,018", "3.50", "$7", ".5", "26\n"])
def test_answers_that_end_in_a_number_are_well_formed(ending: str) -> None:
    assert is_well_formed(f"Some words.\n#### {ending}")


@pytest.mark.parametrize(
    "text", ["", "26", "#### ", "####26", "a #### 26", "#### 26 apples", "#### 26\nmore", "#### 2 6"]
)
def test_other_endings_are_not_well_formed(text: str) -> None:
    assert not is_well_formed(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$1,018", 1018),
        ("-4", -4),
        ("it is -$4.50", Fraction(-9, 2)),
        ("18.00", 18),
        ("about 18.", 18),
        ("5-3", 3),
        ("(2)-3", 3),
        ("2 and .5", Fraction(1, 2)),
        ("#### 26", 26),
        ("none at all", None),
        ("", None),
    ],
)
def test_last_number(text: str, number: Fraction | None) -> None:
    assert last_number(text) == number


def test_answers_are_compared_as_numbers() -> None:
    assert gsm8k_correct("#### $1,018.00", "so\n#### 1018")
    assert not gsm8k_correct("#### 18", "#### -18")
    assert not gsm8k_correct("no idea", "#### 18")
    with pytest.raises(ValueError, match="holds no number"):
        gsm8k_correct("18", "eighteen")


@pytest.mark.parametrize(
    "annotation",
    ["16-3-4=9", ".5*6=3", "10/3=3.33", "5 * (2 + 3) = 25", "0.2*1,000=200", "20*.01=0.20", "-3+5=2", "05*2=10"],
)
def test_right_annotations(annotation: str) -> None:
    assert count_annotations(f"so <<{annotation}>>.") == (1, 1)


@pytest.mark.parametrize(
    "annotation",
    WRONG_ANNOTATIONS,
)
def test_wrong_annotations(annotation: str) -> None:
    assert count_annotations(f"so <<{annotation}>>.") == (0, 1)


def test_annotations_are_counted_in_the_whole_text() -> None:
    assert count_annotations(ANSWER) == (2, 2)
    assert count_annotations(ANSWER + " <<1+1=2") == (2, 3), "an annotation that is never closed is wrong"
    assert count_annotations("nothing to work out") == (0, 0)


def test_repeated_ngrams() -> None:
    assert repeated_ngrams([1, 2, 3, 4, 5, 6]) == 0
    assert repeated_ngrams([7] * 8) == pytest.approx(1 - 1 / 5)
    assert repeated_ngrams([1, 2, 1, 2, 1, 2]) == pytest.approx(1 - 2 / 3)
    assert repeated_ngrams([1, 1, 1]) == 0, "too short to repeat anything"
    assert repeated_ngrams([1, 1, 1], n=2) == pytest.approx(1 / 2)


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
