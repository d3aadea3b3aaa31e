"""Generated word problems as an evaluation task."""

import json

from conv_dlm.evaluation.tasks import word_problems
from conv_dlm.word_problems import problems


def test_the_rows_are_the_generators():
    task = word_problems.load(6, (1, 3), "test", ("prose", "json"), seed=4)
    expected = list(problems(4, 6, split="test", levels=(1, 3), forms=("prose", "json")))
    assert [row["question"] for row in task.rows] == [one.question for one in expected]
    assert task.conversations == [[one.question] for one in expected]
    assert len(word_problems.load().rows) == word_problems.DEFAULT_QUESTIONS


def test_scores():
    task = word_problems.load(20, (2, 4))
    for row in task.rows:
        solution = row["completion"][0]["content"]
        shares = ("accuracy", "sound", "form", "equations", "first_step", "steps_right")
        assert task.score(row, [solution]) == dict.fromkeys(shares, 1) | {"loops": 0}
        assert task.score(row, [""]) == dict.fromkeys(shares, 0) | {"loops": 0}
        *first, _, final = solution.splitlines()
        cut = "\n".join([*first, "That is 2 + 2 = 5.", final])
        assert task.score(row, [cut])["steps_right"] == len(first) / row["level"]
        wrong = f"That is 2 + 2 = 5.\n{solution}"
        assert task.score(row, [wrong])["first_step"] == 0 and task.score(row, [wrong])["sound"] == 0
        assert task.score(row, ["pages a day " * 9])["loops"] == 1


def test_levels_have_figures_of_their_own():
    task = word_problems.load(30, (1, 3))
    texts = [[row["completion"][0]["content"] if row["level"] < 3 else ""] for row in task.rows]
    table = json.loads(task.files(task.rows, texts)[word_problems.LEVELS_FILE])
    assert list(table) == ["1", "2", "3"] and sum(one["n"] for one in table.values()) == 30
    assert [table[level]["accuracy"][0] for level in table] == [1, 1, 0]
