"""Scenes of measures: meters of rope or fabric, liters of water for plants."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import nouns, order, person
from conv_dlm.word_problems.scenes.plans import pieces
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 12))
def rope(story: Story, level: int) -> None:
    """Pieces are cut off a rope or a fabric, it is made longer, and the rest is cut into equal pieces."""
    draw = story.draw
    ann, unit = person(draw), draw.pick("meters", "feet")
    what, piece = draw.pick(("rope", "pieces"), ("ribbon", "pieces"), ("wire", "pieces"), ("fabric", "strips"))
    end = draw.number(0, min(2, level))  # 1: the rest is cut, 2: it is made longer and cut
    now = draw.number(30, 70) if level < 7 else draw.number(90, 180)
    story.say(
        f"{ann} has {now} {unit} of {what}.",
        f"{ann} bought {now} {unit} of {what}.",
        f"There are {now} {unit} of {what} on {ann}'s table.",
    )
    uses = draw.sample(("a kite", "a swing", "a tent", "some gifts", "a costume", "a fence", "the stage", "a flag"), 8)
    story.aside(
        f"The {what} is {draw.number(2, 9)} months old.",
        f"{ann}'s scissors cost {draw.number(4, 15)} dollars.",
        f"{ann} has had {ann.his} scissors for {draw.number(2, 9)} years.",
    )
    sizes = pieces(draw, level - end)
    if len(sizes) > len(uses):
        raise RejectedDrawError("not enough uses")
    for then, size, use in zip(order(len(sizes)), sizes, uses, strict=False):
        n, length = draw.number(2, 6), draw.number(2, 6)
        left = (f"Then [=] {unit} are left.", f"The rest is [=] {unit} long.", f"{ann} still has [=] {unit}.")
        half = now % 2 == 0 and now > 30 and draw.chance(0.5)
        if size == 1 and half:
            story.say(
                f"{then}, {ann.he} uses half of the {what} for {use}.",
                f"{then}, {ann.he} takes half of what there is for {use}.",
                f"{then}, one half of the {what} is needed for {use}.",
            )
            now = story.div(now, 2, f"The other half is [=] {unit}.", f"Half of it is [=] {unit}, and as much is left.")
        elif size == 1:
            story.say(
                f"{then}, {ann.he} cuts off {n + length} {unit} for {use}.",
                f"{then}, {ann.he} uses {n + length} {unit} for {use}.",
                f"{then}, {n + length} {unit} are needed for {use}.",
            )
            now = story.sub(now, n + length, *left)
        else:
            story.say(
                f"{then}, {ann.he} cuts off {n} {piece} of {length} {unit} each for {use}.",
                f"{then}, {ann.he} needs {n} {piece} for {use}, each {length} {unit} long.",
                f"{then}, {use} takes {n} {piece}, {length} {unit} each.".replace(
                    "some gifts takes", "some gifts take"
                ),
            )
            used = story.mul(n, length, f"The {n} {piece} take [=] {unit}.", f"For {use}, that is [=] {unit}.")
            now = story.sub(now, used, *left)
    if end == 0:
        story.ask(
            f"How many {unit} are left?",
            f"How many {unit} of {what} does {ann} have left?",
            f"How much {what} remains, in {unit}?",
            unit=unit,
        )
        return
    length = draw.number(2, 9)
    if end == 2:
        more = draw.number(1, 3) * length + length - now % length
        story.say(
            f"{ann.He} joins another {more} {unit} to the end of it.",
            f"{ann.He} adds {more} {unit} to the end of the {what}.",
            f"Then {ann.he} makes the {what} {more} {unit} longer.",
        )
        now = story.add(now, more, f"Now {ann} has [=] {unit}.", f"With the new part, it is [=] {unit} long.")
    elif now % length and draw.chance(0.3):
        raise RejectedDrawError("rather without a remainder")
    all_ = f"all of the {what}" if end == level or end == 2 else "the rest"
    story.say(
        f"{ann.He} cuts {all_} into as many {piece} of {length} {unit} as possible.",
        f"Out of {all_}, {ann.he} cuts as many {piece} of {length} {unit} as possible.",
        f"From {all_}, as many {piece} of {length} {unit} are cut as there can be.",
    )
    if now % length:
        _, rest = story.divmod(
            now,
            length,
            f"In {piece} of {length} {unit}, that is [=].",
            f"Cut into {piece} of {length} {unit}, it gives [=].",
        )
        if draw.chance(0.5):
            story.answer = rest
            story.ask(
                f"How many {unit} are left over in the end?",
                f"How many {unit} of {what} are left over?",
                f"How long is the last bit, in {unit}?",
                unit=unit,
            )
            return
    else:
        story.div(now, length, f"That gives [=] {piece}.", f"The {now} {unit} make [=] {piece}.")
    story.ask(
        f"How many of these {piece} does {ann} get?",
        f"How many {piece} of {length} {unit} are there then?",
        f"How many such {piece} can {ann} make?",
        unit=piece,
    )


@scene(levels=(1, 12))
def watering(story: Story, level: int) -> None:
    """Beds of plants with so many liters a plant; their sum, without the rain barrel's; and the cans to carry."""
    draw = story.draw
    # Operations: 1 for single plants, 2 for rows of plants, n - 1 sums; then the barrel, the can.
    plans = [(n, rows, level - rows - (2 * n - 1)) for n in range(1, 5) for rows in range(n + 1)]
    count, rows, end = draw.pick(*[plan for plan in plans if 0 <= plan[2] <= 3])
    ann = person(draw)
    plants = draw.sample(
        nouns("tomato plant, rose, pumpkin plant, fruit tree, berry bush/berry bushes, fern, lily/lilies"), count
    )
    story.say(f"{ann} waters {ann.his} garden.", f"{ann} looks after a garden.", f"It is dry, and {ann} needs water.")
    total = 0
    for i, plant in enumerate(plants):
        n, row, each = draw.number(3, 8), draw.number(2, 5 if rows < 3 else 3), draw.number(2, 4)
        if rows > 2:
            n = draw.number(3, 5)
        many = f"{row} rows of {n} {plant}" if i < rows else f"{n} {plant}"
        story.say(
            f"There are {many}, and each {plant.one} gets {each} liters.",
            f"{ann.He} has {many} and gives {each} liters to each {plant.one}.",
            f"Each {plant.one} needs {each} liters, and there are {many}.",
        )
        if i < rows:
            n = story.mul(row, n, f"There are [=] {plant}.", f"The {row} rows have [=] {plant}.")
        water = story.mul(
            n,
            each,
            f"The {plant} need [=] liters.",
            f"For the {n} {plant}, that is [=] liters.",
            "They get [=] liters.",
        )
        total = (
            story.add(total, water, f"With the {plant}, that is [=] liters.", "Together that is [=] liters.")
            if i
            else water
        )
    story.aside(
        f"The garden has {draw.number(2, 5)} benches.",
        f"It hasn't rained for {draw.number(8, 20)} days.",
        f"The house by the garden is {draw.number(20, 90)} years old.",
    )
    if end == 0:
        story.ask(
            f"How many liters of water does {ann} need?",
            "How many liters of water is that in all?",
            "How much water do all the plants get, in liters?",
            unit="liters",
        )
        return
    sizes = [n for n in range(4, 11) if total % n == 0] or [8]
    can, barrel = draw.pick(*sizes), draw.number(5, max(5, total - 5))
    if end > 1:
        can = draw.number(4, 10)
        barrel = total % can + can * draw.number(1, max(1, total // can - 3))
    if end > 1 or draw.chance(0.6):
        story.say(
            f"Of this water, {barrel} liters come from a rain barrel, and the rest from a well.",
            f"A rain barrel gives {barrel} liters of the water, and a well the rest.",
            f"The well gives all the water but {barrel} liters, which are from a rain barrel.",
        )
        total = story.sub(total, barrel, "From the well come [=] liters.", "The well has to give [=] liters.")
        if end == 1:
            story.ask(
                "How many liters come from the well?",
                f"How many liters does {ann} take from the well?",
                "How much water does the well have to give, in liters?",
                unit="liters",
            )
            return
    source = " from the well" if end > 1 else ""
    story.say(
        f"{ann} carries the water{source} in cans of {can} liters.",
        f"For the water{source}, {ann.he} has a can that holds {can} liters.",
        f"A full can holds {can} liters, and {ann.he} carries all the water{source} with it.",
    )
    total = story.div(total, can, f"{ann} fills the can [=] times.", "That is [=] full cans.")
    if end == 3:
        minutes = draw.number(2, 5)
        story.say(
            f"To fill and carry a can takes {minutes} minutes.",
            f"{ann} needs {minutes} minutes for each can.",
            f"Every can is {minutes} minutes of work.",
        )
        story.mul(total, minutes, f"The {total} cans take [=] minutes.", f"{ann} needs [=] minutes for the cans.")
        story.ask(
            f"How many minutes does {ann} need for the cans?",
            "How many minutes do all the cans take?",
            f"For how many minutes is {ann} busy with the cans?",
            unit="minutes",
        )
        return
    story.ask(
        f"How many cans of water does {ann} carry{source}?",
        f"How many full cans are carried{source}?",
        f"How many times does {ann} fill the can?",
        unit="cans",
    )
