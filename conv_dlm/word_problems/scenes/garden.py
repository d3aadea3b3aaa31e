"""Scenes of the garden."""

from conv_dlm.word_problems.language import Person, person
from conv_dlm.word_problems.scenes.plans import plans
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 12), held_out=True)
def garden_fence(story: Story, level: int) -> None:
    """A fence around a garden, made of panels, and tiles for a terrace, bought in packs."""
    draw = story.draw
    sides, gate, panels, cost, tiles, both, money = draw.pick(
        *[
            plan
            for plan in plans(level, (0, 1, 3), (0, 1), (0, 1), (0, 1), (0, 1, 2, 3, 4), (0, 1), (0, 1))
            if plan[0] or not plan[1] + plan[2] + plan[3]
            if plan[5] == bool(plan[3] and plan[4] == 4) and (plan[0] == 0 or plan[4] == 0 or plan[5])
            if plan[3] >= plan[6] or plan[4] == 4
        ]
    )
    ann = person(draw)
    paid = [_fence(story, ann, sides, gate, panels, cost)] if sides else []
    story.aside(
        f"{ann}'s house is {draw.number(5, 30)} years old.",
        f"{ann} has {draw.number(2, 5)} trees in the garden.",
        f"{ann} lives {draw.number(2, 9)} kilometers from the town.",
    )
    paid += [_tiles(story, ann, tiles)] if tiles else []
    total = paid[0]
    if both:
        total = story.add(paid[0], paid[1], "Fence and tiles cost [=] dollars.", "Together, that makes [=] dollars.")
    if money:
        n = total // 10 * 10 + draw.number(10, 40, 10)
        story.say(
            f"{ann} has {n} dollars for it.",
            f"{ann.He} has saved {n} dollars for it.",
            f"{ann} has saved {n} dollars to pay for this.",
        )
        story.sub(n, total, f"{ann} has [=] dollars left.", "That leaves [=] dollars.")
        story.ask(
            f"How many dollars does {ann} have left?",
            "How many dollars are left?",
            f"How many dollars does {ann} still have after that?",
            unit="dollars",
        )
    elif cost or tiles == 4:
        story.ask(
            f"How many dollars does {ann} pay?",
            f"How much does {ann} spend, in dollars?",
            f"How many dollars does {ann} need for that?",
            unit="dollars",
        )
    elif tiles:
        unit, what = ("packs", "packs of tiles") if tiles == 3 else ("tiles", "more tiles" if tiles == 2 else "tiles")
        story.ask(
            f"How many {what} does {ann} need?",
            f"How many {what} are needed?",
            f"How many {what} must {ann} get?",
            unit=unit,
        )
    elif panels:
        story.ask(
            f"How many panels does {ann} need?",
            "How many panels are needed?",
            "How many panels does the fence have?",
            unit="panels",
        )
    else:
        story.ask(
            "How many meters long is the fence?",
            "How long is the fence, in meters?",
            "What is the length of the fence, in meters?",
            unit="meters",
        )


def _fence(story: Story, ann: Person, sides: int, gate: int, panels: int, cost: int) -> int:
    """The length of a fence, or the panels it needs, or what it costs."""
    draw = story.draw
    size = draw.number(2, 4) if panels else 1  # of a panel
    long, short = (
        draw.number(8 if sides == 1 else 9, 12 if sides == 1 else 16) // size * size,
        draw.number(4, 7) // size * size,
    )
    if sides == 1:
        story.say(
            f"{ann} puts a fence around a square garden. Each of the 4 sides is {long} meters long.",
            f"{ann} has a square garden with 4 sides of {long} meters and puts a fence all around it.",
            f"A fence is put all around {ann}'s square garden, whose 4 sides are each {long} meters long.",
        )
        length = story.mul(4, long, "The 4 sides are [=] meters long.", "Around the garden, it is [=] meters.")
    else:
        story.say(
            f"{ann} puts a fence around a garden. It has 2 sides of {long} meters and 2 sides of {short} meters.",
            f"{ann} fences a garden with 2 sides of {long} meters and 2 sides of {short} meters.",
            f"A fence goes all around {ann}'s garden, with its 2 sides of {long} meters and 2 of {short} meters.",
        )
        length = story.mul(2, long, "The 2 long sides are [=] meters.", "For the long sides, it takes [=] meters.")
        others = story.mul(2, short, "The 2 short sides are [=] meters.", "For the short sides, it takes [=] meters.")
        length = story.add(length, others, "Around the garden, it is [=] meters.", "All the sides are [=] meters long.")
    if gate:
        n = size if panels else draw.number(2, 4)
        story.say(
            f"For a gate, {n} meters stay without a fence.",
            f"There is no fence where the gate is, which is {n} meters wide.",
            f"The gate is {n} meters wide, and no fence is needed there.",
        )
        length = story.sub(
            length, n, "Without the gate, the fence is [=] meters long.", "The gate leaves [=] meters of fence."
        )
    if panels:
        story.say(
            f"The fence is made of panels that are {size} meters long.",
            f"{ann.He} uses panels of {size} meters for the fence.",
            f"Each panel of the fence is {size} meters long.",
        )
        length = story.div(length, size, f"{ann} needs [=] panels.", "The fence has [=] panels.")
    if cost:
        price, what = draw.number(2, 5 if panels else 3), "panel" if panels else "meter of fence"
        story.say(
            f"A {what} costs {price} dollars.",
            f"{ann.He} pays {price} dollars for each {what}.",
            f"The price is {price} dollars for a {what}.",
        )
        return story.mul(length, price, "The fence costs [=] dollars.", f"For the fence, {ann} pays [=] dollars.")
    return length


def _tiles(story: Story, ann: Person, count: int) -> int:
    """The tiles of a terrace, or those that are missing, or the packs of these, or what they cost."""
    draw = story.draw
    rows, size, pack, price = draw.number(4, 8), draw.number(4, 10), draw.number(3, 8), draw.number(3, 9)
    story.say(
        f"For a terrace, {ann} needs {rows} rows of {size} tiles.",
        f"{ann} lays a terrace with {rows} rows of {size} tiles.",
        f"A terrace is made of {rows} rows, each with {size} tiles.",
    )
    need = story.mul(rows, size, "The terrace needs [=] tiles.", f"For the terrace, {ann} needs [=] tiles.")
    if count > 1:
        have = 2 + (need - 2) % pack + pack * draw.number(0, 1) if count > 2 else draw.number(2, 15)
        story.say(
            f"{ann.He} has {have} tiles already.",
            f"There are {have} tiles in the shed already.",
            f"{have} of these tiles are there already.",
        )
        need = story.sub(need, have, f"{ann} has to buy [=] tiles.", "[=] tiles are missing.")
    if count > 2:
        story.say(
            f"The missing tiles come in packs of {pack}.",
            f"{ann.He} buys the missing tiles in packs of {pack}.",
            f"The tiles that are missing are sold in packs of {pack}.",
        )
        need = story.div(need, pack, f"{ann} needs [=] packs.", "That takes [=] packs of tiles.")
    if count > 3:
        story.say(
            f"A pack costs {price} dollars.",
            f"Each pack costs {price} dollars.",
            f"The price of a pack is {price} dollars.",
        )
        need = story.mul(need, price, "The packs cost [=] dollars.", f"For the tiles, {ann} pays [=] dollars.")
    return need
