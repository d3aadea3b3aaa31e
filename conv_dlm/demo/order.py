"""A visitor's order, checked before any work starts."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from conv_dlm.constraints.languages import Constraint, JSONSchema, Regex
from conv_dlm.generation import DECODE_TYPES
from conv_dlm.word_problems import Problem

NO_SECOND = "none"  # the choice that leaves out the second decode type
# Of each number, since frames are kept while the visitor stays: at most 2.6 MB for two runs.
LARGEST = 512


@dataclass(frozen=True)
class Order:
    """A prompt, and one or two decode types to answer it with.

    Args:
        prompt (`str`): the question.
        model (`str`): a name that the page offers.
        decode_types (`tuple[str, ...]`): names in `conv_dlm.DECODE_TYPES`; each answers with the same seed.
        steps (`int`): number of steps, for types that have them.
        size (`int`): kernel size or block length, for types that have one.
        length (`int`): positions of the canvas, `max_new_tokens`.
        seed (`int`): seed, for types that sample.
        problem ([`~conv_dlm.word_problems.Problem`], *optional*): the problem that the prompt comes from; the answers
            are checked against it.
        form (`str`): a JSON schema, or a regular expression where it is no JSON object; empty for any text.

    Raises:
        ValueError: an argument is invalid; the message is for the visitor.
    """

    prompt: str
    model: str
    decode_types: tuple[str, ...]
    steps: int
    size: int
    length: int
    seed: int
    problem: Problem | None = None
    form: str = ""

    def __post_init__(self) -> None:
        for name, text in (("Prompt", self.prompt), ("Form", self.form)):
            if not isinstance(text, str):
                raise ValueError(f"{name}: {text!r} must be text.")
        if not self.prompt.strip():
            raise ValueError("The prompt is empty. Type a question, or take one of the examples.")
        for decode_type in self.decode_types:
            DECODE_TYPES.find(decode_type)
        if len(set(self.decode_types)) < len(self.decode_types):
            raise ValueError(
                f"Both decode types are {self.decode_types[0]!r}, with the same result. Change one of them."
            )
        for name, number in (("Steps", self.steps), ("Kernel or block", self.size), ("Canvas", self.length)):
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= LARGEST:
                raise ValueError(f"{name}: {_shown(number)} must be a whole number from 1 to {LARGEST}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ValueError(f"Seed: {_shown(self.seed)} must be a whole number from 0 on.")
        try:
            _ = self.constraint
        except ValueError as error:
            raise ValueError(f"Form: {error}") from error

    @cached_property
    def constraint(self) -> Constraint | None:
        """The language that the answers must be in."""
        form = self.form.strip()
        if not form:
            return None
        return JSONSchema(form) if form.startswith("{") else Regex(form)

    def options(self, decode_type: str) -> dict[str, Any]:
        """Keyword arguments of `generate`, with steps and size if the type has them."""
        values = {"steps": self.steps, "kernel_size": self.size, "block_length": self.size}
        fields = DECODE_TYPES.find(decode_type).fields
        return {
            "decode_type": decode_type,
            "max_new_tokens": self.length,
            **{name: value for name, value in values.items() if name in fields},
        }


def _shown(number: object) -> str:
    return "no number" if number is None else str(number)
