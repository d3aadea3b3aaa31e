"""Allowed tokens, joint choices and draws against a look at all canvases: random expressions, tokens, canvases."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm.constraints.errors import BadExpression, ImpossibleConstraint
from conv_dlm.constraints.feasibility import NOTHING, OPEN, StateSets
from conv_dlm.constraints.joint import best_choice, draw_choice
from tests.constraints.brute_force import MASK, automaton, fitting, language

expressions = st.recursive(
    st.sampled_from(["a", "b", "€", "ab", "[ab]", "[^a]", ".", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "?", "+", "{2}", "{1,3}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)
# whole characters, parts of one, and pieces that cross from one to the next
TOKENS = [b"a", b"b", b"ab", b"ba", b"aa", b"\xe2", b"\x82\xac", "€".encode(), b"b\xe2", b"\x82", b"\xac", b"aba"]


@st.composite
def cases(draw):
    """Expression, tokens (the last ids are no text or end it), ids that end, length of the canvas."""
    tokens = draw(st.lists(st.sampled_from(TOKENS), min_size=2, max_size=5))  # two may be equal
    ends = draw(st.integers(0, 2))
    length = draw(st.integers(1, 5 if len(tokens) < 5 else 4))
    whole = [None, *tokens, *[None] * ends]
    return draw(expressions), whole, list(range(len(tokens) + 1, len(whole))), length


def compiled(case):
    """The automaton, None where there is none, and all lines of the language. `.` and `[^a]` take any byte in an
    expression of bytes, and a whole character in one of text, so that they are written out."""
    expression, tokens, ends, length = case
    readable = expression.replace("[^a]", "(?:b|€)").replace(".", "(?:a|b|€)")
    lines = language(readable, tokens, ends, length)
    try:
        return automaton(readable, tokens, ends), lines
    except BadExpression:
        return None, lines


def line_of(table, canvas):
    return [OPEN if token == MASK else int(table.token_class[token]) for token in canvas]


def allowed_tokens(sets, canvas):
    """bool [L, V], as the library has it."""
    table, line = sets.automaton, line_of(sets.automaton, canvas)
    ahead, back = sets.forwards(line), sets.backwards(line)
    return np.stack([sets.allowed(ahead[i], back[i + 1])[table.token_class] for i in range(len(canvas))])


def check_allowed(case, data):
    table, lines = compiled(case)
    _, _, ends, length = case
    if table is None:
        assert not len(lines)
        return
    sets = StateSets(table)
    canvas = [MASK] * length
    assert sets.feasible(line_of(table, canvas)) == bool(len(lines))
    if not len(lines):
        with pytest.raises(ImpossibleConstraint):
            sets.check(line_of(table, canvas))
        return
    text = (lines[:, :, None] != np.array(ends, dtype=int)).all(2).sum(1)
    if ends:
        assert table.least[0] == text.min()
    for position in data.draw(st.permutations(range(length))):
        fits = fitting(lines, canvas)
        allowed = allowed_tokens(sets, canvas)
        for i in range(length):
            if canvas[i] == MASK:
                assert set(np.flatnonzero(allowed[i])) == set(fits[:, i].tolist())
        choices = sorted(set(fits[:, position].tolist()))
        canvas[position] = choices[data.draw(st.integers(0, len(choices) - 1))]
    assert len(fitting(lines, canvas)) == 1


@given(cases(), st.data())
@settings(max_examples=150, deadline=None)
def test_allowed_tokens_are_those_of_some_completion(case, data):
    check_allowed(case, data)


@pytest.mark.slow
@given(cases(), st.data())
@settings(max_examples=10_000, deadline=None)
@pytest.mark.timeout(3000)
def test_allowed_tokens_are_those_of_some_completion_in_ten_thousand_cases(case, data):
    check_allowed(case, data)


@st.composite
def joint_cases(draw):
    """A case, a seed for its weights, and which positions are decided (from a line of the language) and chosen."""
    case = draw(cases())
    roles = draw(st.lists(st.sampled_from(["open", "given", "chosen"]), min_size=case[3], max_size=case[3]))
    return case, roles, draw(st.integers(0, 2**32 - 1))


def joint(case, roles, seed):
    """(sets, line, class weights, token weights, lines that agree with what is given), or None without a language."""
    table, lines = compiled(case)
    if table is None or not len(lines):
        return None
    random = np.random.default_rng(seed)
    length, vocabulary = case[3], len(table.token_class)
    source = lines[random.integers(len(lines))]
    canvas = [int(source[i]) if roles[i] == "given" else MASK for i in range(length)]
    by_token = {
        i: np.where(random.random(vocabulary) < 0.2, -np.inf, np.log(random.dirichlet(np.ones(vocabulary))))
        for i in range(length)
        if roles[i] == "chosen"
    }
    sums, bests = {}, {}
    for i, log_p in by_token.items():
        sums[i], bests[i] = np.full((2, table.classes), -np.inf)
        np.logaddexp.at(sums[i], table.token_class, log_p)
        np.maximum.at(bests[i], table.token_class, log_p)
    return StateSets(table), line_of(table, canvas), sums, bests, by_token, fitting(lines, canvas)


def check_best(joint_case):
    made = joint(*joint_case)
    if made is None:
        return
    sets, line, _, bests, by_token, fits = made
    choice = best_choice(sets, line, bests)
    totals = sum((by_token[i][fits[:, i]] for i in by_token), np.zeros(len(fits)))
    if totals.max() == -np.inf:
        assert choice is None
        return
    assert sorted(choice) == sorted(by_token)
    assert math.isclose(sum(bests[i][choice[i]] for i in choice), totals.max(), abs_tol=1e-9)
    filled = [choice.get(i, class_) for i, class_ in enumerate(line)]
    assert sets.feasible(filled)


@given(joint_cases())
@settings(max_examples=150, deadline=None)
def test_the_best_choice_is_the_most_probable_that_can_be_completed(joint_case):
    check_best(joint_case)


@pytest.mark.slow
@given(joint_cases())
@settings(max_examples=10_000, deadline=None)
@pytest.mark.timeout(3000)
def test_the_best_choice_is_the_most_probable_in_ten_thousand_cases(joint_case):
    check_best(joint_case)


@given(joint_cases())
@settings(max_examples=100, deadline=None, derandomize=True)  # it is a statistical test
def test_a_draw_has_the_weights_product_as_its_distribution(joint_case):
    """Shares of many draws, and nothing else is drawn."""
    made = joint(*joint_case)
    if made is None:
        return
    sets, line, sums, _, by_token, fits = made
    chosen = sorted(by_token)
    # the choices that can be completed count once, however many completions they have
    wanted: Counter = Counter()
    for tokens in {tuple(row) for row in fits[:, chosen].tolist()}:
        weight = math.exp(sum(by_token[i][token] for i, token in zip(chosen, tokens, strict=True)))
        classes = tuple(int(sets.automaton.token_class[token]) for token in tokens)
        wanted[classes] += weight
    total = sum(wanted.values())
    random = np.random.default_rng(0)
    if total == 0 or not chosen:
        assert not draw_choice(sets, line, sums, random.random(len(line)))
        return
    draws = 400
    seen: Counter = Counter()
    for _ in range(draws):
        choice = draw_choice(sets, line, sums, random.random(len(line)))
        seen[tuple(choice[i] for i in chosen)] += 1
    assert set(seen) <= {key for key, weight in wanted.items() if weight > 0}
    for key, weight in wanted.items():
        share = weight / total
        spread = math.sqrt(share * (1 - share) / draws)
        assert abs(seen[key] / draws - share) < 5 * spread + 1 / draws


def test_a_draw_counts_a_choice_once_however_many_ways_it_can_be_completed():
    """After `a` two texts can follow, after `b` one: a walk over paths would draw `a` twice as often."""
    table = automaton("a(?:c|d)|be", [b"a", b"b", b"c", b"d", b"e"], [])
    sets = StateSets(table)
    weights = np.full(table.classes, -np.inf)
    weights[table.token_class[[0, 1]]] = np.log([0.5, 0.5])
    random = np.random.default_rng(1)
    drawn = Counter(draw_choice(sets, [OPEN, OPEN], {0: weights}, random.random(2))[0] for _ in range(4000))
    assert abs(drawn[table.token_class[0]] / 4000 - 0.5) < 5 * 0.5 / math.sqrt(4000)


def test_what_is_infeasible_is_the_empty_set():
    sets = StateSets(automaton("ab", [b"a", b"b"], []))
    line = [int(sets.automaton.token_class[1]), OPEN]
    assert sets.forwards(line)[-1] == NOTHING
    assert best_choice(sets, line, {1: np.zeros(sets.automaton.classes)}) is None
    assert draw_choice(sets, line, {1: np.zeros(sets.automaton.classes)}, [0.5, 0.5]) is None


def test_forgetting_changes_nothing():
    sets = StateSets(automaton("(a|ba)*b?", [b"a", b"b", b"ab"], []), limit=0)
    canvases = itertools.product([MASK, 0, 1, 2], repeat=4)
    for canvas in canvases:
        line = line_of(sets.automaton, canvas)
        before = allowed_tokens(sets, canvas) if sets.feasible(line) else None
        sets.trim()
        assert len(sets.members) == 3
        if before is not None:
            assert (allowed_tokens(sets, canvas) == before).all()
