"""Several positions at once: the best choice of classes that can be completed together, or a draw of one.

Tokens that are each allowed need not be allowed together. The best choice is Viterbi's path through the automaton, in
which an open position costs nothing; for one block of positions that is DINGO (arXiv 2505.23061). A draw can't count
paths likewise: where positions stay open between those that are chosen, one choice has many paths, and would be drawn
as many times too often. So its forward pass goes over sets of states, of which a choice has exactly one.
Suffixes: L positions of one row's region, S states, C classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from conv_dlm.constraints.feasibility import NOTHING, OPEN, StateSets

Weights = Mapping[int, np.ndarray]  # position -> log weight of each class, float64 [C], -inf for never


def best_choice(sets: StateSets, line: Sequence[int], weights: Weights) -> dict[int, int] | None:
    """The most probable classes of the positions in `weights` that can be completed together, the others staying as
    they are: position -> class, or None where there is no such choice.

    line: class of each position of the region, or `OPEN`; what stands at the positions in `weights` isn't looked at.
    """
    positions = sorted(weights)
    if not positions:
        return {}
    first, last = positions[0], positions[-1]
    automaton = sets.automaton
    source, target, begin = automaton.edges
    _, arc_class, _ = automaton.arcs
    before = sets.forwards(line[:first])[-1]
    behind = sets.backwards(line[last + 1 :])[0]
    value = np.where(sets.members[before], 0.0, -np.inf)
    values, costs = [value], []
    for position in range(first, last + 1):
        if position in weights:
            cost = np.maximum.reduceat(weights[position][arc_class], begin) if len(begin) else np.zeros(0)
        elif line[position] < 0:
            cost = np.zeros(len(source))
        else:
            cost = np.where(_has_class(sets, line[position]), 0.0, -np.inf)
        value = np.full(automaton.states, -np.inf)
        np.maximum.at(value, target, values[-1][source] + cost)
        values.append(value)
        costs.append(cost)
    value = np.where(sets.members[behind], value, -np.inf)
    state = int(value.argmax())
    if value[state] == -np.inf:
        return None
    choice = {}
    for position in range(last, first - 1, -1):
        into = slice(np.searchsorted(target, state, "left"), np.searchsorted(target, state, "right"))
        total = values[position - first][source[into]] + costs[position - first][into]
        edge = into.start + int(total.argmax())
        if position in weights:
            end = begin[edge + 1] if edge + 1 < len(begin) else len(arc_class)
            classes = arc_class[begin[edge] : end]
            choice[position] = int(classes[weights[position][classes].argmax()])
        state = int(source[edge])
    return choice


def draw_choice(
    sets: StateSets, line: Sequence[int], weights: Weights, noise: Sequence[float]
) -> dict[int, int] | None:
    """One choice of classes for the positions in `weights` that can be completed, the others staying as they are, drawn
    with a probability proportional to the product of its weights: position -> class, or None where there is none.

    noise: for each position of the region a number that is uniform in [0, 1).
    """
    positions = sorted(weights)
    if not positions:
        return {}
    first, last = positions[0], positions[-1]
    before = sets.forwards(line[:first])[-1]
    behinds = _behinds(sets, line, weights, first)
    # forward filtering: set of states -> log of the summed weight of the choices that lead to it
    layer = {sets.meet(before, behinds[first]): 0.0}
    layers = [layer]
    for position in range(first, last + 1):
        parts: dict[int, list[float]] = {}
        for here, total in layer.items():
            for there, classes in _moves(sets, here, line[position], behinds[position + 1], position in weights):
                weight = _log_sum(weights[position][classes]) if position in weights else 0.0
                if weight > -np.inf:
                    parts.setdefault(there, []).append(total + weight)
        layer = {there: _log_sum(np.array(totals)) for there, totals in parts.items()}
        layers.append(layer)
    if not layer:
        return None
    # backward sampling, from whichever set the last position leads to
    choice: dict[int, int] = {}
    chosen_set: int | None = None
    for position in range(last, first - 1, -1):
        options: list[tuple[int, int]] = []
        sums: list[np.ndarray] = []
        for here, total in layers[position - first].items():
            for to, classes in _moves(sets, here, line[position], behinds[position + 1], position in weights):
                if chosen_set is None or to == chosen_set:
                    of_each = weights[position][classes] if position in weights else np.zeros(1)
                    options += [(here, class_) for class_ in classes.tolist()]
                    sums.append(total + of_each)
        chosen_set, class_ = options[_pick(np.concatenate(sums), noise[position])]
        if position in weights:
            choice[position] = class_
    return choice


def _behinds(sets: StateSets, line: Sequence[int], weights: Weights, first: int) -> list[int]:
    """B_i for each i from `first` on, with a chosen position as open as an open one: of a set of states only these
    matter. What stands before `first` is not looked at."""
    opened = [OPEN if position in weights else class_ for position, class_ in enumerate(line)]
    return [NOTHING] * first + sets.backwards(opened[first:])


def _moves(sets: StateSets, here: int, class_: int, behind: int, chosen: bool) -> list[tuple[int, np.ndarray]]:
    """Where a position leads from the set `here`: sets that are not empty once they are cut to `behind`, each with the
    classes that lead there."""
    if here == NOTHING:
        return []
    if not chosen:
        there = sets.meet(sets.ahead(here, class_), behind)
        return [(there, np.array([class_]))] if there != NOTHING else []
    groups: dict[int, list[int]] = {}
    for option in np.flatnonzero(sets.allowed(here, behind)).tolist():
        groups.setdefault(sets.meet(sets.ahead(here, option), behind), []).append(option)
    return [(there, np.array(classes)) for there, classes in groups.items()]


def _has_class(sets: StateSets, class_: int) -> np.ndarray:
    """bool [E]: the edges that a class joins."""
    bits = sets.automaton.classes_of_edges[:, class_ // 8]
    return (bits >> (7 - class_ % 8)) & 1 > 0


def _log_sum(values: np.ndarray) -> float:
    top = values.max(initial=-np.inf)
    return float(top + np.log(np.exp(values - top).sum())) if top > -np.inf else -np.inf


def _pick(log_weights: np.ndarray, noise: float) -> int:
    """An index drawn with a probability proportional to exp of its weight."""
    cumulative = np.exp(log_weights - log_weights.max()).cumsum()
    return min(int(np.searchsorted(cumulative, noise * cumulative[-1], side="right")), len(log_weights) - 1)
