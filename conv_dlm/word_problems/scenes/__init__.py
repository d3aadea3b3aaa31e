"""The scenes: kinds of story, one function each.

A scene is written to by `scene(levels)`, which says how many operations it can have, and takes a [`Story`] and the
number of operations:

    @scene(levels=(1, 1))
    def boxes(story: Story, level: int) -> None: ...

`held_out=True` keeps a scene for the test set of unseen scenes.
"""

from conv_dlm.word_problems.scenes import (  # noqa: F401  each enters its scenes
    changing,
    comparing,
    fees,
    friends,
    garden,
    journeys,
    kitchen,
    measures,
    money,
    nature,
    packing,
    rates,
    school,
    seats,
    sharing,
    shopping,
    spending,
    sums,
    trade,
    work,
)
from conv_dlm.word_problems.scenes.registry import SCENES as SCENES
from conv_dlm.word_problems.scenes.registry import Scene as Scene
