"""What is right, and what is wrong, with an answer to a word problem.

An answer is text: sentences with equations such as `3 * 12 = 36`, or `23 / 4 = 5 remainder 3`, and a last line
`#### 36`; or a JSON object `{"steps": ["3 * 12 = 36"], "unit": "pens", "answer": 36}`.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_NUMBER = r"\d+"
_EQUATION = re.compile(
    rf"(?P<a>{_NUMBER}) (?P<operator>[-+*/]) (?P<b>{_NUMBER}) = (?P<result>{_NUMBER})"
    rf"(?: remainder (?P<rest>{_NUMBER}))?"
)
_FINAL = re.compile(rf"(?:^|\n)#### ({_NUMBER})\s*\Z")
_LOOP = re.compile(r"(?s)\b(\S+(?:\s+\S+){1,29}?)(?:\s+\1){3,}(?!\w)")

# Numbers that a text gives in words: each pattern with the operands that it allows.
_SAID = {
    r"\b(?:half|halves|halved|halving|twice|doubl\w*|both|pairs?|couple)\b": (2,),
    r"\b(?:triple[sd]?|three times|third|thirds)\b": (3,),
    r"\b(?:quarter|quarters|fourth)\b": (4,),
    r"\bdozens?\b": (12,),
    r"\bweek\w*\b": (7,),
    r"\bhours?\b": (60,),
    r"\byears?\b": (12,),
    r"\b10 ?(?:%|percent)": (10,),
    r"\b20 ?(?:%|percent)": (5,),
    r"\b25 ?(?:%|percent)": (4,),
    r"\b50 ?(?:%|percent)": (2,),
    r"\b75 ?(?:%|percent)": (4, 3),
}


@dataclass(frozen=True)
class Equation:
    """An equation of an answer.

    Attributes:
        text (`str`): as it stands there.
        right (`bool`): whether it holds.
        grounded (`bool`): whether both operands are numbers of the question or of an equation before.
    """

    text: str
    right: bool
    grounded: bool


@dataclass(frozen=True)
class Verdict:
    """What the checker says of an answer.

    Attributes:
        right (`bool`): the final number is the expected one.
        form (`bool`): it ends in `#### n` (or is a JSON object with the right keys) and has an equation at least.
        equations (`tuple[Equation, ...]`): in the order of the text.
        first_wrong_step (`int`, *optional*): index of the first equation that doesn't hold or has a foreign number.
        consistent (`bool`): the final number is a result, or a remainder, of the working.
    """

    right: bool
    form: bool
    equations: tuple[Equation, ...]
    first_wrong_step: int | None
    consistent: bool

    @property
    def equations_right(self) -> bool:
        """Whether there are equations and all of them hold."""
        return bool(self.equations) and all(equation.right for equation in self.equations)

    @property
    def sound(self) -> bool:
        """Right in every respect: form, final number, and a working without a wrong step that leads to it."""
        return self.right and self.form and self.consistent and self.first_wrong_step is None and bool(self.equations)

    def in_words(self, expected: int) -> str:
        """The verdict in a line, beside the right number."""
        right = sum(equation.right for equation in self.equations)
        equations = f"{right} of {len(self.equations)} equations hold"
        if self.sound:
            return f"right: {expected} ({equations})"
        if self.right:
            return f"right: {expected}, by a doubtful working ({equations})"
        return f"wrong: the answer is {expected} ({equations})"


def check(question: str, answer: str, expected: int) -> Verdict:
    """Judge an answer.

    Args:
        question (`str`): the problem's text, whose numbers may be used.
        answer (`str`): what was said, cut where it ends.
        expected (`int`): the right final number.
    """
    parsed = _json_object(answer)
    if parsed is None:
        found = _FINAL.search(answer)
        final, body, form = (int(found[1]) if found else None), answer, found is not None
    else:
        value = parsed.get("answer")
        final = value if isinstance(value, int) and not isinstance(value, bool) else None
        steps = parsed.get("steps")
        listed = isinstance(steps, list) and all(isinstance(step, str) for step in steps)
        body = "\n".join(steps) if listed else ""  # type: ignore[arg-type]  # checked in the line before
        form = listed and final is not None and isinstance(parsed.get("unit"), str) and len(parsed) == 3

    known = given_numbers(question)
    equations: list[Equation] = []
    results: set[int] = set()
    for match in _EQUATION.finditer(body):
        a, b = int(match["a"]), int(match["b"])
        said = tuple(int(match[name]) for name in ("result", "rest") if match[name])
        equations.append(Equation(match[0], said == _value(a, match["operator"], b, len(said)), {a, b} <= known))
        results.update(said)
        known.update(said)
    wrong = (i for i, equation in enumerate(equations) if not (equation.right and equation.grounded))
    return Verdict(final == expected, form and bool(equations), tuple(equations), next(wrong, None), final in results)


def given_numbers(question: str) -> set[int]:
    """The numbers that a text gives: its digits, and those said by words such as half or a dozen."""
    numbers = {int(digits) for digits in re.findall(_NUMBER, question)}
    for pattern, operands in _SAID.items():
        if re.search(pattern, question, re.IGNORECASE):
            numbers.update(operands)
    return numbers


def loops(text: str) -> bool:
    """Whether a phrase of 2 to 30 words is said four times in a row."""
    return _LOOP.search(text) is not None


def _value(a: int, operator: str, b: int, results: int) -> tuple[int, ...] | None:
    if operator == "/":
        if b == 0:
            return None
        quotient, rest = divmod(a, b)
        if results == 2:
            return quotient, rest
        return (quotient,) if rest == 0 else None
    return ({"+": a + b, "-": a - b, "*": a * b}[operator],)


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
