"""Scenes of sharing among friends."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import Noun, Person, nouns, people, person
from conv_dlm.word_problems.scenes.plans import plans
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

THINGS = nouns("marble, sticker, walnut, shell, bead, cookie, grape, postcard, button, chestnut, plum, toy animal")


def _gather(story: Story, ann: Person, things: Noun, total: int, count: int) -> None:
    """Tell, in `count` operations, how somebody comes to `total` things."""
    draw = story.draw
    near = 15 if count > 1 else 0
    packs = [(n, k) for n in range(2, 7) for k in range(3, 13) if abs(n * k - total) <= near]
    bags = draw.pick(*nouns("bag, box/boxes, basket"))
    if count and packs and draw.chance(0.5):
        n, k = draw.pick(*packs)
        story.say(
            f"{ann} has {n} {bags} with {k} {things} each.",
            f"{ann} has {n} {bags}, and there are {k} {things} in each {bags.one}.",
            f"Each of {ann}'s {n} {bags} holds {k} {things}.",
        )
        now = story.mul(n, k, f"{ann} has [=] {things}.", f"In the {n} {bags}, there are [=] {things}.")
        count -= 1
    else:
        now = max(6, total + draw.number(-15, 15)) if count else total
        story.say(
            f"{ann} has {now} {things}.",
            f"There are {now} {things} on {ann}'s table.",
            f"{now} {things} belong to {ann}.",
        )
    gains = [
        ("finds", "at home"),
        ("buys", "in a shop"),
        ("gets", f"from {ann.his} aunt"),
        ("is given", "by a neighbor"),
    ]
    gains = draw.shuffled(gains)
    losses = draw.shuffled(["sister", "brother", "cousin", "teacher"])
    for left in reversed(range(count)):
        n = draw.number(-min(12, now - 4), 15) if left else total - now
        if abs(n) < 2:
            raise RejectedDrawError("too small a change")
        if n > 0:
            verb, where = gains.pop()
            story.say(
                f"{ann.He} {verb} {n} more {where}.",
                f"Then {ann.he} {verb} another {n} {where}.",
                f"{ann.He} {verb} {n} additional {things} {where}.",
            )
            now = story.add(now, n, f"With {n} more, {ann} has [=] {things}.", f"Then {ann.he} has [=] {things}.")
        else:
            who = losses.pop()
            story.say(
                f"{ann.He} gives {-n} of them to {ann.his} {who}.",
                f"{ann.His} {who} gets {-n} of them.",
                f"{-n} of the {things} go to {ann.his} {who}.",
            )
            now = story.sub(
                now, -n, f"{ann} has [=] {things} left.", f"Without those for the {who}, [=] {things} remain."
            )


@scene(levels=(1, 6))
def sharing_equally(story: Story, level: int) -> None:
    """Something is gathered, then shared out equally: the quotient, and what one of the friends has then."""
    draw = story.draw
    before, _, after = draw.pick(*plans(level, (0, 1, 2, 3, 4), (1,), (0, 1, 2)))
    (ann, tom), things = people(draw, 2), draw.pick(*THINGS)
    friends, share = draw.number(2, 9), draw.number(2, 12)
    _gather(story, ann, things, friends * share, before)
    story.aside(
        f"{ann} is {draw.number(8, 12)} years old.",
        f"{ann} goes to school at {draw.number(7, 8)} in the morning.",
        f"{ann}'s house is number {draw.number(10, 90)} in the street.",
    )
    rest = f"all the {things} that {ann.he} has now" if before else "all of them"
    story.say(
        f"{ann.He} shares {rest} equally among {friends} friends.",
        f"{ann.He} gives {rest} to {friends} friends, and each friend gets the same number.",
        f"{ann.He} hands out {rest} to {friends} friends in equal shares.",
    )
    share = story.div(
        friends * share,
        friends,
        f"Each friend gets [=] {things}.",
        f"For each of the {friends} friends, there are [=] {things}.",
    )
    if not after:
        story.ask(
            f"How many {things} does each friend get?",
            f"How many {things} are there for each friend?",
            f"What number of {things} does one friend get?",
            unit=things,
        )
        return
    own = draw.number(3, 20)
    story.say(
        f"One of these friends is {tom}, who already has {own} {things}.",
        f"{tom} is one of these friends and has {own} {things} at home.",
        f"{tom}, one of the friends, has {own} {things} of {tom.his} own.",
    )
    now = story.add(own, share, f"With {tom.his} own, {tom} has [=] {things}.", f"{tom} then has [=] {things}.")
    if after == 2:
        if now % 2 == 0 and draw.chance(0.5):
            story.say(
                f"Then {tom} gives half of all {tom.his} {things} to a classmate.",
                f"Later {tom.he} gives half of everything {tom.he} has to a classmate.",
                f"A classmate then gets half of all the {things} that {tom} has.",
            )
            story.div(now, 2, f"Half of them are [=] {things}.", f"{tom} keeps half, [=] {things}.")
        else:
            n = draw.number(2, now - 2)
            story.say(
                f"Then {tom} loses {n} {things}.",
                f"On the way home, {tom} loses {n} {things}.",
                f"Later {n} of {tom}'s {things} get lost.",
            )
            story.sub(now, n, f"After the loss, {tom} has [=] {things}.", f"{tom} has [=] {things} left.")
    story.ask(
        f"How many {things} does {tom} have now?",
        f"How many {things} does {tom} have in the end?",
        f"What number of {things} is {tom} left with?"
        if after == 2
        else f"What number of {things} does {tom} have then?",
        unit=things,
    )


@scene(levels=(1, 6))
def sets_with_remainder(story: Story, level: int) -> None:
    """Things are made up into sets of equal size, and some are left over: the quotient or the remainder."""
    draw = story.draw
    thing, container, verb = draw.pick(
        ("roll", "bag", "packs them into"),
        ("tulip", "bunch/bunches", "ties them into"),
        ("bead", "bracelet", "strings them into"),
        ("candle", "box/boxes", "packs them into"),
        ("rose", "bouquet", "ties them into"),
        ("card", "pile", "sorts them into"),
        ("apple", "bag", "packs them into"),
        ("photo", "envelope", "puts them into"),
        ("coin", "stack", "sorts them into"),
        ("pencil", "box/boxes", "packs them into"),
    )
    (things,), (sets,) = nouns(thing), nouns(container)
    ann = person(draw)
    before, _, after = draw.pick(*plans(level, (0, 1, 2, 3), (1,), (0, 1, 2)))
    size, number = draw.number(3, 10), draw.number(2, 10)
    total = size * number + draw.number(2, size - 1)
    _gather(story, ann, things, total, before)
    story.say(
        f"{ann.He} {verb} {sets} of {size}, as many as possible.",
        f"{ann.He} {verb} as many {sets} of {size} as {ann.he} can.",
        f"{ann.He} {verb} {sets} with {size} {things} in each, until there are not enough for one more.",
    )
    number, rest = story.divmod(
        total,
        size,
        f"[=], so there are {number} {sets}, and {total % size} {things} are left over.",
        f"[=]: {ann} makes {number} {sets} and has {total % size} {things} left over.",
    )
    story.aside(
        f"The {sets} are ready at {draw.number(2, 5)} in the afternoon.",
        f"{ann} is helped by {draw.number(2, 4)} friends.",
        f"The work takes {draw.number(20, 50)} minutes.",
    )
    if draw.chance(0.5):
        _ask_rest(story, ann, things, rest, after)
    else:
        _ask_sets(story, ann, sets, number, after)


def _ask_rest(story: Story, ann: Person, things: Noun, rest: int, after: int) -> None:
    draw = story.draw
    if not after:
        story.answer = rest
        story.ask(
            f"How many {things} are left over?",
            f"How many {things} does {ann} have left over?",
            f"What number of {things} remains at the end?",
            unit=things,
        )
        return
    n = draw.number(4, 30)
    story.say(
        f"{ann.He} puts those left over into a crate with {n} other {things}.",
        f"Those left over go into a crate, where there are {n} other {things}.",
        f"The remaining ones are added to {n} other {things} in a crate.",
    )
    now = story.add(
        n, rest, f"The crate then holds [=] {things}.", f"With those left over, [=] {things} are in the crate."
    )
    if after == 2:
        n = draw.number(2, now - 2)
        story.say(
            f"Later, {n} {things} are taken out of the crate.",
            f"A friend takes {n} {things} out of the crate.",
            f"Then somebody removes {n} {things} from the crate.",
        )
        story.sub(now, n, f"[=] {things} remain in the crate.", f"Then the crate holds [=] {things}.")
    story.ask(
        f"How many {things} are in the crate now?",
        f"How many {things} does the crate hold in the end?",
        f"What number of {things} is in the crate at last?",
        unit=things,
    )


def _ask_sets(story: Story, ann: Person, sets: Noun, number: int, after: int) -> None:
    draw = story.draw
    if not after:
        story.ask(
            f"How many {sets} does {ann} make?",
            f"How many {sets} are there then?",
            f"What number of {sets} can {ann} make?",
            unit=sets,
        )
        return
    steps = len(story.steps)
    if after == 2 or draw.chance(0.5):
        more = draw.number(2, 12)
        story.say(
            f"{ann.He} has {more} such {sets} from yesterday.",
            f"Yesterday, {ann.he} made {more} {sets} of the same kind.",
            f"There are also {more} {sets} that {ann.he} made the day before.",
        )
        number = story.add(
            more, number, f"With those of yesterday, there are [=] {sets}.", f"{ann} then has [=] {sets}."
        )
    if after == 2 or len(story.steps) == steps:
        more = draw.number(2, max(2, number - 2))
        story.say(
            f"{ann.He} gives {more} {sets} to a neighbor.",
            f"A neighbor gets {more} {sets}.",
            f"{more} of the {sets} go to a neighbor.",
        )
        story.sub(number, more, f"{ann} keeps [=] {sets}.", f"Then [=] {sets} are left.")
    story.ask(
        f"How many {sets} does {ann} have now?",
        f"How many {sets} are there for {ann} now?",
        f"What number of {sets} does {ann} have in the end?",
        unit=sets,
    )
