"""The automaton of an expression against Python's own `re`."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conv_dlm.constraints.byte_automaton as compiling
from conv_dlm.constraints import BadExpression, Choice, ConstraintError, Regex
from conv_dlm.constraints.byte_automaton import byte_automaton, meet
from conv_dlm.constraints.number_ranges import decimals, integers
from conv_dlm.constraints.token_automaton import token_automaton


def accepts(expression: str, text: str) -> bool:
    automaton, state = byte_automaton(expression), 0
    for byte in text.encode():
        state = automaton.delta[state, byte]
        if state < 0:
            return False
    return bool(automaton.accepting[state])


CHARACTERS = "ab-\n\x00é日🎉\x7f\ud7ff\U0010ffff߿ࠀ"
parts = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "é",
        "[a-é]",
        "[^a]",
        "[^b-日]",
        "\\d",
        "\\w",
        "\\s",
        "\\S",
        "\\W",
        "🎉",
        "[🎉-\U0010ffff]",
        "[\\d\\s-]",
    ]
)
expressions = st.recursive(
    parts,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[0]}{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "?", "+", "{2}", "{1,3}", "{2,}", "*?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
    ),
    max_leaves=6,
)


@given(expressions, st.lists(st.text(st.sampled_from(CHARACTERS), max_size=6), min_size=20, max_size=20))
@settings(max_examples=150, deadline=None)
def test_it_matches_what_python_matches(expression, texts):
    for text in texts:
        assert accepts(expression, text) == bool(re.fullmatch(expression, text))


@pytest.mark.parametrize(
    "expression", ["a|ab|b", "(?:a|b)*abb", "é?(?:日|本){2}", "[^a]{0,3}", "(?:ab){1,4}|(?:abab)+", "-?\\d+"]
)
def test_no_two_states_accept_the_same(expression):
    automaton = byte_automaton(expression)
    delta = np.unique(automaton.delta, axis=1)
    different = automaton.accepting[:, None] != automaton.accepting[None, :]
    for _ in range(len(delta)):
        padded = np.pad(different, ((0, 1), (0, 1)), constant_values=True)  # a move to nowhere differs from any other
        padded[-1, -1] = False
        for column in delta.T:
            different = different | padded[np.ix_(column, column)]
    assert (different | np.eye(len(delta), dtype=bool)).all()


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(a", "can't be read"),
        ("(a)\\1", "a back reference"),
        ("a(?=b)", "lookaround"),
        ("(?<!a)b", "lookaround"),
        ("a\\b", "an anchor"),
        ("a^b", "an anchor"),
        ("(?i)yes", "flags"),
        ("(?i:yes)", "flags"),
        ("a*+", "possessive"),
        ("[^\\s\\S]", "matches no string"),
        ("(?:[ab]*a[ab]{16})", "more than 50000 states"),
        (".{1000}" * 50, "states"),
    ],
)
def test_what_is_not_regular_or_empty_is_named(expression, words):
    with pytest.raises(BadExpression, match=re.escape(words)):
        Regex(expression)


def test_anchors_at_both_ends_say_what_holds_anyway():
    assert accepts("^ab$", "ab")
    assert not accepts("^ab$", "xab")


def test_choices_are_taken_letter_by_letter():
    texts = ["a.b", "(", "ja|nein", "Ünï\n🎉", "a", "ab", "[^\\]", "-#&~"]
    for text in texts:
        assert accepts(Choice(texts).expression, text)
    assert not accepts(Choice(texts).expression, "axb")


@pytest.mark.parametrize("texts", [[], "yes", ["a", ""], [1]])
def test_a_choice_is_a_list_of_texts(texts):
    with pytest.raises(ConstraintError, match="list of texts"):
        Choice(texts)


def test_meet_says_what_is_common_and_what_is_contained():
    assert meet(byte_automaton("a|b"), byte_automaton("b|c")) == (True, False)
    assert meet(byte_automaton("ab?"), byte_automaton("a.*|b")) == (True, True)
    assert meet(byte_automaton("aa"), byte_automaton("a")) == (False, False)


bounds = st.one_of(st.none(), st.integers(-300, 300), st.integers(-12, 12))


@given(bounds, bounds)
@settings(max_examples=100, deadline=None)
def test_ranges_of_integers(low, high):
    expression = integers(low, high)
    for number in range(-350, 350):
        inside = (low is None or number >= low) and (high is None or number <= high)
        assert bool(expression and re.fullmatch(expression, str(number))) == inside


@given(bounds, bounds, st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_ranges_of_decimals(low, high, without_low, without_high):
    expression = decimals(low, high, without_low, without_high)
    for tenths in [*range(-3200, 3200, 7), *range(-3200, 3200, 10)]:
        for text in {f"{tenths / 10:.1f}", f"{tenths / 10:.3f}", str(tenths // 10)}:
            value = float(text)
            above = low is None or value > low or (value == low and not without_low)
            below = high is None or value < high or (value == high and not without_high)
            assert bool(expression and re.fullmatch(expression, text)) == (above and below)


@pytest.mark.parametrize(("expression", "more"), [("a{%d}", 2), ("[a-c]{3,%d}x*", None)])
def test_the_work_for_a_long_text_grows_with_its_length(monkeypatch, expression, more):
    """It has as many states in a row as characters: none may be looked at as often as there are others."""
    looked_at: list[int] = []
    for where, name in ((compiling, "_spans"), (np, "column_stack")):
        original = getattr(where, name)

        def counting(*given, original=original):
            found = original(*given)
            looked_at.append(len(found))
            return found

        monkeypatch.setattr(where, name, counting)
    work = []
    for length in (400, 800):
        looked_at.clear()
        automaton = byte_automaton(expression % length)
        if more is not None:
            its = token_automaton(automaton, [bytes([byte]) for byte in range(128)], (128,))
            assert (its.states, its.least[0]) == (length + more, length)
        work.append(sum(looked_at))
    assert work[1] < 2.2 * work[0]


@pytest.mark.parametrize("expression", ["[ab]{0,9}", "(ab|cb)*d?", "x(a{2,4}|b*)y", "(a|b)*abb", "(ab|ac){1,3}z*"])
def test_no_two_states_are_alike(expression):
    """By Moore's refinement, from acceptance alone."""
    delta, accepting = byte_automaton(expression)
    classes = accepting.tolist()
    for _ in classes:
        numbers: dict[tuple[int, ...], int] = {}
        rows = [(own, *(-1 if to < 0 else classes[to] for to in row)) for own, row in zip(classes, delta, strict=True)]
        classes = [numbers.setdefault(row, len(numbers)) for row in rows]
    assert len(set(classes)) == len(classes)
