"""Scenes of measures: recipes and mixtures, rope and fabric, water for plants, minutes, floors and meters."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import listing, nouns, person
from conv_dlm.word_problems.scenes.rates import order, pieces
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
PASTIMES = ("piano practice", "reading", "homework", "painting", "dancing", "singing", "cooking", "gardening", "chess")
TASKS = (("letters", "write"), ("windows", "clean"), ("shirts", "iron"), ("pictures", "frame"), ("beds", "make"))


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


@scene(levels=(1, 12))
def timetable(story: Story, level: int) -> None:
    """Minutes of a day: activities, rows of equal tasks and comparisons, added up and taken from the time there is."""
    draw = story.draw
    ann = person(draw)
    names, tasks = draw.shuffled(PASTIMES), draw.shuffled(TASKS)
    first = draw.number(0, 1)  # a plain time first, or equal tasks: 1 operation
    end = draw.number(0, min(2, level - first))
    story.say(
        f"{ann} plans {ann.his} afternoon.",
        f"{ann} makes a timetable for {ann.his} day off.",
        f"{ann} writes down what {ann.he} wants to do on {ann.his} free day.",
    )
    story.aside(
        f"It is the {draw.number(4, 20)}th of May.",
        f"{ann.His} sister is {draw.number(4, 12)} years old.",
        f"Outside, it is {draw.number(10, 30)} degrees warm.",
    )
    total = last = 0
    before = ""
    for size in [first, *pieces(draw, level - first - end)]:
        then = "Then" if total else "First"
        minutes, n, each, more = draw.number(2, 6) * 5, draw.number(2, 6), draw.number(2, 7), draw.number(2, 3) * 5
        if total and size == 2 and (not tasks or draw.chance(0.5)):
            name = names.pop()
            kinds = ("twice", "more", "half") if last % 2 == 0 and last > 18 else ("twice", "more")
            kind = draw.pick(*kinds) if last <= 30 else kinds[-1]
            how = f"{more} minutes longer than" if kind == "more" else f"{kind} as long as"
            story.say(
                f"Then comes {name}, which takes {how} {before}.",
                f"After that there is {name}, {how} {before}.",
                f"What follows is {name}, and it takes {how} {before}.",
            )
            does = (f"The time for {name} is [=] minutes.", f"{name.capitalize()} takes [=] minutes.")
            if kind == "more":
                last = story.add(last, more, *does)
            else:
                last = story.mul(2, last, *does) if kind == "twice" else story.div(last, 2, *does)
            before = name
        elif size == 2 or (not total and size):
            if not tasks:
                raise RejectedDrawError("no task is left")
            things, do = tasks.pop()
            story.say(
                f"{then}, {ann.he} has {n} {things} to {do}, and each takes {each} minutes.",
                f"{then} there are {n} {things} to {do}, at {each} minutes each.",
                f"{then}, {ann.he} wants to {do} {n} {things}, with {each} minutes for each of them.",
            )
            last = story.mul(
                n, each, f"The {n} {things} take [=] minutes.", f"The time for the {things} is [=] minutes."
            )
            before = name = f"the {n} {things}"
        else:
            last, before = minutes, names.pop()
            name = before
            story.say(
                f"{then} there are {minutes} minutes for {name}.",
                f"{then} comes {name}, for {minutes} minutes.",
                f"{then}, {ann.he} sets aside {minutes} minutes for {name}.",
            )
        makes = (f"Together with {name}, that is [=] minutes.", f"With {name}, that makes [=] minutes.")
        total = story.add(total, last, *makes) if total else last
    if end == 0:
        story.ask(
            "How many minutes does all this take?",
            f"How many minutes does {ann} need?",
            f"How long is {ann} busy, in minutes?",
            unit="minutes",
        )
        return
    hours, time = draw.number(total // 60 + 1, 3), total + draw.number(1, 12) * 5
    if time > 200:
        raise RejectedDrawError("too long a day")
    there_are = f"{hours} hours" if end == 2 else f"{time} minutes"
    story.say(
        f"{ann} has {there_are} for everything.",
        f"All in all, {ann.he} has {there_are}.",
        f"The time that {ann.he} has for it is {there_are}.",
    )
    if end == 2:
        time = story.mul(hours, 60, f"The {hours} hours are [=] minutes.", f"{ann} has [=] minutes.")
    story.sub(time, total, "Then [=] minutes are left.", f"{ann} has [=] minutes left.")
    story.ask(
        "How many minutes are left?",
        f"How many minutes are left for {ann} at the end?",
        f"How many minutes does {ann} have to spare?",
        unit="minutes",
    )


@scene(levels=(1, 12))
def elevator(story: Story, level: int) -> None:
    """Rides between floors: how many floors each is, all together, the seconds they take, and the stops."""
    draw = story.draw
    end = draw.pick(*[end for end in range(4) if level > end and (level - end) % 2 == 1])
    rides = (level - end + 1) // 2
    who = draw.pick("mail carrier", "painter", "nurse", "window cleaner", "waiter", "doctor")
    floor = draw.number(2, 20)
    story.say(
        f"A {who} takes the elevator on floor {floor}.",
        f"A {who} gets into the elevator on floor {floor}.",
        f"An elevator with a {who} starts on floor {floor}.",
    )
    story.aside(
        f"The elevator has room for {draw.number(4, 12)} people.",
        f"The house was built {draw.number(20, 90)} years ago.",
        f"The {who} carries a bag of {draw.number(2, 9)} kilograms.",
    )
    total = 0
    for then in order(rides)[:rides]:
        away = draw.number(2, 12)
        up = floor - away < 2 or (floor < 20 and draw.chance(0.5))
        goal = floor + away if up else floor - away
        way = "up" if up else "down"
        story.say(
            f"{then}, it goes {way} to floor {goal}.",
            f"{then}, it moves {way} and stops on floor {goal}.",
            f"{then}, it travels {way} until it reaches floor {goal}.",
        )
        ride = story.sub(
            max(floor, goal),
            min(floor, goal),
            f"From floor {floor} to floor {goal}, that is [=] floors.",
            f"The way {way} to floor {goal} is [=] floors.",
        )
        makes = ("That makes [=] floors so far.", "Together with the floors before, that is [=] floors.")
        total = story.add(total, ride, *makes) if total else ride
        floor = goal
    seconds, stop, stops = draw.number(2, 4), draw.number(3, 10), draw.number(2, 6)
    if end == 0:
        story.ask(
            "How many floors does it travel in all?" if rides > 1 else "How many floors does it travel?",
            f"How many floors does the {who} ride{' altogether' if rides > 1 else ''}?",
            "How many floors long is its whole way?",
            unit="floors",
        )
        return
    story.say(
        f"It needs {seconds} seconds for each floor.",
        f"From one floor to the next, it takes {seconds} seconds.",
        f"A way of one floor takes it {seconds} seconds.",
    )
    time = story.mul(total, seconds, f"The {total} floors take [=] seconds.", "It moves for [=] seconds.")
    if end == 2:
        waits = draw.number(5, 40)
        story.say(
            f"All its stops together take {waits} seconds.",
            f"Besides that, it stands still for {waits} seconds.",
            f"The stops add up to another {waits} seconds.",
        )
        story.add(time, waits, "All together, that is [=] seconds.", "With the stops, that makes [=] seconds.")
    elif end == 3:
        story.say(
            f"Its doors are open {stops} times, for {stop} seconds each time.",
            f"It waits {stops} times on the way, {stop} seconds each time.",
            f"There are also {stops} waits of {stop} seconds each.",
        )
        waits = story.mul(stops, stop, f"The {stops} waits take [=] seconds.", "It stands still for [=] seconds.")
        story.add(time, waits, "All together, that is [=] seconds.", "With the waits, that makes [=] seconds.")
    story.ask(
        "How many seconds does all this take?",
        f"How many seconds is the {who} in the elevator?",
        f"For how long does the {who} use the elevator, in seconds?",
        unit="seconds",
    )


@scene(levels=(1, 12), held_out=True)
def hike(story: Story, level: int) -> None:
    """The height above the sea on a hilly path: up and down, by stairs or for some minutes; and up to the top."""
    draw = story.draw
    ann, height = person(draw), draw.number(20, 80)
    end = draw.number(0, min(2, level))  # operations about the rest of the way up
    story.say(
        f"{ann} begins a hike {height} meters above the sea.",
        f"{ann}'s path starts at a height of {height} meters above the sea.",
    )
    story.aside(f"{ann} carries {draw.number(2, 5)} bottles of water.", f"The path has {draw.number(3, 9)} red signs.")
    places = draw.sample(("bridge", "hut", "spring", "tower", "lake", "chapel", "meadow", "cave"), 8)
    highest, sizes = height, pieces(draw, level - end)
    if len(sizes) > len(places):
        raise RejectedDrawError("not enough places")
    for then, size, place in zip(order(len(sizes)), sizes, places, strict=False):
        up = height < 30 or (height < 150 and draw.chance(0.6))
        way, kind = "up" if up else "down", draw.pick("stairs", "minutes")
        n, each, meters = draw.number(2, 6), draw.number(3, 9), draw.number(5, 30)
        if size == 1:
            story.say(
                f"{then}, {ann.he} goes {meters} meters {way} to a {place}.",
                f"{then}, the path leads {meters} meters {way} to a {place}.",
            )
        elif kind == "stairs":
            story.say(f"{then}, {n} ladders of {each} meters each lead {way} to a {place}.")
            meters = story.mul(
                n, each, f"The {n} ladders go {way} [=] meters.", f"By ladder, that is [=] meters {way}."
            )
        else:
            story.say(
                f"{then}, {ann.he} goes {way} to a {place} for {n} minutes, {each} meters each minute.",
                f"{then}, for {n} minutes, {ann.he} goes {way} to a {place}, {each} meters a minute.",
            )
            meters = story.mul(
                n, each, f"In {n} minutes, that is [=] meters {way}.", f"The way to the {place} is [=] meters {way}."
            )
        is_at = (f"{ann} is then at [=] meters.", f"So the {place} lies at [=] meters.")
        height = (story.add if up else story.sub)(height, meters, *is_at)
        highest = max(highest, height)
    if end == 0:
        story.ask(
            f"How many meters above the sea is {ann} now?",
            f"How many meters above the sea does {ann}'s way end?",
            unit="meters",
        )
        return
    rate, minutes = draw.number(3, 8), draw.number(2, 8)
    top = height + rate * minutes
    if not highest < top <= 200:
        raise RejectedDrawError("no height for a top")
    story.say(f"The top of the hill is {top} meters above the sea.", f"The hill is {top} meters high.")
    rest = story.sub(top, height, "Up to the top, it is [=] meters.", f"{ann} is [=] meters below the top.")
    if end == 1:
        story.ask(
            f"How many meters does {ann} still have to climb to the top?",
            f"How many meters below the top is {ann} now?",
            unit="meters",
        )
        return
    story.say(f"{ann} now climbs {rate} meters a minute.", f"From here on, {ann} goes up {rate} meters every minute.")
    story.div(rest, rate, f"The last {rest} meters take [=] minutes.", f"{ann} needs [=] minutes for that.")
    story.ask(
        f"How many minutes does {ann} need up to the top?",
        f"After how many minutes is {ann} at the top?",
        unit="minutes",
    )
