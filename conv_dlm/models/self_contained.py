"""A model's code travels with its weights: the modules of this package that it needs, laid side by side.

A checkpoint on the Hub can bring its classes (`trust_remote_code=True`), and then loads where this package is not
installed. Transformers copies such code into one folder and follows imports of the form `from .name import ...` alone.
So each module is written under a flat name, with nothing changed but its imports of this package.
"""

import ast
import json
import os
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME, PushToHubMixin

from conv_dlm.utils.files import write_atomically

PACKAGE = "conv_dlm"
AUTO_CLASSES = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForCausalLM")  # each leads to the model with logits


def code_of(*modules: str) -> dict[str, str]:
    """The code of modules of this package and of all that they import of it, to lie in one folder.

    Args:
        modules (`str`): dotted names.

    Returns:
        `dict`: sources by file name.

    Raises:
        ValueError: an import that Transformers would not follow, or two modules of one flat name.
    """
    files: dict[str, str] = {}
    found = set(modules)
    waiting = sorted(found)
    while waiting:
        module = waiting.pop()
        file = f"{_flat(module)}.py"
        if file in files:
            raise ValueError(f"Two modules would be {file!r} in one folder, one of them {module!r}; rename one.")
        files[file], needed = _with_relative_imports(module)
        waiting += sorted(needed - found)
        found |= needed
    return files


def _flat(module: str) -> str:
    """conv_dlm.generation.canvas is generation_canvas; models keep the names that Transformers' users know."""
    _, room, *rest = module.split(".")
    return rest[-1] if room == "models" else "_".join((room, *rest))


def _with_relative_imports(module: str) -> tuple[str, set[str]]:
    """The source of a module as it will lie beside the others, and which of them it imports."""
    spec = find_spec(module)
    if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
        raise ValueError(f"{module!r} is no module with a file of its own; import from where a name is defined.")
    lines = Path(spec.origin).read_text(encoding="utf-8").splitlines()
    needed = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import) and any(_ours(alias.name) for alias in node.names):
            raise ValueError(f"{module} line {node.lineno}: write `from {PACKAGE}... import ...`, which can be flat.")
        if isinstance(node, ast.ImportFrom) and _ours(node.module or ""):
            assert node.module is not None
            needed.add(node.module)
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line.replace(f"from {node.module} ", f"from .{_flat(node.module)} ", 1)
    origin = f"# {module.replace('.', '/')}.py of conv-dlm {version('conv-dlm')} (Apache-2.0)"
    return "\n".join([f"{origin}; only imports differ.", *lines, ""]), needed


def _ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def add_code(folder: str | os.PathLike[str], model_class: type[PreTrainedModel]) -> list[str]:
    """Make a saved model load without this package: write its code, and name its classes in `config.json`.

    Args:
        folder (`str` or `PathLike`): where `config.json` is.
        model_class: one of this package's models.

    Returns:
        `list[str]`: names of the code files.
    """
    config_class: Any = model_class.config_class
    files = code_of(model_class.__module__, config_class.__module__)
    for name, source in files.items():
        Path(folder, name).write_text(source, encoding="utf-8")
    path = Path(folder, CONFIG_NAME)
    config = json.loads(path.read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoConfig": _reference(config_class)}
    config["auto_map"] |= {auto_class: _reference(model_class) for auto_class in AUTO_CLASSES}
    write_atomically(path, json.dumps(config, indent=2, sort_keys=True) + "\n")  # it may be a checkpoint's only one
    return sorted(files)


def _reference(cls: type) -> str:
    return f"{_flat(cls.__module__)}.{cls.__name__}"


class SelfContained(PushToHubMixin):
    """A model whose `push_to_hub` takes its code along."""

    _auto_class: str | None

    def _upload_modified_files(self, working_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        # A class that came from the Hub has an auto class: Transformers has copied its files by itself. Of a model with
        # an adapter, the adapter alone is saved.
        if self._auto_class is None and Path(working_dir, CONFIG_NAME).is_file():
            add_code(working_dir, type(self))  # type: ignore[arg-type]
        return super()._upload_modified_files(working_dir, *args, **kwargs)
