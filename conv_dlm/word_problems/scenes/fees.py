"""Scenes of fees, tickets, notes and coins."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import Person, people, person
from conv_dlm.word_problems.scenes.money import grow, parts
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

PLACES = ("zoo", "museum", "castle", "aquarium", "puppet theatre", "planetarium", "swimming pool", "water park")


def _membership(story: Story, ann: Person, club: str, months: int, size: int) -> int:
    """What a club costs for some months: the fee; with the fee for joining; with lessons; with both."""
    draw = story.draw
    fee, join, n, price = draw.number(5, 12), draw.number(5, 30), draw.number(2, 8), draw.number(2, 6)
    story.say(
        f"The {club} costs {fee} dollars a month.",
        f"At the {club}, members pay {fee} dollars each month.",
        f"The {club} has a monthly fee of {fee} dollars.",
    )
    total = story.mul(
        months, fee, f"At the {club}, {months} months cost [=] dollars.", f"The fees of the {club} are [=] dollars."
    )
    if size in (2, 4):
        story.say(
            f"Joining the {club} costs {join} dollars once.",
            f"New members of the {club} pay {join} dollars once for joining.",
            f"Besides, the {club} asks new members for {join} dollars at the start.",
        )
        total = story.add(
            total,
            join,
            f"With the {join} dollars for joining, it is [=] dollars.",
            f"Joining included, the {club} costs [=] dollars.",
        )
    if size in (3, 4):
        story.say(
            f"{ann} also needs {n} lessons there at {price} dollars each.",
            f"On top, {ann} would take {n} lessons there for {price} dollars each.",
            f"For {n} lessons at this club, {ann} would pay {price} dollars each in addition.",
        )
        lessons = story.mul(n, price, f"The {n} lessons cost [=] dollars.", f"For {n} lessons, {ann} pays [=] dollars.")
        total = story.add(
            total, lessons, f"With the lessons, the {club} costs [=] dollars.", "Together, that is [=] dollars."
        )
    return total


@scene(levels=(1, 9))
def memberships(story: Story, level: int) -> None:
    """A club for some months, in 1 to 4 operations, or two of them and their difference."""
    draw = story.draw
    ann, months = person(draw), draw.number(2, 10)
    clubs = draw.sample(("swimming club", "tennis club", "chess club", "judo club", "dance club", "rowing club"), 2)
    pairs = [(a, level - 1 - a) for a in range(1, 5) if 1 <= level - 1 - a <= 4]
    two = level > 4 or (level > 2 and draw.chance(0.5))
    if not two:
        story.say(
            f"{ann} wants to join a club for {months} months.",
            f"{ann} is going to be a member of a club for {months} months.",
            f"For {months} months, {ann} would like to belong to a club.",
        )
        _membership(story, ann, clubs[0], months, level)
        story.ask(
            f"How many dollars does {ann} pay in all?",
            f"How much does the {clubs[0]} cost {ann}, in dollars?",
            f"How many dollars does {ann} need for all this?",
            unit="dollars",
        )
        return
    story.say(
        f"{ann} looks for a club for {months} months and compares two.",
        f"{ann} wants to join one of two clubs for {months} months.",
        f"For {months} months, {ann} would like to belong to one of two clubs.",
    )
    first, second = (
        _membership(story, ann, club, months, size) for club, size in zip(clubs, draw.pick(*pairs), strict=True)
    )
    (high, dear), (low, cheap) = sorted(zip((first, second), clubs, strict=True), reverse=True)
    story.aside(
        f"The {clubs[1]} has {draw.number(20, 90)} members.",
        f"The {clubs[0]} was founded {draw.number(10, 60)} years ago.",
        f"The {clubs[1]} has {draw.number(2, 9)} trainers.",
    )
    story.sub(high, low, f"The {dear} costs [=] dollars more.", f"The {cheap} is cheaper by [=] dollars.")
    story.ask(
        f"How many dollars cheaper is the {cheap} for {ann}?",
        f"How many dollars more does {ann} pay at the {dear}?",
        f"How many dollars does {ann} save by choosing the {cheap}?",
        unit="dollars",
    )


def _purse(story: Story, ann: Person, kinds: int) -> int:
    """Notes and coins of so many kinds: 2 operations for each but the first, which is 1."""
    draw = story.draw
    total = None
    values = draw.sample(((2, "coins", 9), (5, "notes", 6), (10, "notes", 4), (20, "notes", 3)), kinds)
    for i, (value, what, most) in enumerate(values):
        n = draw.number(2, most)
        who = ann if i == 0 else ann.He
        also = "" if i == 0 else "also "
        story.say(
            f"{who} {also}has {n} {what} of {value} dollars each.",
            f"{who} {also}owns {n} {what}, each worth {value} dollars.",
            f"{who} {also}finds {n} {what} of {value} dollars each in {ann.his} purse.",
        )
        worth = story.mul(
            n,
            value,
            f"{ann}'s {what} of {value} dollars are worth [=] dollars.",
            f"In {value}-dollar {what}, {ann} has [=] dollars.",
        )
        total = grow(story, total, worth, f"With these, {ann} has [=] dollars.", f"That makes [=] dollars for {ann}.")
    assert total is not None
    return total


@scene(levels=(1, 12), held_out=True)
def banknotes(story: Story, level: int) -> None:
    """Notes and coins in one purse or two: what they are worth, with a payment, or a change into other coins."""
    draw = story.draw
    ann, ben = people(draw, 2)
    if level < 6 or (level < 8 and draw.chance(0.5)):
        pay = 1 if level % 2 == 0 else draw.pick(0, 2) if level > 1 else 0
        total = _purse(story, ann, (level - pay + 1) // 2)
        if pay == 0:
            story.ask(
                f"How many dollars does {ann} have?",
                "How much money is that, in dollars?",
                f"What is all of {ann}'s money worth, in dollars?",
                unit="dollars",
            )
            return
        coins = draw.number(3, 12)
        cost = total - 2 * coins if pay == 2 else draw.number(3, max(3, min(60, total - 2)))
        if cost < 2:
            raise RejectedDrawError("nothing is left to be paid")
        story.say(
            f"{ann.He} pays {cost} dollars for some food.",
            f"{ann.He} spends {cost} dollars on food.",
            f"Some food costs {ann.him} {cost} dollars of it.",
        )
        left = story.sub(
            total,
            cost,
            f"After paying, {ann} has [=] dollars.",
            "Without the money for the food, [=] dollars are left.",
        )
        if pay == 1:
            story.ask(
                f"How many dollars does {ann} have left?",
                "How much of the money remains, in dollars?",
                f"How many dollars does {ann} keep?",
                unit="dollars",
            )
            return
        story.say(
            f"{ann.He} changes the rest into 2-dollar coins.",
            "A bank changes all that is left into 2-dollar coins.",
            f"For the rest, a bank gives {ann.him} 2-dollar coins.",
        )
        story.div(left, 2, "That is [=] coins of 2 dollars.", f"{ann} gets [=] coins for the rest.")
        story.ask(
            f"How many coins does {ann} get?",
            f"How many 2-dollar coins does the bank give {ann.him}?",
            f"How many coins are handed to {ann}?",
            unit="coins",
        )
        return
    both = (level + 1) // 2 if level % 2 else level // 2
    first = draw.number(max(1, both - 4), min(4, both - 1))
    mine, yours = _purse(story, ann, first), _purse(story, ben, both - first)
    story.aside(
        f"{ann} has known {ben} for {draw.number(2, 9)} years.",
        f"{ann} lives {draw.number(2, 9)} miles from {ben}.",
        f"{ben} has {draw.number(2, 4)} sisters.",
    )
    if level % 2 and draw.chance(0.6):
        (high, rich), (low, poor) = sorted(((mine, ann.name), (yours, ben.name)), reverse=True)
        story.sub(high, low, f"{rich} has [=] dollars more than {poor}.", "The difference is [=] dollars.")
        story.ask(
            f"How many dollars more than {poor} does {rich} have?",
            f"By how many dollars does {rich} have more money than {poor}?",
            f"How many dollars does {poor} have less than {rich}?",
            unit="dollars",
        )
        return
    total = story.add(
        mine, yours, f"Together, {ann} and {ben} have [=] dollars.", "Both purses together hold [=] dollars."
    )
    if level % 2:
        story.ask(
            f"How many dollars do {ann} and {ben} have together?",
            "How much money do they have together, in dollars?",
            "What do both own together, in dollars?",
            unit="dollars",
        )
        return
    cost = draw.number(10, 90)
    story.say(
        f"Together, they buy a present for {cost} dollars.",
        f"They put all their money together and pay {cost} dollars for a present.",
        f"Of all their money together, they spend {cost} dollars on a present.",
    )
    story.sub(
        total,
        cost,
        "After buying the present, they have [=] dollars.",
        "Without the price of the present, [=] dollars are left.",
    )
    story.ask(
        "How many dollars do they have left together?",
        "How much money is left for them both, in dollars?",
        "How many dollars remain to the two of them?",
        unit="dollars",
    )


def _visit(story: Story, place: str, size: int, adults: int, children: int) -> int:
    """What a group pays: for the same thing for one kind of people (1 operation), for all (2), at two prices (3)."""
    draw = story.draw
    price = draw.number(2, 5)
    if size == 1:
        n, who, one = (children, "children", "child") if draw.chance(0.6) else (adults, "adults", "adult")
        thing = draw.pick("a drink", "a ride", "a snack", "a cap", "a map", "a postcard")
        story.say(
            f"Each {one} gets {thing} for {price} dollars.",
            f"Each {one} buys {thing} for {price} dollars.",
            f"For each {one}, {thing} at {price} dollars is bought.",
        )
        return story.mul(
            n,
            price,
            f"For {thing} each, the {n} {who} pay [=] dollars.",
            f"For the {n} {who}, {thing} each makes [=] dollars.",
        )
    if size == 2:
        story.say(
            f"The bus ride costs {price} dollars for each person.",
            f"Everybody, old or young, pays {price} dollars for the bus.",
            f"For the bus, each person in the group needs {price} dollars.",
        )
        people = story.add(adults, children, "The group has [=] people.", "There are [=] people in the group.")
        return story.mul(people, price, "The bus costs [=] dollars.", f"For the bus, {people} people pay [=] dollars.")
    dear = price + draw.number(1, 5)
    story.say(
        f"A ticket for the {place} costs {dear} dollars for an adult and {price} dollars for a child.",
        f"At the {place}, adults pay {dear} dollars each, and children {price} dollars each.",
        f"To get into the {place}, each adult needs {dear} dollars, and each child {price} dollars.",
    )
    a = story.mul(
        adults,
        dear,
        f"At the {place}, the {adults} adults pay [=] dollars.",
        f"The adults' tickets for the {place} cost [=] dollars.",
    )
    b = story.mul(
        children,
        price,
        f"The {children} children pay [=] dollars there.",
        f"The children's tickets for the {place} cost [=] dollars.",
    )
    return story.add(
        a, b, f"The {place} costs the group [=] dollars.", f"All the tickets for the {place} cost [=] dollars."
    )


@scene(levels=(1, 12))
def tickets(story: Story, level: int) -> None:
    """A group of adults and children pays for places of 3 operations and other things; what it has left."""
    draw = story.draw
    adults, children = draw.number(2, 4), draw.number(3, 7)
    rest = level > 3 and draw.chance(0.5)
    sizes = parts(draw, level + 1 - rest, *((4, 4, 4, 3, 2) if level > 2 else (2, 3)))
    sizes.sort(key=lambda size: size < 3 and level > 1)  # the trip begins with something for everybody
    if sizes.count(3) > 1 or sizes.count(2) > 1 or (sizes[0] == 2 and level > 1):
        raise RejectedDrawError("the bus, or a thing for some, is paid twice")
    story.say(
        f"A group of {adults} adults and {children} children is on a trip.",
        f"{adults} adults and {children} children go on a trip together.",
        f"On a trip, there are {adults} adults and {children} children.",
    )
    total = None
    for size, place in zip(sizes, draw.sample(PLACES, len(sizes)), strict=True):
        cost = _visit(story, place, size - 1, adults, children)
        name = {2: "this", 3: "the bus", 4: f"the {place}"}[size]
        total = grow(
            story,
            total,
            cost,
            f"Together with {name}, the trip costs [=] dollars.",
            f"With {name}, it is [=] dollars so far.",
        )
    assert total is not None
    story.aside(
        f"The trip takes {draw.number(5, 9)} hours.",
        f"They leave at {draw.number(7, 10)} in the morning.",
        f"The bus has {draw.number(30, 50)} seats.",
    )
    if not rest:
        story.ask(
            "How many dollars does all this cost?",
            "How much do they pay, in dollars?",
            "How many dollars do they spend on all this?",
            unit="dollars",
        )
        return
    purse = draw.number(total // 10 * 10 + 10, total // 10 * 10 + 40, 10)
    story.say(
        f"They have {purse} dollars for the day.",
        f"At first, they have {purse} dollars together.",
        f"Before that, there are {purse} dollars in their purse.",
    )
    story.sub(purse, total, "After the trip, [=] dollars are left.", "They keep [=] dollars.")
    story.ask(
        "How many dollars are left afterwards?",
        "How much money do they bring home, in dollars?",
        "How many dollars do they have left after paying for everything?",
        unit="dollars",
    )
