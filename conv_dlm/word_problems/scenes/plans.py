"""How a scene spends its operations."""

import itertools
from collections.abc import Sequence


def plans(level: int, *parts: Sequence[int]) -> list[tuple[int, ...]]:
    """How many operations each part of a story may have, of those given for it, so that they make `level` in all."""
    return [plan for plan in itertools.product(*parts) if sum(plan) == level]
