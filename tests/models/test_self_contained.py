"""The code that travels with a checkpoint: this package's modules with their imports changed, and nothing else."""

import ast
import difflib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers.dynamic_module_utils import check_imports, get_relative_import_files

from conv_dlm import models
from conv_dlm.models.self_contained import add_code, code_of

MODELS = sorted({model.__module__ for model in models.MODELS})


@pytest.mark.parametrize("module", MODELS)
def test_only_imports_differ(module: str) -> None:
    for source in code_of(module).values():
        origin = source.splitlines()[0].split()[1]
        theirs = Path(origin).read_text() if Path(origin).is_file() else _packaged(origin)
        changed = difflib.unified_diff(theirs.splitlines(), source.splitlines()[1:], lineterm="", n=0)
        lines = [line for line in changed if line[0] in "+-" and not line.startswith(("+++", "---"))]
        assert all("import" in line for line in lines), lines
        assert "from conv_dlm" not in "\n".join(line[1:].lstrip() for line in lines if line[0] == "+")


def _packaged(origin: str) -> str:
    import conv_dlm

    return (Path(conv_dlm.__file__).parents[1] / origin).read_text()


@pytest.mark.parametrize("module", MODELS)
def test_transformers_finds_every_file_and_every_requirement(module: str, tmp_path: Path) -> None:
    files = code_of(module)
    for name, source in files.items():
        (tmp_path / name).write_text(source)
    entry = tmp_path / f"{module.rpartition('.')[2]}.py"
    followed = {Path(file).name for file in get_relative_import_files(entry)}
    assert followed | {entry.name} == files.keys()
    roots = set()
    for file in tmp_path.iterdir():
        check_imports(file)
        roots |= {
            name.split(".")[0]
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
            if name
        }
    assert {"torch", "transformers"} <= roots - sys.stdlib_module_names <= {"torch", "transformers", "safetensors"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import conv_dlm.generation.loop\n", "line 1: write `from conv_dlm"),
        ("from conv_dlm.generation import enable_diffusion\n", "is no module with a file of its own"),
        ("from conv_dlm.generation.nothing import x\n", "is no module with a file of its own"),
        ("from conv_dlm.models.other import x\n", "Two modules would be 'other.py'"),
    ],
)
def test_imports_that_cannot_be_flat(source: str, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "other.py").write_text(source)
    (tmp_path / "empty.py").write_text("")
    find = importlib.util.find_spec
    files = {"conv_dlm.models.mine.other": "other.py", "conv_dlm.models.other": "empty.py"}

    def find_spec(name: str) -> Any:
        if name in files:
            return importlib.util.spec_from_file_location(name, tmp_path / files[name])
        return find(name)

    monkeypatch.setattr("conv_dlm.models.self_contained.find_spec", find_spec)
    with pytest.raises(ValueError, match=message):
        code_of("conv_dlm.models.mine.other")


def test_adding_code_twice_changes_nothing(tiny_llada: Any, tmp_path: Path) -> None:
    tiny_llada.save_pretrained(tmp_path)
    names = add_code(tmp_path, type(tiny_llada))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert add_code(tmp_path, type(tiny_llada)) == names
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_crash_leaves_the_config_that_was_there(tiny_llada: Any, tmp_path: Path, monkeypatch: Any) -> None:
    tiny_llada.save_pretrained(tmp_path)
    before = (tmp_path / "config.json").read_bytes()

    def crash(*_: object) -> None:
        raise OSError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr("conv_dlm.utils.files.os.replace", crash)
        with pytest.raises(OSError, match="power"):
            add_code(tmp_path, type(tiny_llada))
    assert (tmp_path / "config.json").read_bytes() == before
