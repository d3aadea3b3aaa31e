"""From a regular expression to the smallest deterministic automaton over bytes.

Tokens come later (token_automaton.py), so that one expression is compiled once for all tokenizers. Suffixes: S states,
G groups of bytes that act alike.
"""

from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from conv_dlm.constraints.errors import BadExpression
from conv_dlm.constraints.expressions import Nondeterministic, shortened

DEAD = -1
MOST_STATES = 50_000
MOST_MEMBERS = 20_000_000  # of all subsets together: some seconds of work, for a server has others to answer


class ByteAutomaton(NamedTuple):
    """A deterministic automaton over bytes, without states that lead nowhere.

    delta: int32 [S, 256]; the state that a byte leads to, -1 for none.
    accepting: bool [S].
    State 0 is the start.
    """

    delta: np.ndarray
    accepting: np.ndarray


@lru_cache(maxsize=64)
def byte_automaton(expression: str) -> ByteAutomaton:
    """The automaton of the strings, in UTF-8, that match the whole `expression`.

    Raises `BadExpression` where it can't be read, is not regular, matches nothing or needs too many states.
    """
    parsed = Nondeterministic(expression)
    found = _determined(parsed)
    if found is None:
        raise BadExpression(
            f"The expression {shortened(expression)!r} needs more than {MOST_STATES} states, or too long to be "
            "compiled; lower the bounds of its repetitions, or of what may stand before them."
        )
    delta, accepting, group_of_byte = found
    source, group = np.nonzero(delta >= 0)
    alive = leads_to(source, delta[source, group], accepting)
    if not alive[0]:
        raise BadExpression(f"The expression {shortened(expression)!r} matches no string.")
    delta = np.where((delta >= 0) & alive[delta], delta, DEAD)
    class_ = _alike(delta, accepting)
    # those that lead nowhere are dropped; the start comes first, the others in the order of their first appearance
    keep = np.flatnonzero(alive)
    _, first = np.unique(class_[keep], return_index=True)
    chosen = keep[np.sort(first)]
    number = np.full(class_.max() + 1, DEAD)
    number[class_[chosen]] = np.arange(len(chosen))
    small = delta[chosen]
    small = np.where(small >= 0, number[class_[small]], DEAD)
    return ByteAutomaton(small[:, group_of_byte].astype(np.int32), accepting[chosen])


def _determined(parsed: Nondeterministic) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The subset construction. Returns the moves, int64 [S, G], what accepts, bool [S], and the group of each byte,
    int64 [256]; None beyond `MOST_STATES` or `MOST_MEMBERS`."""
    cuts = {0, 256}
    for moves in parsed.moves:
        for low, high, _ in moves:
            cuts |= {low, high + 1}
    bounds = sorted(cuts)
    group_of_byte = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    # where each state leads by a byte, empty moves done; only states that do, or accept, are told apart
    told = [bool(moves) or state == parsed.end for state, moves in enumerate(parsed.moves)]
    closures: dict[int, frozenset[int]] = {}

    def closure(state: int) -> frozenset[int]:
        if state not in closures:
            seen, pending = {state}, [state]
            while pending:
                for other in parsed.empty[pending.pop()]:
                    if other not in seen:
                        seen.add(other)
                        pending.append(other)
            closures[state] = frozenset(other for other in seen if told[other])
        return closures[state]

    groups = group_of_byte.tolist()
    by_group = [
        [(group, target) for low, high, target in moves for group in range(groups[low], groups[high] + 1)]
        for moves in parsed.moves
    ]
    start = closure(0)
    numbers, members = {start: 0}, [start]
    rows: list[list[int]] = []
    work = 0
    while len(rows) < len(members):
        targets: defaultdict[int, set[int]] = defaultdict(set)
        for state in members[len(rows)]:
            for group, target in by_group[state]:
                targets[group].add(target)
        row = [DEAD] * (len(bounds) - 1)
        for group, direct in targets.items():
            subset = frozenset().union(*map(closure, direct))
            work += len(direct) + len(subset)
            if work > MOST_MEMBERS:
                return None
            if subset not in numbers:
                numbers[subset] = len(members)
                members.append(subset)
                if len(members) > MOST_STATES:
                    return None
            row[group] = numbers[subset]
        rows.append(row)
    return np.array(rows), np.array([parsed.end in subset for subset in members]), group_of_byte


def _alike(delta: np.ndarray, accepting: np.ndarray) -> np.ndarray:
    """int64 [S]: one number for states that accept the same continuations.

    It begins with the lengths of the shortest and longest continuation, which are the same for states that are alike,
    and tells apart states of a class whose moves lead into different classes. Then only those are looked at again from
    which a move leads into what has a new number. What isn't looked at keeps its number, and so does the largest part
    of a class that is looked at as a whole.
    """
    source, group = np.nonzero(delta >= 0)
    target = delta[source, group]
    lengths = fewest_moves(source, target, accepting), _most_moves(source, target, len(delta))
    _, class_ = np.unique(np.column_stack(lengths), axis=0, return_inverse=True)
    class_ = class_.ravel()
    order = np.argsort(target, kind="stable")
    before, first = source[order], np.searchsorted(target[order], np.arange(len(delta) + 1))
    size = np.bincount(class_, minlength=len(delta))  # of each class, the numbers that there may be at most
    count, looked_at = class_.max() + 1, np.arange(len(delta))
    while len(looked_at):
        moves = delta[looked_at]
        rows = np.column_stack([class_[looked_at], np.where(moves >= 0, class_[moves], DEAD)])
        parts, part, members = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        part, of = part.ravel(), parts[:, 0]
        by_size = np.lexsort((-members, of))
        classes, largest = np.unique(of[by_size], return_index=True)
        whole = np.add.reduceat(members[by_size], largest) == size[classes]
        keeps = np.zeros(len(parts), dtype=bool)
        keeps[by_size[largest[whole]]] = True
        number = np.where(keeps, of, count + np.cumsum(~keeps) - 1)
        np.subtract.at(size, of[~keeps], members[~keeps])
        size[number[~keeps]] = members[~keeps]
        count += np.count_nonzero(~keeps)
        class_[looked_at] = number[part]
        new = looked_at[~keeps[part]]
        looked_at = np.unique(before[_spans(first[new], first[new + 1])])
    return class_


def leads_to(source: np.ndarray, target: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """bool [S]: the states from which one of `goal` [S] can be reached by moves `source` to `target`, int64 [M]."""
    return fewest_moves(source, target, goal) >= 0


def fewest_moves(source: np.ndarray, target: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """int64 [S]: how many moves `source` to `target`, int64 [M], lead from each state into `goal` [S]; -1 where none.

    Each move is looked at once, since a long expression has states as far away as it has characters.
    """
    order = np.argsort(target, kind="stable")
    source, first = source[order], np.searchsorted(target[order], np.arange(len(goal) + 1))
    moves, count = np.where(goal, 0, -1), 0
    reached = np.flatnonzero(goal)
    while len(reached):
        count += 1
        before = np.unique(source[_spans(first[reached], first[reached + 1])])
        reached = before[moves[before] < 0]
        moves[reached] = count
    return moves


def _most_moves(source: np.ndarray, target: np.ndarray, states: int) -> np.ndarray:
    """int64 [S]: how many moves `source` to `target`, int64 [M], can follow from each state; -1 for no bound."""
    order = np.argsort(target, kind="stable")
    left = np.bincount(source, minlength=states)  # moves whose targets have no number yet
    source, first = source[order], np.searchsorted(target[order], np.arange(states + 1))
    moves, count = np.full(states, -1), 0
    known = np.flatnonzero(left == 0)
    while len(known):
        moves[known] = count
        count += 1
        before, times = np.unique(source[_spans(first[known], first[known + 1])], return_counts=True)
        left[before] -= times
        known = before[left[before] == 0]
    return moves


def _spans(first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The numbers from each of `first` to before each of `end`, one span after the other."""
    return np.repeat(first, end - first) + counted(end - first)


def counted(count: np.ndarray) -> np.ndarray:
    """0, 1, ... count - 1 for each entry of `count`, one after the other."""
    return np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)


def meet(left: ByteAutomaton, right: ByteAutomaton) -> tuple[bool, bool]:
    """Whether some string is in both languages, and whether all of `left` is in `right`."""
    seen, queue, both, inside = {(0, 0)}, [(0, 0)], False, True
    while queue:
        one, other = queue.pop()
        both = both or bool(left.accepting[one] and right.accepting[other])
        inside = inside and bool(right.accepting[other] or not left.accepting[one])
        moves = left.delta[one] >= 0
        for pair in set(zip(left.delta[one][moves].tolist(), right.delta[other][moves].tolist(), strict=True)):
            if pair[1] == DEAD:
                inside = False  # every state of `left` leads to a string
            elif pair not in seen:
                seen.add(pair)
                queue.append(pair)
    return both, inside
