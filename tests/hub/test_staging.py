"""What is staged: everything that belongs on the Hub, nothing else, and the source as it was."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model

import conv_dlm
from conv_dlm.hub import Kind, stage
from conv_dlm.hub.checks import advice, problems
from conv_dlm.models.self_contained import code_of
from tests.tiny import random_llada

CARD = "---\nlicense: mit\ntags:\n- conv-dlm\n---\n\n# A model\n"
HUB_CARDS = Path(__file__).parents[2] / "hub_cards"


@pytest.fixture
def run_folder(tiny_llada: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """A model as a trainer leaves it, with much that is nobody's business."""
    folder = tmp_path / "run"
    tiny_llada.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "notes.txt").write_text("to self")
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "optimizer.pt").write_bytes(b"")
    return folder


@pytest.fixture
def adapter_folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2, init_lora_weights=False)
    tuned = get_peft_model(random_llada(), config)
    tuned.peft_config["default"].base_model_name_or_path = str(tiny_checkpoint)
    tuned.save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_model(run_folder: Path, tmp_path: Path) -> None:
    before = contents(run_folder)
    staged = stage(run_folder, tmp_path / "staged")
    assert staged.kind is Kind.MODEL and staged.kind.repo_type == "model"
    assert staged.left_out == ["checkpoint-3/", "notes.txt", "training_args.bin"]
    assert sorted(contents(staged.folder)) == sorted(staged.given + staged.added)
    assert "modeling_llada.py" in staged.added and "generation_loop.py" in staged.added
    assert contents(run_folder) == before
    assert all(contents(staged.folder)[name] == before[name] for name in staged.given if name != "config.json")
    config = json.loads((staged.folder / "config.json").read_text())
    assert config.pop("auto_map") == {
        "AutoConfig": "configuration_llada.LLaDAConfig",
        "AutoModel": "modeling_llada.LLaDAModelLM",
        "AutoModelForMaskedLM": "modeling_llada.LLaDAModelLM",
        "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
    }
    assert config == json.loads(before["config.json"])
    assert problems(staged) == advice(staged) == []
    again = stage(staged.folder, tmp_path / "again")  # what was staged can be staged
    assert contents(again.folder) == contents(staged.folder) and again.left_out == []


def test_weights_are_linked_where_they_can_be(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = run_folder / "model.safetensors"
    assert (stage(run_folder, tmp_path / "linked").folder / weights.name).samefile(weights)

    def refuse(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    copy = stage(run_folder, tmp_path / "copied").folder / weights.name
    assert not copy.samefile(weights) and copy.read_bytes() == weights.read_bytes()


def test_an_adapter_names_its_base_and_loads(adapter_folder: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    staged = stage(adapter_folder, tmp_path / "local")
    assert staged.kind is Kind.ADAPTER and staged.added == []
    assert [sentence for sentence in problems(staged) if "--base-model" in sentence]

    staged = stage(adapter_folder, tmp_path / "named", base_model="someone/tiny-llada")
    assert problems(staged) == []
    config = json.loads((staged.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/tiny-llada"
    assert (
        yaml.safe_load((staged.folder / "README.md").read_text().split("---")[1])["base_model"] == "someone/tiny-llada"
    )
    assert str(tiny_checkpoint) not in "".join(
        (staged.folder / name).read_text() for name in staged.given if name.endswith(("json", "md"))
    )
    (staged.folder / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": str(tiny_checkpoint)})
    )
    ids = torch.arange(4, 20)[None]
    ours, theirs = (AutoPeftModelForCausalLM.from_pretrained(f) for f in (adapter_folder, staged.folder))
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=0, atol=0)


def test_custom_generate_brings_what_it_imports(tmp_path: Path) -> None:
    shutil.copytree(HUB_CARDS / "conv-decoding", tmp_path / "source")
    (tmp_path / "source" / "custom_generate" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "source" / "custom_generate" / "__pycache__" / "generate.pyc").write_bytes(b"")
    staged = stage(tmp_path / "source", tmp_path / "staged")
    assert staged.kind is Kind.CUSTOM_GENERATE and problems(staged) == []
    code = {f"custom_generate/{name}" for name in code_of("conv_dlm.generation.custom_generate")}
    assert {*staged.added} == code
    assert {*contents(staged.folder)} - code == {
        "README.md", "custom_generate/generate.py", "custom_generate/requirements.txt"
    }  # fmt: skip
    assert not any("modeling" in name for name in code)


def test_a_space_brings_the_package_and_its_requirements(tmp_path: Path) -> None:
    staged = stage(HUB_CARDS / "space", tmp_path / "staged")
    assert staged.kind is Kind.SPACE and staged.kind.repo_type == "space"
    assert problems(staged) == [] and "screenshots.py" in staged.left_out
    package = Path(conv_dlm.__file__).parent
    modules = {str(file.relative_to(package.parent)) for file in package.rglob("*.py")}
    assert modules == {name for name in staged.added if name.endswith(".py")}
    assert (staged.folder / "conv_dlm/_embedded/conv-dlm-word-problems/model.safetensors").stat().st_size > 1e6
    index, *lines = (staged.folder / "requirements.txt").read_text().splitlines()
    assert index == "--extra-index-url https://download.pytorch.org/whl/cpu"
    required = {Requirement(line).name for line in lines}
    assert {"torch", "transformers", "accelerate"} <= required and not {"trl", "gradio"} & required


def test_a_staged_space_is_complete(tmp_path: Path) -> None:
    """Its page and its checkpoint are those beside `app.py`."""
    folder = stage(HUB_CARDS / "space", tmp_path / "staged").folder
    code = (
        "import app, conv_dlm.demo.page; print(conv_dlm.demo.page.__file__, conv_dlm.embedded_checkpoint(), sep='\\n')"
    )
    environment = os.environ | {"PYTHONPATH": ""}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert [Path(line).is_relative_to(folder) for line in printed.splitlines()] == [True, True]


def test_what_cannot_be_staged(run_folder: Path, tiny_llama: Any, tmp_path: Path) -> None:
    full, empty, foreign = (tmp_path / name for name in ("full", "empty", "foreign"))
    full.mkdir()
    empty.mkdir()
    (full / "file").write_text("")
    tiny_llama.save_pretrained(foreign)
    for source, target, base, message in (
        (tmp_path / "nowhere", tmp_path / "a", None, "there is no such folder"),
        (empty, tmp_path / "b", None, "holds nothing to push"),
        (run_folder, full, None, "is not an empty folder"),
        (run_folder, tmp_path / "c", "some/base", "is no adapter"),
        (foreign, tmp_path / "d", None, "A 'llama' model is not one of conv-dlm's"),
        (HUB_CARDS, tmp_path / "e", None, "holds nothing to push"),
    ):
        with pytest.raises(ValueError, match=message):
            stage(source, target, base)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("README.md", None, "There is no README.md"),
        ("README.md", "# A model", "README.md has no metadata"),
        ("README.md", "---\nlicense: [\n---\n", "The metadata of README.md are wrong"),
        ("README.md", CARD.replace("tags:", "model-index:\n- name: x\ntags:"), "The metadata of README.md are wrong"),
        ("README.md", CARD + "[more](../docs/more.md)", "README.md links to '../docs/more.md'"),
        ("model.safetensors", None, "There are no weights"),
        ("model.safetensors", "not weights", "model.safetensors cannot be read"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "model-1.safetensors"}}', "names model-1.safetensors"),
        ("tokenizer_config.json", None, "There is no tokenizer"),
    ],
)
def test_problems(run_folder: Path, tmp_path: Path, name: str, content: str | None, said: str) -> None:
    (run_folder / name).unlink() if content is None else (run_folder / name).write_text(content)
    found = problems(stage(run_folder, tmp_path / "staged"))
    assert len(found) == 1 and said in found[0]


def test_code_that_is_not_there_is_missed(run_folder: Path, tmp_path: Path) -> None:
    staged = stage(run_folder, tmp_path / "staged")
    (staged.folder / "generation_canvas.py").unlink()
    assert any(
        sentence.startswith("generation_canvas.py, which modeling_llada.py needs") for sentence in problems(staged)
    )


def test_links_within_the_repository_are_fine(run_folder: Path, tmp_path: Path) -> None:
    text = "[log](notes.png) [weights](model.safetensors) [web](https://example.org/x) [below](#limits) ```[x](y)```"
    (run_folder / "README.md").write_text(CARD + text)
    (run_folder / "notes.png").write_bytes(b"")
    assert problems(stage(run_folder, tmp_path / "staged")) == []


def test_a_licence_is_advised(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "README.md").write_text(CARD.replace("license: mit\n", ""))
    staged = stage(run_folder, tmp_path / "staged")
    assert problems(staged) == [] and "licence" in advice(staged)[0]


def test_the_documented_number_of_files_is_right() -> None:
    text = (HUB_CARDS.parent / "docs" / "hub.md").read_text()
    count = len(code_of("conv_dlm.models.llada.modeling_llada", "conv_dlm.models.llada.configuration_llada"))
    assert f"added by conv-dlm, {count} files" in text and f"needs, {count} small files" in text


def test_links_are_not_followed_out_of_the_folder(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a key")
    source = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, source)
    link = source / "LICENSE"
    for aim in (tmp_path / "secret", Path("/etc/hostname"), Path("../secret"), Path("/dev/zero"), tmp_path / "nowhere"):
        link.symlink_to(aim)
        with pytest.raises(ValueError, match=r"LICENSE is a link to .* outside of the folder"):
            stage(source, tmp_path / "staged")
        assert not (tmp_path / "staged").exists()
        link.unlink()
    link.symlink_to("config.json")  # inside
    assert "LICENSE" in stage(source, tmp_path / "staged").given


def test_a_folder_of_the_hub_s_cache_is_pushed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Its files are links to the cache's own store."""
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in tiny_checkpoint.iterdir():
        shutil.copy(file, blobs / file.name)
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert "config.json" in stage(snapshot, tmp_path / "staged").given
