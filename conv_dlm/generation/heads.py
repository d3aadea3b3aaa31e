"""Heads of unmasking rules: small weights that lie beside a model's and are loaded with them."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from transformers.utils import cached_file

from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.parts.rules import Head, UnmaskingRule
from conv_dlm.utils.files import write_atomically

TRAINED_BY = {
    "unmasking_filter": "python -m trainers.learn_filter",
    "unmasking_policy": "python -m trainers.learn_policy",
}


def head_file(name: str) -> str:
    """The file of a head in a model's folder."""
    return f"{name}.safetensors"


def save_head(head: Head, name: str, folder: str | os.PathLike[str]) -> Path:
    """Write a head into a model's folder, whole or not at all. Returns its path."""
    path = Path(folder, head_file(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save({key: value.detach().float().contiguous().cpu() for key, value in head.items()}))
    return path


def find_head(model: Any, rule: UnmaskingRule, device: torch.device) -> Head | None:
    """The weights of a rule's own, read once for each model and device; None for a rule without any.

    They are those that `model.unmasking_heads` holds by the head's name, else those in the folder or the repository
    that `unmasking_head` names, or that the model was loaded from.

    Raises:
        SettingError: there are none.
    """
    name = rule.head
    if name is None:
        return None
    where = getattr(rule, "unmasking_head", None)
    heads: dict[Any, Head] = vars(model).setdefault("unmasking_heads", {})
    if where is None and name in heads:
        return {key: value.to(device) for key, value in heads[name].items()}
    if (name, where, device) not in heads:
        source = str(where or getattr(model.config, "_name_or_path", ""))
        revision = None if where else getattr(model.config, "_commit_hash", None)
        path = None
        if source:
            path = cached_file(
                source, head_file(name), revision=revision, _raise_exceptions_for_gated_repo=False,
                _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
            )  # fmt: skip
        if path is None:
            raise SettingError(
                "unmasking_head", f"is not there: {source or 'the model'} has no {head_file(name)}",
                f"train one by `{TRAINED_BY.get(name, 'its command')}`, or name the folder that has it", where,
            )  # fmt: skip
        heads[name, where, device] = load_file(path, device=str(device))
    return heads[name, where, device]
