"""A folder of samples: gone on with after any crash, never mixed with another run's, nothing overwritten."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm.evaluation.sample_folder import SampleFolder, check_folder

SETTINGS: dict[str, Any] = {"model": "tiny", "steps": 4, "sizes": (1, 2)}


def test_processes_add_to_one_folder(tmp_path: Path) -> None:
    folders = [SampleFolder(tmp_path / "deep" / "run", SETTINGS, rank) for rank in range(2)]
    folders[1].add([{"index": 1}, {"index": 3}])
    folders[0].add([{"run": {}}, {"index": 0, "text": "zwei ü"}])
    folders[1].add([{"index": 5}])
    for folder in folders:
        assert folder.samples() == [
            {"run": {}},
            {"index": 0, "text": "zwei ü"},
            {"index": 1},
            {"index": 3},
            {"index": 5},
        ]
        assert folder.keys("index") == {(0,), (1,), (3,), (5,)}
        assert folder.keys("index", "text") == {(0, "zwei ü")}


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 60))
def test_a_crash_at_any_byte_loses_the_last_line_at_most(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("run")
    rows = [{"index": index, "text": "ü\n"} for index in range(3)]
    SampleFolder(path, SETTINGS).add(rows)
    file = path / "samples-0.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:cut])
    kept = content[:cut].count(b"\n")
    assert SampleFolder(path, SETTINGS, rank=1).samples() == rows[:kept]  # whose file that is not
    folder = SampleFolder(path, SETTINGS)
    assert folder.samples() == rows[:kept]
    folder.add(rows[kept:])
    assert file.read_bytes() == content


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    folder = SampleFolder(tmp_path, SETTINGS)
    folder.add([{"index": 0}])
    with (tmp_path / "samples-0.jsonl").open("ab") as file:
        file.write(b"\x00\x00\n")
    with pytest.raises(ValueError, match=r"samples-0.jsonl, line 2 is damaged; remove the line"):
        folder.samples()


def test_settings_are_kept_and_compared_as_json_has_them(tmp_path: Path) -> None:
    SampleFolder(tmp_path, SETTINGS)
    assert json.loads((tmp_path / "settings.json").read_text()) == SETTINGS | {"sizes": [1, 2]}
    assert SampleFolder(tmp_path, SETTINGS).settings["sizes"] == [1, 2]


def test_another_runs_samples_are_refused_and_kept(tmp_path: Path) -> None:
    SampleFolder(tmp_path, SETTINGS).add([{"index": 0}])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError) as error:
        SampleFolder(tmp_path, {"model": "tiny", "steps": 8, "seed": 0, "sizes": [1, 2]})
    assert "(seed: None, now 0; steps: 4, now 8)" in str(error.value) and "Name another folder" in str(error.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", "mine", "holds 'notes.txt', and no run"),
        ("samples-0.jsonl", "mine", "holds 'samples-0.jsonl', and no run"),
        ("settings.json", "mine", "is not of a run: it is no JSON"),
        ("settings.json", "[]", "is not of a run: it holds a list"),
        ("settings.json", '{"editor.tabSize": 4}', "holds samples of another run (editor.tabSize: 4, now None"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_kept(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError) as error:
        SampleFolder(tmp_path, SETTINGS)
    assert message in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == content


def test_what_can_be_a_folder(tmp_path: Path) -> None:
    check_folder(tmp_path / "none")
    check_folder(tmp_path)
    (tmp_path / ".settings.json.17").touch()  # another process is just writing it
    check_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; name a folder"):
        check_folder(tmp_path / "file")
    assert not (tmp_path / "none").exists()
