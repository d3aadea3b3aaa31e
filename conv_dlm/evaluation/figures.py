"""Figures of result files: a value with its standard error, in JSON's types."""

import math
from collections.abc import Hashable, Sequence

from conv_dlm.evaluation.statistics import ratio_with_error

Figure = list[float | None] | None  # [value, standard error]


def figure(
    parts: Sequence[float], wholes: Sequence[float] | None = None, clusters: Sequence[Hashable] | None = None
) -> Figure:
    """Mean or ratio with its standard error; null for an error that one sample can't give, and for 0 / 0.

    clusters: which samples belong together, as those of one prompt do; see `ratio_with_error`.
    """
    wholes = [1] * len(parts) if wholes is None else wholes
    if not sum(wholes):
        return None
    return as_figure(ratio_with_error(parts, wholes, clusters))


def as_figure(value_and_error: tuple[float, float]) -> Figure:
    """NaN, as of an error that one sample can't give, becomes null."""
    return [None if math.isnan(number) else number for number in value_and_error]


def shown(value: Figure, factor: float = 1, form: str = ".2f") -> str:
    """The figure for a table: `12.3 ± 0.4`; a dash where there is none."""
    numbers = [factor * number for number in value or () if number is not None]
    forms = (form, form.lstrip("+"))  # an error has no sign
    return " ± ".join(map(format, numbers, forms)) or "–"
