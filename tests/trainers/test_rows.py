"""How rows end: EOS behind the end of a turn, canvases that some rows in a row share."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from trainers import MDLMTrainingConfig
from trainers.rows import RowEnds

EOS, TURN_END = 0, 4
TOKENIZER: Any = SimpleNamespace(eos_token_id=EOS, all_special_ids=[EOS, TURN_END], decode=lambda ids: "x" * len(ids))
ENDS = RowEnds(
    tokenizer=TOKENIZER,
    seed=0,
    max_extra=0,
    canvases=[],
    canvas_share=1.0,
    canvas_rows=1,
    max_length=None,
    keep_end=False,
    covered=True,
)
IDS, LABELS = [9, 7, 8, TURN_END], [-100, 7, 8, TURN_END]


def test_an_eos_stands_behind_the_end_of_a_turn():
    assert ENDS(IDS, LABELS, 0, "train") == ([*IDS, EOS], [*LABELS, EOS])
    assert ENDS([9, 7, EOS], [-100, 7, EOS], 0, "train") == ([9, 7, EOS], [-100, 7, EOS])
    assert ENDS([9, 7], [-100, 7], 0, "train") == ([9, 7], [-100, 7])  # cut off, or unfinished


def test_an_eos_needs_room():
    assert replace(ENDS, max_length=5)(IDS, LABELS, 0, "train") == ([*IDS, EOS], [*LABELS, EOS])
    assert replace(ENDS, max_length=4)(IDS, LABELS, 0, "train") == (IDS, LABELS)
    assert replace(ENDS, max_length=3)(IDS, LABELS, 0, "train") == (IDS[:3], LABELS[:3])


def test_rows_in_a_row_share_their_canvas():
    ends = replace(ENDS, canvases=[32, 16, 8], canvas_share=0.5, canvas_rows=4)
    lengths = [sum(label != -100 for label in ends(IDS, LABELS, index, "train")[1]) for index in range(400)]
    groups = [lengths[first : first + 4] for first in range(0, 400, 4)]
    assert all(len(set(group)) == 1 for group in groups)
    counts = {length: sum(group[0] == length for group in groups) for length in (4, 8, 16, 32)}
    assert sum(counts.values()) == 100
    assert 35 <= counts[4] <= 65 and all(8 <= counts[length] <= 27 for length in (8, 16, 32))


@pytest.mark.parametrize(
    ("settings", "canvases"),
    [
        ({}, []),
        ({"canvas_length": 512}, [512]),
        ({"canvas_length": 512, "canvas_shortest": 64}, [512, 256, 128, 64]),
        ({"canvas_length": 100, "canvas_shortest": 30}, [100, 50]),
    ],
)
def test_canvases_are_halves(settings: dict[str, int], canvases: list[int], tmp_path: Any):
    assert MDLMTrainingConfig(str(tmp_path), bf16=False, use_cpu=True, **settings).canvases == canvases


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"canvas_shortest": 64}, "canvas_shortest=64"),
        ({"canvas_length": 32, "canvas_shortest": 64}, "between 1 and `canvas_length=32`"),
        ({"canvas_rows": 0}, "canvas_rows=0"),
    ],
)
def test_impossible_canvases(settings: dict[str, int], message: str, tmp_path: Any):
    with pytest.raises(ValueError, match=message):
        MDLMTrainingConfig(str(tmp_path), bf16=False, use_cpu=True, **settings)
