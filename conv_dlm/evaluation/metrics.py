"""Metrics of generated text: pure functions of a text, of its tokens, or of a list of numbers.

GSM8K's format (arXiv 2110.14168): lines with calculator annotations `<<16-3-4=9>>`, and `#### 18` at the end.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction

_NUMBER = r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_WELL_FORMED = re.compile(rf"(?:^|\n)#### {_NUMBER}\s*\Z")
_LAST_NUMBER = re.compile(rf"(?<![\w.)]){_NUMBER}|{_NUMBER.removeprefix('-?')}")
_ANNOTATION = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")

_OPERATORS: dict[type[ast.AST], Callable[..., Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def is_well_formed(text: str) -> bool:
    """Whether the text ends in a line `#### number`, as GSM8K's answers do."""
    return _WELL_FORMED.search(text) is not None


def last_number(text: str) -> Fraction | None:
    """The last number of the text, exactly; thousands commas, `$` and a closing full stop are no part of it.

    A minus counts as a sign unless it follows a number, a word or a closing bracket. None if there is no number.
    """
    numbers = _LAST_NUMBER.findall(text)
    return Fraction(re.sub(r"[$,]", "", numbers[-1])) if numbers else None


def gsm8k_correct(text: str, reference: str) -> bool:
    """Whether the last number of `text` equals that of `reference`: as numbers, so `$1,018.00` equals `1018`.

    Raises:
        ValueError: the reference holds no number.
    """
    expected = last_number(reference)
    if expected is None:
        raise ValueError(f"`reference`={reference!r} holds no number; pass the answer with its line `#### number`.")
    return last_number(text) == expected


def count_annotations(text: str) -> tuple[int, int]:
    """How many `<<expression=value>>` of the text are arithmetically right, and how many there are.

    Everything that begins with `<<` counts; what is not closed, or is no arithmetic, is wrong. A value with decimals
    may be rounded: `<<10/3=3.33>>` is right, `<<10/3=3>>` is not.
    """
    right = sum(_is_right(expression, value) for expression, value in _ANNOTATION.findall(text))
    return right, text.count("<<")


def repeated_ngrams(tokens: Sequence[Hashable], n: int = 4) -> float:
    """1 - distinct / total n-grams of a token sequence, 0 where it has none. Pass the tokens before EOS."""
    total = len(tokens) - n + 1
    if total < 1:
        return 0.0
    return 1 - len({tuple(tokens[start : start + n]) for start in range(total)}) / total


def mean_with_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error (NaN for fewer than two values). Raises ValueError if there are none."""
    return ratio_with_error(values, [1] * len(values))


def ratio_with_error(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, float]:
    """sum(parts) / sum(wholes) over independent samples, and its standard error by linearisation.

    For shares of things of which a sample holds several, or none: annotations of an answer, tokens of a second. The
    samples, not the things in them, are taken as independent. The error is NaN for fewer than two samples.

    Raises:
        ValueError: there are no samples, or the wholes sum up to 0.
    """
    samples, total = len(parts), sum(wholes)
    if samples == 0 or total == 0:
        raise ValueError(f"A ratio needs something to divide by: {samples} samples whose wholes sum up to {total}.")
    ratio = sum(parts) / total
    if samples == 1:
        return ratio, math.nan
    squares = sum((part - ratio * whole) ** 2 for part, whole in zip(parts, wholes, strict=True))
    return ratio, math.sqrt(squares * samples / (samples - 1)) / total


def _is_right(expression: str, value: str) -> bool:
    try:
        exact, shown = _evaluate(expression), _evaluate(value)
    except (ValueError, SyntaxError, ZeroDivisionError, RecursionError, MemoryError):
        return False
    decimals = len(value.strip().partition(".")[2])
    return exact == shown or (decimals > 0 and abs(exact - shown) <= Fraction(1, 2 * 10**decimals))


def _evaluate(expression: str) -> Fraction:
    """An arithmetic expression of numbers, + - * / and brackets, exactly. Raises ValueError for anything else."""
    # GSM8K writes 05 and 1,000; Python's grammar doesn't
    plain = re.sub(r"(?<=\d),(?=\d)", "", expression.strip())
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant):
            literal = ast.get_source_segment(plain, node) or ""
            if re.fullmatch(r"\d+(\.\d*)?|\.\d+", literal):
                return Fraction(literal)
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.operand))
        raise ValueError(f"{expression!r} is no plain arithmetic.")

    return value(ast.parse(plain, mode="eval").body)
