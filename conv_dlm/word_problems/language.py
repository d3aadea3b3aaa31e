"""People, things and small words of the scenes."""

from collections.abc import Sequence
from dataclasses import dataclass

from conv_dlm.word_problems.draw import Draw


@dataclass(frozen=True)
class Person:
    """Somebody in a problem. In an f-string, the name: `f"{ann} has {n} pens. {ann.He} buys {m} more."`"""

    name: str
    he: str
    him: str
    his: str

    def __str__(self) -> str:
        return self.name

    @property
    def He(self) -> str:
        return self.he.capitalize()

    @property
    def His(self) -> str:
        return self.his.capitalize()


@dataclass(frozen=True)
class Noun:
    """A thing that is counted. In an f-string, its plural: `f"{n} {pens}"`. `pens.one` is the singular."""

    one: str
    many: str

    def __str__(self) -> str:
        return self.many

    @property
    def a(self) -> str:
        """The singular with its article: "an apple"."""
        return f"{'an' if self.one[0] in 'aeio' else 'a'} {self.one}"


def nouns(words: str) -> tuple[Noun, ...]:
    """`"pen, box/boxes, glass of juice/glasses of juice"`: nouns with a plural in -s, or with the one given."""
    pairs = (word.strip().split("/") for word in words.split(","))
    return tuple(Noun(one[0], one[1] if len(one) > 1 else one[0] + "s") for one in pairs)


_HER_NAMES = "Anna Beth Clara Dina Emma Fay Grace Hanna Iris Julia Kate Lena Mia Nora Olga Paula Rosa Sara Tina Vera"
_HIS_NAMES = "Adam Ben Carl David Eric Felix George Hugo Ivan Jack Kevin Leo Max Noah Omar Paul Ray Sam Tom Victor"
PEOPLE = tuple(
    [Person(name, "she", "her", "her") for name in _HER_NAMES.split()]
    + [Person(name, "he", "him", "his") for name in _HIS_NAMES.split()]
)


def person(draw: Draw) -> Person:
    return draw.pick(*PEOPLE)


def people(draw: Draw, count: int) -> list[Person]:
    """Different people."""
    return draw.sample(PEOPLE, count)


def listing(parts: Sequence[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = [str(part) for part in parts]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


_NEXT = ("Then", "After that", "Next", "A little later", "Later on", "Then", "After that", "Next")


def order(count: int) -> tuple[str, ...]:
    """How each of so many events, one after another, begins: "First", "Then"..."""
    return ("First", *_NEXT) if count > 1 else ("Then",)
