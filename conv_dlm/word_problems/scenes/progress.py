"""Scenes of getting on, day by day: a tour and a book."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import Person, order, person
from conv_dlm.word_problems.scenes.plans import pieces
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@scene(levels=(1, 12))
def tour(story: Story, level: int) -> None:
    """A tour of several days: hours at a speed, or compared with the day before; and what is left of the way."""
    draw = story.draw
    ann, unit = person(draw), draw.pick("kilometers", "miles")
    means = [("walks", "walk", "hike", 3, 5), ("paddles", "paddle", "canoe trip", 3, 6)]
    if level < 6:
        means += [("rides", "ride", "bike tour", 8, 12), ("skis", "ski", "ski tour", 5, 9)]
    goes, go, trip, slow, fast = draw.pick(*means)
    if level == 1:
        _trip(story, ann, goes, go, unit, draw.number(slow, fast))
        return
    after = draw.number(0, min(2, level - 1))  # operations about the rest of the way
    story.say(f"{ann} is on a {trip}.", f"{ann} makes a {trip} in the holidays.", f"{ann} goes on a long {trip}.")
    total = last = 0
    for i, size in enumerate([2, *pieces(draw, level - 1 - after)]):
        day, before = DAYS[i % 7], DAYS[i - 1]
        if i > 6:
            raise RejectedDrawError("more days than a week has")
        kinds = ["speed", "less", "half"] + ["more"] * (last < 30) + ["twice"] * (last < 16)
        kind = "plain" if size == 1 else "speed" if i == 0 else draw.pick(*kinds)
        hours, speed, n = draw.number(2, 5), draw.number(slow, fast), draw.number(2, 6)
        does = (f"On {day}, {ann.he} {goes} [=] {unit}.", f"The way on {day} is [=] {unit} long.")
        if kind == "plain":
            last = draw.number(5, 20)
            story.say(
                f"On {day}, {ann.he} {goes} {last} {unit}.",
                f"On {day}, {ann.he} covers {last} {unit}.",
                f"{ann.His} way on {day} is {last} {unit} long.",
            )
        elif kind == "speed":
            story.say(
                f"On {day}, {ann.he} {goes} for {hours} hours at {speed} {unit} an hour.",
                f"On {day}, {ann.he} {goes} {speed} {unit} an hour for {hours} hours.",
                f"On {day}, {ann.he} is on the way for {hours} hours, with a speed of {speed} {unit} an hour.",
            )
            last = story.mul(hours, speed, *does)
        else:
            much, long = {
                "more": (f"{n} {unit} farther than", f"{n} {unit} longer than"),
                "less": (f"{n} {unit} less than", f"{n} {unit} shorter than"),
            }.get(kind, (f"{kind} as far as", f"{kind} as long as"))
            story.say(
                f"On {day}, {ann.he} {goes} {much} on {before}.",
                f"{ann.His} way on {day} is {long} on {before}.",
                f"The next day is {day}, and {ann.he} {goes} {much} on {before}.",
            )
            if kind == "more":
                last = story.add(last, n, *does)
            elif kind == "less":
                last = story.sub(last, n, *does)
            else:
                last = story.mul(2, last, *does) if kind == "twice" else story.div(last, 2, *does)
        so_far = (f"By the end of {day}, that is [=] {unit}.", f"With {day}, that makes [=] {unit}.")
        total = story.add(total, last, *so_far) if i else last
        if i == 0:
            story.aside(
                f"{ann.His} backpack has {draw.number(3, 8)} pockets.",
                f"{ann.He} takes {draw.number(20, 60)} photos on the way.",
                f"{ann.His} tent was bought {draw.number(2, 9)} years ago.",
            )
    days, a_day = draw.number(2, 5), draw.number(3, 12)
    rest = days * a_day if after == 2 else draw.number(5, 40)
    if after == 0:
        story.ask(
            f"How many {unit} does {ann} {go} in all?",
            f"How long is the whole way that {ann} {goes}, in {unit}?",
            f"What distance does {ann} cover altogether, in {unit}?",
            unit=unit,
        )
        return
    story.say(
        f"The whole way is {total + rest} {unit} long.",
        f"The {trip} is {total + rest} {unit} long in all.",
        f"From start to finish there are {total + rest} {unit} to cover.",
    )
    story.sub(total + rest, total, f"Then [=] {unit} are left.", f"The rest of the way is [=] {unit}.")
    if after == 1:
        story.ask(
            f"How many {unit} are left?",
            f"How many {unit} does {ann} still have to {go}?",
            f"How far is it still to the end, in {unit}?",
            unit=unit,
        )
        return
    story.say(
        f"{ann} shares the rest equally among {days} more days.",
        f"{ann} wants to cover the rest in {days} equal days.",
        f"The rest is to take {ann} {days} more days, with the same distance on each.",
    )
    story.div(rest, days, f"On each of the {days} days, it is [=] {unit}.", f"That makes [=] {unit} a day.")
    story.ask(
        f"How many {unit} is that a day?",
        f"How many {unit} does {ann} have to {go} on each of these {days} days?",
        f"What distance is left for each of those days, in {unit}?",
        unit=unit,
    )


def _trip(story: Story, ann: Person, goes: str, go: str, unit: str, speed: int) -> None:
    """Of a distance, a speed and a time, one is asked for."""
    draw = story.draw
    hours = draw.number(2, 6)
    way = hours * speed
    at = f"at {speed} {unit} an hour"
    kind = draw.pick("way", "hours", "speed")
    if kind == "way":
        story.say(
            f"{ann} {goes} for {hours} hours {at}.",
            f"{ann} {goes} {speed} {unit} an hour, and does so for {hours} hours.",
            f"For {hours} hours, {ann} {goes} {at}.",
        )
        story.mul(hours, speed, f"{ann} {goes} [=] {unit}.", f"In {hours} hours, that is [=] {unit}.")
        story.ask(
            f"How many {unit} does {ann.he} {go}?",
            f"How far does {ann.he} {go}, in {unit}?",
            f"What distance does {ann.he} cover, in {unit}?",
            unit=unit,
        )
    elif kind == "hours":
        story.say(
            f"{ann} {goes} {way} {unit} {at}.",
            f"{ann} has a way of {way} {unit} and {goes} {at}.",
            f"{ann} {goes} {at}, and has {way} {unit} to go.",
        )
        story.div(way, speed, f"The {way} {unit} take [=] hours.", f"{ann} is on the way for [=] hours.")
        story.ask(
            f"How many hours does {ann.he} need?",
            f"How many hours does {ann.he} {go}?",
            f"How long is {ann.he} on the way, in hours?",
            unit="hours",
        )
    else:
        story.say(
            f"{ann} {goes} {way} {unit} in {hours} hours, always at the same speed.",
            f"In {hours} hours, {ann} {goes} {way} {unit} at a steady speed.",
            f"A way of {way} {unit} takes {ann} {hours} hours at an even speed.",
        )
        story.div(way, hours, f"{ann} {goes} [=] {unit} in an hour.", f"In each hour, that is [=] {unit}.")
        story.ask(
            f"How many {unit} does {ann.he} {go} in an hour?",
            f"How many {unit} an hour is that?",
            f"What is {ann.his} speed, in {unit} an hour?",
            unit=unit,
        )


@scene(levels=(1, 12))
def reading(story: Story, level: int) -> None:
    """A book is read in stretches of days with so many pages a day; the rest is shared out, or asked for."""
    draw = story.draw
    ann = person(draw)
    book = draw.pick("storybook", "book about whales", "picture book", "book about the stars", "comic book")
    plan = draw.chance(0.6)
    where = draw.sample(("on the train", "in the garden", "in bed", "on the sofa", "at the beach", "in the library"), 6)
    read = []
    for size in pieces(draw, level - plan):
        kind = "once" if size == 1 else draw.pick("days", "days", "parts")
        days, n, m = draw.number(2, 5), draw.number(3, 12), draw.number(3, 12)
        read.append((kind, days, n, m, {"once": n, "days": days * n, "parts": n + m}[kind]))
    days, a_day = draw.number(2, 8), draw.number(4, 12)
    left = sum(one[-1] for one in read) + (days * a_day if plan else draw.number(6, 50))
    story.say(
        f"{ann} had a {book} with {left} pages.",
        f"{ann}'s {book} had {left} pages.",
        f"There were {left} pages in the {book} that {ann} had.",
    )
    story.aside(
        f"Its cover showed {draw.number(3, 9)} birds.",
        f"{ann.He} had got it from {ann.his} uncle {draw.number(2, 5)} years before.",
        f"It had cost {draw.number(5, 15)} dollars.",
    )
    if len(read) > len(where) or left > 200:
        raise RejectedDrawError("too much to read")
    for then, (kind, d, n, m, sum_), place in zip(order(len(read)), read, where, strict=False):
        if kind == "once":
            story.say(
                f"{then}, {ann.he} read {n} pages {place}.",
                f"{then} came {n} pages {place}.",
                f"{then}, {ann.he} got through {n} pages {place}.",
            )
        elif kind == "days":
            story.say(
                f"{then}, {ann.he} read {n} pages a day for {d} days.",
                f"{then}, for {d} days, {ann.he} read {n} pages every day.",
                f"{then} came {d} days with {n} pages on each of them.",
            )
            story.mul(d, n, f"In {d} days, {ann.he} read [=] pages.", f"Those {d} days made [=] pages.")
        else:
            story.say(
                f"{then}, {ann.he} read {n} pages in the morning and {m} pages in the evening of a day.",
                f"{then} came a day when {ann.he} read {n} pages before lunch and {m} pages after it.",
                f"{then} there was a day with {n} pages at noon and {m} pages at night.",
            )
            story.add(n, m, f"That day, {ann.he} read [=] pages.", "In one day, that was [=] pages.")
        left = story.sub(left, sum_, "Then [=] pages were left.", f"{ann.He} still had [=] pages to read.")
    if not plan:
        story.ask(
            "How many pages were left?",
            f"How many pages did {ann} still have to read?",
            f"How many pages of the {book} were there still to read for {ann}?",
            unit="pages",
        )
        return
    rest = "the rest" if read else "it"
    if draw.chance(0.5):
        story.say(
            f"{ann} wanted to read {rest} in {days} days, with the same number of pages each day.",
            f"{ann} planned {days} days for {rest}, with equally many pages a day.",
            f"{ann} shared {rest} out equally over {days} days.",
        )
        story.div(left, days, "That was [=] pages a day.", f"On each of the {days} days, there were [=] pages to read.")
        story.ask(
            "How many pages a day was that?",
            f"How many pages did {ann.he} have to read each day?",
            "How many pages were there for each of these days?",
            unit="pages",
        )
        return
    story.say(
        f"{ann} read {rest} at {a_day} pages a day.",
        f"{ann} finished {rest} by reading {a_day} pages every day.",
        f"For {rest}, {ann} took {a_day} pages each day.",
    )
    story.div(left, a_day, f"The {left} pages took [=] days.", f"{ann.He} needed [=] days.")
    story.ask(
        f"How many days did {ann.he} need for {rest}?",
        f"How many days did {rest} take {ann.him}?",
        f"For how many days was {ann.he} busy with {rest}?",
        unit="days",
    )
