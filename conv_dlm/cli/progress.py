"""How far a long run is: a bar on standard error, where that is a terminal."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def with_progress(
    pieces: Sequence[T], size: Callable[[T], int], unit: str, done: int = 0, quiet: bool = False
) -> Iterator[T]:
    """The pieces one by one; each counts as done when the next one is asked for.

    Args:
        size: how much a piece counts.
        unit (`str`): what is counted.
        done (`int`, *optional*, defaults to 0): what was done before.
        quiet (`bool`, *optional*, defaults to `False`): show nothing, as where another process does.
    """
    from tqdm import tqdm

    total = done + sum(map(size, pieces))
    hidden = True if quiet or not pieces else None  # tqdm shows nothing off a terminal then
    with tqdm(total=total, initial=done, unit=unit, disable=hidden, dynamic_ncols=True) as bar:
        for piece in pieces:
            yield piece
            bar.update(size(piece))
