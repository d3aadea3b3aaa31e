"""Scenes of travelling."""

from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 12))
def bus(story: Story, level: int) -> None:
    """People get on and off: a chain of sums and differences, now and then of halves."""
    draw = story.draw
    now = draw.number(8, 40)
    vehicle = draw.pick("bus", "train", "tram", "ferry")
    story.say(
        f"A {vehicle} leaves with {now} passengers.",
        f"There are {now} passengers on a {vehicle}.",
        f"A {vehicle} starts its trip with {now} passengers on board.",
    )
    halved = False
    stops = ["At the first stop", "At the second stop", "At the third stop", "Then"]
    for i in range(level):
        where = stops[i] if i < 3 else draw.pick("Then", "After that", "At the next stop", "A little later")
        halves = now % 2 == 0 and now > 12 and not halved
        kind = draw.pick("on", "on", "off", "off", "half") if halves else draw.pick("on", "off")
        if kind == "on":
            n = draw.number(2, 30)
            story.say(
                f"{where}, {n} people get on.",
                f"{where}, {n} more people come on board.",
                f"{where}, it picks up {n} people.",
            )
            now = story.add(
                now,
                n,
                f"{where}, there are [=] passengers.",
                f"With the {n} people who get on, there are [=] passengers.",
            )
        elif kind == "off":
            n = draw.number(2, max(2, now - 2))
            story.say(f"{where}, {n} people get off.", f"{where}, {n} people leave.", f"{where}, {n} people step out.")
            now = story.sub(
                now,
                n,
                f"{where}, [=] passengers remain.",
                f"Without the {n} people who get off, there are [=] passengers.",
            )
        else:
            halved = True
            story.say(
                f"{where}, half of them get off.",
                f"{where}, half of the passengers leave.",
                f"{where}, one half of the people on board step out.",
            )
            now = story.div(now, 2, f"{where}, [=] passengers stay.", "Half of them are [=] passengers.")
        if i == 0:
            story.aside(
                f"The driver has worked for {draw.number(2, 30)} years.",
                f"The {vehicle} has {draw.number(4, 12)} doors.",
                f"A ticket costs {draw.number(2, 9)} dollars.",
            )
    story.ask(
        f"How many passengers are on the {vehicle} now?",
        "How many passengers are there in the end?",
        "How many people are left on board?",
        unit="passengers",
    )
