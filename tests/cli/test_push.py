"""`conv-dlm push`: what it shows, what it refuses, what it uploads."""

import re
from pathlib import Path

import pytest

from conv_dlm.cli.push import in_words
from tests.cli.conftest import Run
from tests.hub.conftest import LocalHub
from tests.hub.conftest import hub as hub
from tests.hub.test_staging import CARD


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "README.md").write_text(CARD)
    (folder / "optimizer.pt").write_bytes(b"")
    return folder


def test_a_dry_run_shows_what_would_go_and_uploads_nothing(run: Run, hub: LocalHub, folder: Path) -> None:
    code, out, err = run("push", folder, "--repo-id", "me/model", "--dry-run")
    assert code == 0 and "Nothing was uploaded" in err
    assert out.startswith("model for me/model\n")
    assert re.search(r"added by conv-dlm, \d+ files", out) and "modeling_llada.py" in out
    assert out.partition("left out:")[2].split()[0] == "optimizer.pt"
    assert hub.created == [] and hub.repos == {}


def test_an_upload(run: Run, hub: LocalHub, folder: Path) -> None:
    code, out, _ = run("push", folder, "--repo-id", "me/model", "--private", "--commit-message", "First")
    assert code == 0 and out.splitlines()[-1].startswith(hub.address)
    assert {"README.md", "modeling_llada.py", "model.safetensors"} <= hub.repos["model", "me/model"].keys()
    assert "optimizer.pt" not in hub.repos["model", "me/model"]
    assert hub.created[0]["visibility"] == "private" and hub.commits[0]["summary"] == "First"


def test_the_staged_folder_may_stay(run: Run, folder: Path, tmp_path: Path) -> None:
    assert run("push", folder, "--dry-run", "--stage", tmp_path / "staged").code == 0
    assert (tmp_path / "staged" / "modeling_llada.py").is_file()


def test_what_is_wrong_is_told_before_anything_is_made(run: Run, hub: LocalHub, folder: Path) -> None:
    (folder / "README.md").write_text(CARD.replace("license: mit\n", "") + "[more](docs/more.md)")
    code, out, err = run("push", folder, "--repo-id", "me/model")
    assert (
        code == 2 and "wrong: README.md links to 'docs/more.md'" in err and "advice: The card names no licence" in err
    )
    assert "README.md" in out and hub.created == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "`--repo-id` is needed to upload"),
        (("--repo-id", "me/my/model"), "Repo id must be in the form"),
        (("--dry-run", "--base-model", "x/y"), "`base_model`='x/y' has no effect"),
        (("--dry-run", "--stage", "."), "is not an empty folder"),
    ],
)
def test_mistakes_are_told_in_one_line(run: Run, folder: Path, words: tuple[str, ...], said: str) -> None:
    code, out, err = run("push", folder, *words)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


def test_sizes() -> None:
    assert [in_words(n) for n in (0, 999, 1000, 62_483_352, 16e9)] == ["0 B", "999 B", "1.0 kB", "62.5 MB", "16.0 GB"]
