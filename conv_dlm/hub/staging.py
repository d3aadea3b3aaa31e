"""A folder as it will lie on the Hub: what belongs there and nothing else, with the code that it needs."""

import fnmatch
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, SpaceCard
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME

import conv_dlm
from conv_dlm.answering.embedded import EMBEDDED_NAME, embedded_checkpoint
from conv_dlm.models.self_contained import SelfContained, add_code, code_of

CARD = "README.md"
ENTRY = "custom_generate/generate.py"
TOKENIZER = (
    "tokenizer*",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
)
SHOWN = (CARD, "LICENSE*", "*.png", "*.svg", "*.jpg")
RECORDS = ("training_log.json", "samples.jsonl", "all_results.json")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
SOURCES = (".py", ".css")  # of the package
TORCH_FOR_CPU = "--extra-index-url https://download.pytorch.org/whl/cpu"


class Kind(Enum):
    """What a folder holds, by the file that says so: how it lies on the Hub depends on it."""

    ADAPTER = ADAPTER_CONFIG_NAME
    MODEL = CONFIG_NAME
    CUSTOM_GENERATE = ENTRY
    SPACE = "app.py"

    @property
    def repo_type(self) -> str:
        """The Hub's word for a repository of this kind."""
        return "space" if self is Kind.SPACE else "model"

    @property
    def card_class(self) -> type[ModelCard] | type[SpaceCard]:
        """huggingface_hub's class of its card."""
        return SpaceCard if self is Kind.SPACE else ModelCard


BELONG = {
    Kind.MODEL: (CONFIG_NAME, "generation_config.json", *WEIGHTS, *TOKENIZER, *RECORDS, *SHOWN),
    Kind.ADAPTER: (ADAPTER_CONFIG_NAME, *WEIGHTS, *TOKENIZER, *RECORDS, *SHOWN),
    Kind.CUSTOM_GENERATE: ("custom_generate", *SHOWN),
    Kind.SPACE: ("app.py", *SHOWN),
}


@dataclass
class Staged:
    """A staged folder.

    kind: what it holds.
    folder: where it lies.
    given: names of the files that are as they were, or with the changes that `stage` names.
    added: names of the files that this package added: its code.
    left_out: names in the source that do not belong on the Hub.
    """

    kind: Kind
    folder: Path
    given: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def kind_of(folder: Path) -> Kind:
    """What a folder holds. Raises ValueError if it is nothing that can be pushed."""
    if not folder.is_dir():
        raise ValueError(f"`folder`={str(folder)!r}: there is no such folder.")
    for kind in Kind:
        if (folder / kind.value).is_file():
            return kind
    raise ValueError(
        f"`folder`={str(folder)!r} holds nothing to push: no {CONFIG_NAME} of a model, {ADAPTER_CONFIG_NAME}, "
        f"{ENTRY} or app.py. A recipe is pushed from where it was trained, its `output_dir`."
    )


def stage(source: str | os.PathLike[str], target: str | os.PathLike[str], base_model: str | None = None) -> Staged:
    """Lay a folder out as it will lie on the Hub. The source is not changed; large files are linked where they can be.

    - A model gets its code, so that it loads without this package (`trust_remote_code=True`).
    - An adapter names its base model by its name on the Hub, in its config and in its card.
    - `custom_generate` and a Space get the code of this package; a Space the embedded checkpoint too.

    Args:
        source (`str` or `PathLike`): folder of a model, an adapter, `custom_generate` or a Space.
        target (`str` or `PathLike`): an empty or new folder.
        base_model (`str`, *optional*): of an adapter whose config names a folder.

    Raises:
        ValueError: the source holds nothing of these, a link in it leads out of it, the target is not empty, the model
            is not one of this package's, or `base_model` is given for something else than an adapter.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    kind = kind_of(source)
    if base_model is not None and kind is not Kind.ADAPTER:
        raise ValueError(f"`base_model`={base_model!r} has no effect: {str(source)!r} is no adapter.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"`stage`={str(target)!r} is not an empty folder; name a new one.")
    belong = [file for file in sorted(source.iterdir()) if _belongs(file, kind)]
    check_links(belong, source)
    target.mkdir(parents=True, exist_ok=True)
    staged = Staged(kind, target)
    for file in sorted(source.iterdir()):
        if _belongs(file, kind):
            staged.given += _place(file, target / file.name, target)
        else:
            staged.left_out.append(file.name + ("/" if file.is_dir() else ""))
    if kind is Kind.ADAPTER:
        name_base(target, base_model)
    else:
        staged.added += _ADD[kind](target)
    staged.left_out = [name for name in staged.left_out if name not in staged.added]  # code of an earlier version
    return staged


def _belongs(file: Path, kind: Kind) -> bool:
    return any(fnmatch.fnmatch(file.name, pattern) for pattern in BELONG[kind])


def check_links(files: Iterable[Path], folder: Path) -> None:
    """Raise ValueError for a link among `files`, or in them, that leads out of the `folder`: what it leads to would be
    published. Those of the Hub's cache lead to its own store."""
    inside = [folder.resolve()]
    if inside[0].parent.name == "snapshots":
        inside.append(inside[0].parents[1] / "blobs")
    for file in files:
        aim = file.resolve()
        if not any(aim.is_relative_to(place) for place in inside):
            raise ValueError(
                f"{file} is a link to {aim}, outside of the folder that is pushed; put the file itself there if it is "
                "meant to be published."
            )
        if not file.is_dir() and not file.is_file():
            raise ValueError(f"{file} is neither a file nor a folder; remove it.")
        if file.is_dir() and aim in (folder.resolve(), *folder.resolve().parents):
            raise ValueError(f"{file} is a link to a folder that it stands in; remove it.")
        if file.is_dir():
            check_links(sorted(file.iterdir()), folder)


def _place(source: Path, target: Path, root: Path) -> list[str]:
    """Copy a file or folder; a large file, which nobody will write to, shares its content with the source."""
    if source.is_dir():
        target.mkdir()
        inside = (file for file in sorted(source.iterdir()) if file.name != "__pycache__")
        return [name for file in inside for name in _place(file, target / file.name, root)]
    if source.suffix == ".safetensors":
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)
    return [target.relative_to(root).as_posix()]


def name_base(folder: Path, base_model: str | None) -> None:
    """Let an adapter say which model it belongs to, in its config and in its card's metadata."""
    path = folder / ADAPTER_CONFIG_NAME
    config = json.loads(path.read_text(encoding="utf-8"))
    if base_model is not None:
        config["base_model_name_or_path"] = base_model
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if (folder / CARD).is_file():
        card = ModelCard.load(folder / CARD, ignore_metadata_errors=True)
        card.data.base_model = config["base_model_name_or_path"]
        card.save(folder / CARD)


def _add_model_code(folder: Path) -> list[str]:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model_class is None or not issubclass(model_class, SelfContained):
        raise ValueError(
            f"A {config.model_type!r} model is not one of conv-dlm's; push it by its own `push_to_hub`, and see the "
            "`custom_generate` repository for its decoding."
        )
    return add_code(folder, model_class)


def _add_custom_generate(folder: Path) -> list[str]:
    """The entry's one import is of a module that lies beside it from now on."""
    return _write(folder / "custom_generate", code_of("conv_dlm.generation.custom_generate"), folder)


def _add_package(folder: Path) -> list[str]:
    """A Space runs this very version, from a checkout as from a wheel, and brings the embedded checkpoint."""
    package = Path(conv_dlm.__file__).parent
    sources = {
        file.relative_to(package.parent).as_posix(): file.read_text(encoding="utf-8")
        for file in sorted(package.rglob("*"))
        if file.suffix in SOURCES
    }
    needed = [line for line in requires("conv-dlm") or () if "extra ==" not in line]  # Gradio is the Space's own
    sources["requirements.txt"] = "\n".join([TORCH_FOR_CPU, *sorted(needed), ""])
    checkpoint = folder / "conv_dlm" / "_embedded" / EMBEDDED_NAME
    names = _write(folder, sources, folder)
    checkpoint.parent.mkdir()
    return names + _place(Path(embedded_checkpoint()), checkpoint, folder)


def _write(folder: Path, sources: dict[str, str], root: Path) -> list[str]:
    for name, source in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")
    return sorted((folder / name).relative_to(root).as_posix() for name in sources)


_ADD: dict[Kind, Callable[[Path], list[str]]] = {
    Kind.MODEL: _add_model_code,
    Kind.CUSTOM_GENERATE: _add_custom_generate,
    Kind.SPACE: _add_package,
}
