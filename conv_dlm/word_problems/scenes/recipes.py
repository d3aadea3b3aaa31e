"""Scenes of recipes and mixtures."""

from conv_dlm.word_problems.language import listing, person
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

DISHES = (
    ("granola", ("oats", "nuts", "raisins", "seeds", "coconut")),
    ("soup", ("beans", "lentils", "rice", "peas", "carrots")),
    ("cookies", ("flour", "sugar", "oats", "raisins", "nuts")),
    ("salad", ("corn", "tomatoes", "beans", "cheese", "olives")),
)
MIXTURES = (
    ("punch", "liters", ("grape juice", "apple juice", "tea", "water")),
    ("paint", "cups", ("white paint", "red paint", "blue paint", "yellow paint")),
    ("trail mix", "cups", ("nuts", "raisins", "pumpkin seeds", "coconut")),
    ("bird food", "cups", ("sunflower seeds", "peanuts", "oats", "millet")),
    ("garden soil", "buckets", ("compost", "sand", "clay", "bark")),
)


@scene(levels=(1, 12))
def recipe(story: Story, level: int) -> None:
    """A recipe for more people: the factor, each ingredient times it, without what is at home; and all together."""
    draw = story.draw
    # Operations: the factor (where it isn't told), for each of n ingredients its amount, for `home` of them what is
    # missing, and n - 1 sums.
    plans = [(scale, n, level - scale - (2 * n - 1)) for scale in (0, 1) for n in range(1, 6)]
    scale, count, home = draw.pick(*[plan for plan in plans if 0 <= plan[2] <= plan[1]])
    dish, choice = draw.pick(*DISHES)
    ann, parts = person(draw), draw.sample(choice, count)
    factor, people = draw.number(2, 6 if count < 3 else 4), draw.number(2, 5)
    unit = "grams" if count < 3 and dish != "cookies" and draw.chance(0.4) else "cups"
    per = "the recipe" if scale else "a batch"
    a_recipe = f"a recipe for {dish}" + (f" for {people} people" if scale else "")
    story.say(f"{ann} has {a_recipe}.", f"{ann} uses {a_recipe}.", f"{ann} finds {a_recipe}.")
    amounts = [draw.number(10, 40, 5) if unit == "grams" else draw.number(2, 6 if count < 3 else 4) for _ in parts]
    all_parts = listing([f"{n} {unit} of {part}" for n, part in zip(amounts, parts, strict=True)])
    story.say(
        f"{per.capitalize()} needs {all_parts}.",
        f"For {per}, {ann.he} needs {all_parts}.",
        f"It takes {all_parts} to make {per if per == 'a batch' else 'it'}.",
    )
    story.aside(
        f"The recipe is {draw.number(20, 90)} years old.",
        f"{ann.His} kitchen has {draw.number(2, 5)} windows.",
        f"{ann.He} learned it from {ann.his} aunt, who has {draw.number(2, 5)} cats.",
    )
    if scale:
        guests = factor * people
        story.say(
            f"{ann} wants to make it for {guests} people.",
            f"This time, {ann.he} cooks for {guests} people.",
            f"Today {guests} people are to get {dish}.",
        )
        story.div(
            guests,
            people,
            f"For {guests} people, {ann} needs [=] times as much.",
            f"{guests} people need [=] times the recipe.",
        )
    else:
        story.say(
            f"{ann} makes {factor} batches.",
            f"{ann.He} wants to make {factor} batches.",
            f"{factor} batches are planned.",
        )
    stock = []
    for n in amounts[:home]:
        high, step = n * factor - 2, 5 if unit == "grams" else 1
        stock.append(step * draw.number(2, max(2, min(high // step, 9))))
    if home:
        all_stock = listing([f"{n} {unit} of {part}" for n, part in zip(stock, parts, strict=False)])
        story.say(
            f"{ann.He} has {all_stock} at home.",
            f"At home, {ann.he} has {all_stock}.",
            f"There are {all_stock} in {ann.his} kitchen.",
        )
    needs = []
    for n, part in zip(amounts, parts, strict=True):
        needs.append(
            story.mul(
                factor,
                n,
                f"{ann} needs [=] {unit} of {part}.",
                f"For this, {ann} needs [=] {unit} of {part}.",
                f"The amount of {part} is [=] {unit}.",
            )
        )
    for i in range(home):
        rest = (f"{ann} has to buy [=] {unit} of {parts[i]}.", f"Of {parts[i]}, [=] {unit} are missing.")
        needs[i] = story.sub(needs[i], stock[i], *rest)
    total = needs[0]
    for n, part in zip(needs[1:], parts[1:], strict=True):
        total = story.add(
            total, n, f"With the {part}, that is [=] {unit}.", f"Together with the {part}, that makes [=] {unit}."
        )
    what = parts[0] if count == 1 else "ingredients"
    if home:
        story.ask(
            f"How many {unit} of {what} does {ann} have to buy{' in all' if count > 1 else ''}?",
            f"How many {unit} of {what} are missing{' in all' if count > 1 else ''}?",
            f"How many {unit} of {what} must {ann} still get{' altogether' if count > 1 else ''}?",
            unit=unit,
        )
        return
    story.ask(
        f"How many {unit} of {what} does {ann} need{' in all' if count > 1 else ''}?",
        f"How many {unit} of {what} is that{' in all' if count > 1 else ''}?",
        f"How many {unit} of {what} go into it{' altogether' if count > 1 else ''}?",
        unit=unit,
    )


@scene(levels=(2, 10))
def mixture(story: Story, level: int) -> None:
    """A mixture in a ratio: how many times its first part is taken, the other parts, their sum, and its use."""
    draw = story.draw
    # Operations: the factor, a product and a sum for each of the other parts, and the end. Level 2 asks for one part.
    plans = [(n, level - 1 - 2 * n) for n in (1, 2, 3)]
    others, end = (1, 0) if level == 2 else draw.pick(*[plan for plan in plans if 0 <= plan[1] <= 3])
    what, unit, choice = draw.pick(*MIXTURES)
    parts, ann = draw.sample(choice, others + 1), person(draw)
    ratio = [draw.number(2, 5 if others < 3 else 3) for _ in parts]
    times = draw.number(2, 6 if others == 1 else 4)
    story.say(f"{ann} mixes {what}.", f"{ann} prepares {what}.", f"{ann} wants to make {what}.")
    for n, part in zip(ratio[1:], parts[1:], strict=True):
        story.say(
            f"For every {ratio[0]} {unit} of {parts[0]}, {ann.he} takes {n} {unit} of {part}.",
            f"Every {ratio[0]} {unit} of {parts[0]} need {n} {unit} of {part}.",
            f"With every {ratio[0]} {unit} of {parts[0]} go {n} {unit} of {part}.",
        )
    first = ratio[0] * times
    story.say(
        f"{ann.He} uses {first} {unit} of {parts[0]}.",
        f"{ann} has {first} {unit} of {parts[0]} and uses all of it.",
        f"All in all, {first} {unit} of {parts[0]} are used.",
    )
    story.aside(
        f"{ann.His} spoon is {draw.number(20, 60)} centimeters long.",
        f"{ann.He} has made it for {draw.number(2, 9)} years.",
        f"{ann.His} neighbor has {draw.number(2, 6)} dogs.",
    )
    story.div(
        first, ratio[0], f"{first} {unit} are [=] times {ratio[0]} {unit}.", f"So {ann} takes everything [=] times."
    )
    total = first
    for n, part in zip(ratio[1:], parts[1:], strict=True):
        more = story.mul(times, n, f"{ann} needs [=] {unit} of {part}.", f"Of {part}, {ann.he} takes [=] {unit}.")
        if level == 2:
            story.ask(
                f"How many {unit} of {part} does {ann} need?",
                f"How many {unit} of {part} does {ann} have to take?",
                f"What amount of {part} goes with it, in {unit}?",
                unit=unit,
            )
            return
        total = story.add(total, more, f"With the {part}, that is [=] {unit}.", f"With it, there are [=] {unit}.")
    if end == 0:
        story.ask(
            f"How many {unit} of {what} does {ann} get?",
            f"How many {unit} is the mixture in all?",
            f"How much {what} does {ann} make, in {unit}?",
            unit=unit,
        )
        return
    used = draw.number(2, min(20, total - 2))
    friends = draw.number(2, 5)
    if end > 1:
        used = total % friends + friends * draw.number(1, 3)
    story.say(
        f"Later, {used} {unit} of the {what} are used.",
        f"On the first day, {used} {unit} of it are used up.",
        f"Of the {what}, {used} {unit} are gone by the evening.",
    )
    rest = story.sub(total, used, f"Then [=] {unit} are left.", f"The rest is [=] {unit} of {what}.")
    if end == 1:
        story.ask(
            f"How many {unit} are left?",
            f"How many {unit} of {what} does {ann} have then?",
            f"How much {what} remains, in {unit}?",
            unit=unit,
        )
        return
    story.say(
        f"The rest is shared equally among {friends} neighbors.",
        f"{ann} gives the rest to {friends} neighbors, the same amount to each.",
        f"{friends} neighbors get equal shares of the rest.",
    )
    share = story.div(rest, friends, f"Each neighbor gets [=] {unit}.", f"A share is [=] {unit}.")
    if end == 3:
        n = draw.number(2, 6)
        story.say(
            f"One of them, Mr. Hill, had {n} {unit} of {what} already.",
            f"Among them is Mr. Hill, who had {n} {unit} of {what} before.",
            f"Mr. Hill is one of them, and he owned {n} {unit} of {what} before that.",
        )
        story.add(share, n, f"Mr. Hill now has [=] {unit}.", f"With what he had, Mr. Hill has [=] {unit}.")
    whom = "Mr. Hill have now" if end == 3 else "each of them get"
    story.ask(
        f"How many {unit} of {what} does {whom}?",
        f"How many {unit} does {whom}?",
        f"How much {what} does {whom}, in {unit}?",
        unit=unit,
    )
