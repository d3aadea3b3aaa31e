"""Figures in result files: a value with its standard error, as JSON."""

import math
from collections.abc import Hashable, Sequence

from conv_dlm.evaluation.statistics import ratio_with_error

Figure = list[float | None] | None  # [value, standard error]


def figure(
    parts: Sequence[float], wholes: Sequence[float] | None = None, clusters: Sequence[Hashable] | None = None
) -> Figure:
    """A mean or ratio with its standard error.

    Args:
        parts (sequence of `float`): a value for each sample.
        wholes (sequence of `float`, *optional*): what they are divided by. Defaults to 1 each, which gives the mean.
        clusters (sequence, *optional*): which samples belong together, such as those of one prompt; see
            `ratio_with_error`.

    Returns:
        `list`: [value, error]; the error is `None` for a single sample. `None` for 0 / 0.
    """
    wholes = [1] * len(parts) if wholes is None else wholes
    if not sum(wholes):
        return None
    return as_figure(ratio_with_error(parts, wholes, clusters))


def as_figure(value_and_error: tuple[float, float]) -> Figure:
    """A value and its error as a figure. NaN, such as the error of a single sample, becomes `None`."""
    return [None if math.isnan(number) else number for number in value_and_error]


def shown(value: Figure, factor: float = 1, form: str = ".2f") -> str:
    """Format a figure for a table: `12.3 ± 0.4`, or a dash without a value."""
    numbers = [factor * number for number in value or () if number is not None]
    forms = (form, form.lstrip("+"))  # an error has no sign
    return " ± ".join(map(format, numbers, forms)) or "–"
