"""Scenes of the kitchen: baking, and eggs."""

from conv_dlm.word_problems.language import nouns, person
from conv_dlm.word_problems.scenes.plans import plans
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 10))
def baking_trays(story: Story, level: int) -> None:
    """Trays of things from the oven: some burn or are eaten, and the others are put into bags and sold."""
    draw = story.draw
    trays, second, burnt, eaten, bags, given, price, cost = draw.pick(
        *[
            plan
            for plan in plans(level, (1, 2), (0, 1, 2), *[(0, 1)] * 6)
            if plan[4] or not plan[5] + plan[6]
            if plan[6] or not plan[7]
        ]
    )
    ann, things = person(draw), draw.pick(*nouns("cookie, muffin, roll, bun, tart, cheese stick, cupcake"))
    n, rows, size = draw.number(2, 4), draw.number(3, 5), draw.number(4, 7)
    if trays == 2:
        story.say(
            f"{ann} bakes {things} on {n} trays. Each tray has {rows} rows of {size} {things}.",
            f"{ann} fills {n} trays with {things}, in {rows} rows of {size} on each tray.",
            f"{ann} is baking. There are {n} trays, each with {rows} rows of {size} {things}.",
        )
        each = story.mul(rows, size, f"On each tray, there are [=] {things}.", f"A tray has [=] {things}.")
        now = story.mul(n, each, f"On the {n} trays, there are [=] {things}.", f"{ann} bakes [=] {things}.")
    else:
        story.say(
            f"{ann} bakes {n + 1} trays of {size} {things}.",
            f"{ann} puts {n + 1} trays with {size} {things} each into the oven.",
            f"{ann} is baking. There are {n + 1} trays with {size} {things} on each.",
        )
        now = story.mul(n + 1, size, f"On the {n + 1} trays, there are [=] {things}.", f"{ann} bakes [=] {things}.")
    if second == 2:
        n, size = draw.number(2, 3), draw.number(5, 10)
        story.say(
            f"Then {ann.he} bakes {n} smaller trays of {size} {things}.",
            f"After that, {ann.he} bakes {size} {things} on each of {n} smaller trays.",
            f"{n} smaller trays follow, with {size} {things} on each.",
        )
        more = story.mul(
            n, size, f"On the smaller trays, there are [=] {things}.", f"The {n} smaller trays hold [=] {things}."
        )
        now = story.add(
            now, more, f"Together, these are [=] {things}.", f"With the smaller trays, there are [=] {things}."
        )
    elif second:
        n = draw.number(3, 12)
        story.say(
            f"The rest of the dough is enough for {n} more.",
            f"From the rest of the dough, {ann.he} makes {n} more.",
            f"With what is left of the dough, {ann.he} bakes another {n}.",
        )
        now = story.add(now, n, f"With these, there are [=] {things}.", f"The rest of the dough makes it [=] {things}.")
    losses = burnt + eaten
    size = draw.pick(*[k for k in range(3, 10) if losses or now % k == 0] or [2])
    for kind in ["burn"] * burnt + ["eat"] * eaten:
        losses -= 1
        n = 2 + (now - 2) % size if bags and not losses else draw.number(2, 7)
        if kind == "burn":
            story.say(
                f"But {n} of the {things} burn.", f"{n} of them get burnt.", f"Sadly, {n} of the {things} are burnt."
            )
            now = story.sub(
                now, n, f"Without the burnt ones, there are [=] {things}.", f"{n} are burnt, so [=] {things} are good."
            )
        else:
            story.say(
                f"{ann.His} children eat {n} of them.",
                f"{n} are eaten right away.",
                f"{ann} and the children eat {n} of them.",
            )
            now = story.sub(now, n, f"After {n} are eaten, [=] {things} are left.", f"That leaves [=] {things}.")
    story.aside(
        f"The oven is {draw.number(3, 15)} years old.",
        f"{ann} gets up at {draw.number(5, 7)} in the morning.",
        f"{ann} has {draw.number(2, 4)} cookbooks.",
    )
    if not bags:
        story.ask(
            f"How many {things} are there now?" if burnt or eaten else f"How many {things} are there in all?",
            f"How many {things} does {ann} have?",
            f"How many {things} does {ann} have in the end?",
            unit=things,
        )
        return
    rest = "the others" if burnt or eaten else "them all"
    story.say(
        f"{ann} packs {rest} into bags of {size}.",
        f"{ann.He} puts {rest} into bags, {size} in each.",
        f"{ann.He} fills bags with {rest}, with {size} in every bag.",
    )
    now = story.div(now, size, f"{ann} fills [=] bags.", f"With {size} in each, there are [=] bags.")
    if given:
        n = draw.number(2, 4)
        story.say(
            f"{ann.He} gives {n} bags to neighbors.",
            f"{n} bags are for the neighbors.",
            f"The neighbors get {n} of the bags.",
        )
        now = story.sub(now, n, f"{ann} keeps [=] bags.", "After the present, [=] bags are left.")
    if not price:
        story.ask(
            f"How many bags does {ann} have then?",
            "How many bags are there then?",
            f"How many bags does {ann} have in the end?",
            unit="bags",
        )
        return
    dollars = draw.number(3, 9)
    those = "the other bags" if given else "the bags"
    story.say(
        f"{ann.He} sells {those} for {dollars} dollars each.",
        f"{ann.He} sells {those} at {dollars} dollars apiece.",
        f"{those.capitalize()} are sold, each for {dollars} dollars.",
    )
    now = story.mul(now, dollars, f"For the bags, {ann} gets [=] dollars.", "The bags bring in [=] dollars.")
    if cost:
        n = draw.number(4, 15)
        story.say(
            f"{ann} has spent {n} dollars on flour and sugar.",
            f"Flour and sugar cost {ann.him} {n} dollars.",
            f"For flour and sugar, {ann.he} paid {n} dollars.",
        )
        story.sub(
            now, n, f"After the costs, {ann} has earned [=] dollars.", "Without the costs, that leaves [=] dollars."
        )
        story.ask(
            f"How many dollars does {ann} earn after the costs?",
            f"How many dollars are left to {ann} after these costs?",
            f"What is {ann}'s profit, in dollars?",
            unit="dollars",
        )
        return
    story.ask(
        f"How many dollars does {ann} get for them?",
        f"How much does {ann} get for the bags, in dollars?",
        "How many dollars do the bags bring in?",
        unit="dollars",
    )


@scene(levels=(1, 12), held_out=True)
def egg_cartons(story: Story, level: int) -> None:
    """Cartons of eggs in a kitchen, and what is cooked with them on a day."""
    draw = story.draw
    _, large, old, cakes, broken, boiled, omelets, price, tips = draw.pick(
        *[
            plan
            for plan in plans(level, (1,), (0, 2), (0, 1), (0, 2), (0, 1), (0, 2), (0, 1), (0, 1), (0, 1))
            if plan[6] or not plan[7]
            if plan[7] or not plan[8]
        ]
    )
    cook = draw.pick("The cook", "The owner")
    n, size = draw.number(3, 8), draw.pick(6, 10, 12)
    eggs = "a dozen eggs" if size == 12 else f"{size} eggs"
    story.say(
        f"The kitchen of a small hotel gets {n} cartons of {eggs} each.",
        f"There are {n} cartons in the kitchen of a small hotel, each with {eggs} in it.",
        f"A small hotel buys {n} cartons for its kitchen, and there are {eggs} in each.",
    )
    now = story.mul(n, size, "The cartons hold [=] eggs.", f"In the {n} cartons, there are [=] eggs.")
    if large:
        n, size = draw.number(2, 3), draw.number(15, 20, 5)
        story.say(
            f"It also gets {n} large trays with {size} eggs each.",
            f"There are {n} large trays of {size} eggs, too.",
            f"Besides, there are {n} large trays with {size} eggs on each.",
        )
        more = story.mul(n, size, f"On the {n} trays, there are [=] eggs.", "The trays hold [=] eggs.")
        now = story.add(now, more, "With the trays, there are [=] eggs.", "Together, these are [=] eggs.")
    if old:
        n = draw.number(2, 9)
        story.say(
            f"{n} eggs are left from the day before.",
            f"There are {n} more eggs in the fridge.",
            f"The fridge has {n} other eggs in it.",
        )
        now = story.add(now, n, f"With {n} more, there are [=] eggs.", f"The other {n} make it [=] eggs.")
    if cakes:
        n, size = draw.number(2, 6), draw.number(3, 5)
        story.say(
            f"{cook} bakes {n} cakes with {size} eggs in each.",
            f"For a party, {n} cakes are baked, and each takes {size} eggs.",
            f"Then {n} cakes are made, and {size} eggs are needed for each.",
        )
        used = story.mul(n, size, f"The {n} cakes need [=] eggs.", "For the cakes, [=] eggs are used.")
        now = story.sub(now, used, "After the baking, [=] eggs are left.", "Without these, there are [=] eggs.")
    if boiled:
        n, size = draw.number(4, 12), draw.number(2, 3)
        story.say(
            f"At breakfast, {n} guests eat {size} boiled eggs each.",
            f"{n} guests have {size} boiled eggs each.",
            f"Each of {n} guests orders {size} boiled eggs.",
        )
        used = story.mul(n, size, f"The {n} guests eat [=] eggs.", "For the guests, [=] eggs are boiled.")
        now = story.sub(now, used, "After that, [=] eggs are left.", f"With {used} eggs eaten, there are [=] eggs.")
    fry = draw.pick(*[k for k in (2, 3, 4, 5) if broken or now % k == 0] or [2])
    if broken:
        n = 2 + (now - 2) % fry if omelets else draw.number(2, 6)
        story.say(f"{n} eggs fall down and break.", f"By accident, {n} eggs break.", f"{n} eggs are dropped and lost.")
        now = story.sub(
            now, n, f"Without the {n} that break, there are [=] eggs.", f"{n} break, and [=] eggs are left."
        )
    story.aside(
        f"Breakfast begins at {draw.number(6, 8)} in the morning.",
        f"The hotel has {draw.number(2, 4)} floors.",
        f"{cook} has worked there for {draw.number(3, 20)} years.",
    )
    if not omelets:
        story.ask(
            "How many eggs are there now?",
            "How many eggs does the kitchen have?",
            "How many eggs are there in the end?",
            unit="eggs",
        )
        return
    rest = "the other eggs" if cakes or boiled or broken else "these eggs"
    story.say(
        f"{cook} makes omelets from all {rest}, with {fry} eggs in each.",
        f"All {rest} are used for omelets, and each omelet takes {fry} eggs.",
        f"Then {rest} all become omelets of {fry} eggs each.",
    )
    now = story.div(now, fry, "They are enough for [=] omelets.", f"With {fry} eggs each, that makes [=] omelets.")
    if not price:
        story.ask(
            "How many omelets are there?",
            "How many omelets does the hotel make?",
            "What is the number of omelets?",
            unit="omelets",
        )
        return
    dollars = draw.number(3, 8)
    story.say(
        f"An omelet is sold for {dollars} dollars.",
        f"The guests pay {dollars} dollars for an omelet.",
        f"Each omelet costs a guest {dollars} dollars.",
    )
    now = story.mul(now, dollars, "The omelets bring in [=] dollars.", "For the omelets, the guests pay [=] dollars.")
    if tips:
        n = draw.number(3, 20)
        story.say(
            f"The guests also give {n} dollars as a tip.",
            f"In addition, there is a tip of {n} dollars.",
            f"On top of that, they leave a tip of {n} dollars.",
        )
        story.add(now, n, "With the tip, it is [=] dollars.", "Together with the tip, that makes [=] dollars.")
    story.ask(
        "How many dollars does the hotel take in?",
        "How many dollars does the hotel take in altogether?",
        "How much money comes in, in dollars?",
        unit="dollars",
    )
