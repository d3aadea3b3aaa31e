"""Scenes of seats, in buses and in a hall."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.scenes.plans import plans
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 12))
def school_trip(story: Story, level: int) -> None:
    """Seats in buses, people who travel, and the seats that stay free."""
    draw = story.draw
    both = plans(level - 1, range(1, 6), range(1, 7))  # and one for the seats that stay free
    seats, people = draw.pick(*both, *plans(level, range(1, 6), (0,)), *plans(level, (0,), range(1, 7)))
    where = draw.pick("zoo", "museum", "sea", "castle", "theater")
    story.say(
        f"A school goes on a trip to the {where}.",
        f"There is a school trip to the {where}.",
        f"A school travels to the {where}.",
    )
    parts = draw.shuffled([(_seats, seats), (_travelers, people)])
    found = {write: write(story, count) for write, count in parts if count}
    story.aside(
        f"The trip begins at {draw.number(7, 9)} in the morning.",
        f"The {where} is {draw.number(20, 80)} kilometers away.",
        f"The way to the {where} takes {draw.number(2, 4)} hours.",
    )
    if len(found) == 2:
        if found[_seats] - found[_travelers] > 60:
            raise RejectedDrawError("too many seats")
        story.sub(found[_seats], found[_travelers], "So [=] seats stay free.", "That leaves [=] free seats.")
        story.ask(
            "How many seats stay free?", "How many seats are free?", "How many seats are not taken?", unit="seats"
        )
    elif seats:
        story.ask(
            "How many seats are there for the travelers?",
            "How many seats do the travelers have?",
            "What is the number of seats for the travelers?",
            unit="seats",
        )
    else:
        story.ask(
            "How many people travel?",
            "How many people go on the trip?",
            "How many people take part in the trip?",
            unit="people",
        )


def _seats(story: Story, count: int) -> int:
    draw = story.draw
    n, large = draw.number(2, 4), draw.number(20, 45)
    story.say(
        f"There are {n} buses, and each has {large} seats for travelers.",
        f"{n} buses come, each with {large} seats for travelers.",
        f"The school has hired {n} buses, and there are {large} seats for travelers in each.",
    )
    seats = story.mul(n, large, f"The {n} buses have [=] seats.", f"In the {n} buses, there are [=] seats.")
    if count in (3, 4, 5):
        n, small = draw.number(2, 3), draw.number(6, 12)
        story.say(
            f"There are also {n} vans with {small} seats each.",
            f"In addition, {n} vans come with {small} seats each.",
            f"Besides, {n} vans are there, and every van has {small} seats.",
        )
        vans = story.mul(n, small, f"The {n} vans have [=] seats.", f"In the {n} vans, there are [=] seats.")
        seats = story.add(seats, vans, "Buses and vans have [=] seats.", "With the vans, there are [=] seats.")
    if count in (2, 5) or (count == 4 and draw.chance(0.5)):
        n = draw.number(5, 19)
        story.say(
            f"A minibus with {n} seats comes too.",
            f"There is also a minibus with {n} seats.",
            f"A minibus offers {n} more seats.",
        )
        seats = story.add(seats, n, "With the minibus, there are [=] seats.", "The minibus makes it [=] seats.")
        count -= 1
    if count == 4:
        n = draw.number(2, 8)
        story.say(
            f"Bags are put on {n} of these seats.",
            f"On {n} of these seats, there are bags.",
            f"{n} of these seats are full of bags.",
        )
        seats = story.sub(
            seats, n, f"Without the {n} for bags, there are [=] seats.", f"The bags take {n}, so [=] seats are left."
        )
    return seats


def _travelers(story: Story, count: int) -> int:
    draw = story.draw
    n, size = draw.number(2, 4), draw.number(16, 26)
    story.say(
        f"{n} classes of {size} pupils travel.",
        f"The travelers are {n} classes with {size} pupils each.",
        f"{n} classes take part, and each has {size} pupils.",
    )
    people = story.mul(n, size, f"The {n} classes have [=] pupils.", f"In the {n} classes, there are [=] pupils.")
    others = [("teachers", 2, 9), ("parents", 2, 9), ("helpers", 2, 6), ("pupils of a small class", 8, 15)]
    ill = count > 2 and (count == 6 or draw.chance(0.5))
    for who, low, high in draw.sample(others, count - 1 - ill):
        n = draw.number(low, high)
        story.say(
            f"{n} {who} come with them.",
            f"They travel with {n} {who}.",
            f"There are {n} {who} as well.",
            f"{n} {who} travel too.",
        )
        people = story.add(
            people, n, f"With the {who}, that makes [=] people.", f"Together with the {who}, they are [=] people."
        )
    if ill:
        n = draw.number(2, 7)
        story.say(
            f"But {n} of all these people are ill and stay at home.",
            f"On that day, {n} of all these people are ill and cannot come.",
            f"However, {n} of all these people have to stay at home, because they are ill.",
        )
        people = story.sub(
            people, n, f"Without the {n} who are ill, [=] people travel.", f"{n} stay at home, so [=] people travel."
        )
    return people


@scene(levels=(1, 12))
def hall_rows(story: Story, level: int) -> None:
    """Rows of chairs in a hall, chairs that are brought or taken away, and guests who sit down or leave."""
    draw = story.draw
    event = draw.pick("concert", "play", "school party", "film", "talk")
    story.say(
        f"A hall is made ready for a {event}.",
        f"There is a {event} in the hall of a school.",
        f"People get a hall ready for a {event}.",
    )
    if level == 1 and draw.chance(0.4):
        rows, size = draw.number(3, 12), draw.number(4, 12)
        story.say(
            f"{rows * size} chairs are put into rows of {size}.",
            f"There are {rows * size} chairs, with {size} in each row.",
            f"{rows * size} chairs stand in rows, {size} in each of them.",
        )
        story.div(rows * size, size, "There are [=] rows.", "The chairs make [=] rows.")
        story.ask(
            "How many rows are there?", "How many rows of chairs are there?", "What is the number of rows?", unit="rows"
        )
        return
    blocks, changes, guests = draw.pick(*plans(level, (1, 3, 5), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5)))
    places = draw.sample(("on the left", "on the right", "in the middle", "at the back", "on the balcony"), 3)
    chairs = 0
    for i in range(0, blocks, 2):
        rows, size, place = draw.number(3, 8), draw.number(5, 12 - blocks), places[i // 2]
        story.say(
            f"{place.capitalize()}, there are {rows} rows of {size} chairs.",
            f"{place.capitalize()}, people set up {rows} rows with {size} chairs each.",
            f"The chairs {place} stand in {rows} rows of {size}.",
        )
        block = story.mul(
            rows, size, f"{place.capitalize()}, there are [=] chairs.", f"The {rows} rows {place} have [=] chairs."
        )
        if i:
            chairs = story.add(
                chairs, block, f"With those {place}, there are [=] chairs.", "Together, that makes [=] chairs."
            )
        chairs = chairs or block
    for kind in draw.shuffled(("more", "broken", "wall"))[:changes]:
        n = draw.number(2, 9)
        if kind == "broken":
            story.say(
                f"{n} of the chairs are broken and are taken away.",
                f"People carry {n} broken chairs out of the hall.",
                f"{n} chairs have to be taken away, because they are broken.",
            )
            chairs = story.sub(
                chairs, n, "Without the broken ones, there are [=] chairs.", f"{n} are taken away, so [=] chairs stay."
            )
            continue
        where = "along the wall" if kind == "wall" else "from another room"
        story.say(
            f"Then {n} more chairs {'are put' if kind == 'wall' else 'are brought'} {where}.",
            f"People {'put' if kind == 'wall' else 'fetch'} {n} more chairs {where}.",
            f"Another {n} chairs {'stand' if kind == 'wall' else 'come'} {where}.",
        )
        chairs = story.add(
            chairs, n, f"With {n} more, there are [=] chairs.", f"The {n} chairs {where} make it [=] chairs."
        )
    story.aside(
        f"The {event} begins at {draw.number(5, 8)} in the evening.",
        f"The hall is {draw.number(4, 9)} meters high.",
        f"A ticket for the {event} costs {draw.number(3, 12)} dollars.",
    )
    if not guests:
        story.ask(
            "How many chairs are there?",
            "How many chairs are in the hall?",
            "How many people can sit in the hall?",
            unit="chairs",
        )
        return
    _guests(story, chairs, guests)
    story.ask(
        "How many chairs are free now?",
        "How many chairs are still free?",
        "On how many chairs does nobody sit in the end?",
        unit="chairs",
    )


def _guests(story: Story, free: int, count: int) -> None:
    draw = story.draw
    seated = 0
    group = count > 2 and draw.chance(0.7)
    kinds = ["come"] + (["groups"] if group else [])
    kinds = draw.shuffled(kinds) + draw.shuffled(("leave", "come", "leave", "come"))
    for kind in kinds[: count - group]:
        more = "more " if seated else ""
        if kind == "groups":
            n, size = draw.number(2, 5), draw.number(3, 6)
            story.say(
                f"{n} families of {size} people come in and sit down.",
                f"Then {n} families sit down, and there are {size} people in each.",
                f"{n} families with {size} people each take their seats.",
            )
            n = story.mul(n, size, f"The {n} families are [=] people.", "The families need [=] chairs.")
            free = story.sub(
                free, n, "After that, [=] chairs are free.", f"With {n} chairs taken, [=] chairs are still free."
            )
            seated += n
        elif kind == "come":
            n = draw.number(5, max(6, min(50, free // 2)))
            story.say(
                f"{n} {more}guests take a seat.",
                f"Then {n} {more}people come in and sit down.",
                f"{n} {more}people come and sit down.",
            )
            free = story.sub(
                free,
                n,
                f"When {n} {more}people have sat down, [=] chairs are free.",
                f"{n} {more}chairs are taken, so [=] chairs are free.",
            )
            seated += n
        else:
            n = draw.number(2, max(2, min(12, seated - 2)))
            story.say(
                f"Later, {n} people get up and leave.",
                f"Then {n} of those who sit there go home.",
                f"After a while, {n} of the people leave.",
            )
            free = story.add(free, n, f"Since {n} people leave, [=] chairs are free.", "That gives [=] free chairs.")
            seated -= n
