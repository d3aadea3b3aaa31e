"""The generator: problems are right, deterministic, in splits that share no content."""

import hashlib
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import islice

import pytest

from conv_dlm.word_problems import FORMS, LEVELS, SPLITS, Problem, check, loops, problem, problems
from conv_dlm.word_problems.draw import Draw
from conv_dlm.word_problems.scenes import SCENES
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

EVERY_LEVEL = range(LEVELS[0], LEVELS[1] + 1)
DIGEST = "0b7024d877b85028a058954371a5ba080ae52b56c58816386fa2e91842040433"  # a change of it changes every data set


@cache
def some(count: int, **options: object) -> list[Problem]:
    return list(problems(3, count, **options))


def content(found: Problem) -> tuple[str, ...]:
    return (found.scene, *(step.equation for step in found.steps))


@pytest.mark.parametrize("split", SPLITS)
def test_every_solution_is_sound(split: str):
    """In the form that is asked for, and in the others, of which the steps are the same."""
    for found in some(400, split=split, forms=tuple(FORMS)):
        for form in FORMS:
            solution = replace(found, form=form).solution
            verdict = check(found.question, solution, found.answer)
            assert verdict.sound and verdict.equations_right, (found.scene, found.question, solution, verdict)
            if form != "checked":
                assert len(verdict.equations) == found.level


@pytest.mark.parametrize("level", EVERY_LEVEL)
def test_a_level_is_the_number_of_operations(level: int):
    assert {found.level for found in some(30, levels=(level, level))} == {level}


def test_larger_numbers_are_right_too():
    found = some(400, size="large")
    assert all(check(one.question, one.solution, one.answer).sound for one in found)
    assert max(step.result for one in found for step in one.steps) > 200
    assert max(step.result for one in some(400) for step in one.steps) <= 200


def test_the_same_problem_on_every_platform():
    """A digest of problems of every scene, so that no release of Python and no change of a scene goes unnoticed."""
    found = [*some(60, forms=tuple(FORMS)), *some(3000), *some(400, size="large"), *some(1000, split="unseen")]
    assert {one.scene for one in found} == set(SCENES)
    text = "\n".join(f"{one.question}\n{one.solution}" for one in found)
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST


def test_some_scenes_only():
    options = dict(levels=(2, 6), scenes=("worksheet", "bus"))
    assert {one.scene for one in some(60, **options)} == {"worksheet", "bus"}


def test_a_problem_is_known_by_its_index():
    assert list(problems(3, 5, start=10)) == [problem(3, index) for index in range(10, 15)]
    assert problem(3, 0) != problem(4, 0)
    assert next(islice(problems(3), 2, None)) == problem(3, 2)


def test_plain_solutions_have_one_wording():
    drawn, plain = some(300), some(300, plain=True)
    assert drawn != plain
    for one, other in zip(drawn, plain, strict=True):
        assert (one.question, one.answer) == (other.question, other.answer)
        assert [step.equation for step in one.steps] == [step.equation for step in other.steps]

    def sentences(plain: bool) -> set[str]:
        stories = [Story(Draw(str(seed)), plain=plain) for seed in range(20)]
        for story in stories:
            story.mul(3, 4, "That is [=].", "It makes [=].", "In all, [=].")
        return {story.steps[0].sentence for story in stories}

    assert len(sentences(False)) == 3
    assert sentences(True) == {"That is 3 * 4 = 12."}


def test_splits_share_no_content():
    levels = {"levels": (1, 2)}  # where chance would make the same problem twice
    test = {content(one) for seed in (1, 2) for one in problems(seed, 200, split="test", **levels)}
    train = {content(one) for one in problems(3, 3000, **levels)}
    validation = {content(one) for one in problems(4, 200, split="validation", **levels)}
    assert not test & train and not test & validation and not validation & train


def test_unseen_has_scenes_and_wordings_of_its_own():
    unseen = some(1000, split="unseen")
    held_out = {name for name, one in SCENES.items() if one.held_out}
    assert {one.scene for one in unseen} >= held_out
    assert 0.4 < sum(one.scene in held_out for one in unseen) / len(unseen) < 0.6
    train = some(3000)
    assert not {one.scene for one in train} & held_out

    def shape(text: str) -> str:
        """A sentence without its numbers and names, which stand in both."""
        return re.sub(r"\d+|\b[A-Z]\w+", "_", text)

    trained = {shape(sentence) for one in train for sentence in re.split(r"(?<=[.?]) ", one.question)}
    asked = [re.split(r"(?<=[.?]) ", one.question)[-1] for one in unseen if one.scene not in held_out]
    assert sum(shape(question) in trained for question in asked) / len(asked) < 0.2


def test_there_are_scenes_enough_at_every_level():
    trained = [one for one in SCENES.values() if not one.held_out]
    assert len(trained) >= 40 and len(SCENES) - len(trained) >= 6
    for level in EVERY_LEVEL:
        assert sum(one.levels[0] <= level <= one.levels[1] for one in trained) >= 30
    seen = Counter(one.scene for one in some(3000))
    assert set(seen) == {one.name for one in trained}


@pytest.mark.parametrize("name", SCENES)
def test_each_scene_writes_in_several_wordings(name: str):
    one = SCENES[name]
    questions = set()
    for index in range(60):
        story = Story(Draw(f"{name} {index}"), limit=2000)
        try:
            one.write(story, one.levels[0])
        except Exception as error:  # a draw without a problem
            assert type(error).__name__ == "RejectedDrawError"
            continue
        questions.add(re.sub(r"\d+|\b[A-Z]\w+", "_", story.question))
    assert len(questions) >= (1 if one.held_out else 2), questions


def test_language():
    """What is easily wrong: a double space, an article, a plural behind 1, a full stop."""
    for found in some(3000):
        text = f"{found.question}\n{found.solution}"
        assert not re.search(r"  | \.|\.\.|\ba [aeio]\w|\b1 \w+s\b|\ban [^aeiouh\W]|\{|\}|\[=\]", text), text
        assert found.question[0].isupper() or found.question[0].isdigit()
        assert found.question.rstrip()[-1] in ".?", text


def test_references_do_not_loop():
    assert sum(loops(one.solution) for one in some(1000)) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "`split='dev'` must be one of train"),
        ({"levels": (0, 3)}, r"`levels=\(0, 3\)` must be a range within 1 to 12"),
        ({"levels": (5, 3)}, "must be a range"),
        ({"forms": ("verse",)}, "`forms` has 'verse'"),
        ({"forms": ()}, "`forms` has 'none'"),
        ({"scenes": ("opera",)}, "`scenes` has 'opera'"),
        ({"scenes": ("votes",)}, "`scenes` has 'votes'"),
        ({"scenes": ("secret_number",), "levels": (1, 3)}, "more than these scenes have, which is 2 to 12"),
        ({"size": "huge"}, "`size='huge'` must be one of small, large"),
    ],
)
def test_bad_options(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        problem(0, 0, **options)


def test_scenes_have_names_of_their_own():
    with pytest.raises(ValueError, match="There is a scene `bus` already"):

        @scene(levels=(1, 1))
        def bus(story: Story, level: int) -> None: ...
