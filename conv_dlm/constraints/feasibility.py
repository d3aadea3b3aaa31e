"""Which tokens a canvas still allows, exactly, in any order of unmasking.

F_i is the set of states that what stands before position i can lead to, B_i the set from which what stands behind can
be completed. A class of tokens is allowed at i iff it leads from a state of F_i to one of B_{i+1}. The sets are few and
come back from step to step, so that each is kept under a number and each move from set to set is made once; what is
left is a look into a table for each position, on the CPU, beside the device.
Suffixes: L positions of one row's region, S states, C classes.
"""

from collections.abc import Sequence

import numpy as np

from conv_dlm.constraints.errors import ImpossibleConstraint
from conv_dlm.constraints.token_automaton import START, TokenAutomaton

OPEN = -1  # instead of a class: a position that is still masked
NOTHING = 0  # the number of the empty set


class StateSets:
    """The sets of an automaton's states that were met so far, and what follows from them.

    automaton: over tokens.
    ends: whether end tokens may follow the text; without, it fills its region (infilling before a given text).
    limit: moves that are kept; beyond, all are forgotten.
    """

    def __init__(self, automaton: TokenAutomaton, ends: bool = True, limit: int = 1 << 18) -> None:
        self.automaton = automaton
        self.limit = limit
        final = automaton.final.copy()
        final[-1] = ends
        self._final = final
        self.forget()

    def forget(self) -> None:
        self.members: list[np.ndarray] = []
        self._number: dict[bytes, int] = {}
        self._ahead: dict[tuple[int, int], int] = {}
        self._back: dict[tuple[int, int], int] = {}
        self._allowed: dict[tuple[int, int], np.ndarray] = {}
        self._meet: dict[tuple[int, int], int] = {}
        self.number(np.zeros(self.automaton.states, dtype=bool))
        start = np.zeros(self.automaton.states, dtype=bool)
        start[START] = True
        self.start = self.number(start)
        self.final = self.number(self._final)

    def trim(self) -> None:
        """Forget all, where much is kept. Numbers from before lose their meaning."""
        if len(self._ahead) + len(self._back) + len(self._allowed) + len(self._meet) > self.limit:
            self.forget()

    def number(self, members: np.ndarray) -> int:
        """The number of the set `members`, bool [S]."""
        key = np.packbits(members).tobytes()
        if key not in self._number:
            self._number[key] = len(self.members)
            self.members.append(members)
        return self._number[key]

    def ahead(self, before: int, class_: int) -> int:
        """The set that a position of `class_`, or `OPEN`, leads to from the set `before`."""
        key = (before, class_)
        if key not in self._ahead:
            automaton, members = self.automaton, self.members[before]
            after = np.zeros(automaton.states, dtype=bool)
            if class_ == OPEN:
                source, target, _ = automaton.edges
                after[target[members[source]]] = True
            else:
                target = automaton.delta[members, class_]
                after[target[target >= 0]] = True
            self._ahead[key] = self.number(after)
        return self._ahead[key]

    def back(self, behind: int, class_: int) -> int:
        """The set from which a position of `class_`, or `OPEN`, leads into the set `behind`."""
        key = (behind, class_)
        if key not in self._back:
            automaton, members = self.automaton, self.members[behind]
            if class_ == OPEN:
                source, target, _ = automaton.edges
                before = np.zeros(automaton.states, dtype=bool)
                before[source[members[target]]] = True
            else:
                target = automaton.delta[:, class_]
                before = (target >= 0) & members[target]
            self._back[key] = self.number(before)
        return self._back[key]

    def meet(self, one: int, other: int) -> int:
        """The set of what is in both."""
        key = (one, other)
        if key not in self._meet:
            self._meet[key] = self.number(self.members[one] & self.members[other])
        return self._meet[key]

    def allowed(self, before: int, behind: int) -> np.ndarray:
        """bool [C]: the classes that lead from the set `before` into the set `behind`."""
        key = (before, behind)
        if key not in self._allowed:
            source, target, _ = self.automaton.edges
            taken = self.members[before][source] & self.members[behind][target]
            bits = np.bitwise_or.reduce(self.automaton.classes_of_edges[taken], axis=0)
            self._allowed[key] = np.unpackbits(bits, count=self.automaton.classes).astype(bool)
        return self._allowed[key]

    def forwards(self, line: Sequence[int]) -> list[int]:
        """F_0 .. F_L of the classes, or `OPEN`, that a row's region holds."""
        sets = [self.start]
        for class_ in line:
            sets.append(self.ahead(sets[-1], class_))
        return sets

    def backwards(self, line: Sequence[int]) -> list[int]:
        """B_0 .. B_L of the classes, or `OPEN`, that a row's region holds."""
        sets = [self.final]
        for class_ in reversed(line):
            sets.append(self.back(sets[-1], class_))
        return sets[::-1]

    def feasible(self, line: Sequence[int]) -> bool:
        """Whether some completion of the region is in the language."""
        before = self.start
        for class_ in line:
            before = self.ahead(before, class_)
        return self.meet(before, self.final) != NOTHING

    def check(self, line: Sequence[int]) -> None:
        """Raise `ImpossibleConstraint`, with the reason, where no completion of the region is in the language."""
        if self.feasible(line):
            return
        least = int(self.automaton.least[START])
        if least == self.automaton.states:
            raise ImpossibleConstraint("The tokenizer's tokens spell no string of the constraint's language.")
        if least > len(line):
            raise ImpossibleConstraint(
                f"The constraint needs at least {least} tokens, and there are {len(line)}; raise `max_new_tokens`, or "
                "put more masks where the text is to be filled in.",
                least,
            )
        if all(class_ == OPEN for class_ in line):
            raise ImpossibleConstraint(
                f"No string of the constraint's language fills exactly {len(line)} tokens, which it has to where no "
                f"end token can follow; it needs {least} at least. Change the number of masks."
            )
        at = next(n for n in range(len(line) + 1) if not self._fits(line, n))
        raise ImpossibleConstraint(
            "The given text can't be completed to a string of the constraint's language in "
            f"{len(line)} tokens: it fails at token {at} of them. Change the text, the number of masks or the "
            "constraint."
        )

    def _fits(self, line: Sequence[int], count: int) -> bool:
        """Whether the first `count` positions can be completed if those behind are left open."""
        return self.feasible([*line[:count], *[OPEN] * (len(line) - count)])
