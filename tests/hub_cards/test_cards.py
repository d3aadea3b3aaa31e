"""The cards here: no figure that is not in a record, none that has become wrong, and the Hub's own rules."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from jinja2 import Environment

from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.answering.loading import identity, load_model
from conv_dlm.hub import stage
from conv_dlm.hub.checks import problems
from hub_cards import cards
from trainers import model_card

FOLDERS = cards.folders()
NAMES = ["GSM8K", "R2FT", "LLaDA-8B", "Apache-2.0", "4-grams", "#### n", "float32", "bfloat16"]


def typed(text: str) -> str:
    """What of a text was typed: without expressions, code, addresses, names and the numbers of a list."""
    nodes = Environment().lex(text)
    data = " ".join(value for _, kind, value in nodes if kind == "data")
    data = re.sub(r"```.*?```|`[^`]*`|https?://\S+|^\s*\d+\. ", "", data, flags=re.DOTALL | re.MULTILINE)
    for name in NAMES:
        data = re.sub(re.escape(name), "", data, flags=re.IGNORECASE)
    return data


def texts(about: dict[str, Any]) -> list[str]:
    """The words of a `card.yaml` that stand in the card, and the names of its results."""
    parts = [about.get(name, "") for name in ("about", "history", "hardware", "versions", "rows")]
    parts += about["sections"].values()
    return parts + [result[name] for result in about.get("results", []) for name in ("name", "dataset_name")]


def about(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "card.yaml").read_text())


def test_every_checkpoint_has_a_card() -> None:
    assert [folder.name for folder in FOLDERS] == ["conv-dlm-word-problems"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_card_is_what_its_records_make(folder: Path) -> None:
    assert (folder / "README.md").read_text() == cards.card(folder), "run python -m hub_cards.cards"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_figure_is_typed(folder: Path) -> None:
    for text in texts(about(folder)):
        assert not re.search(r"\d", typed(text)), typed(text)
    template = Path(model_card.__file__).with_name("model_card.jinja").read_text()
    assert not re.search(r"\d", typed(template))


def test_typed_figures_would_be_found() -> None:
    assert re.search(r"\d", typed("{{ a }} 97.3 % right"))
    assert re.search(r"\d", typed("1. rows: 12"))
    assert not re.search(r"\d", typed("{{ 97.3 }} of GSM8K, `12`\n1. {% for n in range(3) %}x{% endfor %}"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_another_figure_in_a_record_is_another_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record that a card names is used in it."""
    real = cards.record
    for path in about(folder)["records"].values():
        changed = _times_seven(copy.deepcopy(real(path)))
        with monkeypatch.context() as patch:
            patch.setattr(cards, "record", lambda p, path=path, changed=changed: changed if p == path else real(p))
            assert cards.card(folder) != (folder / "README.md").read_text(), path


def _times_seven(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _times_seven(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_times_seven(inner) for inner in value]
    return value * 7 if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_hub_understands_the_metadata(folder: Path) -> None:
    data = ModelCard((folder / "README.md").read_text(), ignore_metadata_errors=False).data
    assert data.license and data.pipeline_tag == "text-generation"
    results = data.eval_results or []
    assert len(results) == len(about(folder).get("results", []))
    assert all(result.metric_args["standard_error"] > 0 and result.metric_args["n"] >= 16 for result in results)


def test_results_are_of_these_weights() -> None:
    model, _ = load_model()
    records = about(cards.HERE / EMBEDDED_NAME)["records"]
    weights = {cards.record(path)["settings"]["weights"] for name, path in records.items() if name != "training"}
    assert weights == {identity(None, model)["weights"]}


def test_the_embedded_checkpoint_is_ready_to_be_pushed(tmp_path: Path) -> None:
    assert problems(stage(cards.HERE / EMBEDDED_NAME, tmp_path / "staged")) == []
