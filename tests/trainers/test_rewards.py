"""Rewards that a program gives."""

from typing import Any

import pytest

from conv_dlm.word_problems import problem, row
from trainers.rewards import REWARDS, countdown, final_number, find_reward, text_of


def answered(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_word_problems() -> None:
    one = row(problem(0, 1, levels=(3, 3)))
    right = text_of(one["completion"])
    wrong = right.replace(f"#### {one['answer']}", f"#### {one['answer'] + 1}")
    texts = [right, wrong, "I don't know.", f"#### {one['answer']}"]
    columns = {"prompts": [one["prompt"]] * 4, "answer": [one["answer"]] * 4, "level": [3] * 4, "trainer_state": None}
    found = {name: REWARDS[name](completions=[answered(text) for text in texts], **columns) for name in REWARDS
             if name != "countdown"}  # fmt: skip
    assert found["word_problem_answer"] == [1, 0, 0, 1]
    assert found["word_problem_form"] == [1, 1, 0, 0]
    assert found["word_problem_steps"] == [1, 1, 0, 0]


def test_a_step_with_a_foreign_number_is_no_step() -> None:
    text = "3 + 4 = 7\n7 * 5 = 35\n7 + 1 = 9\n#### 7"
    assert REWARDS["word_problem_steps"](["What are 3 and 4?"], [text], answer=[7]) == [1 / 3]


def test_answers_of_gsm8k() -> None:
    assert [final_number(answer) for answer in (7, "So 3.\n#### 1,018", "42", "#### -4")] == [7, 1018, 42, -4]
    with pytest.raises(ValueError, match="answer='many'"):
        final_number("many")
    with pytest.raises(ValueError, match="column `answer`"):
        REWARDS["word_problem_answer"](["?"], ["#### 1"])


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<answer>(8 - 4) * 6</answer>", 1.0),
        ("First 8 - 4 = 4.\n(8 - 4) * 6 = 24", 1.0),
        ("8 / 4 + 6 = 8", 0.1),
        ("4 + 6 + 8", 0.1),
        ("<answer>1 + 1</answer> then <answer> 6 * (8 - 4) </answer>", 1.0),
        ("6 * 4", 0.0),  # not all
        ("4 * 6 * 8 / 8", 0.0),  # one twice
        ("4 / (6 - 6) * 8", 0.0),
        ("4 // 6 + 8", 0.0),
        ("abs(4 - 6) + 8", 0.0),
        ("4 ** 6 ** 8", 0.0),
        ("((((4", 0.0),
        ("", 0.0),
        ("24", 0.0),
    ],
)
def test_countdown(text: str, reward: float) -> None:
    columns: dict[str, Any] = {"nums": [[4, 6, 8]], "target": [24], "level": [1]}
    assert countdown(["?"], [text], **columns) == [reward]
    assert countdown(["?"], [answered(text)], **columns) == [reward]


def test_rewards_by_name_and_by_path() -> None:
    assert find_reward("countdown") is countdown
    assert find_reward("trainers.rewards.final_number") is final_number
    for name in ("word_problem_answr", "trainers.rewards.no_such", "no_such_module.reward"):
        with pytest.raises(ValueError, match=rf"`reward_funcs` has '{name}'"):
            find_reward(name)
