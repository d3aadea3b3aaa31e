"""The scenes: kinds of story, one function each.

A scene is written to by `scene(levels)`, which says how many operations it can have, and takes a [`Story`] and the
number of operations:

    @scene(levels=(1, 1))
    def boxes(story: Story, level: int) -> None: ...

`held_out=True` keeps a scene for the test set of unseen scenes.
"""

# Each enters its scenes. Their order decides what a seed draws: a new file comes last, and none may move.
# isort: off
from conv_dlm.word_problems.scenes import (  # noqa: F401
    comparing,
    scores,
    changing,
    money,
    fees,
    friends,
    garden,
    journeys,
    kitchen,
    progress,
    rates,
    recipes,
    measures,
    minutes,
    nature,
    packing,
    school,
    seats,
    sharing,
    shopping,
    spending,
    sums,
    trade,
    work,
)

# isort: on
from conv_dlm.word_problems.scenes.registry import SCENES as SCENES
from conv_dlm.word_problems.scenes.registry import Scene as Scene
