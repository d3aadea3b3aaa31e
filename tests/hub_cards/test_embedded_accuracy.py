"""The embedded model still answers as its card says: 64 easy problems by its own command, on a shorter canvas."""

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.cli import main
from hub_cards import cards

QUESTIONS = 64
ERRORS = 4.0


def test_it_is_as_often_right_as_its_card_says(tmp_path: Path) -> None:
    about = yaml.safe_load((cards.HERE / EMBEDDED_NAME / "card.yaml").read_text())
    said = cards.record(about["records"]["easy"])
    program, *words = shlex.split(said["runs"][0]["command"])
    assert program == "conv-dlm"
    replaced = {"--output": str(tmp_path / "run"), "--questions": str(QUESTIONS)}
    for name, value in replaced.items():
        words[words.index(name) + 1] = value
    words += ["--dtype", "float32", "--steps", "80", "--max-new-tokens", "80"]  # the last of two counts
    assert main(words) == 0
    found: Any = json.loads((tmp_path / "run" / "results.json").read_text())
    (mean, error), (expected, its_error) = found["figures"]["accuracy"], said["figures"]["accuracy"]
    assert found["n"] == QUESTIONS
    assert mean > expected - ERRORS * (error**2 + its_error**2) ** 0.5
