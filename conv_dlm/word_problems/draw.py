"""Random choices that are the same on every platform and in every Python release."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class RejectedDrawError(Exception):
    """What was drawn makes no problem, because a value would be too large or not whole; the generator draws again."""


class Draw:
    """A stream of choices.

    Only `random.Random.random` is used: Python promises that its sequence stays the same, which it doesn't of `choice`
    or `shuffle`.

    Args:
        key (`str`): what the stream depends on.
    """

    def __init__(self, key: str):
        self._random = random.Random(key).random

    def chance(self, probability: float) -> bool:
        """Whether an event of this probability happens."""
        return self._random() < probability

    def number(self, low: int, high: int, step: int = 1) -> int:
        """One of `low`, `low + step`, ... up to `high`, all alike."""
        return low + step * int(self._random() * ((high - low) // step + 1))

    def pick(self, *options: T) -> T:
        """One of the options, all alike."""
        return options[int(self._random() * len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options, in random order."""
        return self.shuffled(options)[:count]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = int(self._random() * (last + 1))
            order[last], order[other] = order[other], order[last]
        return order
