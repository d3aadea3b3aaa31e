"""Scenes of working."""

from itertools import pairwise, product

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import Person, nouns, people
from conv_dlm.word_problems.scenes.money import divisor, grow, parts
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

PRODUCTS = nouns(
    "bowl, candle, brush/brushes, toy car, button, spoon, picture frame, tile, wooden box/wooden boxes, mug"
)


def _pay(story: Story, ann: Person, job: str, size: int, low: bool) -> int:
    """What somebody earns: hours (1 operation), with tips or in two parts (2), with overtime (3, or 4)."""
    draw = story.draw
    hours, rate = draw.number(3, 5 if low else 8), draw.number(5, 8 if low else 12)
    if size == 2 and draw.chance(0.5):
        hours, more = draw.number(3, 5), draw.number(2, 4)
        story.say(
            f"As a {job} at {rate} dollars an hour, {ann} worked {hours} hours before lunch and {more} hours after it.",
            f"{ann} was a {job} for {hours} hours in the morning and {more} after lunch, at {rate} dollars an hour.",
            f"{ann} got {rate} dollars an hour as a {job} and worked {hours} hours before noon and {more} after it.",
        )
        both = story.add(hours, more, f"{ann} worked [=] hours.", f"The working time of {ann} was [=] hours.")
        return story.mul(
            both, rate, f"For {both} hours of work, {ann} got [=] dollars.", f"{ann} earned [=] dollars as a {job}."
        )
    story.say(
        f"{ann} worked {hours} hours as a {job} for {rate} dollars an hour.",
        f"As a {job}, {ann} earned {rate} dollars an hour and worked {hours} hours.",
        f"{ann} had {hours} hours of work as a {job}, at {rate} dollars an hour.",
    )
    pay = story.mul(
        hours, rate, f"For {hours} hours of work, {ann} got [=] dollars.", f"{ann} earned [=] dollars as a {job}."
    )
    if size == 1:
        return pay
    if size == 2:
        tips = draw.number(3, 15)
        story.say(
            f"There were also {tips} dollars of tips for {ann.him}.",
            f"On top of that, {ann.he} got {tips} dollars in tips.",
            f"Friendly people gave {ann.him} {tips} dollars as tips.",
        )
        return story.add(
            pay, tips, f"With the tips, {ann} had [=] dollars.", f"Pay and tips of {ann} were [=] dollars."
        )
    over, extra = draw.number(2, 4), draw.number(2, 4)
    high = rate + extra
    if size == 3:
        story.say(
            f"For {over} hours of overtime, {ann.he} got {high} dollars an hour.",
            f"Then {ann.he} worked {over} hours of overtime at {high} dollars an hour.",
            f"{over} more hours were overtime, for which {ann.he} got {high} dollars an hour.",
        )
    elif draw.chance(0.3):
        story.say(
            f"For {over} hours of overtime, {ann.he} got twice as much an hour.",
            f"Then {ann.he} worked {over} hours of overtime, paid at twice this rate.",
            f"{over} more hours were overtime, for which the wage was twice as high.",
        )
        high = story.mul(
            2,
            rate,
            f"An hour of overtime brought {ann} [=] dollars.",
            "The rate for overtime was [=] dollars an hour.",
        )
    else:
        story.say(
            f"For {over} hours of overtime, {ann.he} got {extra} dollars more an hour.",
            f"Then {ann.he} worked {over} hours of overtime, which paid {extra} dollars an hour more.",
            f"{over} more hours were overtime, for which the wage was {extra} dollars an hour higher.",
        )
        high = story.add(
            rate,
            extra,
            f"An hour of overtime brought {ann} [=] dollars.",
            "The rate for overtime was [=] dollars an hour.",
        )
    late = story.mul(
        over,
        high,
        f"The {over} hours of overtime brought {ann.him} [=] dollars.",
        f"For the overtime, {ann.he} got [=] dollars.",
    )
    return story.add(
        pay, late, f"With the overtime, {ann} earned [=] dollars.", f"All the work brought {ann} [=] dollars."
    )


@scene(levels=(1, 12))
def wages(story: Story, level: int) -> None:
    """Wages by the hour of 1 to 3 people, in 1 to 4 operations each; then their sum or difference."""
    draw = story.draw
    count = draw.pick(*(k for k in (1, 2, 3) if 2 * k - 1 <= level <= 5 * k - 1 and (k < 3 or level > 7)))
    counts = [sizes for sizes in product(range(1, 5), repeat=count) if sum(sizes) == level - count + 1]
    workers = people(draw, count)
    jobs = draw.sample(("waiter", "gardener", "painter", "cleaner", "driver", "baker", "cook", "guide"), count)
    pays = [_pay(story, ann, job, n, count > 2) for ann, job, n in zip(workers, jobs, draw.pick(*counts), strict=True)]
    ann = workers[0]
    story.aside(
        f"{ann} is {draw.number(20, 60)} years old.",
        f"{ann} lives {draw.number(2, 9)} miles from the place of work.",
        f"{ann} has had this job for {draw.number(2, 9)} years.",
    )
    if count == 1:
        story.ask(
            f"How many dollars did {ann} get in all?",
            f"How much money did {ann} make, in dollars?",
            f"How many dollars did {ann} bring home?",
            unit="dollars",
        )
    elif count == 2 and draw.chance(0.6):
        (high, rich), (low, poor) = sorted(zip(pays, (one.name for one in workers), strict=True), reverse=True)
        story.sub(high, low, f"{rich} got [=] dollars more than {poor}.", "The difference was [=] dollars.")
        story.ask(
            f"How many dollars more than {poor} did {rich} make?",
            f"By how many dollars was {rich}'s pay higher than {poor}'s?",
            f"How many dollars less than {rich} did {poor} get?",
            unit="dollars",
        )
    else:
        total = pays[0]
        for pay, one in zip(pays[1:], workers[1:], strict=True):
            total = story.add(
                total, pay, f"With {one}'s money, that was [=] dollars.", f"Together with {one}, it was [=] dollars."
            )
        story.ask(
            "How many dollars did they make together?",
            f"How much did the {count} of them earn together, in dollars?",
            f"How many dollars did these {count} people get in all?",
            unit="dollars",
        )


@scene(levels=(1, 12))
def workshop(story: Story, level: int) -> None:
    """Pieces made by people at rates of their own or in terms of another's; then broken ones, boxes, or an order."""
    draw = story.draw
    end = draw.number(0, min(2, level - 1))
    sizes = parts(draw, level + 1 - end, *((2, 3, 3, 4) if level > 2 else (2, 2)))
    if sizes[0] == 3 or (4, 3) in pairwise(sizes):
        sizes.sort()  # who works at somebody's rate comes behind one who has a single rate
    if len(sizes) > (4 if level < 10 else 5) or sizes[0] == 3:
        raise RejectedDrawError("too many people, or all rates are in terms of others")
    thing, workers, total, before = draw.pick(*PRODUCTS), people(draw, len(sizes)), None, 0
    story.say(
        f"A workshop makes {thing}.",
        f"In a workshop, people make {thing}.",
        f"{str(thing).capitalize()} are made in a workshop.",
    )
    for i, (size, ann) in enumerate(zip(sizes, workers, strict=True)):
        rate, hours, other = draw.number(2, 6), draw.number(2, 6), workers[i - 1]
        if size == 3 and draw.chance(0.5):
            more = draw.number(2, 4)
            story.say(
                f"{ann} makes {more} {thing} an hour more than {other} and works for {hours} hours.",
                f"{ann} works for {hours} hours and makes {more} more {thing} an hour than {other}.",
                f"In each of {hours} hours, {ann} makes {more} {thing} more than {other} makes in an hour.",
            )
            rate = story.add(before, more, f"{ann} makes [=] {thing} an hour.", f"In an hour, {ann} makes [=] {thing}.")
        elif size == 3:
            factor, times = draw.pick((2, "twice"), (3, "three times"))
            story.say(
                f"{ann} makes {times} as many {thing} an hour as {other} and works for {hours} hours.",
                f"{ann} works for {hours} hours and makes {times} as many {thing} an hour as {other}.",
                f"For {hours} hours, {ann} is at work, {times} as fast as {other}.",
            )
            rate = story.mul(
                factor, before, f"{ann} makes [=] {thing} an hour.", f"In an hour, {ann} makes [=] {thing}."
            )
        else:
            story.say(
                f"{ann} works for {hours} hours and makes {rate} {thing} an hour.",
                f"{ann} makes {rate} {thing} an hour and works for {hours} hours.",
                f"In each of {hours} hours, {ann} makes {rate} {thing}.",
            )
        made = story.mul(hours, rate, f"In {hours} hours, {ann} makes [=] {thing}.", f"{ann}'s work gives [=] {thing}.")
        if size == 4:
            many, late = draw.number(2, 4), rate + draw.number(1, 3)
            story.say(
                f"After that, {ann} makes {late} {thing} an hour at a machine for {many} hours.",
                f"Then {ann} works with a machine for {many} hours and makes {late} {thing} an hour with it.",
                f"In {many} more hours at a machine, {ann} makes {late} {thing} an hour.",
            )
            then = story.mul(
                many,
                late,
                f"In the {many} hours after that, [=] {thing} are made.",
                f"The {many} later hours give [=] {thing}.",
            )
            made = story.add(made, then, f"Together, these are [=] {thing}.", f"In this way, {ann} gets [=] {thing}.")
        before = rate
        total = grow(
            story,
            total,
            made,
            f"With {ann}'s work, there are [=] {thing}.",
            f"Together with those of {ann}, there are [=] {thing}.",
        )
    assert total is not None
    story.aside(
        f"The workshop has {draw.number(3, 9)} windows.",
        f"{workers[0]} is {draw.number(20, 60)} years old.",
        f"The workshop is {draw.number(10, 50)} years old.",
    )
    if end == 0 or (end == 1 and draw.chance(0.3)):
        if end:
            order = total + draw.number(5, 40)
            story.say(
                f"A shop has ordered {order} {thing}.",
                f"There is an order of {order} {thing}.",
                f"A customer wants {order} {thing}.",
            )
            story.sub(order, total, f"So [=] {thing} are missing.", f"The workshop still has to make [=] {thing}.")
            story.ask(
                f"How many {thing} are still missing?",
                f"How many more {thing} does the workshop have to make?",
                f"How many {thing} are yet to be made?",
                unit=thing,
            )
            return
        story.ask(
            f"How many {thing} are made?",
            f"How many {thing} does the workshop make?",
            f"How many {thing} are ready in the end?",
            unit=thing,
        )
        return
    bad = draw.number(2, max(2, min(9, total // 4)))
    story.say(
        f"{bad} of the {thing} have faults and are thrown away.",
        f"Of all these {thing}, {bad} break.",
        f"When they are checked, {bad} {thing} turn out to be useless.",
    )
    good = story.sub(total, bad, f"So [=] {thing} are good.", f"Without the bad ones, there are [=] {thing}.")
    if end == 1:
        story.ask(
            f"How many good {thing} are there?",
            f"How many {thing} can be sold?",
            f"How many {thing} without faults are left?",
            unit=thing,
        )
        return
    box = divisor(draw, good, 2, 10)
    story.say(
        f"The good {thing} are packed into crates of {box}.",
        f"{box} good {thing} fill one crate.",
        f"For the others, there are crates, and {box} {thing} go into each.",
    )
    story.div(good, box, "They fill [=] crates.", f"With {box} {thing} in each, there are [=] crates.")
    story.ask(
        "How many crates are filled?",
        "How many crates are needed?",
        f"How many crates do the good {thing} need?",
        unit="crates",
    )
