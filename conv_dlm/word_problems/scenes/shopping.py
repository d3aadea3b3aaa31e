"""Scenes of buying and paying."""

from conv_dlm.word_problems.language import nouns, person
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

GOODS = nouns(
    "pen, notebook, eraser, ruler, folder, sticker, marble, balloon, candle, mug, plate, scarf/scarves, cap, shirt, "
    "toy car, puzzle, comic, poster, lamp, basket"
)


@scene(levels=(1, 12))
def shopping(story: Story, level: int) -> None:
    """Several goods at a price each, and their sum: 2k - 1 operations for k goods, and one for the change."""
    draw = story.draw
    change = level % 2 == 0
    kinds = (level if change else level + 1) // 2
    ann, goods = person(draw), draw.sample(GOODS, kinds)
    amounts = [draw.number(2, 9) for _ in goods]
    prices = [draw.number(2, 12 if kinds < 4 else 6) for _ in goods]
    story.say(f"{ann} is at the market.", f"{ann} goes shopping.", f"{ann} visits a shop in town.")
    for n, thing, price in zip(amounts, goods, prices, strict=True):
        story.say(
            f"{ann.He} buys {n} {thing} at {price} dollars each.",
            f"{ann.He} takes {n} {thing}, and each {thing.one} costs {price} dollars.",
            f"{ann.He} pays {price} dollars apiece for {n} {thing}.",
        )
    story.aside(
        f"The shop opens at {draw.number(7, 10)} in the morning.",
        f"There are {draw.number(3, 9)} people in the shop.",
        f"The shop has been there for {draw.number(10, 40)} years.",
    )
    costs = [
        story.mul(n, price, f"The {n} {thing} cost [=] dollars.", f"{ann} pays [=] dollars for the {thing}.")
        for n, thing, price in zip(amounts, goods, prices, strict=True)
    ]
    total = costs[0]
    for cost, thing in zip(costs[1:], goods[1:], strict=True):
        total = story.add(
            total, cost, f"With the {thing} that makes [=] dollars.", f"Together with the {thing}, it is [=] dollars."
        )
    if not change:
        story.ask(
            f"How many dollars does {ann} spend?",
            f"How much does {ann} pay, in dollars?",
            f"What is the price of everything that {ann} buys, in dollars?",
            unit="dollars",
        )
        return
    paid = draw.number(total // 10 * 10 + 10, total // 10 * 10 + 30, 10)
    story.say(
        f"{ann.He} pays with {paid} dollars.",
        f"{ann.He} gives the seller {paid} dollars.",
        f"{ann.He} hands over {paid} dollars.",
    )
    story.sub(paid, total, f"{ann} gets [=] dollars back.", "The change is [=] dollars.")
    story.ask(
        f"How many dollars does {ann} get back?",
        f"How much change does {ann} get, in dollars?",
        f"How many dollars are handed back to {ann}?",
        unit="dollars",
    )
