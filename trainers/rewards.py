"""Rewards of completions that a program can judge: word problems and Countdown.

TRL's trainers call these functions with lists of prompts and completions (strings or messages), and with the columns of
the data by name. They return a number for each completion, or `None` where they have nothing to say.
"""

import ast
import importlib
import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from conv_dlm.word_problems import check
from conv_dlm.word_problems.checker import Verdict

Reward = Callable[..., list[float | None]]
_TAGGED = re.compile(r"(?s)<answer>(.*?)</answer>")
_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def word_problem_answer(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
    """1 if the final number is the one of the column `answer`, else 0."""
    return [float(verdict.right) for verdict in _verdicts(prompts, completions, columns)]


def word_problem_form(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
    """1 if there is a working that ends in `#### n`, or the right kind of JSON, else 0."""
    return [float(verdict.form) for verdict in _verdicts(prompts, completions, columns)]


def word_problem_steps(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
    """The share of the equations that hold and use numbers of the question or of an equation before; 0 of none."""
    found = [verdict.equations for verdict in _verdicts(prompts, completions, columns)]
    return [sum(one.right and one.grounded for one in equations) / max(1, len(equations)) for equations in found]


def _verdicts(prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any]) -> list[Verdict]:
    if "answer" not in columns:
        raise ValueError("Rewards of word problems need the column `answer` in the data, a number or GSM8K's text.")
    rows = zip(prompts, completions, columns["answer"], strict=True)
    return [check(text_of(prompt), text_of(completion), final_number(answer)) for prompt, completion, answer in rows]


def final_number(answer: int | str) -> int:
    """The number of an answer: itself, or what stands behind `####` in a text of GSM8K.

    Raises:
        `ValueError`: there is none.
    """
    if isinstance(answer, int):
        return answer
    text = str(answer).rpartition("####")[2].strip().replace(",", "")
    if not re.fullmatch(r"-?\d+", text):
        raise ValueError(f"`answer={answer!r}` is no number, and has no `#### n` at its end.")
    return int(text)


def countdown(
    prompts: Sequence[Any], completions: Sequence[Any], nums: Sequence[Sequence[int]], target: Sequence[int], **_: Any
) -> list[float | None]:
    """1 if the equation makes `target` of all `nums`, each used once; 0.1 if it uses them, and is wrong; else 0.

    The equation is what stands in the last `<answer>...</answer>`, or the last line of the completion; a right side
    such as `= 24` is left out. The values are those of d1 (arXiv 2504.12216).
    """
    rows = zip(completions, nums, target, strict=True)
    return [_countdown(text_of(completion), numbers, goal) for completion, numbers, goal in rows]


def _countdown(completion: str, numbers: Sequence[int], target: int) -> float:
    tagged = _TAGGED.findall(completion)
    lines = (tagged[-1] if tagged else completion).strip().splitlines()
    if not lines:
        return 0.0
    try:
        tree = ast.parse(lines[-1].partition("=")[0].strip(), mode="eval")
        used = Counter(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        if used != Counter(numbers):
            return 0.0
        value = _value(tree.body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError, OverflowError):
        return 0.0
    return 1.0 if abs(value - target) < 1e-6 else 0.1


def _value(node: ast.expr) -> float:
    """The value of sums, differences, products and quotients of whole numbers. Raises ValueError for all else."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"{type(node).__name__} is no part of an equation")


def text_of(value: Any) -> str:
    """A string itself, or what the last message of a chat says."""
    return value if isinstance(value, str) else str(value[-1]["content"])


REWARDS: dict[str, Reward] = {
    reward.__name__: reward for reward in (word_problem_answer, word_problem_form, word_problem_steps, countdown)
}


def find_reward(name: str) -> Reward:
    """A reward by its name here, or by the dotted path of a function of one's own.

    Raises:
        `ValueError`: there is none.
    """
    if name in REWARDS:
        return REWARDS[name]
    module, _, function = name.rpartition(".")
    try:
        found: Reward = getattr(importlib.import_module(module), function)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(
            f"`reward_funcs` has {name!r}, which is none of {', '.join(REWARDS)}, and no function that can be imported "
            f"by such a path as `my_module.my_reward`: {error}."
        ) from error
    return found
