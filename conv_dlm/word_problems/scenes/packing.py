"""Scenes of boxes and shelves."""

from conv_dlm.word_problems.language import Noun, nouns, person
from conv_dlm.word_problems.scenes.plans import plans
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 12))
def boxes_of_packs(story: Story, level: int) -> None:
    """Boxes of packs of pieces, or packs alone, in several colors; some are used, and the rest is shared out."""
    draw = story.draw
    # First the colors, then old ones, those given to classes, used ones, and the rest in equal parts.
    first, second, third, old, given, used, parts = draw.pick(
        *[
            plan
            for plan in plans(level, (1, 2), (0, 2, 3), (0, 2, 3), (0, 1), (0, 2), (0, 1), (0, 1))
            if plan[1] or not plan[2]
        ]
    )
    things = draw.pick(*nouns("pencil, crayon, marker, balloon, ribbon, paper star, paper cup"))
    colors = draw.sample(("red", "blue", "green", "yellow", "white", "orange"), 3)
    who = draw.pick("A school", "A kindergarten", "A club", "A youth center")
    now = 0
    for i, count in enumerate((first, second - 1, third - 1)):
        if count < 1:
            continue
        kind = Noun(f"{colors[i]} {things.one}", f"{colors[i]} {things}")
        new = _packs(story, (who, "It also", "Then it")[i], kind, count)
        if i:
            new = story.add(
                now,
                new,
                f"With the {colors[i]} ones, there are [=] {things}.",
                f"The {colors[i]} ones make it [=] {things}.",
            )
        now = new
    if not second:
        things = Noun(f"{colors[0]} {things.one}", f"{colors[0]} {things}")
    if old:
        n = draw.number(2, 15)
        story.say(
            f"There are also {n} {things} from last year.",
            f"{n} {things} are left from last year, too.",
            f"In a cupboard, there are {n} more {things}.",
        )
        now = story.add(
            now, n, f"With the {n} old ones, there are [=] {things}.", f"Old and new together, there are [=] {things}."
        )
    if given:
        n, m = draw.number(2, 9), draw.number(2, 5)
        story.say(
            f"{n} children get {m} {things} each.",
            f"Then {n} children take {m} {things} each.",
            f"{m} {things} are given to each of {n} children.",
        )
        taken = story.mul(n, m, f"The {n} children get [=] {things}.", f"For the children, [=] {things} are needed.")
        now = story.sub(now, taken, f"After that, [=] {things} are left.", f"That leaves [=] {things}.")
    shares = draw.pick(*[k for k in range(2, 10) if used or now % k == 0] or [2])
    if used:
        n = 2 + (now - 2) % shares if parts else draw.number(2, 12)
        story.say(
            f"For a party, {n} {things} are used.",
            f"{n} of the {things} are used for a party.",
            f"A party uses up {n} {things}.",
        )
        now = story.sub(
            now,
            n,
            f"After the party, there are [=] {things}.",
            f"Without the {n} for the party, there are [=] {things}.",
        )
    story.aside(
        f"The shop that sells the {things} is {draw.number(3, 20)} kilometers away.",
        f"The {things} were ordered {draw.number(2, 6)} days ago.",
        f"A box weighs {draw.number(2, 4)} kilograms."
        if first == 2
        else f"A pack weighs {draw.number(50, 90, 10)} grams.",
    )
    if parts:
        rest = "The rest is" if used or given else "All of them are"
        story.say(
            f"{rest} shared equally among {shares} groups.",
            f"{rest} divided into equal parts for {shares} groups.",
            f"{rest} given to {shares} groups in equal shares.",
        )
        story.div(
            now, shares, f"Each group gets [=] {things}.", f"For each of the {shares} groups, there are [=] {things}."
        )
        story.ask(
            f"How many {things} does each group get?",
            f"How many {things} are there for each group?",
            f"What number of {things} does one group get?",
            unit=things,
        )
        return
    story.ask(
        f"How many {things} are left?" if used or given else f"How many {things} are there?",
        f"How many {things} are there now?",
        f"How many {things} are there in the end?",
        unit=things,
    )


def _packs(story: Story, who: str, things: Noun, count: int) -> int:
    """Packs of things, or for `count` 2, boxes of packs of things."""
    draw = story.draw
    packs, size = draw.number(2, 6), draw.number(3, 8)
    if count == 2:
        boxes, packs = draw.number(2, 4), draw.number(2, 5)
        size = draw.number(2, 5)
        story.say(
            f"{who} buys {boxes} boxes of {things}. Each box holds {packs} packs of {size} {things}.",
            f"{who} gets {boxes} boxes of {things}, with {packs} packs in each box and {size} {things} in each pack.",
            f"{who} orders {things} in {boxes} boxes. There are {packs} packs in a box and {size} {things} in a pack.",
        )
        packs = story.mul(
            boxes, packs, f"In the {boxes} boxes, there are [=] packs.", f"The {boxes} boxes hold [=] packs."
        )
    else:
        story.say(
            f"{who} buys {packs} packs of {size} {things}.",
            f"{who} gets {packs} packs with {size} {things} each.",
            f"{who} orders {packs} packs of {things}, and there are {size} in each.",
        )
    return story.mul(packs, size, f"These are [=] {things}.", f"In the {packs} packs, there are [=] {things}.")


@scene(levels=(1, 12))
def shop_shelves(story: Story, level: int) -> None:
    """Goods on the shelves of a shop, new crates of them, and what is sold; the sum or the difference of the goods."""
    draw = story.draw
    first, second, third, last = draw.pick(
        *[
            plan
            for plan in plans(level, (1, 2, 3, 4), (0, 1, 2, 3, 4), (0, 1, 2, 3), (0, 1, 2))
            if (plan[1] or not plan[2]) and bool(plan[1]) + bool(plan[2]) == plan[3]
        ]
    )
    goods = draw.sample(
        nouns(
            "jar of honey/jars of honey, can of soup/cans of soup, bottle of juice/bottles of juice, "
            "bag of rice/bags of rice, box of tea/boxes of tea, bar of soap/bars of soap, "
            "pack of noodles/packs of noodles, glass of jam/glasses of jam"
        ),
        3,
    )
    ann = person(draw)
    story.say(f"{ann} works in a small shop.", f"{ann} fills the shelves of a shop.", f"{ann} has a job at a shop.")
    found = []
    for things, count in zip(goods, (first, second, third), strict=True):
        if count:
            found.append(_good(story, things, count, 3 if last < 2 else 2))
    story.aside(
        f"The shop closes at {draw.number(6, 9)} in the evening.",
        f"{ann} has worked there for {draw.number(2, 9)} years.",
        f"There are {draw.number(2, 5)} doors at the shop.",
    )
    if last == 1 and draw.chance(0.5) and abs(found[0] - found[1]) > 1:
        (a, many), (b, few) = sorted(zip(found, goods, strict=False), key=lambda pair: -pair[0])
        story.sub(a, b, f"There are [=] more {many} than {few}.", f"The difference is [=] {many}.")
        story.ask(
            f"How many more {many} than {few} are there now?",
            f"How many {many} more than {few} are there now?",
            f"By how many are the {many} more than the {few} in the end?",
            unit=many,
        )
        return
    now = found[0]
    for things, n in zip(goods[1:], found[1:], strict=False):
        now = story.add(
            now, n, f"Together with the {things}, there are [=] goods.", f"With the {things}, that makes [=] goods."
        )
    what = "goods" if last else str(goods[0])
    story.ask(
        f"How many of these {what} are in the shop now?",
        f"How many {what} are on these shelves now?",
        f"How many {what} do these shelves hold in the end?",
        unit=what,
    )


def _good(story: Story, things: Noun, count: int, most: int) -> int:
    """One kind of goods: 1 operation for the shelves, 2 for crates, 1 for those that are sold."""
    draw = story.draw
    shelves, size = draw.number(2, most + 2), draw.number(5, 12)
    story.say(
        f"There are {shelves} shelves with {size} {things} on each.",
        f"On each of {shelves} shelves, there are {size} {things}.",
        f"{shelves} shelves hold {size} {things} each.",
    )
    now = story.mul(
        shelves, size, f"There are [=] {things} on the shelves.", f"The {shelves} shelves hold [=] {things}."
    )
    if count > 2:
        crates, size = draw.number(2, most), draw.number(4, 10)
        story.say(
            f"Then {crates} crates of {size} {things} are added.",
            f"The shop gets {crates} crates, and from each, {size} {things} are put on these shelves.",
            f"{crates} crates with {size} {things} each are unpacked onto these shelves.",
        )
        new = story.mul(
            crates, size, f"In the {crates} crates, there are [=] {things}.", f"The crates bring [=] {things}."
        )
        now = story.add(now, new, f"With the new ones, there are [=] {things}.", f"That makes [=] {things}.")
    if count in (2, 4):
        if now % 2 == 0 and draw.chance(0.25):
            story.say(
                f"Half of these {things} are sold.",
                f"Customers buy half of the {things}.",
                f"The shop sells half of these {things}.",
            )
            return story.div(
                now, 2, f"Half of them are sold, and [=] {things} stay.", f"The other half stays: [=] {things}."
            )
        n = draw.number(3, min(30, now - 5))
        story.say(
            f"Customers buy {n} {things}.",
            f"During the day, {n} of these {things} are sold.",
            f"The shop sells {n} of the {things}.",
        )
        now = story.sub(
            now, n, f"After the sale, [=] {things} are left.", f"Without the {n} that are sold, there are [=] {things}."
        )
    return now
