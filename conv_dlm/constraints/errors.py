"""What can be wrong with a constraint. All are ValueErrors: arguments that can't be honoured."""


class ConstraintError(ValueError):
    """A constraint that can't be honoured."""


class BadExpression(ConstraintError):
    """An expression that is no regular language, or an empty one."""


class UnsupportedSchema(ConstraintError):
    """A JSON schema with a keyword or a value that can't be guaranteed."""


class TokenizerWithoutBytes(ConstraintError):
    """A tokenizer that does not say which bytes its tokens stand for."""


class ImpossibleConstraint(ConstraintError):
    """A canvas that no string of the language fits.

    least (`int`, *optional*): the least number of tokens that the language needs, where that is what is wrong.
    """

    def __init__(self, message: str, least: int | None = None) -> None:
        super().__init__(message)
        self.least = least
