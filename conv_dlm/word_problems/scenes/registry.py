"""The table of scenes."""

from collections.abc import Callable
from dataclasses import dataclass

from conv_dlm.word_problems.story import Story

Writer = Callable[[Story, int], None]


@dataclass(frozen=True)
class Scene:
    """A kind of story.

    Attributes:
        name (`str`): the function's name.
        levels (`tuple[int, int]`): the least and the largest number of operations.
        held_out (`bool`): whether it is kept for the test set of unseen scenes.
        write: writes a story with so many operations.
    """

    name: str
    levels: tuple[int, int]
    held_out: bool
    write: Writer


SCENES: dict[str, Scene] = {}


def scene(levels: tuple[int, int], held_out: bool = False) -> Callable[[Writer], Writer]:
    """Enter a function as a scene, under its name."""

    def enter(write: Writer) -> Writer:
        name = write.__name__
        if name in SCENES:
            raise ValueError(f"There is a scene `{name}` already; name this one differently.")
        SCENES[name] = Scene(name, levels, held_out, write)
        return write

    return enter
