"""The needle in a haystack."""

import json
import re

import pytest

from conv_dlm.evaluation.tasks import needle


def test_a_needle_is_where_and_in_what_it_should_be():
    task = needle.load(words=(50, 200), depths=(0, 50, 100))
    assert len(task.rows) == needle.NEEDLES * 6
    for row in task.rows:
        text, _, question = row["question"].partition("\n\n")
        assert re.findall(r"\d+", text) == [row["answer"]]
        (city,) = re.findall(r"secret number of (\w+)\?", question)
        assert f"The secret number of {city} is {row['answer']}." in text
        before = len(text.partition("The secret")[0].split())
        assert row["words"] <= len(text.split()) <= row["words"] + 20
        assert before / len(text.split()) == pytest.approx(row["depth"] / 100, abs=0.2)
        assert row["depth"] or before == 0
    assert task.rows[0] != task.rows[6]  # another text of the same kind
    assert needle.load(words=(50, 200), depths=(0, 50, 100)).rows == task.rows


def test_scores_by_length_and_depth():
    task = needle.load(4, words=(20,), depths=(0, 100))
    right = [[f"It is {row['answer']}."] for row in task.rows]
    assert [task.score(row, texts) for row, texts in zip(task.rows, right, strict=True)] == [{"accuracy": 1.0}] * 4
    right[1] = [f"1{task.rows[1]['answer']}"]
    table = json.loads(task.files(task.rows, right)[needle.NEEDLE_FILE])
    assert table["20"]["0"]["accuracy"][0] == 1 and table["20"]["100"]["accuracy"][0] == 0.5


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"words": (0,)}, "`words`"), ({"depths": (101,)}, "`depths`"), ({"questions": 0}, "at least 1")],
)
def test_bad_input(asked, message):
    with pytest.raises(ValueError, match=message):
        needle.load(**asked)
