"""Responses that are in a regular language by construction, in any order of unmasking.

`languages` says what a user may ask for, `token_automaton` compiles it for a tokenizer, `feasibility` and `joint` say
what a canvas still allows.
"""

from conv_dlm.constraints.errors import (
    BadExpression,
    ConstraintError,
    ImpossibleConstraint,
    TokenizerWithoutBytes,
    UnsupportedSchema,
)
from conv_dlm.constraints.languages import Choice, Constraint, JSONSchema, Regex

__all__ = [
    "BadExpression",
    "Choice",
    "Constraint",
    "ConstraintError",
    "ImpossibleConstraint",
    "JSONSchema",
    "Regex",
    "TokenizerWithoutBytes",
    "UnsupportedSchema",
]
