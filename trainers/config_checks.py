"""What the training configs share: fields that belong to parts, and checks that TRL's parser doesn't make."""

from collections.abc import Iterable
from dataclasses import field
from typing import Any

from conv_dlm.generation.settings import Setting

Refused = tuple[str, object, str]  # name of an option, the only value that it may have, why


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Values from YAML are not checked by the parser.

    Raises:
        ValueError: `value` is none of `choices`.
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"`{name}={value!r}` is unknown; choose one of {', '.join(map(repr, choices))}.")


def check_least(config: Any, **least: int) -> None:
    """Raise ValueError for a field below its least value."""
    for name, low in least.items():
        if getattr(config, name) < low:
            raise ValueError(f"`{name}={getattr(config, name)}` must be {low} or more.")


def refuse(config: Any, refused: Iterable[Refused], method: str = "masked diffusion") -> None:
    """Raise ValueError for an inherited option that means something else, or nothing, for `method`."""
    for name, only, reason in refused:
        value = getattr(config, name)
        if value != only and (value or only):
            raise ValueError(f"`{name}={value!r}` does not apply to {method}: {reason}. Leave it out.")


def name_checkpointing(config: Any) -> None:
    """Say `gradient_checkpointing`, which all supported releases know, by the name that Transformers has since 5.24.

    To be called before its `TrainingArguments` see the fields, which warn of the old name otherwise.
    """
    for suffix in ("", "_kwargs"):
        new, old = f"activation_checkpointing{suffix}", f"gradient_checkpointing{suffix}"
        if getattr(config, new, "no such field") is None:
            setattr(config, new, getattr(config, old))


def of_part(its: Setting) -> Any:
    """A config's field for a part's setting, with the part's default and help text."""
    choices = {} if its.choices is None else {"choices": list(its.choices)}
    return field(default=its.default, metadata={"help": its.help.capitalize() + ".", **choices})


def check_kind(args: Any, kind: type, trainer: Any) -> None:
    """Raise ValueError if a trainer's `args` are of another class, as TRL's own or another trainer's."""
    if not isinstance(args, kind):
        name = "None" if args is None else f"a {type(args).__name__}"
        raise ValueError(f"`args` is {name}, and {type(trainer).__name__} takes a {kind.__name__}; make that of it.")
