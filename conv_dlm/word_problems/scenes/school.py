"""Scenes of school: teams and books."""

from conv_dlm.word_problems.language import nouns
from conv_dlm.word_problems.scenes.plans import plans
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(2, 12))
def school_teams(story: Story, level: int) -> None:
    """Classes of girls and boys form teams, which are given balls; some of these have to be bought."""
    draw = story.draw
    sums, absent, _, balls = draw.pick(*plans(level, (1, 3, 5, 7), (0, 1, 2), (1,), (0, 1, 2, 3, 4)))
    classes = ["the class"] if sums == 1 else [f"class {letter}" for letter in "ABCD"[: (sums + 1) // 2]]
    girls, boys = ([draw.number(7, 15 - len(classes)) for _ in classes] for _ in range(2))
    missing, size = [draw.number(2, 6) for _ in range(absent)], draw.number(3 if sums == 1 else 5, 9)
    boys[-1] += (sum(missing) - sum(girls) - sum(boys)) % size  # so that the teams come out even
    story.say(
        "A school has a sports day.", "It is sports day at school.", "The pupils of a school take part in a sports day."
    )
    now = 0
    for name, girl, boy in zip(classes, girls, boys, strict=True):
        some = name if len(classes) > 1 else "a class"
        story.say(
            f"In {some}, there are {girl} girls and {boy} boys.",
            f"{some[0].upper()}{some[1:]} has {girl} girls and {boy} boys.",
            f"{some[0].upper()}{some[1:]} consists of {girl} girls and {boy} boys.",
        )
        pupils = story.add(
            girl, boy, f"There are [=] pupils in {name}.", f"{name[0].upper()}{name[1:]} has [=] pupils."
        )
        if now:
            now = story.add(
                now, pupils, f"With {name}, there are [=] pupils.", f"Together with {name}, that makes [=] pupils."
            )
        now = now or pupils
    for i, (n, why) in enumerate(zip(missing, draw.sample(("are ill", "are away", "only watch"), 2), strict=False)):
        if not i:
            story.say(
                f"On that day, {n} pupils {why}.",
                f"Of all these pupils, {n} {why}.",
                f"{n} of the pupils {why} on that day.",
            )
        else:
            story.say(f"Another {n} pupils {why}.", f"{n} other pupils {why}.", f"Besides, {n} more of them {why}.")
        now = story.sub(
            now, n, f"Without the {n} who {why}, there are [=] pupils.", f"{n} {why}, so [=] pupils remain."
        )
    rest = "The others" if absent else "All of them"
    story.say(
        f"{rest} form teams of {size}.",
        f"{rest} are put into teams of {size}.",
        f"{rest} make teams with {size} pupils each.",
    )
    now = story.div(now, size, "They form [=] teams.", "That makes [=] teams.")
    story.aside(
        f"The sports day begins at {draw.number(8, 10)} in the morning.",
        f"The head teacher has worked there for {draw.number(4, 20)} years.",
        f"The sports day lasts {draw.number(2, 5)} hours.",
    )
    if not balls:
        story.ask(
            "How many teams are there?", "How many teams do they form?", "What is the number of teams?", unit="teams"
        )
        return
    things, each = draw.pick(*nouns("ball, rope, hoop, ribbon, bottle/bottles")), draw.number(2, 5)
    story.say(
        f"Each team needs {each} {things}.",
        f"There must be {each} {things} for each team.",
        f"Every team gets {each} {things}.",
    )
    now = story.mul(now, each, f"The teams need [=] {things}.", f"For all teams, [=] {things} are needed.")
    pack = draw.pick(*[k for k in range(3, 8) if now > 3 * k + 2] or [2])
    if balls > 1:
        have = 2 + (now - 2) % pack if balls > 2 else draw.number(2, max(2, now - 2))
        story.say(
            f"The school has {have} {things} already.",
            f"There are {have} {things} at school already.",
            f"The school already owns {have} of these {things}.",
        )
        now = story.sub(now, have, f"The school has to buy [=] {things}.", f"[=] {things} are missing.")
    if balls > 2:
        story.say(
            f"The school buys the missing {things} in packs of {pack}.",
            f"It buys those that are missing, in packs of {pack}.",
            f"The missing ones are bought in packs of {pack}.",
        )
        now = story.div(now, pack, "These are [=] packs.", f"The school buys [=] packs of {things}.")
    if balls == 4:
        price = draw.number(3, 12)
        story.say(
            f"A pack costs {price} dollars.",
            f"It pays {price} dollars for each pack.",
            f"The price of a pack is {price} dollars.",
        )
        story.mul(now, price, "The packs cost [=] dollars.", "The school pays [=] dollars.")
        story.ask(
            "How many dollars does the school pay?",
            "How much does the school spend, in dollars?",
            "What do all the packs cost, in dollars?",
            unit="dollars",
        )
    elif balls == 3:
        story.ask(
            "How many packs does the school buy?",
            "How many packs are bought?",
            "What number of packs does it buy?",
            unit="packs",
        )
    else:
        more = "more " if balls == 2 else ""
        story.ask(
            f"How many {more}{things} are needed?",
            f"How many {more}{things} does the school need?",
            f"How many {more}{things} must there be?",
            unit=things,
        )


_DOUBLES = ("borrow", "bring", "both", "boxes")  # what can happen on a day, with two operations


@scene(levels=(1, 12))
def class_library(story: Story, level: int) -> None:
    """Books are lent, returned, bought and thrown away on the days of a week."""
    draw = story.draw
    now = draw.number(30, 90)
    books = draw.pick(*nouns("book, comic, magazine"))
    story.say(
        f"There are {now} {books} on the shelves of a school library.",
        f"The shelves of a small library hold {now} {books}.",
        f"On the shelves of a library in a village, there are {now} {books}.",
    )
    story.aside(
        f"The library opens at {draw.number(2, 4)} in the afternoon.",
        f"The librarian is {draw.number(25, 60)} years old.",
        f"The library is {draw.number(12, 80)} years old.",
    )
    days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
    singles, doubles = draw.shuffled(("lent", "back", "torn", "given")), draw.shuffled(_DOUBLES)
    for i, day in enumerate(days):
        left, later = level - len(story.steps), 2 * (len(days) - i - 1)
        if not left:
            break
        double = left > 1 and (left > later + 1 or not singles or draw.chance(0.6))
        if double:
            doubles = doubles or draw.shuffled(_DOUBLES)
            now = _two_books(story, day, doubles.pop(), str(books), now)
        else:
            now = _one_book(story, day, singles.pop() if singles else "lent", str(books), now)
    story.ask(
        f"How many {books} are on the shelves then?",
        f"How many {books} are on the shelves in the end?",
        f"How many {books} do the shelves hold after that?",
        unit=books,
    )


def _one_book(story: Story, day: str, kind: str, books: str, now: int) -> int:
    n = story.draw.number(2, min(20, max(2, now // 2)))
    if kind == "lent":
        story.say(
            f"On {day}, {n} {books} are lent.",
            f"Readers borrow {n} {books} on {day}.",
            f"On {day}, readers take {n} {books} home.",
        )
        return story.sub(
            now, n, f"After {day}, [=] {books} are on the shelves.", f"{n} are lent on {day}, and [=] {books} remain."
        )
    if kind == "torn":
        n = story.draw.number(2, 8)
        story.say(
            f"On {day}, the librarian throws away {n} torn {books}.",
            f"{n} torn {books} are taken off the shelves on {day}.",
            f"On {day}, {n} {books} are taken away because they are torn.",
        )
        return story.sub(
            now,
            n,
            f"Without the torn ones, there are [=] {books}.",
            f"On {day}, that leaves [=] {books} on the shelves.",
        )
    if kind == "back":
        story.say(
            f"On {day}, {n} {books} that were lent before come back.",
            f"Readers return {n} {books} on {day}.",
            f"On {day}, readers bring back {n} {books}.",
        )
        return story.add(
            now,
            n,
            f"With those that come back on {day}, there are [=] {books}.",
            f"After {day}, [=] {books} are on the shelves.",
        )
    story.say(
        f"On {day}, a neighbor gives {n} {books} to the library.",
        f"The library gets {n} {books} as a present on {day}.",
        f"On {day}, somebody brings {n} {books} as a gift.",
    )
    return story.add(now, n, f"With the present, there are [=] {books}.", f"The gift makes it [=] {books}.")


def _two_books(story: Story, day: str, kind: str, books: str, now: int) -> int:
    n, m = story.draw.number(2, 7), story.draw.number(2, 5)
    if kind == "both":
        n, m = story.draw.number(3, min(20, max(3, now // 2))), story.draw.number(2, 15)
        story.say(
            f"On {day}, {n} {books} are lent, and {m} others are returned.",
            f"Readers borrow {n} {books} on {day} and bring back {m} others.",
            f"On {day}, {n} {books} leave the library, and {m} others come back.",
        )
        now = story.sub(
            now,
            n,
            f"On {day}, {n} are lent, so [=] {books} stay.",
            f"Without those lent on {day}, there are [=] {books}.",
        )
        return story.add(
            now, m, f"With those that are returned, it is [=] {books}.", f"{m} come back, which makes [=] {books}."
        )
    if kind == "boxes":
        m = story.draw.number(4, 10)
        story.say(
            f"On {day}, {n} boxes with {m} new {books} each arrive, and all these {books} are put on the shelves.",
            f"{n} boxes arrive on {day}, and the {m} new {books} from each box are put on the shelves.",
            f"On {day}, the librarian unpacks {n} boxes of {m} new {books} onto the shelves.",
        )
        new = story.mul(n, m, f"The boxes hold [=] {books}.", f"In the {n} boxes, there are [=] {books}.")
        return story.add(
            now, new, f"With the new ones, there are [=] {books}.", f"Then [=] {books} are on the shelves."
        )
    who = story.draw.pick("children", "pupils", "teachers", "parents")
    if kind == "borrow":
        story.say(
            f"On {day}, {n} {who} borrow {m} {books} each.",
            f"On {day}, {n} {who} come, and each of them borrows {m} {books}.",
            f"On {day}, {n} {who} take home {m} {books} each.",
        )
        lent = story.mul(n, m, f"The {n} {who} borrow [=] {books}.", f"On {day}, [=] {books} are lent.")
        return story.sub(
            now, lent, f"After that, [=] {books} are on the shelves.", f"That leaves [=] {books} on the shelves."
        )
    story.say(
        f"On {day}, {n} {who} return {m} {books} each.",
        f"On {day}, {n} {who} come, and each of them returns {m} {books}.",
        f"On {day}, {n} {who} bring back {m} {books} each.",
    )
    back = story.mul(n, m, f"The {n} {who} return [=] {books}.", f"On {day}, [=] {books} come back.")
    return story.add(now, back, f"With these, [=] {books} are on the shelves.", f"Then there are [=] {books}.")
