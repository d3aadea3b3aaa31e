"""`conv-dlm problem`: a generated problem, an answer, a verdict."""

import re

import pytest

from conv_dlm.word_problems import check, problem

SHORT = ("--steps", 3, "--max-new-tokens", 8)


def test_question_answer_and_verdict(run, tiny_checkpoint):
    outcome = run("problem", 7, "--model", tiny_checkpoint, "--level", "2", *SHORT)
    asked = problem(0, 7, split="test", levels=(2, 2))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{asked.question}\n\n")
    assert outcome.out.endswith(f"\nwrong: the answer is {asked.answer} (0 of 0 equations hold)\n")
    assert re.fullmatch(r"problem 7: \d+ tokens in .* per forward\n", outcome.err)


def test_any_problem_is_named(run, tiny_checkpoint):
    outcome = run("problem", "--model", tiny_checkpoint, *SHORT)
    number = int(re.match(r"problem (\d+):", outcome.err)[1])
    assert outcome.out.startswith(problem(0, number, split="test", levels=(1, 3)).question)


def test_verdicts():
    asked = problem(0, 3, split="test", levels=(2, 2))
    for answer, start in (
        (asked.solution, f"right: {asked.answer} (2 of 2 equations hold)"),
        (f"2 + 2 = 5\n{asked.solution}", f"right: {asked.answer}, by a doubtful working (2 of 3"),
        ("#### 1000", f"wrong: the answer is {asked.answer}"),
    ):
        assert check(asked.question, answer, asked.answer).in_words(asked.answer).startswith(start)


@pytest.mark.parametrize(
    ("words", "message"),
    [((-1,), "must be 0 or more"), (("--level", "x"), "must be a number of operations"), (("--form", "ode"), "choice")],
)
def test_bad_input(run, tiny_checkpoint, words: tuple, message: str):
    outcome = run("problem", "--model", tiny_checkpoint, *words)
    assert outcome.code == 2 and message in outcome.err
