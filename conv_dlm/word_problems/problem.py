"""Problems by seed and index, in splits that share no content."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from conv_dlm.word_problems.draw import Draw, RejectedDrawError
from conv_dlm.word_problems.scenes import SCENES, Scene
from conv_dlm.word_problems.story import Step, Story

SPLITS = ("train", "validation", "test", "unseen")
LEVELS = (1, 12)
LIMITS = {"small": 200, "large": 2000}  # the largest value, by size

# How each form of a solution is asked for, behind the question; prose is what is given unasked.
FORMS: dict[str, tuple[str, ...]] = {
    "prose": ("",),
    "checked": ("Check every step.", "Show a check for each step.", "Check each result the other way round."),
    "equations": ("Write the equations only.", "Show only the equations.", "Give me just the equations."),
    "json": ("Answer in JSON.", "Write the answer as JSON.", "Give me the solution as a JSON object."),
}
_TRIES = 200  # for a scene, before another one is taken


@dataclass(frozen=True)
class Problem:
    """A word problem with its solution.

    Attributes:
        question (`str`): what is told and asked.
        steps (`tuple[Step, ...]`): the operations of the solution, in order.
        answer (`int`): the number that is asked for.
        unit (`str`): what it counts, in the plural.
        scene (`str`): the kind of story.
        form (`str`): one of `FORMS`: how the solution is to be written.
    """

    question: str
    steps: tuple[Step, ...]
    answer: int
    unit: str
    scene: str
    form: str = "prose"

    @property
    def level(self) -> int:
        """The number of operations."""
        return len(self.steps)

    @property
    def solution(self) -> str:
        """The answer with its working: a line for each step, with a check of it or not, then `#### n`; or JSON."""
        if self.form == "json":
            steps = [step.equation for step in self.steps]
            return json.dumps({"steps": steps, "unit": self.unit, "answer": self.answer}, ensure_ascii=False)
        if self.form == "equations":
            lines = [step.equation for step in self.steps]
        else:
            checks = self.form == "checked"
            lines = [f"{step.sentence} Check: {step.check}." if checks else step.sentence for step in self.steps]
        return "\n".join([*lines, f"#### {self.answer}"])


def problem(
    seed: int,
    index: int,
    split: str = "train",
    levels: tuple[int, int] = LEVELS,
    forms: Sequence[str] = ("prose",),
    size: str = "small",
    alike: int = 1,
    scenes: Sequence[str] = (),
    plain: bool = False,
) -> Problem:
    """The problem with this index: the same one on every platform.

    The splits `train`, `validation` and `test` differ by content, a scene with its equations, whatever the seed.
    `unseen` has scenes, and wordings of the others' questions, that are in no other split, half of each.

    Args:
        seed (`int`), index (`int`): which one.
        split (`str`, *optional*, defaults to `"train"`): one of `SPLITS`.
        levels (`tuple[int, int]`, *optional*, defaults to `(1, 12)`): least and largest number of operations; all in
            between are equally frequent.
        forms (`Sequence[str]`, *optional*, defaults to `("prose",)`): forms of the solution, equally frequent.
        size (`str`, *optional*, defaults to `"small"`): one of `LIMITS`: values up to 200, or 2,000.
        scenes (`Sequence[str]`, *optional*): names of `SCENES` to keep to; all if empty.
        alike (`int`, *optional*, defaults to `1`): so many indices in a row share level and form.
        plain (`bool`, *optional*, defaults to `False`): write the same operation of a scene in the same words always.
            Where one step can be said in several ways, tokens that are unmasked together may be of different ones.

    Raises:
        `ValueError`: an unknown split, form or size, or levels that are out of range.
    """
    _check(split, levels, forms, size, scenes)
    shared = Draw(f"{seed}/{split}/{size}/{index // alike}/{alike}")
    level, form = shared.number(*levels), shared.pick(*forms)
    draw = Draw(f"{seed}/{split}/{size}/{index}")
    new_scene = split == "unseen" and draw.chance(0.5)
    fitting = [one for one in SCENES.values() if one.held_out == new_scene and one.levels[0] <= level <= one.levels[1]]
    for one in draw.shuffled([one for one in fitting if not scenes or one.name in scenes]):
        for _ in range(_TRIES):
            try:
                found = _write(Story(draw, LIMITS[size], split == "unseen", plain), one, level)
            except RejectedDrawError:
                continue
            if split == "unseen" or _split_of(found) == split:
                asked = draw.pick(*FORMS[form])
                return replace(found, form=form, question=f"{found.question}\n{asked}" if asked else found.question)
    raise RuntimeError(f"No scene made a problem with {level} operations in {_TRIES} tries each.")


def problems(seed: int, count: int | None = None, start: int = 0, **options: object) -> Iterator[Problem]:
    """The problems from index `start` on: `count` of them, or without an end. `options` are those of `problem`."""
    index = start
    while count is None or index < start + count:
        yield problem(seed, index, **options)  # type: ignore[arg-type]
        index += 1


def _write(story: Story, one: Scene, level: int) -> Problem:
    one.write(story, level)
    if len(story.steps) != level:
        raise RuntimeError(f"Scene `{one.name}` wrote {len(story.steps)} operations for level {level}.")
    return Problem(" ".join([*story.sentences, story.question]), tuple(story.steps), story.answer, story.unit, one.name)


def _split_of(found: Problem) -> str:
    content = "\n".join([found.scene, *(step.equation for step in found.steps)])
    share = hashlib.sha256(content.encode()).digest()[0]
    return "test" if share < 8 else "validation" if share < 16 else "train"


def _check(split: str, levels: tuple[int, int], forms: Sequence[str], size: str, scenes: Sequence[str]) -> None:
    if split not in SPLITS:
        raise ValueError(f"`split={split!r}` must be one of {', '.join(SPLITS)}.")
    if not LEVELS[0] <= levels[0] <= levels[1] <= LEVELS[1]:
        raise ValueError(f"`levels={levels}` must be a range within {LEVELS[0]} to {LEVELS[1]}, such as (1, 8).")
    for form in forms or ("none",):
        if form not in FORMS:
            raise ValueError(f"`forms` has {form!r}, which is none of {', '.join(FORMS)}.")
    if size not in LIMITS:
        raise ValueError(f"`size={size!r}` must be one of {', '.join(LIMITS)}.")
    for name in scenes:
        if name not in SCENES or SCENES[name].held_out:
            raise ValueError(f"`scenes` has {name!r}, which is none of those that are trained.")
    least = max((SCENES[name].levels[0] for name in scenes), default=1)
    most = min((SCENES[name].levels[1] for name in scenes), default=LEVELS[1])
    if not least <= levels[0] <= levels[1] <= most:
        raise ValueError(f"`levels={levels}` is more than these scenes have, which is {least} to {most}.")
