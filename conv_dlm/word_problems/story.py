"""A problem while a scene writes it: sentences of the question, and steps of the solution, each with one operation."""

from collections.abc import Sequence
from dataclasses import dataclass

from conv_dlm.word_problems.draw import Draw, RejectedDrawError

EQUATION = "[=]"  # stands in a wording of a step for its equation


@dataclass(frozen=True)
class Step:
    """One operation of a solution.

    Attributes:
        equation (`str`): such as `3 * 12 = 36`.
        check (`str`): the same the other way round: `36 / 12 = 3`.
        sentence (`str`): the sentence that says it.
        result (`int`): what the operation gives.
    """

    equation: str
    check: str
    sentence: str
    result: int


class Story:
    """What a scene writes to. Every sentence comes in several wordings, of which one is drawn.

    **Wordings of the question** (`say`, `aside`, `ask`): where there are three or more, the last one is held
    out: it stands in the test set of unseen wordings only, and never in another.

    Args:
        draw ([`Draw`]): the choices.
        limit (`int`): the largest value.
        unseen (`bool`): write the question in the wordings that are held out.
        plain (`bool`): write each step of the solution in the first of its wordings.
    """

    def __init__(self, draw: Draw, limit: int = 200, unseen: bool = False, plain: bool = False):
        self.draw, self.limit, self._unseen, self._plain = draw, limit, unseen, plain
        self.sentences: list[str] = []
        self.steps: list[Step] = []
        self.question = ""
        self.unit = ""
        self._answer: int | None = None

    # The question

    def say(self, *wordings: str) -> None:
        """A sentence of the question."""
        self.sentences.append(self._wording(wordings))

    def aside(self, *wordings: str) -> None:
        """A fact that isn't needed: said in one problem of six."""
        if self.draw.chance(1 / 6):
            self.say(*wordings)

    def ask(self, *wordings: str, unit: object) -> None:
        """The question itself; its answer is the result of the last step, and `unit` what it counts, in the plural."""
        self.question = self._wording(wordings)
        self.unit = str(unit)

    def _wording(self, wordings: Sequence[str]) -> str:
        if len(wordings) < 3:
            return self.draw.pick(*wordings)
        return wordings[-1] if self._unseen else self.draw.pick(*wordings[:-1])

    # The solution: each operation with the wordings of its sentence, in which `[=]` stands for the equation

    def add(self, a: int, b: int, *wordings: str) -> int:
        return self._step(f"{a} + {b}", a + b, f"{a + b} - {b} = {a}", wordings)

    def sub(self, a: int, b: int, *wordings: str) -> int:
        return self._step(f"{a} - {b}", a - b, f"{a - b} + {b} = {a}", wordings)

    def mul(self, a: int, b: int, *wordings: str) -> int:
        """A product from the table to 12 times 12, or with a factor up to 5."""
        self._check_product(a, b)
        return self._step(f"{a} * {b}", a * b, f"{a * b} / {b} = {a}", wordings)

    def div(self, a: int, b: int, *wordings: str) -> int:
        """An exact quotient, the other way round than the products of `mul`."""
        if a % b:
            raise RejectedDrawError(f"{a} / {b} is not whole")
        self._check_product(b, a // b)
        return self._step(f"{a} / {b}", a // b, f"{a // b} * {b} = {a}", wordings)

    def divmod(self, a: int, b: int, *wordings: str) -> tuple[int, int]:
        """A quotient with its remainder, as one step: `23 / 4 = 5 remainder 3`. The answer, where this step is the
        last, is the quotient; `answer` can be set to the remainder."""
        quotient, rest = divmod(a, b)
        self._check_product(b, quotient)
        self._check(rest)
        product = quotient * b
        check = f"{quotient} * {b} = {product} and {product} + {rest} = {a}"
        return self._step(f"{a} / {b}", quotient, check, wordings, f" remainder {rest}"), rest

    @property
    def answer(self) -> int:
        """The number that is asked for."""
        return self.steps[-1].result if self._answer is None else self._answer

    @answer.setter
    def answer(self, value: int) -> None:
        self._answer = value

    def _step(self, operation: str, result: int, check: str, wordings: Sequence[str], behind: str = "") -> int:
        self._check(result)
        equation = f"{operation} = {result}{behind}"
        wording = self.draw.pick(*wordings)  # drawn in any case: what is told stays the same
        sentence = (wordings[0] if self._plain else wording).replace(EQUATION, equation)
        self.steps.append(Step(equation, check, sentence, result))
        return result

    def _check(self, result: int) -> None:
        # From 2 on, so that every noun behind a number is a plural.
        if not 2 <= result <= self.limit:
            raise RejectedDrawError(f"{result} is not in 2..{self.limit}")

    def _check_product(self, a: int, b: int) -> None:
        small, large = sorted((a, b))
        if small < 2 or (large > 12 and small > 5 * max(1, self.limit // 200)):
            raise RejectedDrawError(f"{a} * {b} is not in the table")
