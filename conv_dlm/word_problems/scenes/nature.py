"""Scenes of animals and plants: a farm, an orchard, a lake and a garden."""

from itertools import pairwise

from conv_dlm.word_problems.language import Noun, nouns, person
from conv_dlm.word_problems.scenes.comparing import (
    comparison,
    divisors,
    first_upper,
    round_above,
    spread,
    total,
)
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

LIVESTOCK = nouns("cow, goat, hen, pig, horse, duck, rabbit, donkey, turkey, goose/geese, sheep/sheep")
FRUIT = (
    (Noun("apple tree", "apple trees"), "apples"),
    (Noun("pear tree", "pear trees"), "pears"),
    (Noun("plum tree", "plum trees"), "plums"),
    (Noun("cherry tree", "cherry trees"), "cherries"),
    (Noun("peach tree", "peach trees"), "peaches"),
)
BIRDS = nouns("duck, swan, gull, heron, crane, goose/geese")
PLANTS = nouns("sunflower, tomato plant, bean plant, rose bush, pepper plant, lily/lilies")


@scene(levels=(2, 12))
def farm(story: Story, level: int) -> None:
    """Kinds of animals, of which some are sold or born; all together, the doctor's time, or another farm's animals."""
    draw = story.draw
    plans = [(kinds, counts, end) for kinds in range(2, 6) for counts in range(1, kinds + 1) for end in (0, 1)]
    plans = [plan for plan in plans if 0 <= level - (plan[0] - 1) - plan[1] - plan[2] <= plan[0]]
    kinds, counts, end = draw.pick(*plans)
    changes = level - (kinds - 1) - counts - end
    animals, values, top = draw.sample(LIVESTOCK, kinds), [], 36 if kinds < 4 else 24
    farmer = draw.pick("Mr. Hill", "Mrs. Hill", "Mr. Brown", "Mrs. Brown", "Mrs. Green", "Mr. Field")
    story.say(f"{farmer} has a farm.", f"{farmer} lives on a farm.", f"There is a farm that belongs to {farmer}.")
    for i, operations in enumerate(spread(draw, counts, [1] * kinds)):
        many = animals[i]
        sentences = (f"There are [=] {many}.", f"The farm has [=] {many}.")
        if not operations:
            n = draw.number(4, top)
            story.say(f"There are {n} {many}.", f"The farm has {n} {many}.", f"Among the animals are {n} {many}.")
            values.append(n)
        elif i and draw.chance(0.6):
            how = comparison(draw, values[-1], top)
            story.say(
                f"There are {how.than(many)} {animals[i - 1]}.",
                f"The farm has {how.than(many)} {animals[i - 1]}.",
                f"If you count the {many}, you find {how.than(many)} {animals[i - 1]}.",
            )
            values.append(how.step(story, values[-1], *sentences))
        else:
            n, each = draw.number(2, 5), draw.number(3, 8 if kinds < 4 else 5)
            story.say(
                f"The {many} live in {n} pens, {each} in each pen.",
                f"There are {n} pens with {each} {many} each.",
                f"In each of {n} pens, there are {each} {many}.",
            )
            values.append(story.mul(n, each, f"In the pens, there are [=] {many}.", sentences[1]))
    story.aside(
        f"The farm is {draw.number(20, 90)} years old.",
        f"The next village is {draw.number(2, 9)} kilometres away.",
        f"The work begins at {draw.number(5, 7)} in the morning.",
    )
    for i, changed in enumerate(spread(draw, changes, [1] * kinds)):
        if not changed:
            continue
        many, now = animals[i], values[i]
        kind = draw.pick("born", "bought", *["sold"] * 2 * (now > 7))
        n = draw.number(2, min(12, now - 3)) if kind == "sold" else draw.number(2, 9)
        if kind == "sold":
            story.say(
                f"Then {n} of the {many} are sold.",
                f"{farmer} sells {n} {many}.",
                f"A neighbour takes {n} of the {many}.",
            )
            sentences = (f"After the sale, there are [=] {many}.", f"That leaves [=] {many}.")
            values[i] = story.sub(now, n, *sentences)
        elif kind == "bought":
            story.say(
                f"Then {farmer} buys {n} more {many}.",
                f"At a market, {farmer} gets {n} more {many}.",
                f"{n} new {many} arrive.",
            )
            values[i] = story.add(now, n, f"With the new ones, there are [=] {many}.", f"Now the farm has [=] {many}.")
        else:
            young = {"hen": "chicks", "duck": "ducklings", "turkey": "chicks", "goose": "goslings"}.get(many.one)
            story.say(
                f"In spring, {n} more {many} are born." if not young else f"In spring, {n} more {many} hatch.",
                f"The {many} get {n} young ones in spring.",
                f"With the spring come {n} young {many}.",
            )
            values[i] = story.add(
                now, n, f"With the young ones, there are [=] {many}.", f"Then the farm has [=] {many}."
            )
    now = total(story, [f"the {many}" for many in animals], values, "animals")
    if not end:
        story.ask(
            "How many animals are there now?" if changes else "How many animals are there in all?",
            f"How many animals does {farmer} have {'in the end' if changes else 'in all'}?",
            f"What is the number of all the animals on the farm{' after that' if changes else ''}?",
            unit="animals",
        )
    elif now < 50 and draw.chance(0.5):
        time = draw.number(2, 4)
        story.say(
            f"A doctor looks at all of them and needs {time} minutes for each animal.",
            f"Then the animal doctor comes. Each animal takes {time} minutes.",
            f"An animal doctor examines every animal, which takes {time} minutes for each.",
        )
        story.mul(now, time, "The doctor needs [=] minutes.", f"The {now} animals take [=] minutes.")
        story.ask(
            "How many minutes does the doctor need for all the animals?",
            "How many minutes do all the animals take?",
            "After how many minutes are all the animals done?",
            unit="minutes",
        )
    else:
        other = now + draw.number(3, 40)
        story.say(
            f"The farm next door has {other} animals.",
            f"A neighbour's farm has {other} animals.",
            f"On another farm, there are {other} animals.",
        )
        story.sub(other, now, "The other farm has [=] animals more.", "The difference is [=] animals.")
        story.ask(
            f"How many more animals are there on the other farm than on {farmer}'s?",
            f"How many more animals does the other farm have than {farmer}'s?",
            f"By how many animals is {farmer}'s farm the smaller one?",
            unit="animals",
        )


@scene(levels=(1, 12))
def orchard(story: Story, level: int) -> None:
    """Baskets of fruit from rows of trees, less those that are given away; then carts that take them, and go off."""
    draw = story.draw
    plans = [(kinds, level - (kinds - 1) - end, end) for kinds in (1, 2, 3) for end in (0, 1, 2)]
    kinds, parts, end = draw.pick(*(plan for plan in plans if plan[0] <= plan[1] <= 3 * plan[0]))
    ann, values, fruit, lost = person(draw), [], draw.sample(FRUIT, kinds), False
    story.say(
        f"{ann} brings in the harvest of an orchard.",
        f"It is autumn in {ann}'s orchard.",
        f"{ann} harvests fruit in an orchard.",
    )
    for (trees, fruits), more in zip(fruit, spread(draw, parts - kinds, [2] * kinds), strict=True):
        in_rows = more == 2 or (more == 1 and draw.chance(0.6))
        rows, each = draw.number(2, 5), draw.number(2, 5 if kinds < 3 else 3)
        n, baskets = draw.number(4, 15), draw.number(2, 6 if kinds < 3 else 4)
        if in_rows:
            story.say(
                f"There are {rows} rows of {each} {trees}.",
                f"The {trees} stand in {rows} rows, {each} in each row.",
                f"In each of {rows} rows, there are {each} {trees}.",
            )
            n = story.mul(rows, each, f"There are [=] {trees}.", f"The {rows} rows have [=] {trees}.")
            story.say(
                f"Each {trees.one} gives {baskets} baskets of fruit.",
                f"Each of them gives {baskets} baskets of {fruits}.",
                f"{baskets} baskets of {fruits} come from each of them.",
            )
        else:
            story.say(
                f"There are {n} {trees}, and each gives {baskets} baskets of fruit.",
                f"Each of {n} {trees} gives {baskets} baskets of {fruits}.",
                f"From each of the {n} {trees} come {baskets} baskets of fruit.",
            )
        now = story.mul(n, baskets, f"The {n} {trees} give [=] baskets.", f"That makes [=] baskets of {fruits}.")
        if more == 2 or (more == 1 and not in_rows):
            gift, lost = draw.number(2, min(9, now - 3)), True
            story.say(
                f"{ann} gives {gift} baskets of {fruits} to {ann.his} neighbours.",
                f"But {gift} baskets of {fruits} are bad and are thrown away.",
                f"{gift} of these baskets of {fruits} do not get to the barn.",
            )
            now = story.sub(now, gift, f"That leaves [=] baskets of {fruits}.", f"Now [=] baskets of {fruits} remain.")
        values.append(now)
    story.aside(
        f"The orchard is {draw.number(10, 60)} years old.",
        f"The work begins at {draw.number(6, 9)} in the morning.",
        f"A ladder there has {draw.number(8, 15)} steps.",
    )
    now = total(story, [f"the {fruits}" for _, fruits in fruit], values, "baskets")
    if not end:
        story.ask(
            "How many baskets of fruit are left in all?" if lost else "How many baskets of fruit is that in all?",
            f"How many baskets of fruit does {ann} have{' left' if lost else ''}?",
            f"How many full baskets does {ann} bring to the barn?",
            unit="baskets",
        )
        return
    fits = [by for by in divisors(now) if by > 2 and (5 if end == 2 else 1) < now // by < 21]
    by = draw.pick(*fits) if fits else draw.number(4, 9)
    story.say(
        f"A cart takes {by} baskets.", f"The baskets are put on carts, {by} on each.", f"{by} baskets fill one cart."
    )
    sentences = ("That makes [=] full carts.", f"The {now} baskets fill [=] carts.")
    if end == 1 and not fits:
        _, story.answer = story.divmod(
            now,
            by,
            f"The full carts are [=], so {now % by} baskets are left.",
            f"With {by} baskets on a cart, it is [=].",
        )
        story.ask(
            "How many baskets are left when as many carts as possible are full?",
            "How many baskets remain behind the last full cart?",
            "As many carts as possible are filled. How many baskets are left?",
            unit="baskets",
        )
        return
    carts = story.div(now, by, *sentences)
    if end == 1:
        story.ask(
            "How many carts are filled?",
            "How many carts do they need?",
            "How many carts does the harvest fill?",
            unit="carts",
        )
        return
    gone = draw.number(2, carts - 2)
    story.say(
        f"On the first day, {gone} carts go to town.",
        f"Of the full carts, {gone} go to the market.",
        f"{gone} of the carts are driven away.",
    )
    story.sub(carts, gone, "Then [=] carts are left.", f"Without those {gone}, there are [=] carts.")
    story.ask(
        "How many full carts are left?",
        "How many carts stay in the orchard?",
        "How many carts are still there?",
        unit="carts",
    )


@scene(levels=(1, 12))
def lake(story: Story, level: int) -> None:
    """Birds of several kinds that come to a lake and leave it; how many there are, or more of one kind."""
    draw = story.draw
    plans = [(kinds, related, level - (kinds - 1) - related) for kinds in (1, 2, 3) for related in range(kinds)]
    kinds, related, left = draw.pick(*(plan for plan in plans if (plan[0] > 1 or plan[2] < 5) and plan[2] >= 0))
    birds, values = draw.sample(BIRDS, kinds), [draw.number(6, 30)]
    story.say(
        f"There are {values[0]} {birds[0]} on a lake.",
        f"{values[0]} {birds[0]} swim on a lake.",
        f"On a lake, you see {values[0]} {birds[0]}.",
    )
    for i, comparing in enumerate(spread(draw, related, [1] * (kinds - 1)) if kinds > 1 else [], 1):
        if comparing:
            how = comparison(draw, values[-1], 40)
            than = how.than(birds[i])
            story.say(
                f"There are {than} {birds[i - 1]}.",
                f"The lake has {than} {birds[i - 1]}.",
                f"You also see {than} {birds[i - 1]}.",
            )
            values.append(how.step(story, values[-1], f"There are [=] {birds[i]}.", f"The lake has [=] {birds[i]}."))
        else:
            n = draw.number(6, 30)
            story.say(
                f"There are also {n} {birds[i]}.",
                f"Besides, there are {n} {birds[i]}.",
                f"{n} {birds[i]} are there, too.",
            )
            values.append(n)
    story.aside(
        f"The lake is {draw.number(4, 30)} metres deep.",
        f"There are {draw.number(2, 9)} boats on the lake.",
        f"{draw.number(3, 12)} children are watching.",
    )
    halved, turn = False, 0
    times = (
        "In the morning",
        "A little later",
        "Before noon",
        "At noon",
        "After that",
        "In the afternoon",
        "Then",
        "Later",
    )
    while left:
        i = draw.number(0, kinds - 1)
        now, many, when = values[i], birds[i], [*times, "In the evening", "At sunset", "At last"][turn]
        turn += 1
        kinds_of = (
            ["come"] * 2 * (now < 60) + ["leave"] * 2 * (now > 7) + ["half"] * (now % 2 == 0 and now > 9 and not halved)
        )
        kind = draw.pick(
            *kinds_of, *["flocks"] * 2 * (left > 1 and now < 50), *["departures"] * (left > 1 and now > 30)
        )
        then = (f"Now there are [=] {many}.", f"The number of {many} is now [=].")
        if kind == "come":
            n = draw.number(2, 15)
            story.say(
                f"{when}, {n} more {many} land on the lake.",
                f"{when}, {n} more {many} come.",
                f"{when}, {n} other {many} arrive.",
            )
            values[i] = story.add(now, n, *then)
        elif kind == "leave":
            n = draw.number(2, min(20, now - 4))
            story.say(
                f"{when}, {n} {many} fly away.",
                f"{when}, {n} of the {many} leave.",
                f"{when}, the lake loses {n} {many}.",
            )
            values[i] = story.sub(now, n, *then)
        elif kind == "half":
            halved = True
            story.say(
                f"{when}, half of the {many} fly away.",
                f"{when}, half of the {many} leave.",
                f"{when}, one half of all the {many} fly off.",
            )
            values[i] = story.div(now, 2, f"Half of the {many} are [=] {many}.", *then)
        else:
            n, k = draw.number(2, 5), draw.number(2, 5)
            if kind == "flocks":
                story.say(
                    f"{when}, {n} groups of {k} {many} come.",
                    f"{when}, {n} groups of {many} land, with {k} in each.",
                    f"{when}, {n} groups with {k} {many} each arrive.",
                )
                more = story.mul(n, k, f"The {n} groups are [=] {many}.", f"In the groups come [=] {many}.")
                values[i] = story.add(now, more, *then)
            else:
                story.say(
                    f"{when}, {n} groups of {k} {many} fly away.",
                    f"{when}, the {many} leave in {n} groups of {k}, and the others stay.",
                    f"{when}, {n} groups with {k} {many} each leave the lake.",
                )
                less = story.mul(n, k, f"The {n} groups are [=] {many}.", f"In the groups, [=] {many} leave.")
                values[i] = story.sub(now, less, *then)
        left -= 2 if kind in ("flocks", "departures") else 1
    if kinds == 2 and level > 2 and draw.chance(0.4):
        (low, less_of), (high, more_of) = sorted(zip(values, map(str, birds), strict=True))
        story.sub(high, low, f"There are [=] more {more_of} than {less_of}.", "The difference is [=] birds.")
        story.ask(
            f"How many more {more_of} than {less_of} are there now?",
            f"How many more {more_of} than {less_of} does the lake have in the end?",
            f"By how many birds do the {more_of} outnumber the {less_of} now?",
            unit=more_of,
        )
        return
    total(story, [f"the {many}" for many in birds], values, "birds")
    things = birds[0] if kinds == 1 else "birds"
    story.ask(
        f"How many {things} are on the lake now?" if turn else f"How many {things} are on the lake?",
        f"How many {things} does the lake have {'in the end' if turn else 'in all'}?",
        f"What is the number of {things} on the lake after all that?" if turn else f"How many {things} is that?",
        unit=things,
    )


@scene(levels=(1, 8))
def garden(story: Story, level: int) -> None:
    """A plant that grows or is cut, others that are taller or shorter, and what is missing to the fence."""
    draw = story.draw
    plans = [(level - related - end, related, end) for related in (0, 1, 2) for end in (0, 1)]
    grows, related, end = draw.pick(*(plan for plan in plans if 0 <= plan[0] <= 5 and (plan[0] or plan[1])))
    plants, now, place = draw.sample(PLANTS, related + 1), draw.number(15, 60), "garden"
    who, the = first_upper(plants[0].a), f"the {plants[0].one}"
    story.say(
        f"{who} in a {place} is {now} centimetres tall.",
        f"In a {place}, there is {plants[0].a} of {now} centimetres.",
        f"{who} in a {place} has a height of {now} centimetres.",
    )
    then = (f"Now {the} is [=] centimetres tall.", "Then its height is [=] centimetres.")
    months = ("In March", "In April", "In May", "In June", "In July", "In August")
    turn = 0
    while grows:
        when = months[turn]
        kind = draw.pick("grow", *["weeks"] * 3 * (grows > 1), *["cut"] * (turn > 0 and now > 30))
        if kind == "weeks":
            n, k = draw.number(2, 4), draw.number(2, 9)
            story.say(
                f"{when}, it grows {k} centimetres a week for {n} weeks.",
                f"{when}, for {n} weeks, it grows by {k} centimetres every week.",
                f"{when}, it grows for {n} weeks, by {k} centimetres in each.",
            )
            more = story.mul(n, k, f"In {n} weeks, it grows by [=] centimetres.", f"The {n} weeks add [=] centimetres.")
            now = story.add(now, more, *then)
        elif kind == "grow":
            n = draw.number(3, 25)
            story.say(
                f"{when}, it grows by {n} centimetres.",
                f"{when}, it gets {n} centimetres taller.",
                f"{when}, its height goes up by {n} centimetres.",
            )
            now = story.add(now, n, *then)
        else:
            n = draw.number(3, 20)
            story.say(
                f"{when}, the gardener cuts off {n} centimetres.",
                f"{when}, it is cut by {n} centimetres.",
                f"{when}, {n} centimetres of it are cut off.",
            )
            now = story.sub(now, n, *then)
        grows -= 2 if kind == "weeks" else 1
        turn += 1
    story.aside(
        f"There are {draw.number(3, 9)} trees in the {place}.",
        f"The {place} is open for {draw.number(5, 9)} hours a day.",
        f"{draw.number(3, 9)} people work in the {place}.",
    )
    for other, one in pairwise(plants):
        how = comparison(draw, now, 120)
        than = how.words("centimetres taller", "centimetres shorter", "as tall")
        story.say(
            f"{first_upper(one.a)} is now {than} the {other.one}."
            if turn
            else f"{first_upper(one.a)} is {than} the {other.one}.",
            f"Next to it, there is {one.a}, which is {than} the {other.one}.",
            f"{first_upper(one.a)} beside it is {than} the {other.one}.",
        )
        now = how.step(
            story, now, f"The {one.one} is [=] centimetres tall.", f"The height of the {one.one} is [=] centimetres."
        )
    last = f"the {plants[-1].one}"
    if not end:
        story.ask(
            f"How tall is {last} now, in centimetres?" if turn else f"How tall is {last}, in centimetres?",
            f"How many centimetres tall is {last}?",
            f"What is the height of {last} in the end, in centimetres?"
            if turn
            else f"What is {last}'s height in centimetres?",
            unit="centimetres",
        )
        return
    fence = round_above(draw, now)
    story.say(
        f"The fence is {fence} centimetres high.",
        f"Behind it is a fence of {fence} centimetres.",
        f"A fence around the {place} has a height of {fence} centimetres.",
    )
    story.sub(
        fence, now, "To the top of the fence, [=] centimetres are missing.", "The fence is [=] centimetres higher."
    )
    story.ask(
        f"How many centimetres shorter than the fence is {last}?",
        f"How many more centimetres must {last} grow to be as tall as the fence?",
        f"By how many centimetres is the fence taller than {last}?",
        unit="centimetres",
    )
