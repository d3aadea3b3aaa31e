"""The numbers of a training config, each with its type and its range, before anything else reads them."""

import dataclasses
import math
import typing
from typing import Any

from conv_dlm.generation.arguments import plain

# The least value of what Transformers and TRL take without a look, or end on in a traceback.
AT_LEAST = {
    "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1,
    "max_length": 1, "num_train_epochs": 0, "learning_rate": 0, "weight_decay": 0, "max_grad_norm": 0,
    "warmup_steps": 0, "logging_steps": 0, "save_steps": 0, "eval_steps": 0, "save_total_limit": 0, "seed": 0,
    "data_seed": 0, "dataloader_num_workers": 0, "adam_beta1": 0, "adam_beta2": 0, "adam_epsilon": 0,
}  # fmt: skip


def read_numbers(config: Any) -> None:
    """Check the numbers among a dataclass's fields, and set each in its own type: 64.0 as 64, "1e-5" as 1e-5.

    Raises:
        `ValueError`: no number where one is needed, NaN, an infinity, a fraction of a count, or too small a value.
    """
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        members = set(typing.get_args(kinds[field.name])) or {kinds[field.name]}
        value = plain(getattr(config, field.name))
        if isinstance(value, list):
            continue  # its owner knows what may be in it
        if value is None or not members & {int, float} or (isinstance(value, bool) and bool in members):
            continue
        if isinstance(value, str) and str in members:
            continue
        setattr(config, field.name, _number(field.name, value, float not in members))


def _number(name: str, value: Any, whole: bool) -> int | float:
    number = value
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
    return number
