"""The error about a setting: what was said, why it can't be, and the way out."""

from typing import Any


class NotFiniteError(ValueError):
    """No token can be chosen: the model's logits, or the scores that a processor made of them, are NaN or infinite."""


class SettingError(ValueError):
    """A setting of `generate` that is impossible, or contradicts another one.

    Args:
        field (`str`): its name, as `generate` and `DiffusionGenerationConfig` know it.
        problem (`str`): why it can't be; what follows the name and the value in the message.
        remedy (`str`, *optional*): what to do instead.
        value (*optional*): the value in force; `...` where it says nothing, and is left out of the message.
    """

    def __init__(self, field: str, problem: str, remedy: str = "", value: Any = ...) -> None:
        super().__init__(field, problem, remedy, value)
        self.field, self.problem, self.remedy, self.value = field, problem, remedy, value

    def __str__(self) -> str:
        said = f"`{self.field}`" if self.value is ... else f"`{self.field}`={self.value!r}"
        text = f"{said} {self.problem}{f'; {self.remedy}' if self.remedy else ''}"
        return text if text.endswith("?") else f"{text}."
