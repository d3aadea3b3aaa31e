"""Scenes of prices, bills and budgets."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import Noun, Person, nouns, person
from conv_dlm.word_problems.scenes.money import divisor, grow, parts
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

WARES = nouns("coat, jacket, dress/dresses, bag, lamp, chair, blanket, sweater, backpack, clock, mirror, rug")
DISHES = nouns(
    "pizza, burger, salad, bowl of soup/bowls of soup, plate of pasta/plates of pasta, pancake, sandwich/sandwiches, "
    "omelette, glass of juice/glasses of juice, cup of tea/cups of tea"
)
SHARED = ("bottle of water", "basket of bread", "bowl of olives", "cheese plate", "bowl of chips", "jug of lemonade")
FAVOURS = nouns(
    "paper hat, balloon, party bag, slice of cake/slices of cake, sandwich/sandwiches, mask, whistle, muffin"
)


def _price(story: Story, ann: Person, thing: Noun, several: bool, step: int, top: int) -> int:
    """The price of a good without a discount; of several pieces of it, with 1 operation."""
    draw = story.draw
    if not several:
        price = draw.number(20, top, step)
        story.say(
            f"{ann.He} chooses {thing.a} with a price tag of {price} dollars.",
            f"{ann.He} takes {thing.a} that is marked with {price} dollars.",
            f"{ann.He} finds {thing.a} whose price tag says {price} dollars.",
        )
        return price
    n, price = draw.number(2, 4), draw.number(10, top // 2, 10)
    story.say(
        f"{ann.He} chooses {n} {thing} with a price tag of {price} dollars each.",
        f"{ann.He} takes {n} {thing} that are marked with {price} dollars each.",
        f"{ann.He} finds {n} {thing} whose price tags say {price} dollars each.",
    )
    return story.mul(
        n, price, f"By the price tags, the {n} {thing} cost [=] dollars.", f"The {thing} are marked with [=] dollars."
    )


def _discount(story: Story, price: int, name: str, percent: int, by: int) -> int:
    """How much is taken off: 1 operation."""
    share = "half of the price" if by == 2 and story.draw.chance(0.5) else f"{percent} % of the price"
    story.say(
        f"For the {name}, {share} is taken off at the cash desk.",
        f"On the {name}, there is a discount of {share}.",
        f"A sign says that {share} is taken off for the {name}.",
    )
    return story.div(
        price, by, f"For the {name}, {share} is [=] dollars.", f"The discount on the {name} is [=] dollars."
    )


@scene(levels=(1, 12))
def discounts(story: Story, level: int) -> None:
    """Goods at full price or with a discount in percent, up to 4 operations each with the sum; then the change."""
    draw = story.draw
    ann, rates = person(draw), ((10, 10), (20, 5), (25, 4), (50, 2))
    story.say(f"{ann} is shopping in a big store.", f"{ann} goes to a sale.", f"There is a sale, and {ann} goes there.")
    if level == 1:
        thing, (percent, by) = draw.pick(*WARES), draw.pick(*rates)
        price = _price(story, ann, thing, False, 20 if by == 4 else 10, 100)
        _discount(story, price, thing.one, percent, by)
        story.ask(
            f"How many dollars does {ann} save?",
            f"How many dollars cheaper is the {thing.one}?",
            f"By how many dollars is the {thing.one} reduced?",
            unit="dollars",
        )
        return
    change = level > 2 and draw.chance(0.5)
    sizes = parts(draw, level + 1 - change, 1, 2, 3, 3, 4)
    if max(sizes) < 3:
        raise RejectedDrawError("no discount at all")
    goods, total = draw.sample(WARES, len(sizes)), None
    for size, thing in zip(sizes, goods, strict=True):
        percent, by = draw.pick(*rates)
        name = str(thing) if size in (2, 4) else thing.one
        price = _price(story, ann, thing, size in (2, 4), 20 if by == 4 else 10, 80 if len(sizes) < 3 else 40)
        if size > 2:
            off = _discount(story, price, name, percent, by)
            price = story.sub(
                price,
                off,
                f"So {ann} pays [=] dollars for the {name}.",
                f"With the discount, the {name} come to [=] dollars."
                if size == 4
                else f"With the discount, the {name} costs [=] dollars.",
            )
        total = grow(
            story,
            total,
            price,
            f"Together with the {name}, it is [=] dollars.",
            f"With the {name}, the bill is [=] dollars.",
        )
    story.aside(
        f"The store opens at {draw.number(7, 10)} in the morning.",
        f"The sale lasts {draw.number(3, 9)} days.",
        f"The store has {draw.number(2, 5)} floors.",
    )
    assert total is not None
    if not change:
        story.ask(
            f"How many dollars does {ann} pay?",
            f"How much does {ann} spend in all, in dollars?",
            f"How many dollars does {ann} need at the cash desk?",
            unit="dollars",
        )
        return
    paid = draw.number(total // 10 * 10 + 10, total // 10 * 10 + 40, 10)
    story.say(
        f"{ann.He} has {paid} dollars with {ann.him}.",
        f"{ann.He} has brought {paid} dollars.",
        f"Before paying, {ann.he} has {paid} dollars.",
    )
    story.sub(paid, total, f"After paying, {ann} has [=] dollars left.", f"{ann} keeps [=] dollars.")
    story.ask(
        f"How many dollars does {ann} have left after paying?",
        f"How much money does {ann} have afterwards, in dollars?",
        f"How many dollars are left when {ann} has paid?",
        unit="dollars",
    )


@scene(levels=(1, 12))
def restaurant(story: Story, level: int) -> None:
    """A bill for dishes of 2 operations each, a tip, and the share of each friend."""
    draw = story.draw
    _ann, friends = person(draw), draw.number(3, 6)
    place = draw.pick("in a restaurant", "in a cafe", "at a snack bar", "in a garden restaurant")
    story.say(
        f"{friends} friends ate {place}.",
        f"{friends} friends had lunch {place}.",
        f"{friends} friends met for a meal {place}.",
    )
    bill = None
    if level < 3:
        bill = friends * draw.number(6, 12) if level == 1 else draw.number(15, 60)
        story.say(
            f"The bill was {bill} dollars.",
            f"Everything together cost {bill} dollars.",
            f"They had a bill of {bill} dollars.",
        )
    dishes = draw.sample(DISHES, (level - 1) // 2) if level > 2 else []
    singles = draw.sample(SHARED, 1) if level > 2 and level % 2 == 0 else []
    for dish in dishes:
        n, price = draw.number(2, friends), draw.number(3, 10 if level < 7 else 7)
        story.say(
            f"They ordered {n} {dish} at {price} dollars each.",
            f"They had {n} {dish}, and each {dish.one} cost {price} dollars.",
            f"They paid {price} dollars apiece for {n} {dish}.",
        )
        cost = story.mul(n, price, f"The {n} {dish} cost [=] dollars.", f"For the {dish}, the price was [=] dollars.")
        bill = grow(story, bill, cost, f"With the {dish}, the bill was [=] dollars.", "Together, that was [=] dollars.")
    for extra in singles:
        price = draw.number(3, 9)
        story.say(
            f"They shared a {extra} for {price} dollars.",
            f"A {extra} in the middle of the table cost {price} dollars.",
            f"For all of them, there was a {extra} for {price} dollars.",
        )
        assert bill is not None
        bill = story.add(
            bill, price, f"With the {extra}, it was [=] dollars.", f"The {extra} brought the bill to [=] dollars."
        )
    assert bill is not None
    if level > 1:
        tip = (-bill) % friends + (friends if bill > 40 and draw.chance(0.5) else 0)
        tip = tip if tip > 1 else tip + friends
        story.say(
            f"They gave the waiter a tip of {tip} dollars.",
            f"They added {tip} dollars as a tip.",
            f"On top of the bill, the waiter got {tip} dollars from them.",
        )
        bill = story.add(bill, tip, "With the tip, they paid [=] dollars.", "Bill and tip were [=] dollars.")
    story.aside(
        f"The place had {draw.number(8, 20)} tables.",
        f"They had to wait for {draw.number(10, 30)} minutes.",
        f"The kitchen closed at {draw.number(8, 11)} in the evening.",
    )
    story.say(
        "They shared the costs equally.",
        "Everybody paid the same amount.",
        "They split what they paid into equal parts.",
    )
    story.div(
        bill, friends, "Each friend paid [=] dollars.", f"Shared by {friends} friends, that was [=] dollars each."
    )
    story.ask(
        "How many dollars did each friend pay?",
        "How much did each of them pay, in dollars?",
        "What was the share of each friend, in dollars?",
        unit="dollars",
    )


@scene(levels=(2, 12))
def party_budget(story: Story, level: int) -> None:
    """What a party costs is taken from a budget, 1 operation for a sum or 2 for a thing for each guest."""
    draw = story.draw
    ann, guests = person(draw), draw.number(4, 9)
    last = level > 3 and draw.chance(0.5)
    groups = level > 2 and draw.chance(0.5)
    sizes = parts(draw, level - last - groups, 1, 2, 2, 2)
    girls = draw.number(2, guests - 2) if groups else 0
    favours, sums = (
        draw.sample(FAVOURS, len(sizes)),
        draw.sample(("garland", "music", "decoration", "fruit", "room", "clown"), 6),
    )
    if 2 not in sizes or sizes.count(1) > 4:
        raise RejectedDrawError("nothing for the guests, or too much else")
    prices = [draw.number(2, 4) if size == 2 else draw.number(5, 25) for size in sizes]
    costs = sum(price * (guests if size == 2 else 1) for size, price in zip(sizes, prices, strict=True))
    left = draw.number(costs // 10 * 10 + 10, costs // 10 * 10 + 40, 5)
    story.say(
        f"{ann} has {left} dollars for a party.",
        f"{ann} plans a party with a budget of {left} dollars.",
        f"For {ann.his} party, {ann} may spend {left} dollars.",
    )
    if groups:
        story.say(
            f"{ann.He} invites {girls} girls and {guests - girls} boys, and all of them come.",
            f"The guests are {girls} girls and {guests - girls} boys.",
            f"As guests, {girls} girls and {guests - girls} boys will come.",
        )
        story.add(girls, guests - girls, "There are [=] guests.", f"{ann} has [=] guests.")
    else:
        story.say(
            f"{ann.He} invites {guests} guests.", f"{ann.He} has {guests} guests.", f"There will be {guests} guests."
        )
    for size, price, thing in zip(sizes, prices, favours, strict=True):
        if size == 2:
            story.say(
                f"Each guest gets {thing.a} for {price} dollars.",
                f"For each guest, {ann.he} buys {thing.a} at {price} dollars.",
                f"{thing.a.capitalize()} at {price} dollars is ordered for each guest.",
            )
            price = story.mul(
                guests,
                price,
                f"The {thing} for {guests} guests cost [=] dollars.",
                f"{ann} pays [=] dollars for the {thing}.",
            )
            left = story.sub(left, price, f"After the {thing}, [=] dollars are left.", f"{ann} still has [=] dollars.")
        else:
            what = sums.pop()
            story.say(
                f"The {what} costs {price} dollars.",
                f"{ann.He} pays {price} dollars for the {what}.",
                f"For the {what}, {ann.he} needs {price} dollars.",
            )
            left = story.sub(
                left,
                price,
                f"After paying for the {what}, {ann} has [=] dollars.",
                f"Without the money for the {what}, [=] dollars remain.",
            )
    story.aside(
        f"The party begins at {draw.number(2, 6)} in the afternoon.",
        f"{ann} is going to be {draw.number(8, 14)} years old.",
        f"{ann} lives at number {draw.number(2, 90)} of the street.",
    )
    if last:
        price = divisor(draw, left, 2, 6)
        story.say(
            f"For the rest of the money, {ann.he} buys lanterns at {price} dollars each.",
            f"{ann.He} spends all that is left on lanterns, which cost {price} dollars each.",
            f"With the money that is left, {ann.he} gets lanterns for {price} dollars apiece.",
        )
        story.div(left, price, "That is enough for [=] lanterns.", f"{ann} gets [=] lanterns.")
        story.ask(
            f"How many lanterns does {ann} buy?",
            f"How many lanterns can {ann} hang up?",
            f"How many lanterns does {ann} get?",
            f"What number of lanterns can {ann} pay for?",
            unit="lanterns",
        )
        return
    story.ask(
        f"How many dollars does {ann} have left?",
        "How much of the budget remains, in dollars?",
        f"How many dollars has {ann} not spent in the end?",
        unit="dollars",
    )
