"""How a scene spends its operations."""

import itertools
from collections.abc import Sequence

from conv_dlm.word_problems.draw import Draw


def plans(level: int, *parts: Sequence[int]) -> list[tuple[int, ...]]:
    """How many operations each part of a story may have, of those given for it, so that they make `level` in all."""
    return [plan for plan in itertools.product(*parts) if sum(plan) == level]


def pieces(draw: Draw, total: int, largest: int = 2) -> list[int]:
    """Sizes from 1 to `largest` that add up to `total`; large ones are more frequent in long problems."""
    sizes: list[int] = []
    while (left := total - sum(sizes)) > 0:
        size = draw.number(1, largest) if total < 7 or draw.chance(0.3) else largest
        sizes.append(min(left, size))
    return draw.shuffled(sizes)
