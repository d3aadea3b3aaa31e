"""Settings: what a part of the decoder lets its user choose.

A part is a frozen dataclass whose fields are made by `setting`. The generation config, the options of the command line,
the fields of the server and the tables of the documents are read off them.
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, ClassVar, Generic, Self, TypeVar

from transformers import GenerationConfig

from conv_dlm.generation.arguments import WHOLE_NUMBERS_BELOW, as_flag, as_whole, plain
from conv_dlm.generation.errors import SettingError

T = TypeVar("T")
INHERITED = frozenset(vars(GenerationConfig()))  # fields that Transformers has


@dataclass(frozen=True)
class Setting:
    """A setting of one or several parts.

    help (`str`): one line.
    default: its value where nobody says another.
    low, high (`float`): the range of a number, ends included.
    inside (`bool`): whether the range's ends are excluded.
    choices (collection of `str`, *optional*): the values of a name; a registry may stand here, and grow.
    source (`str`): paper or code that it is from.
    kind (`type`): `int`, `float`, `bool` or `str`.
    optional (`bool`): whether `None` is a value of its own.
    """

    help: str
    default: Any = None
    low: float = -math.inf
    high: float = math.inf
    inside: bool = False
    choices: Collection[str] | None = None
    source: str = ""
    kind: type = str
    optional: bool = False

    def field(self) -> Any:
        """The same setting as a field of another part."""
        return field(default=self.default, metadata={"setting": self})

    def check(self, name: str, value: Any) -> None:
        """Raise SettingError if `value` can't be; None always can, for it means "nothing said"."""
        if value is None:
            return
        if self.kind is bool:
            if not isinstance(value, bool):
                raise SettingError(name, "must be True or False", value=value)
        elif self.kind is str:
            if not isinstance(value, str):
                raise SettingError(name, "must be a name", value=value)
            if self.choices is not None and value not in self.choices:
                raise SettingError(name, f"must be one of {tuple(self.choices)}", value=value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingError(name, f"must be {self._range()}, as a number", value=value)
        elif not self._is_in_range(value):
            raise SettingError(name, f"must be {self._range()}", value=value)
        elif self.kind is int and value >= WHOLE_NUMBERS_BELOW:
            raise SettingError(name, f"must be below {WHOLE_NUMBERS_BELOW}", value=value)

    def as_meant(self, value: Any) -> Any:
        """The value in this setting's own type, where it says the same: 16.0 as 16, numbers of NumPy as Python's."""
        if self.kind is int:
            return as_whole(value)
        return as_flag(value) if self.kind is bool else plain(value)

    def _is_in_range(self, value: Any) -> bool:
        if not math.isfinite(value) or (self.kind is int and not isinstance(value, int)):
            return False
        return self.low < value < self.high if self.inside else self.low <= value <= self.high

    def _range(self) -> str:
        what = "a whole number " if self.kind is int else ""
        if self.inside:
            return f"{what}above {self.low:g}" + (f" and below {self.high:g}" if self.high < math.inf else "")
        if self.high < math.inf:
            return f"{what}between {self.low:g} and {self.high:g}"
        article = "of " if self.kind is int else ""
        return f"{what}{article}at least {self.low:g}" if self.low > -math.inf else what.strip() or "finite"


def setting(default: Any, help: str, **details: Any) -> Any:
    """A field of a part; `details` are those of [`Setting`]. The annotation says its kind."""
    return field(default=default, metadata={"setting": Setting(help, default, **details)})


@dataclass(frozen=True)
class Part:
    """Base of all parts of a decoder: their settings, checked."""

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Its settings by name."""
        return _settings_of(cls)  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self:
        """With the values of a generation config."""
        said = {name: getattr(config, name, None) for name in cls.settings()}
        return cls(**{name: value for name, value in said.items() if value is not None})

    def __post_init__(self) -> None:
        for name, its in self.settings().items():
            value = getattr(self, name)
            if value is None and not its.optional:
                raise SettingError(name, "must have a value", value=value)
            its.check(name, value)


@functools.cache
def _settings_of(part: type[Part]) -> dict[str, Setting]:
    kinds = typing.get_type_hints(part)
    found = {}
    for its in dataclasses.fields(part):
        members = typing.get_args(kinds[its.name]) or (kinds[its.name],)
        kind = next(member for member in members if member is not NoneType)
        found[its.name] = dataclasses.replace(its.metadata["setting"], kind=kind, optional=NoneType in members)
    return found


class Registry(dict[str, T], Generic[T]):
    """Parts of one kind by name. Refuses a name that is taken, and a setting that means something else elsewhere.

    Args:
        what (`str`): the kind, as messages call it.
        settings (`dict`, *optional*): where its parts' settings are declared; by default those of generation.
        reserved (set of `str`, *optional*): names that no setting may have; by default Transformers' fields.
    """

    # settings of all parts of generation that are registered: one name means one thing
    known: ClassVar[dict[str, Setting]] = {}

    def __init__(
        self, what: str, settings: dict[str, Setting] | None = None, reserved: Collection[str] = INHERITED
    ) -> None:
        super().__init__()
        self.what, self.reserved = what, reserved
        self.settings = Registry.known if settings is None else settings

    def register(self, name: str, part: T | None = None) -> Any:
        """Make `part` available as `name`; without `part`, a decorator of a class.

        Raises:
            ValueError: the name is taken, or one of the part's settings is known with another default or range.
        """
        if part is None:
            return lambda cls: self.register(name, cls)
        self[name] = part
        return part

    def __setitem__(self, name: str, part: T) -> None:
        if not (isinstance(name, str) and name):
            raise ValueError(f"The name of a {self.what} must be a text, not {name!r}.")
        if name in self:
            raise ValueError(f"{self.what} {name!r} exists already; choose another name.")
        if isinstance(part, type) and issubclass(part, Part):
            declare(part.settings(), self.settings, self.reserved)
        super().__setitem__(name, part)

    def find(self, name: str) -> T:
        """The part called `name`. Raises ValueError, with those there are, if there is none."""
        if name not in self:
            raise ValueError(f"{name!r} is no {self.what}; choose one of {sorted(self)}.")
        return self[name]


def declare(
    settings: Mapping[str, Setting], known: dict[str, Setting] = Registry.known, reserved: Collection[str] = INHERITED
) -> None:
    """Make settings `known` by name. Raises ValueError for one that means something else already."""
    for name, its in settings.items():
        if name in reserved:
            raise ValueError(f"`{name}` is a field of Transformers' GenerationConfig; give the setting another name.")
        if known.setdefault(name, its) != its:
            raise ValueError(
                f"`{name}` is a setting of another part, with another default, range or text; give it another name, or "
                "take over what it says there."
            )
