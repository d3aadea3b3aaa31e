from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conv_dlm.evaluation import (
    ANSWER_RULES,
    count_annotations,
    flexible_match,
    gsm8k_correct,
    is_well_formed,
    last_number,
    paper_match,
    strict_match,
)

Rule = Callable[[str, str], bool]

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
WRONG_ANNOTATIONS = (
    *("16-3-4=8", "10/3=3", "10/3=3.34", "1/0=0", "2**3=8", "x*2=4", "4=", "=4", "(2+3=5", "9", "2+3=5=5"),
    *("1_0+1=11", "1e3+1=1001", "0x10+1=17", "True+1=2", "9**9**9=1", "__import__('os')=1"),
)
ANSWER = "She has 16 - 3 = <<16-3=13>>13 eggs.\nShe gets 13 * $2 = $<<13*2=26>>26.\n#### 26"


@pytest.mark.parametrize("ending", ["26", "-4", "1,018", "3.50", "$7", ".5", "26\n"])
def test_answers_that_end_in_a_number_are_well_formed(ending: str) -> None:
    assert is_well_formed(f"Some words.\n#### {ending}")


@pytest.mark.parametrize(
    "text", ["", "26", "#### ", "####26", "a #### 26", "#### 26 apples", "#### 26\nmore", "#### 2 6"]
)
def test_other_endings_are_not_well_formed(text: str) -> None:
    assert not is_well_formed(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$1,018", 1018),
        ("-4", -4),
        ("it is -$4.50", Fraction(-9, 2)),
        ("18.00", 18),
        ("about 18.", 18),
        ("5-3", 3),
        ("(2)-3", 3),
        ("2 and .5", Fraction(1, 2)),
        ("#### 26", 26),
        ("none at all", None),
        ("", None),
    ],
)
def test_last_number(text: str, number: Fraction | None) -> None:
    assert last_number(text) == number


def test_answers_are_compared_as_numbers() -> None:
    assert gsm8k_correct("#### $1,018.00", "so\n#### 1018")
    assert not gsm8k_correct("#### 18", "#### -18")
    assert not gsm8k_correct("no idea", "#### 18")
    with pytest.raises(ValueError, match="holds no number"):
        gsm8k_correct("18", "eighteen")


@pytest.mark.parametrize(
    "annotation",
    ["16-3-4=9", ".5*6=3", "10/3=3.33", "5 * (2 + 3) = 25", "0.2*1,000=200", "20*.01=0.20", "-3+5=2", "05*2=10"],
)
def test_right_annotations(annotation: str) -> None:
    assert count_annotations(f"so <<{annotation}>>.") == (1, 1)


@pytest.mark.parametrize("annotation", WRONG_ANNOTATIONS)
def test_wrong_annotations(annotation: str) -> None:
    assert count_annotations(f"so <<{annotation}>>.") == (0, 1)


def test_annotations_are_counted_in_the_whole_text() -> None:
    assert count_annotations(ANSWER) == (2, 2)
    assert count_annotations(ANSWER + " <<1+1=2") == (2, 3), "an annotation that is never closed is wrong"
    assert count_annotations("nothing to work out") == (0, 0)


REFERENCE = "She has 9*2=<<9*2=18>>18 dollars.\n#### 18"
# text -> the rules by which it is right
VERDICTS = {
    "#### 18": "strict flexible number paper",
    "so\n#### 18\n\nMore words.": "strict flexible number paper",
    "#### $18": "flexible number",
    "She has $18": "flexible number",
    "She has 18.": "flexible number paper",
    "#### 18.": "strict flexible number paper",
    "#### 18.00": "number",
    "#### 18\n#### 20": "strict",
    "#### 20\n#### 18": "flexible number paper",
    "#### 18 ...": "strict number paper",
    "#### -18": "paper",
    "20-18": "paper number",
    "####18": "flexible number paper",
    "It is 1,8": "flexible number paper",
    "eighteen": "",
    "": "",
}


@pytest.mark.parametrize(("text", "rules"), VERDICTS.items())
def test_verdicts(text: str, rules: str) -> None:
    assert {name for name, rule in ANSWER_RULES.items() if rule(text, REFERENCE)} == set(rules.split())


@pytest.mark.parametrize("rule", ANSWER_RULES.values(), ids=list(ANSWER_RULES))
@pytest.mark.parametrize("ending", ["18", "-4", "1,018", "2.5"])
def test_a_reference_is_right_by_its_own_measure(rule: Rule, ending: str) -> None:
    reference = f"Some words.\n#### {ending}"
    # commas go from the text only; a sign and decimals are no part of what is found
    never_right = rule is paper_match and ending != "18"
    assert rule(reference, reference) is not never_right


def test_the_papers_rule_needs_a_whole_reference() -> None:
    with pytest.raises(ValueError, match="'18' has no `#### number`"):
        paper_match("18", "18")


@pytest.fixture(scope="module")
def harness() -> dict[str, Rule]:
    """The harness's own filters and metric under its own file of the task."""
    extraction = pytest.importorskip("lm_eval.filters.extraction")
    from lm_eval.api.metrics import exact_match_fn
    from yaml import safe_load

    # `lm_eval.tasks` itself takes seconds to import
    file = Path(extraction.__file__).parents[1] / "tasks" / "gsm8k" / "gsm8k.yaml"
    task = safe_load(file.read_text(encoding="utf-8"))
    (metric,) = task["metric_list"]
    options = {key: metric[key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}

    def rule(described: dict[str, Any]) -> Rule:
        regex, first = described["filter"]
        assert (regex.pop("function"), first) == ("regex", {"function": "take_first"})
        apply = extraction.RegexFilter(**regex).apply

        def verdict(text: str, reference: str) -> bool:
            (found,) = (responses[0] for responses in apply([[text]], [{}]))
            return bool(exact_match_fn(predictions=[found], references=[reference], **options)["exact_match"])

        return verdict

    return {described["name"]: rule(described) for described in task["filter_list"]}


PIECES = [
    "#### ",
    "####",
    "18",
    "1,018",
    "$",
    ".",
    ",",
    "-",
    "-18",
    "...",
    " ",
    "\n",
    "[invalid]",
    "[INVALID]",
    "İ",
    "\0",
    "٣",
]
tricky_texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))


@QUICK
@given(text=tricky_texts, reference=tricky_texts)
@example(text="nothing", reference="[Invalid]")
@example(text="#### 18", reference="#### 18.\0,")
@example(text="#### 18.,", reference="18.")
@example(text="$$", reference="")
@example(text="18", reference="18.\n")
def test_verdicts_are_the_harness_own(harness: dict[str, Rule], text: str, reference: str) -> None:
    assert strict_match(text, reference) == harness["strict-match"](text, reference)
    assert flexible_match(text, reference) == harness["flexible-extract"](text, reference)


@pytest.mark.parametrize("text", VERDICTS)
@pytest.mark.parametrize("reference", [REFERENCE, "#### 1,018", "#### -18", "18", "#### 18 ", "#### $18."])
def test_verdicts_on_answers_are_the_harness_own(harness: dict[str, Rule], text: str, reference: str) -> None:
    assert strict_match(text, reference) == harness["strict-match"](text, reference)
    assert flexible_match(text, reference) == harness["flexible-extract"](text, reference)
