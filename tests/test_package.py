"""The package as a user gets it: what it needs, what importing it does, and that a wheel works on its own."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import conv_dlm
from conv_dlm.answering.embedded import EMBEDDED_NAME, embedded_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"conv_dlm", "trainers"}
# Names by which distributions are imported, where it isn't the distribution's own.
MODULES = {"flash-attn": "flash_attn", "huggingface-hub": "huggingface_hub", "lm-eval": "lm_eval", "pyyaml": "yaml"}


def requirements(*extras: str) -> list[Requirement]:
    """The declared requirements, those of `extras` among them."""
    lines = PROJECT["dependencies"] + [line for e in extras for line in PROJECT["optional-dependencies"][e]]
    return [Requirement(line) for line in lines]


def modules(*extras: str) -> set[str]:
    """Top-level modules that the declared requirements provide."""
    names = {canonicalize_name(requirement.name) for requirement in requirements(*extras)}
    return {MODULES.get(name, name) for name in names} | set(sys.stdlib_module_names) | OURS


def imports(tree: ast.AST, lazily: bool) -> Iterator[str]:
    """Top-level names that a file imports: at once, or (`lazily`) anywhere, inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif lazily or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, lazily)


def output(*command: str | Path, cwd: Path) -> str:
    """What a command prints, in an environment without network, Hub cache and `PYTHONPATH`; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "no-cache")}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    ("package", "lazily", "extras"),
    [
        ("conv_dlm", False, ()),  # `pip install conv-dlm` is enough to import all of it and to generate
        ("conv_dlm", True, ("train", "quant", "flash", "eval", "demo", "serve")),
        ("trainers", True, ("train",)),
    ],
)
def test_imports_are_declared(package: str, lazily: bool, extras: tuple[str, ...]) -> None:
    allowed = modules(*extras)
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if lazily or not path.name.startswith(("harness", "page", "connections"))  # made of others' classes
        for name in imports(ast.parse(path.read_text()), lazily)
        if name not in allowed
    }
    assert not undeclared


def test_constraints_pin_what_is_required() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in requirements("train", "quant", "demo", "serve", "docs", "dev"):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt does not pin {requirement.name}"
        assert version in requirement.specifier, f"{version} is not among {requirement}"
    assert not any("+" in version for version in pins.values()), "a local version exists in one index only"


def test_version_has_changelog_entry() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(conv_dlm.__version__)}\b", changelog, flags=re.MULTILINE)


def test_embedded_checkpoint_is_complete() -> None:
    folder = Path(embedded_checkpoint())
    assert folder.is_absolute()
    assert folder.name == EMBEDDED_NAME
    wanted = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert wanted <= {file.name for file in folder.iterdir()}
    assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) <= 32e6


def test_missing_embedded_checkpoint_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("conv_dlm.answering.embedded._PLACES", (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(FileNotFoundError, match="reinstall conv-dlm"):
        embedded_checkpoint()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and sdist, built from this checkout with the installed backend: no network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_sdist_can_build_the_wheel(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "LICENSE", "README.md", "conv_dlm/py.typed", "trainers/r2ft.py"}
    wanted |= {"train_sft.py", "train_r2ft.py", "configs/accelerate/fsdp2.yaml", "configs/r2ft/llada_8b_lora.yaml"}
    assert wanted <= names
    assert any(re.fullmatch(rf"hub_cards/{EMBEDDED_NAME}/.*\.safetensors", name) for name in names)


def test_the_wheel_has_all_modules(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[0]) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}
    ours = {str(path.relative_to(ROOT)) for package in OURS for path in (ROOT / package).rglob("*.py")}
    assert names == ours | {"conv_dlm_command.py"}


# In the first lines of the output, what an import brings; then what a script says; in the last, where the packages are.
AS_SCRIPT = """
import runpy, sys
from importlib.util import find_spec
import conv_dlm, torch

heavy = "bitsandbytes datasets flash_attn lm_eval matplotlib peft trainers trl".split()
print([name for name in heavy if name in sys.modules])
print(torch.distributed.is_initialized(), torch.cuda.is_initialized())
from transformers import AutoConfig
AutoConfig.for_model("llada"), AutoConfig.for_model("mdlm")

del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print(conv_dlm.__file__, find_spec("trainers").origin, conv_dlm.embedded_checkpoint())
"""


def test_installed_wheel_generates_offline(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    """In an environment of its own, far from the checkout, with nothing but the dependencies.

    Importing starts no process group and loads nothing that only training or plotting needs.
    """
    home = tmp_path / "env"
    venv.create(home)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    output(*pip, "install", "--quiet", "--no-index", "--no-deps", distributions[0], cwd=tmp_path)
    (packages,) = home.glob("**/site-packages")
    # The dependencies of this environment; an editable conv-dlm in it is not seen, for its own .pth is not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    words = ["generate", "What is 2 + 3?", "--steps", "4", "--max-new-tokens", "16"]
    told = output(python, "-c", AS_SCRIPT, scripts / "conv-dlm", *words, cwd=tmp_path).splitlines()
    heavy, started, *text, where = told
    assert (heavy, started) == ("[]", "False False")
    files = where.split()
    assert any(text) and len(files) == 3
    assert all(Path(file).is_relative_to(packages) for file in files), files
