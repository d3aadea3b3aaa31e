"""The checker against answers that are broken in every way."""

import json

import pytest

from conv_dlm.word_problems import check, loops

QUESTION = "A box holds 12 pens. Tom has 3 boxes, gives away half of the pens and 4 more. How many are left?"
GOOD = [
    "The boxes hold 3 * 12 = 36 pens.",
    "Half of them are 36 / 2 = 18 pens.",
    "Tom has 18 - 4 = 14 pens left.",
]


def verdict(*lines: str, final: str = "#### 14"):
    return check(QUESTION, "\n".join([*lines, final] if final else lines), 14)


def test_a_good_answer():
    good = verdict(*GOOD)
    assert good.right and good.form and good.sound and good.consistent and good.equations_right
    assert good.first_wrong_step is None
    assert [one.text for one in good.equations] == ["3 * 12 = 36", "36 / 2 = 18", "18 - 4 = 14"]


@pytest.mark.parametrize(
    ("lines", "final", "expected"),
    [
        # a wrong sum, and what follows from it
        ([GOOD[0], "Half of them are 36 / 2 = 16 pens.", "Tom has 16 - 4 = 12 pens left."], "#### 12", (0, 1, 1, 1)),
        # right in the end, by a wrong step
        ([GOOD[0], "Half of them are 36 / 2 = 17 pens.", GOOD[2]], "#### 14", (1, 1, 1, 1)),
        # a number from nowhere: 7 is not in the question, 18 not said yet
        ([GOOD[0], "He gives 7 + 18 = 25 pens.", GOOD[2]], "#### 14", (1, 1, 1, 1)),
        (["He has 18 - 4 = 14 pens."], "#### 14", (1, 1, 0, 1)),
        # another final number than that of the working
        (GOOD, "#### 15", (0, 1, None, 0)),
        (GOOD, "#### 18", (0, 1, None, 1)),
        # form
        (GOOD, "", (0, 0, None, 0)),
        (GOOD, "####", (0, 0, None, 0)),
        (GOOD, "#### fourteen", (0, 0, None, 0)),
        (GOOD, "#### 14 pens", (0, 0, None, 0)),
        (GOOD, "####14", (0, 0, None, 0)),
        ([], "#### 14", (1, 0, None, 0)),
        (["It is clear."], "#### 14", (1, 0, None, 0)),
        # division
        ([GOOD[0], "Half of them are 36 / 0 = 18 pens."], "#### 14", (1, 1, 1, 0)),
        ([GOOD[0], "That is 36 / 3 = 11 remainder 3."], "#### 14", (1, 1, 1, 0)),
        ([GOOD[0], "That is 12 / 4 = 3 remainder 0."], "#### 14", (1, 1, None, 0)),
        (["That is 12 / 5 = 2."], "#### 14", (1, 1, 0, 0)),
    ],
)
def test_broken_answers(lines: list[str], final: str, expected: tuple):
    found = verdict(*lines, final=final)
    assert (int(found.right), int(found.form), found.first_wrong_step, int(found.consistent)) == expected
    assert not found.sound


def test_the_final_number_stands_at_the_end():
    assert not verdict(*GOOD, final="#### 14\nSo it is.").form
    assert not check(QUESTION, "#### 14 " + GOOD[0], 14).right
    assert verdict(*GOOD, final="#### 14\n").sound


def test_remainders():
    question = "Ann shares 23 nuts among 4 friends. How many are left over?"
    assert check(question, "That is 23 / 4 = 5 remainder 3.\n#### 3", 3).sound
    assert check(question, "That is 23 / 4 = 5 remainder 2.\n#### 2", 3).first_wrong_step == 0
    later = "That is 23 / 4 = 5 remainder 3.\nWith those it is 5 + 3 = 8.\n#### 8"
    assert check(question, later, 8).sound  # a remainder is known from then on


def test_words_that_give_numbers():
    for word, equation in (
        ("twice", "2 * 5 = 10"),
        ("a dozen", "12 * 5 = 60"),
        ("a week", "7 * 5 = 35"),
        ("25 %", "20 / 4 = 5"),
    ):
        question = f"There are 5 and 20 and {word} of it."
        assert check(question, f"{equation}\n#### {equation.split()[-1]}", int(equation.split()[-1])).sound
    assert check("There are 5.", "2 * 5 = 10\n#### 10", 10).first_wrong_step == 0


def json_answer(**changes: object) -> str:
    value = {"steps": ["3 * 12 = 36", "36 / 2 = 18", "18 - 4 = 14"], "unit": "pens", "answer": 14} | changes
    return json.dumps({key: one for key, one in value.items() if one is not None})


def test_json():
    assert check(QUESTION, json_answer(), 14).sound
    for broken in (
        json_answer(unit=None),
        json_answer(steps="3 * 12 = 36"),
        json_answer(steps=[1]),
        json_answer(more=1),
        json_answer(answer=True),
        json_answer()[:-1],
        "{}",
    ):
        assert not check(QUESTION, broken, 14).form, broken
    assert check(QUESTION, json_answer(answer="14"), 14).right is False
    assert check(QUESTION, json_answer(steps=["3 * 12 = 35"]), 14).first_wrong_step == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("That makes 5. " * 4, True),
        ("That makes 5. " * 3, False),
        ("He has 2 pens and 2 pens and 2 pens.", False),
        ("Then 4 + 4 = 8.\nThen 8 + 8 = 16.\nThen 16 + 16 = 32.\nThen 32 + 32 = 64.", False),
        ("pages a day pages a day pages a day pages a day", True),
    ],
)
def test_loops(text: str, expected: bool):
    assert loops(text) == expected
