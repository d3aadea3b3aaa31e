"""GSM8K (arXiv 2110.14168): the format of its answers, and the rules by which an answer is called right.

A reference answer has lines with calculator annotations, `<<16-3-4=9>>`, and ends in `#### 18`. Each rule of
`ANSWER_RULES` takes a text, cut where it ends, and the reference answer as the data set has it:

- strict, flexible: verdicts of lm-evaluation-harness 0.4.13 (lm_eval/tasks/gsm8k/gsm8k.yaml), on every input
- number: the last number of the text equals that of the reference, as numbers
- paper: the rule of arXiv 2509.15188, for comparing with its figures only
"""

import ast
import operator
import re
from collections.abc import Callable, Iterable
from fractions import Fraction

_NUMBER = r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_WELL_FORMED = re.compile(rf"(?:^|\n)#### {_NUMBER}\s*\Z")
_LAST_NUMBER = re.compile(rf"(?<![\w.)]){_NUMBER}|{_NUMBER.removeprefix('-?')}")
_ANNOTATION = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")

# of the harness, where both rules share what a match and the reference lose before they are compared
_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_IGNORED = tuple(re.compile(pattern) for pattern in (",", r"\$", r"(?s).*#### ", r"\.$"))
_NO_MATCH = "[invalid]"

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


def strict_match(text: str, reference: str) -> bool:
    """The harness's `strict-match`: the first `#### number` of the text, compared with the reference as strings.

    Commas, `$` and one closing full stop don't count; `18.00` is not `18`.
    """
    found = _STRICT.search(text)
    return _harness_key(found[1] if found else _NO_MATCH) == _harness_key(reference)


def flexible_match(text: str, reference: str) -> bool:
    """The harness's `flexible-extract`: what looks last like a number, wherever it is, compared as in `strict_match`.

    Dots, commas and `$` look like a number where two of them meet: a text that ends in `...` is wrong.
    """
    found = _FLEXIBLE.findall(text)
    return _harness_key(found[-1] if found else _NO_MATCH) == _harness_key(reference)


def paper_match(text: str, reference: str) -> bool:
    """The rule of arXiv 2509.15188 as its code has it, for comparing with the figures of that paper only.

    The last `$?digits` of the text without commas has to be the reference's very string, so `$18` is wrong for 18, and
    whatever is said where the reference is negative, has decimals or a thousands comma.

    Raises:
        ValueError: the reference has no `#### number`.
    """
    expected = _STRICT.search(reference)
    if expected is None:
        raise ValueError(f"`reference`={reference!r} has no `#### number`; pass the whole answer of the data set.")
    numbers = re.findall(r"\$?\d+", text.replace(",", ""))
    return bool(numbers) and numbers[-1] == expected[1]


ANSWER_RULES: dict[str, Callable[[str, str], bool]] = {
    "strict": strict_match,
    "flexible": flexible_match,
    "number": gsm8k_correct,
    "paper": paper_match,
}


def check_rules(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is none of `ANSWER_RULES`."""
    for name in names:
        if name not in ANSWER_RULES:
            raise ValueError(f"`answer_rules`: {name!r} is none of {sorted(ANSWER_RULES)}.")


def count_annotations(text: str) -> tuple[int, int]:
    """How many `<<expression=value>>` of the text are arithmetically right, and how many there are.

    Everything that begins with `<<` counts; what is not closed, or is no arithmetic, is wrong. A value with decimals
    may be rounded: `<<10/3=3.33>>` is right, `<<10/3=3>>` is not.
    """
    right = sum(_is_right(expression, value) for expression, value in _ANNOTATION.findall(text))
    return right, text.count("<<")


def _harness_key(text: str) -> str:
    for pattern in _IGNORED:
        # the harness keeps strings in NumPy arrays, which lose closing NULs
        text = pattern.sub("", text).rstrip("\0")
    return text.lower()


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
