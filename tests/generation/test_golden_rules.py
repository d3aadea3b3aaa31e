"""The field's rules against complete runs of their published implementations, canvas by canvas."""

import itertools
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conv_dlm import SettingError
from conv_dlm.generation.parts.frequency import TOKEN_FREQUENCIES, relative_frequencies
from tests.generation import test_lossless  # noqa: F401 - its runs count
from tests.generation.golden import (
    COVERED,
    DIFFERS,
    NOT_OURS,
    RULES,
    RUNS,
    cases,
    ends,
    equal_canvases,
    ours,
    rule_of,
    toy,
)
from tests.generation.toy_rules import EOS, GOLDEN, MASK


@pytest.fixture(autouse=True, scope="module")
def frequencies():
    """Those of their runs of PC-Sampler."""
    for name, table in load_file(GOLDEN / "toys.safetensors").items():
        if name.startswith("pc_sampler"):
            TOKEN_FREQUENCIES.register(name, table)
    yield
    TOKEN_FREQUENCIES.clear()


def test_the_toy_is_theirs():
    check, model = load_file(GOLDEN / "toys.safetensors"), toy("p1")
    x = check["check.x"].long().view(-1, check["check.x"].shape[-1])
    assert torch.equal(model(x).logits.view_as(check["check.logits"]), check["check.logits"])


@pytest.mark.parametrize("name", cases("daedal"))
def test_canvases_of_a_length_of_their_own(name):
    """Up to the step that leaves no mask before an end token: there a row of ours ends."""
    run = RUNS[name]
    theirs, out = run["canvas"], ours(run, eos_token_id=EOS)
    length = out.history.shape[2]
    for expected, canvas in zip(theirs, out.history[:-1, 0].tolist(), strict=False):
        assert canvas == expected + [MASK] * (length - len(expected))
    last, text = out.history[-1, 0].tolist(), theirs[len(out.history) - 1]
    end = text.index(EOS, len(run["prompt"])) + 1
    assert last[:end] == text[:end] and MASK not in text[:end]
    assert int(out.forwards) == len(out.history) - 1 and (out.sequences[0, end:] == 0).all()
    assert len({len(canvas) for canvas in theirs[: len(out.history)]}) > 2
    # what is known of a token moves with it; end tokens at the row's end may be pushed out
    texts = [Counter(token for token in canvas if token not in (MASK, EOS)) for canvas in out.history[:, 0].tolist()]
    for step, (before, after) in enumerate(itertools.pairwise(texts)):
        its = Counter(out.history[-1, 0][out.unmasked_at[0] == step].tolist())
        del its[EOS]
        assert its == after - before


def test_frequencies_of_a_text():
    assert relative_frequencies(torch.tensor([[1, 1, 0], [1, 3, 3]]), 5).tolist() == pytest.approx(
        [1 / 6, 3 / 6, 1 / 6, 2 / 6, 1 / 6]
    )
    run = RUNS["pc_sampler.02"]
    assert not torch.equal(ours(run, token_frequencies=None).history, ours(run).history)
    with pytest.raises(SettingError, match="must be one of"):
        ours(run, token_frequencies="mine")


def test_what_a_length_of_its_own_does_not_go_with():
    run = RUNS["daedal.06"]
    for wrong, match in (
        ({}, "finds the text's length"), ({"eos_threshold": 0.9}, "by itself"), ({"lookahead": 64}, "by itself"),
        ({"exit_schedule": "linear"}, "by itself"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=match):
            ours(run, **{"eos_token_id": EOS} if wrong else {}, **wrong)


@pytest.mark.parametrize("name", cases("learn2pd", cut=True))
def test_a_filters_canvases_before_the_cut(name):
    """Theirs is cut off at the best end token, however unlikely; what stands before it is unmasked alike."""
    run = RUNS[name]
    out, theirs = ours(run), run["canvas"]
    for expected, canvas in zip(theirs[:-1], out.history[:, 0].tolist(), strict=False):
        assert canvas[: len(expected)] == expected
    assert out.sequences[0, : len(theirs[-1])].tolist() == theirs[-1]
    assert theirs[-1][-1] == EOS and len(theirs[-1]) < len(theirs[0])


def test_every_recorded_run_is_in_some_test():
    """Or docs/speed.md names it, and says why not."""
    assert RUNS.keys() - NOT_OURS == COVERED
    named = re.findall(r"`(\w+\.\d\d)`", (Path(__file__).parents[2] / "docs" / "speed.md").read_text())
    assert sorted(named) == sorted(NOT_OURS)


@pytest.mark.parametrize("name", cases("lopa"))
def test_canvases_of_the_branches_that_won(name):
    """Theirs are those of each round before it unmasks anything: ours, or with one token more, that of a branch."""
    run = RUNS[name]
    out, branched = ours(run, **ends(run)), 0
    mine = out.history[:, 0].tolist()
    for expected, before, after in zip(run["canvas"], mine, mine[1:], strict=False):
        expected = expected + [MASK] * (len(before) - len(expected))
        new = [place for place, token in enumerate(expected) if token != before[place]]
        assert len(new) <= 1 and all(token in (MASK, after[place]) for place, token in enumerate(expected))
        branched += len(new)
    last, text = mine[-1], run["canvas"][-1]
    end = text.index(EOS, len(run["prompt"])) + 1 if out.finish_reason == ["eos"] else len(text)
    assert last[:end] == text[:end] and branched > 0
    assert len(run["canvas"]) - 3 <= int(out.forwards) <= len(run["canvas"])


@pytest.mark.parametrize("name", cases(*RULES - {"freedave", "daedal", "lopa"}))
def test_canvas_by_canvas(name):
    run = RUNS[name]
    out = ours(run, **ends(run))
    equal, expected = equal_canvases(run, out)
    if name in DIFFERS:
        assert equal == DIFFERS[name][0]
        return
    assert equal == expected
    assert equal - 1 <= int(out.forwards) <= min(run["forwards"], len(out.history) - 1)


@pytest.mark.parametrize("rule", sorted(RULES - {"freedave"}))
def test_rows_of_a_padded_batch(rule):
    """Prompts of different lengths: each row takes the steps of the row alone."""
    run = next(run for run in RUNS.values() if rule_of(run) == rule)
    one, other = run["prompt"], run["prompt"][2:]
    ends = {"eos_token_id": EOS} if rule == "daedal" else {}
    together = ours(run, [one, [-1, -1, *other]], **ends)
    for row, prompt in enumerate((one, other)):
        alone = ours(run, [prompt], **ends)
        steps = len(alone.history)
        assert torch.equal(together.history[:steps, row, 2 * row :], alone.history[:, 0])
        assert int(together.forwards[row]) == int(alone.forwards[0])


@pytest.mark.parametrize("name", ["freedave.06", "lopa.03", "wino.03", "wino.05"])
def test_shifted_logits_take_the_same_steps(name):
    """Of a toy whose logits stand one position earlier: read there on the canvas, in drafts, branches and shadows."""
    run = RUNS[name]
    settings = {"draft_steps": run["settings"]["draft_steps"] - 1} if run["rule"] == "freedave" else {}
    plain, shifted = (ours(run, shifted=shifted, **settings, **ends(run)) for shifted in (False, True))
    again = (plain.history[1:] == MASK) & (plain.history[:-1] != MASK)
    assert run["rule"] != "wino" or again.any()
    assert torch.equal(plain.history, shifted.history) and torch.equal(plain.forwards, shifted.forwards)
