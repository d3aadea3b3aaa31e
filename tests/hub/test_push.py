"""Uploads, to a Hub that runs here, by the command and by `push_to_hub`."""

import json
from pathlib import Path
from typing import Any

import pytest

from conv_dlm.hub import push, stage
from conv_dlm.models.self_contained import code_of
from tests.hub.conftest import LocalHub
from tests.hub.test_staging import CARD

CODE = {*code_of("conv_dlm.models.llada.modeling_llada", "conv_dlm.models.llada.configuration_llada")}


@pytest.fixture
def folder(tiny_llada: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    tiny_llada.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text(CARD)
    return tmp_path / "model"


def test_what_is_staged_is_uploaded(hub: LocalHub, folder: Path, tmp_path: Path) -> None:
    staged = stage(folder, tmp_path / "staged")
    address = push(staged, "me/model", private=True, revision="tuned", commit_message="A better one")
    files = {str(file.relative_to(staged.folder)): file.read_bytes() for file in staged.folder.iterdir()}
    assert hub.repos["model", "me/model"] == files
    assert hub.created[0]["visibility"] == "private"
    assert {(commit["summary"], commit["revision"]) for commit in hub.commits} == {("A better one", "tuned")}
    assert address.startswith(hub.address)


def test_a_pull_request(hub: LocalHub, folder: Path, tmp_path: Path) -> None:
    assert push(stage(folder, tmp_path / "staged"), "me/model", create_pr=True).endswith("/me/model/discussions/1")
    assert {commit["revision"] for commit in hub.commits} == {"refs/pr/1"}


def test_nothing_is_made_where_something_is_wrong(hub: LocalHub, folder: Path, tmp_path: Path) -> None:
    hub.refused = 'license "mitt" is not known'
    with pytest.raises(ValueError, match="is not known"):
        push(stage(folder, tmp_path / "a"), "me/model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="There are no weights"):
        push(stage(folder, tmp_path / "b"), "me/model")
    with pytest.raises(ValueError, match="Repo id must"):
        push(stage(folder, tmp_path / "c"), "me/my/model")
    assert hub.created == [] and hub.repos == {}


def test_a_space_is_made_with_its_sdk(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "app.py").write_text("")
    (tmp_path / "space" / "README.md").write_text("---\nsdk: gradio\n---\n")
    staged = stage(tmp_path / "space", tmp_path / "staged")
    for file in (staged.folder / "conv_dlm" / "_embedded").rglob("*.safetensors"):
        file.unlink()  # 60 MB, which say nothing here
    push(staged, "me/space")
    assert hub.created[0]["sdk"] == "gradio"
    assert {"app.py", "requirements.txt", "conv_dlm/__init__.py"} <= hub.repos["space", "me/space"].keys()


def test_a_models_own_push_to_hub_takes_its_code_along(hub: LocalHub, tiny_llada: Any) -> None:
    tiny_llada.push_to_hub("me/model")
    files = hub.repos["model", "me/model"]
    assert files.keys() >= CODE | {"model.safetensors", "config.json", "generation_config.json", "README.md"}
    assert "AutoModelForCausalLM" in json.loads(files["config.json"])["auto_map"]


def test_so_does_saving_with_push(hub: LocalHub, tiny_llada: Any, tmp_path: Path) -> None:
    tiny_llada.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="me/model")
    assert hub.repos["model", "me/model"].keys() >= CODE | {"model.safetensors"}


def test_an_adapter_pushed_by_peft_is_an_adapter(hub: LocalHub, make_llada: Any) -> None:
    from peft import LoraConfig, get_peft_model

    tuned = get_peft_model(make_llada(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2))
    tuned.peft_config["default"].base_model_name_or_path = "someone/base"
    tuned.push_to_hub("me/adapter")
    files = hub.repos["model", "me/adapter"]
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "someone/base"
    assert "adapter_model.safetensors" in files and not CODE & files.keys()


def test_so_is_one_that_was_added_to_a_model(
    hub: LocalHub, make_llada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import LoraConfig

    # Transformers 5.24 asks for a release of PEFT that isn't out yet (0.22.0); what is called here is in those before.
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "0.18.0")
    model = make_llada()
    model.add_adapter(LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2))
    model.push_to_hub("me/adapter")
    files = hub.repos["model", "me/adapter"]
    assert "adapter_config.json" in files and not CODE & files.keys()
