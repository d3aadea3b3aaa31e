"""Results of `generate` stay what they were, token for token; see `recorded`."""

import json

import pytest

from tests.generation.recorded import PATH, all_runs, models, run

RECORDED = json.loads(PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tiny_models():
    return models()


@pytest.mark.parametrize(
    ("kind", "name", "prompts", "keywords"), [pytest.param(*case, id=case[1]) for case in all_runs()]
)
def test_as_recorded(tiny_models, kind, name, prompts, keywords):
    assert run(tiny_models[kind], prompts, keywords) == RECORDED[name]


def test_every_recorded_run_is_compared():
    assert RECORDED.keys() == {name for _, name, *_ in all_runs()}
