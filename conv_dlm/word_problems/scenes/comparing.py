"""Scenes of comparing and counting together: who has more, who is older, what is heavier."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from conv_dlm.word_problems.draw import Draw
from conv_dlm.word_problems.language import listing, nouns, people
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

TREASURES = nouns("marble, sticker, stamp, coin, card, comic, button, toy car, postcard, bead, poster, badge")
LOADS = nouns("bag, box/boxes, sack, crate, barrel, trunk, parcel, basket")
TRIPS = ("the zoo", "the lake", "the museum", "the castle", "the pool", "the farm", "the theatre")
_TIMES = {2: "twice", 3: "three times", 4: "4 times", 5: "5 times"}


@dataclass(frozen=True)
class Comparison:
    """How a number follows from another one: `by` "more" or "fewer", `by` "times" it, or "half" of it."""

    kind: str
    by: int = 2

    def words(self, more: str, fewer: str, as_much: str) -> str:
        """`4 kilograms more than`, or `twice as much as`."""
        if self.kind in ("more", "fewer"):
            return f"{self.by} {more if self.kind == 'more' else fewer} than"
        return f"{'half' if self.kind == 'half' else _TIMES[self.by]} {as_much} as"

    def than(self, things: object) -> str:
        """`4 more shells than`, or `twice as many shells as`."""
        return self.words(f"more {things}", f"fewer {things}", f"as many {things}")

    def of(self, value: int) -> int:
        """The number that follows from `value`."""
        return {"more": value + self.by, "fewer": value - self.by, "times": self.by * value, "half": value // 2}[
            self.kind
        ]

    def step(self, story: Story, value: int, *wordings: str) -> int:
        """The operation that finds it."""
        if self.kind == "more":
            return story.add(value, self.by, *wordings)
        if self.kind == "fewer":
            return story.sub(value, self.by, *wordings)
        return story.mul(self.by, value, *wordings) if self.kind == "times" else story.div(value, 2, *wordings)


def comparison(draw: Draw, value: int, top: int) -> Comparison:
    """One that makes from `value` a number up to `top`."""
    factors = [factor for factor in (2, 2, 3, 4) if factor * value <= top]
    kinds = ["more"] * 2 * (value + 2 <= top) + ["fewer"] * 2 * (value > 5) + ["times"] * 2 * bool(factors)
    kind = draw.pick(*kinds, *["half"] * (value > 5 and value % 2 == 0))
    if kind == "more":
        return Comparison(kind, draw.number(2, min(12, top - value)))
    if kind == "fewer":
        return Comparison(kind, draw.number(2, min(12, value - 3)))
    return Comparison(kind, draw.pick(*factors) if kind == "times" else 2)


def spread(draw: Draw, operations: int, most: Sequence[int]) -> list[int]:
    """So many operations, dealt at random to places that take up to `most` each."""
    counts = [0] * len(most)
    for _ in range(operations):
        counts[draw.pick(*(place for place, limit in enumerate(most) if counts[place] < limit))] += 1
    return counts


def divisors(value: int) -> list[int]:
    """The numbers by which `value` can be divided in the head."""
    return [by for by in range(2, 11) if value % by == 0 and value > by and (value // by <= 12 or by <= 5)]


def round_above(draw: Draw, value: int) -> int:
    """A multiple of ten that is more than `value`."""
    low = value // 10 * 10 + 10
    return draw.number(low, min(200, low + 40), 10)


def first_upper(text: str) -> str:
    return text[0].upper() + text[1:]


def total(story: Story, names: Sequence[object], values: Sequence[int], things: object) -> int:
    """The sum of several numbers, each of which has a name, such as "the cows", step by step."""
    result = values[0]
    for i, (name, value) in enumerate(zip(names[1:], values[1:], strict=True)):
        if i == 0:
            both = first_upper(f"{names[0]} and {name}")
            wordings = (f"{both} are [=] {things} together.", f"{both} make [=] {things}.")
        else:
            wordings = (f"With {name}, that makes [=] {things}.", f"Together with {name}, it is [=] {things}.")
        result = story.add(result, value, *wordings)
    return result


@scene(levels=(1, 12))
def more_or_fewer(story: Story, level: int) -> None:
    """Each child has more or fewer things than the one before: the last one's, the difference, or all together."""
    draw = story.draw
    end = draw.pick(*["last"] * (level < 5), *["difference"] * (2 < level < 7), *["together"] * (level > 1))
    count = {"last": level + 1, "difference": level, "together": level // 2 + 1}[end]
    children, things = people(draw, count), draw.pick(*TREASURES)
    first, last, start = children[0], children[-1], draw.number(3, 24)
    values = [start]
    story.say(
        f"{first} has {start} {things}.",
        f"There are {start} {things} in {first}'s box.",
        f"{first} keeps {start} {things} in a box.",
    )
    for earlier, child in pairwise(children):
        how = comparison(draw, values[-1], 40 if count < 6 else 30)
        than = how.than(things)
        story.say(
            f"{child} has {than} {earlier}.",
            f"{child} owns {than} {earlier}.",
            f"In {child}'s box, there are {than} in {earlier}'s.",
        )
        values.append(
            how.step(story, values[-1], f"{child} has [=] {things}.", f"That makes [=] {things} for {child}.")
        )
    story.aside(
        f"They all go to a school with {draw.number(8, 30)} teachers.",
        f"They have known each other for {draw.number(2, 6)} years.",
        f"They live in a street with {draw.number(12, 50)} houses.",
    )
    if end == "last":
        story.ask(
            f"How many {things} does {last} have?",
            f"How many {things} are in {last}'s box?",
            f"What is the number of {things} that {last} has?",
            unit=things,
        )
        return
    if end == "difference":
        (low, less), (high, more) = sorted([(start, first), (values[-1], last)], key=lambda pair: pair[0])
        story.sub(high, low, f"{more} has [=] more {things} than {less}.", f"The difference is [=] {things}.")
        story.ask(
            f"How many more {things} does {more} have than {less}?",
            f"How many fewer {things} does {less} have than {more}?",
            f"By how many {things} is {more} ahead of {less}?",
            unit=things,
        )
        return
    now = total(story, [f"{child}'s {things}" for child in children], values, things)
    if level % 2 == 0:
        story.ask(
            f"How many {things} do they have together?",
            f"How many {things} do the children have in all?",
            f"How many {things} is that for all the children together?",
            unit=things,
        )
    elif divisors(now) and draw.chance(0.5):
        by, place = draw.pick(*divisors(now)), draw.pick("drawers", "bags", "jars")
        story.say(
            f"The children put all their {things} into {by} {place}, the same number into each.",
            f"All these {things} fill {by} {place}, with the same number in each.",
            f"All of them together go into {by} {place}, with equally many {things} in each.",
        )
        story.div(now, by, f"In each of the {place}, there are [=] {things}.", f"Each of the {by} gets [=] {things}.")
        story.ask(
            f"How many {things} are in each of the {place}?",
            f"How many {things} go into each of the {place}?",
            f"What number of {things} does each of the {place} hold?",
            unit=things,
        )
    else:
        gift = draw.number(2, min(20, now - 2))
        story.say(
            f"Together, the children give {gift} of their {things} away.",
            f"The children give {gift} of all these {things} to the school.",
            f"As a present, {gift} of all these {things} go to another child.",
        )
        story.sub(now, gift, f"After the gift, they have [=] {things} left.", f"They keep [=] {things}.")
        story.ask(
            f"How many {things} do they have left together?",
            f"How many of the {things} remain?",
            f"How many {things} do the children keep in all?",
            unit=things,
        )


@scene(levels=(1, 6))
def ages(story: Story, level: int) -> None:
    """The ages of a family, each told by another one: now, in some years, together, or the difference."""
    draw = story.draw
    plans = [(level, "last")] * (level < 5) + [(level - 1, "years")] * (level < 6)
    plans += [(level - 1, "difference")] * (2 < level < 6)
    plans += [(k, "sum") for k in range(1, 5) if 1 <= level - k <= k]
    count, end = draw.pick(*plans)
    ann, ben = people(draw, 2)
    age = draw.number(4, 14)
    sibling = f"{ann.his} {'sister' if ben.he == 'she' else 'brother'} {ben}"
    told = [ann, sibling, "their mother", "their father", "their grandmother"][: count + 1]
    names = [str(name) for name in [ann, ben, *told[2:]]][: count + 1]
    values = [age]
    story.say(
        f"{ann} is {age} years old.", f"{ann} is a child of {age} years.", f"{ann} has just turned {age} years old."
    )
    for i in range(1, count + 1):
        now, who, other = values[-1], first_upper(str(told[i])), names[i - 1]
        if i == 1:
            kinds = [Comparison("more", draw.number(2, 6)), Comparison("fewer", draw.number(2, 6))]
            fitting = [Comparison("times")] * (now < 9) + [how for how in kinds if 3 <= how.of(now) <= 18]
        elif i == 3:
            fitting = [Comparison(draw.pick("more", "fewer"), draw.number(2, 6))]
        else:
            low, high = (max(values) + 24, max(values) + 38) if i == 2 else (max(values) + 20, 88)
            fitting = [Comparison("times", by) for by in (2, 3, 4, 5) if low <= by * now <= high]
            fitting.append(Comparison("more", max(values) - now + draw.number(24, 32)))
        how = draw.pick(*fitting)
        story.say(
            f"{who} is {how.words('years older', 'years younger', 'as old')} {other}.",
            f"{who} is {how.words('years older', 'years younger', 'as old')} {other} is.",
            f"{who} has lived {how.words('years longer', 'years less', 'as long')} {other}.",
        )
        values.append(
            how.step(story, now, f"{first_upper(names[i])} is [=] years old.", f"The age of {names[i]} is [=] years.")
        )
    story.aside(
        f"The family lives at number {draw.number(12, 60)}, Park Street.",
        f"There are {draw.number(3, 8)} rooms in the family's house.",
        f"The family has {draw.number(2, 5)} cats.",
    )
    last, who = values[-1], names[-1]
    if end == "last":
        story.ask(f"How old is {who}?", f"How many years old is {who}?", f"What is the age of {who}?", unit="years")
    elif end == "difference":
        story.sub(last, age, f"{first_upper(who)} is [=] years older than {ann}.", "Between them lie [=] years.")
        story.ask(
            f"How many years older than {ann} is {who}?",
            f"By how many years is {who} older than {ann}?",
            f"How many years lie between the ages of {ann} and {who}?",
            unit="years",
        )
    elif end == "sum":
        chosen = sorted([*draw.sample(range(count), level - count), count])
        story_names = [names[i] for i in chosen]
        now = values[chosen[0]]
        for done, i in enumerate(chosen[1:], 2):
            now = story.add(
                now,
                values[i],
                f"The ages of {listing(story_names[:done])} add up to [=] years.",
                f"Together, {listing(story_names[:done])} are [=] years old.",
            )
        story.ask(
            f"How old are {listing(story_names)} together?",
            f"What is the sum of the ages of {listing(story_names)}?",
            f"How many years do the ages of {listing(story_names)} make together?",
            unit="years",
        )
    elif last > 9 and draw.chance(0.4):
        years = draw.number(2, min(20, last - 3))
        story.sub(
            last, years, f"{years} years ago, {who} was [=] years old.", f"At that time, {who} was [=] years old."
        )
        story.ask(
            f"How old was {who} {years} years ago?",
            f"What was the age of {who} {years} years ago?",
            f"Going {years} years back, how old was {who} then?",
            unit="years",
        )
    else:
        years = draw.number(2, 20)
        story.add(last, years, f"In {years} years, {who} will be [=] years old.", f"Then {who} will be [=] years old.")
        story.ask(
            f"How old will {who} be in {years} years?",
            f"What will be the age of {who} in {years} years?",
            f"When {years} years have passed, how old will {who} be?",
            unit="years",
        )


@scene(levels=(1, 12))
def weights(story: Story, level: int) -> None:
    """Loads of which each weighs more or less than the one before, several of each, and what can still be carried."""
    draw = story.draw
    plans = [(kinds, level - 2 * (kinds - 1) - end, end) for kinds in range(1, 6) for end in (0, 1)]
    kinds, products, end = draw.pick(*(plan for plan in plans if 1 <= plan[1] <= plan[0]))
    loads, several = draw.sample(LOADS, kinds), spread(draw, products, [1] * kinds)
    counts = [draw.number(2, 8 if kinds < 3 else 4) if many else 1 for many in several]
    values = [draw.number(2, 9)]
    vehicle = draw.pick("van", "truck", "wagon", "boat")
    one = [load.a for load in loads]
    story.say(
        f"{first_upper(one[0])} weighs {values[0]} kilograms.",
        f"The weight of {one[0]} is {values[0]} kilograms.",
        f"The scales show {values[0]} kilograms for {one[0]}.",
    )
    for i in range(1, kinds):
        how = comparison(draw, values[-1], 20 if kinds < 4 else 12)
        than = how.words("kilograms more", "kilograms less", "as much")
        story.say(
            f"{first_upper(one[i])} weighs {than} {one[i - 1]}.",
            f"The weight of {one[i]} is {than} that of {one[i - 1]}.",
            f"{first_upper(one[i])} is {how.words('kilograms heavier', 'kilograms lighter', 'as heavy')} {one[i - 1]}.",
        )
        values.append(
            how.step(
                story,
                values[-1],
                f"{first_upper(one[i])} weighs [=] kilograms.",
                f"That makes [=] kilograms for {one[i]}.",
            )
        )
    cargo = listing([load.a if n == 1 else f"{n} {load}" for n, load in zip(counts, loads, strict=True)])
    story.say(
        f"A {vehicle} carries {cargo}.", f"On a {vehicle}, there are {cargo}.", f"A {vehicle} is loaded with {cargo}."
    )
    story.aside(
        f"The {vehicle} is {draw.number(2, 12)} years old.",
        f"The trip is {draw.number(5, 60)} kilometres long.",
        f"The {vehicle} leaves at {draw.number(6, 11)} in the morning.",
    )
    for i in range(kinds):
        if several[i]:
            values[i] = story.mul(
                counts[i],
                values[i],
                f"The {counts[i]} {loads[i]} weigh [=] kilograms.",
                f"{counts[i]} {loads[i]} weigh [=] kilograms together.",
            )
    names = [f"the {load.one if n == 1 else load}" for n, load in zip(counts, loads, strict=True)]
    now = total(story, names, values, "kilograms")
    if not end:
        story.ask(
            f"How many kilograms does the {vehicle} carry?",
            "How much does everything weigh together, in kilograms?",
            f"What is the weight of the {vehicle}'s load, in kilograms?",
            unit="kilograms",
        )
        return
    most = round_above(draw, now)
    story.say(
        f"It can carry {most} kilograms.",
        f"The {vehicle} may be loaded with {most} kilograms.",
        f"{most} kilograms are allowed on the {vehicle}.",
    )
    story.sub(most, now, f"The {vehicle} can carry [=] more kilograms.", "There is room for [=] kilograms more.")
    story.ask(
        "How many more kilograms can it carry?",
        f"How many kilograms can still be put on the {vehicle}?",
        "How many kilograms more would be allowed?",
        unit="kilograms",
    )


@scene(levels=(1, 6), held_out=True)
def votes(story: Story, level: int) -> None:
    """Votes for the first choices, and the rest of the children for the last one."""
    draw = story.draw
    plans = [(kinds, level - kinds - both, both) for kinds in range(1, 5) for both in (0, 1)]
    kinds, relations, both = draw.pick(*(plan for plan in plans if 0 <= plan[1] <= min(2, plan[0] - 1)))
    trips = draw.sample(TRIPS, kinds + 1)
    related = [0, *spread(draw, relations, [1] * (kinds - 1))] if relations else [0] * kinds
    values, hows = [draw.number(3, 12)], [Comparison("more")]
    for i in range(1, kinds):
        hows.append(comparison(draw, values[-1], 16))
        values.append(hows[i].of(values[-1]) if related[i] else draw.number(3, 12))
    size = sum(values) + draw.number(2, 12)
    group = draw.pick("class", "choir") if size < 34 else draw.pick("small school", "sports club")
    if both:
        girls = draw.number(size * 2 // 5, size * 3 // 5)
        story.say(
            f"The {girls} girls and {size - girls} boys of a {group} vote on their next trip.",
            f"A {group} of {girls} girls and {size - girls} boys chooses a place for a trip. Each of them has a vote.",
        )
        story.add(girls, size - girls, f"The {group} has [=] children.", "There are [=] children who vote.")
    else:
        story.say(
            f"The {size} children of a {group} vote on their next trip.",
            f"A {group} of {size} children chooses a place for a trip. Each child has a vote.",
        )
    for i, (trip, value) in enumerate(zip(trips, values, strict=False)):
        if related[i]:
            than = hows[i].than("votes")
            story.say(
                f"{first_upper(trip)} gets {than} {trips[i - 1]}.", f"For {trip}, there are {than} for {trips[i - 1]}."
            )
            hows[i].step(
                story, values[i - 1], f"{first_upper(trip)} gets [=] votes.", f"For {trip}, there are [=] votes."
            )
        else:
            story.say(f"{value} children vote for {trip}.", f"{first_upper(trip)} gets {value} votes.")
    story.say(f"All the others choose {trips[-1]}.", f"The rest of the votes are for {trips[-1]}.")
    story.aside(
        f"The trip will be in {draw.number(2, 8)} weeks.", f"The bus for the trip has {draw.number(40, 60)} seats."
    )
    now = total(story, [f"the votes for {trip}" for trip in trips[:-1]], values, "votes")
    story.sub(size, now, f"For {trips[-1]}, [=] votes are left.", f"{first_upper(trips[-1])} gets the other [=] votes.")
    story.ask(f"How many votes does {trips[-1]} get?", f"How many votes are for {trips[-1]}?", unit="votes")
