"""The values of a recipe's fields, each with its type and its range, before anything else reads them.

TRL's parser reads a YAML file's texts by the fields' types, and takes its numbers, lists and mappings as they are.
"""

import dataclasses
import enum
import json
import math
import os
import types
import typing
from collections.abc import Callable
from typing import Any

from conv_dlm.generation.arguments import as_flag, plain
from trainers.config_checks import check_choice

# The least value of what Transformers, TRL and PEFT take without a look, or end on in a traceback.
AT_LEAST = {
    "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1,
    "max_length": 1, "num_train_epochs": 0, "learning_rate": 0, "weight_decay": 0, "max_grad_norm": 0,
    "warmup_steps": 0, "logging_steps": 0, "save_steps": 0, "eval_steps": 0, "save_total_limit": 0, "seed": 0,
    "data_seed": 0, "dataloader_num_workers": 0, "adam_beta1": 0, "adam_beta2": 0, "adam_epsilon": 0,
    "neftune_noise_alpha": 0, "dataset_num_proc": 1, "lora_r": 1, "lora_alpha": 1, "lora_dropout": 0,
}  # fmt: skip
BELOW = {
    "adam_beta1": 1, "adam_beta2": 1, "lora_dropout": 1, "seed": 2**32, "per_device_train_batch_size": 2**20,
    "per_device_eval_batch_size": 2**20, "gradient_accumulation_steps": 2**20,
}  # fmt: skip
FILES = ("accelerator_config", "fsdp_config", "deepspeed")  # mappings that may be the names of files with them
# What a field may be beside its type, which its owner looks at.
OWNERS = {"data_files": (str, dict), "fsdp": (bool, list), "resume_from_checkpoint": (bool,), "scale_rewards": (bool,)}


def read_values(config: Any) -> None:
    """Check a dataclass's fields, and set each in its own type: 64.0 as 64, "1e-5" as 1e-5, a JSON text as a mapping.

    Raises:
        `ValueError`: a value of another type, or none of the field's choices; NaN, an infinity, a fraction of a count,
            or a value out of range.
    """
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        members = _members(kinds[field.name])
        value = plain(getattr(config, field.name))
        if value is None or isinstance(value, OWNERS.get(field.name, ())):
            continue
        read = _reader(members)
        if read is not None:
            setattr(config, field.name, read(field.name, value, members))
        elif isinstance(value, dict | list | str | int | float):
            kind = getattr(members[0], "__name__", str(members[0]))
            raise ValueError(f"`{field.name}={value!r}` must be a {kind}, which no recipe can hold; leave it out.")
        if "choices" in field.metadata:
            check_choice(field.name, getattr(config, field.name), field.metadata["choices"])


def _members(kind: Any) -> list[Any]:
    """The types of a union, or the one."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [one for one in typing.get_args(kind) if one is not types.NoneType]
    return [kind]


def _reader(members: list[Any]) -> Callable[[str, Any, list[Any]], Any] | None:
    """What reads values of these types; None for one of another library's own."""
    origins = {typing.get_origin(one) or one for one in members}
    if dict in origins:
        return _mapping
    if list in origins:
        return _list
    if origins & {int, float}:
        return _number
    if str in origins:
        return _text
    return _flag if origins == {bool} else None


def _mapping(name: str, value: Any, _: list[Any]) -> Any:
    if isinstance(value, str):
        if name in FILES and not value.lstrip().startswith("{"):
            if not os.path.isfile(value):
                raise ValueError(f"`{name}={value}` must be a mapping, or a file with one; there is no such file.")
            return value
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"`{name}={value}` is no JSON: {error}.") from error
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return value
    if not isinstance(value, dict | list | str | int | float):
        return value  # an object that another library knows
    raise ValueError(f"`{name}={value!r}` must be a mapping of names to values.")


def _list(name: str, value: Any, members: list[Any]) -> Any:
    (element,) = next(typing.get_args(one) for one in members if typing.get_origin(one) is list)
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, str) and (str in members or element is str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"`{name}={value!r}` must be a list.")
    read = _reader([element])
    return value if read is None else [read(f"{name}[{index}]", one, [element]) for index, one in enumerate(value)]


def _text(name: str, value: Any, members: list[Any]) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        if bool in members or value in (one for kind in members for one in typing.get_args(kind)):
            return value
    elif isinstance(value, int):
        value = str(value)
    words = [word.value for one in members if isinstance(one, type) and issubclass(one, enum.Enum) for word in one]
    if words:
        value = "no" if value is False else value  # as YAML reads it
        check_choice(name, value, words)
    if isinstance(value, bool | float | list | dict):
        raise ValueError(f"`{name}={value!r}` must be text; put it in quotes.")
    return value


def _flag(name: str, value: Any, _: list[Any]) -> bool:
    flag = as_flag(value)
    if not isinstance(flag, bool):
        raise ValueError(f"`{name}={value!r}` must be true or false.")
    return flag


def _number(name: str, value: Any, members: list[Any]) -> Any:
    if (isinstance(value, bool) and bool in members) or (isinstance(value, str) and str in members):
        return value
    whole, number = float not in members, value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"`{name}={value!r}` must be a {'whole ' if whole else ''}number.")
    if not math.isfinite(number):
        raise ValueError(f"`{name}={value!r}` must be a finite number.")
    if whole:
        if number != int(number):
            raise ValueError(f"`{name}={value!r}` must be a whole number.")
        number = int(number)
    if number < AT_LEAST.get(name, -math.inf):
        raise ValueError(f"`{name}={value!r}` must be at least {AT_LEAST[name]}.")
    if number >= BELOW.get(name, math.inf):
        raise ValueError(f"`{name}={value!r}` must be below {BELOW[name]}.")
    return number
