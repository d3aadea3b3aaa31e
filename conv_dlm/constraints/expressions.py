"""From a regular expression in Python's syntax to a nondeterministic automaton over the bytes of UTF-8.

Python's own parser reads the expression; what it finds becomes states, moves on ranges of bytes and empty moves
(Thompson's construction). What isn't regular, or says something about what stands around the text, is refused.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from conv_dlm.constraints.errors import BadExpression

Ranges = tuple[tuple[int, int], ...]  # of code points or bytes, both ends included

MOST_STATES = 200_000
SURROGATES = (0xD800, 0xDFFF)
CATEGORIES = {
    op.CATEGORY_DIGIT: (r"[0-9]", False), op.CATEGORY_NOT_DIGIT: (r"[0-9]", True),
    op.CATEGORY_SPACE: (r"\s", False), op.CATEGORY_NOT_SPACE: (r"\s", True),
    op.CATEGORY_WORD: (r"\w", False), op.CATEGORY_NOT_WORD: (r"\w", True),
}  # fmt: skip


class Nondeterministic:
    """States and moves; state 0 is the start, `end` the one that accepts.

    moves: for each state (first byte, last byte, state behind).
    empty: for each state those that it leads to without a byte.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.moves: list[list[tuple[int, int, int]]] = []
        self.empty: list[list[int]] = []
        try:
            parsed = _parser.parse(expression)
        except (re.error, OverflowError, RecursionError) as error:
            raise BadExpression(f"The expression {shortened(expression)!r} can't be read: {error}.") from error
        if parsed.state.flags & ~(re.UNICODE | re.DOTALL | re.VERBOSE):
            self.refuse("flags", "write [Yy] for a letter in both cases")
        self.any = _without(((10, 10),)) if not parsed.state.flags & re.DOTALL else _without(())
        items = list(parsed)
        if items and items[0] == (op.AT, op.AT_BEGINNING):  # what holds anyway
            items = items[1:]
        if items and items[-1] == (op.AT, op.AT_END):
            items = items[:-1]
        self.end = self.sequence(items, self.state())

    def refuse(self, what: str, remedy: str) -> None:
        raise BadExpression(f"The expression {shortened(self.expression)!r} has {what}; {remedy}.")

    def state(self) -> int:
        if len(self.moves) > MOST_STATES:
            self.refuse(f"more than {MOST_STATES} states", "lower the bounds of its repetitions")
        self.moves.append([])
        self.empty.append([])
        return len(self.moves) - 1

    def sequence(self, items: Iterable[tuple[Any, Any]], start: int) -> int:
        """States for `items` one after the other, from `start` on. Returns the state behind them."""
        for kind, value in items:
            start = self.item(kind, value, start)
        return start

    def item(self, kind: Any, value: Any, start: int) -> int:
        if kind is op.LITERAL:
            return self.characters(((value, value),), start)
        if kind is op.NOT_LITERAL:
            return self.characters(_without(((value, value),)), start)
        if kind is op.ANY:
            return self.characters(self.any, start)
        if kind is op.IN:
            return self.characters(_members(value), start)
        if kind is op.BRANCH:
            end = self.state()
            for option in value[1]:
                begin = self.state()
                self.empty[start].append(begin)
                self.empty[self.sequence(option, begin)].append(end)
            return end
        if kind is op.SUBPATTERN:
            if value[1] or value[2]:
                self.refuse("flags within a group", "write [Yy] for a letter in both cases")
            return self.sequence(value[3], start)
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            return self.repeated(value[2], value[0], value[1], start)
        names = {
            op.AT: "an anchor",
            op.ASSERT: "lookaround",
            op.ASSERT_NOT: "lookaround",
            op.GROUPREF: "a back reference",
        }
        self.refuse(names.get(kind, str(kind).lower()), "it has to match the whole response, by plain means")
        raise AssertionError

    def repeated(self, items: Sequence[tuple[Any, Any]], least: int, most: int, start: int) -> int:
        for _ in range(least):
            start = self.sequence(items, start)
        end = self.state()
        if most is op.MAXREPEAT:
            turn = self.state()
            self.empty[start].append(turn)
            self.empty[self.sequence(items, turn)].append(turn)
            self.empty[turn].append(end)
            return end
        for _ in range(most - least):
            self.empty[start].append(end)
            begin = self.state()
            self.empty[start].append(begin)
            start = self.sequence(items, begin)
        self.empty[start].append(end)
        return end

    def characters(self, ranges: Ranges, start: int) -> int:
        """One character out of `ranges`; what sequences of bytes end alike share its states."""
        end = self.state()
        behind: dict[Ranges, int] = {(): end}

        def state_of(rest: Ranges) -> int:
            if rest not in behind:
                behind[rest] = self.state()
                self.moves[behind[rest]].append((*rest[0], state_of(rest[1:])))
            return behind[rest]

        for encoded in _encoded(ranges):
            self.moves[start].append((*encoded[0], state_of(encoded[1:])))
        return end


def _members(items: Sequence[tuple[Any, Any]]) -> Ranges:
    """The code points of a class in brackets."""
    ranges: list[tuple[int, int]] = []
    for kind, value in items:
        if kind is op.LITERAL:
            ranges.append((value, value))
        elif kind is op.RANGE:
            ranges.append(value)
        elif kind is op.CATEGORY:
            ranges += _category(value)
    negated = bool(items) and items[0][0] is op.NEGATE
    return _without(tuple(ranges)) if negated else tuple(ranges)


@lru_cache(maxsize=len(CATEGORIES))
def _category(category: Any) -> Ranges:
    expression, negated = CATEGORIES[category]
    found = re.finditer(f"{expression}+", "".join(map(chr, range(sys.maxunicode + 1))))
    ranges = tuple((match.start(), match.end() - 1) for match in found)
    return _without(ranges) if negated else ranges


def _without(ranges: Ranges) -> Ranges:
    """All code points but those in `ranges`."""
    rest, begin = [], 0
    for low, high in sorted(ranges):
        if begin < low:
            rest.append((begin, low - 1))
        begin = max(begin, high + 1)
    return (*rest, (begin, sys.maxunicode)) if begin <= sys.maxunicode else tuple(rest)


@lru_cache(maxsize=256)
def _encoded(ranges: Ranges) -> tuple[Ranges, ...]:
    """Sequences of ranges of bytes that spell the code points in `ranges` in UTF-8."""
    found: list[Ranges] = []
    limits = [(0, 0x7F), (0x80, 0x7FF), (0x800, SURROGATES[0] - 1), (SURROGATES[1] + 1, 0xFFFF), (0x10000, 0x10FFFF)]
    pending = [
        (max(low, first), min(high, last)) for low, high in ranges for first, last in limits
        if max(low, first) <= min(high, last)
    ]  # fmt: skip
    while pending:
        low, high = pending.pop()
        cut = _cut(low, high)
        if cut is None:
            found.append(tuple(zip(chr(low).encode(), chr(high).encode(), strict=True)))
        else:
            pending += [(low, cut - 1), (cut, high)]
    return tuple(found)


def _cut(low: int, high: int) -> int | None:
    """Where to cut a range of code points of one length, so that its bytes range independently; None: nowhere."""
    if high <= 0x7F:
        return None
    for bits in (6, 12, 18):
        tail = (1 << bits) - 1
        if low >> bits != high >> bits:
            if low & tail:
                return (low | tail) + 1
            if high & tail != tail:
                return high & ~tail
    return None


def shortened(expression: str, limit: int = 80) -> str:
    return expression if len(expression) <= limit else expression[: limit - 1] + "…"
