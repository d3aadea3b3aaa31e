"""Scenes of selling."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import Noun, Person, nouns, people, person
from conv_dlm.word_problems.scenes.money import divisor, grow, parts
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

HANDMADE = nouns("muffin, bracelet, card, candle, bookmark, badge, cookie, plant, paper star, key ring, calendar")
PRODUCE = nouns(
    "melon, pumpkin, cabbage, loaf/loaves, pot of honey/pots of honey, bunch of flowers/bunches of flowers, "
    "basket of berries/baskets of berries, jar of jam/jars of jam, cheese, pie"
)
LOTS = ("clock", "painting", "vase", "chair", "mirror", "radio", "carpet", "lamp", "teapot", "camera")


def _stand(story: Story, group: str, who: str, thing: Noun, size: int, low: bool) -> int:
    """What a group takes in: a gift (no operation), things sold (1), or all but some of them sold (2)."""
    draw = story.draw
    subject = who[0].upper() + who[1:]
    n, price = draw.number(4, 8 if low else 12), draw.number(2, 3 if low else 5)
    if size == 0:
        gift, giver = draw.number(5, 25), draw.pick("A baker", "A bank", "A teacher", "A farmer", "A shop", "A doctor")
        story.say(
            f"{giver} gave {who} {gift} dollars.",
            f"{subject} got {gift} dollars from {giver.lower()}.",
            f"{giver} donated {gift} dollars to {who}.",
        )
        return gift
    if size == 1:
        story.say(
            f"{subject} sold {n} {thing} at {price} dollars each.",
            f"{subject} sold {n} {thing}, each for {price} dollars.",
            f"{n} {thing} were sold by {who} for {price} dollars apiece.",
        )
    else:
        left = draw.number(2, 9)
        story.say(
            f"{subject} made {n + left} {thing} and sold all but {left} of them at {price} dollars each.",
            f"{subject} had {n + left} {thing}; {left} were left over, and the others sold at {price} dollars each.",
            f"Of the {n + left} {thing} of {who}, {left} were not sold; the others went for {price} dollars apiece.",
        )
        n = story.sub(n + left, left, f"{group} sold [=] {thing}.", f"Of the {thing}, [=] were sold.")
    return story.mul(
        n, price, f"The {thing} brought {group} [=] dollars.", f"For the {n} {thing}, {group} got [=] dollars."
    )


def _takings(story: Story, group: str, sizes: list[int], things: list[Noun]) -> int:
    """What a group has after its stands and gifts."""
    total = None
    for i, size in enumerate(sizes):
        thing = things.pop()
        money = _stand(
            story, group, group if i == 0 else ("this class", "the same class")[i % 2], thing, size - 1, len(sizes) > 2
        )
        source = f"the {thing}" if size > 1 else "the gift"
        total = grow(
            story, total, money, f"With {source}, {group} had [=] dollars.", f"That made [=] dollars for {group}."
        )
    assert total is not None
    return total


@scene(levels=(1, 12))
def school_fair(story: Story, level: int) -> None:
    """Classes raise money at stands of 2 operations or so; then what is missing, shared, or more than the other's."""
    draw = story.draw
    one, other = (f"{ann}'s class" for ann in people(draw, 2))
    goods = draw.shuffled(HANDMADE)
    story.say(
        "There was a fair at school.",
        "A school held a fair to raise money.",
        "The classes of a school raised money at a fair.",
    )
    two = level > 6 or (level > 2 and draw.chance(0.5))
    end = draw.number(1, 2 if level > 4 else 1) if two else draw.number(0, min(2, level - 1))
    sizes = parts(draw, level - end + (2 if two else 1), 1, 2, 2, 3)
    cut = draw.number(1, len(sizes) - 1) if two and len(sizes) > 1 else len(sizes)
    if (two and cut == len(sizes)) or sizes[0] == 1 or (two and sizes[cut] == 1) or sizes.count(1) > 2:
        raise RejectedDrawError("only a gift, or too many")
    total = _takings(story, one, sizes[:cut], goods)
    story.aside(
        f"The fair began at {draw.number(8, 11)} in the morning.",
        f"The school is {draw.number(20, 90)} years old.",
        f"The school has {draw.number(2, 5)} floors.",
    )
    if two:
        yours = _takings(story, other, sizes[cut:], goods)
        if end == 1 and draw.chance(0.6):
            (high, rich), (low, poor) = sorted(((total, one), (yours, other)), reverse=True)
            story.sub(
                high, low, f"{rich} raised [=] dollars more.", "The difference between the classes was [=] dollars."
            )
            story.ask(
                f"How many dollars more did {rich} raise than {poor}?",
                f"By how many dollars was {rich} ahead of {poor}?",
                f"How many dollars less than {rich} did {poor} raise?",
                unit="dollars",
            )
            return
        total = story.add(
            total, yours, "Together, the two classes raised [=] dollars.", "Both classes together had [=] dollars."
        )
        end -= 1
    whose = "the two classes" if two else one
    if end == 0:
        story.ask(
            f"How many dollars did {whose} raise together?" if two else f"How many dollars did {one} raise?",
            f"How much money did {whose} get in all, in dollars?",
            f"How many dollars did the fair bring {whose} altogether?",
            unit="dollars",
        )
        return
    if end == 2:
        costs = draw.number(3, 15)
        story.say(
            f"{one} used {costs} dollars of its money to pay for material.",
            f"Of its money, {one} had to spend {costs} dollars on material.",
            f"The material for the stand cost {one} {costs} dollars of this money.",
        )
        total = story.sub(
            total,
            costs,
            "Without the costs, [=] dollars remained.",
            f"After paying for the material, {one} had [=] dollars.",
        )
    if draw.chance(0.5):
        goal = draw.number(total // 10 * 10 + 10, total // 10 * 10 + 50, 10)
        small, large = ("a new football", "a box of paint", "a globe"), ("a trip", "a new swing", "a tent", "new books")
        aim = draw.pick(*(small if goal < 60 else large))
        story.say(
            f"The goal was {goal} dollars for {aim}.",
            f"For {aim}, {goal} dollars were needed.",
            f"The school needed {goal} dollars for {aim}.",
        )
        story.sub(goal, total, "So [=] dollars were still missing.", f"For {aim}, [=] more dollars were needed.")
        story.ask(
            "How many dollars were still missing?",
            f"How many more dollars were needed for {aim}?",
            f"How many dollars did {whose} still have to find for {aim}?",
            unit="dollars",
        )
        return
    k, money = divisor(draw, total, 2, 5), "the rest of the money" if end == 2 else "all the money"
    homes = draw.pick("animal homes", "hospitals", "libraries", "village schools")
    story.say(
        f"{money.capitalize()} was shared equally by {k} {homes}.",
        f"{money.capitalize()} was given to {k} {homes} in equal parts.",
        f"{k} {homes} got equal parts of {money}.",
    )
    story.div(total, k, f"Each of the {k} {homes} got [=] dollars.", "The share of each was [=] dollars.")
    story.ask(
        f"How many dollars did each of the {homes} get?",
        f"How much money went to each of the {homes}, in dollars?",
        f"How large was the share of each of the {homes}, in dollars?",
        unit="dollars",
    )


def _sale(story: Story, ann: Person, thing: Noun, size: int, low: bool) -> int:
    """The profit on a good: things of one's own (1 operation), bought ones by the piece (2) or in all (3, 4)."""
    draw = story.draw
    n, cost, margin = draw.number(5, 8 if low else 12), draw.number(2, 4), draw.number(2, 3 if low else 5)
    price = cost + margin
    if size == 1:
        story.say(
            f"{ann.He} made {n} {thing} at no cost and sold them for {margin} dollars each.",
            f"{ann.He} got {n} {thing} from a friend for nothing and sold them at {margin} dollars each.",
            f"{n} {thing}, which had cost {ann.him} nothing, were sold for {margin} dollars apiece.",
        )
        return story.mul(
            n, margin, f"The {thing} brought {ann.him} [=] dollars.", f"The profit on the {thing} was [=] dollars."
        )
    bad = draw.number(2, 3) if size == 4 else 0
    story.say(
        f"{ann.He} bought {n} {thing} for {cost} dollars each.",
        f"{ann.He} had paid {cost} dollars each for {n} {thing}.",
        f"{n} {thing} had cost {ann.him} {cost} dollars apiece.",
    )
    if bad:
        story.say(
            f"{bad} of them could not be sold, and the others were sold for {price} dollars each.",
            f"Nobody wanted {bad} of them; {ann.he} sold the rest at {price} dollars each.",
            f"All but {bad} of them were sold for {price} dollars apiece.",
        )
    else:
        story.say(
            f"{ann.He} sold all of them for {price} dollars each.",
            f"All of them were sold at {price} dollars each.",
            f"Each of them went for {price} dollars.",
        )
    if size == 2:
        gain = story.sub(
            price,
            cost,
            f"On each {thing.one}, the profit was [=] dollars.",
            f"{ann} earned [=] dollars on each {thing.one}.",
        )
        return story.mul(
            n, gain, f"The {n} {thing} brought a profit of [=] dollars.", f"On {n} {thing}, that was [=] dollars."
        )
    spent = story.mul(
        n, cost, f"{ann} paid [=] dollars for the {thing}.", f"The {n} {thing} cost {ann.him} [=] dollars."
    )
    if bad:
        n = story.sub(n, bad, f"{ann.He} sold [=] {thing}.", f"Of the {thing}, [=] were sold.")
    got = story.mul(
        n,
        price,
        f"{ann} sold the {thing} for [=] dollars.",
        f"For the {n} {thing} that were sold, {ann.he} got [=] dollars.",
    )
    return story.sub(
        got, spent, f"The profit on the {thing} was [=] dollars.", f"So the {thing} brought {ann.him} [=] dollars."
    )


@scene(levels=(1, 12))
def market_stall(story: Story, level: int) -> None:
    """The profit of a stall on goods of 2 to 5 operations with the sum; the rent of the stall, and equal parts."""
    draw = story.draw
    ann, place = (
        person(draw),
        draw.pick("at a market", "at a flea market", "in front of the house", "at a village market"),
    )
    end = draw.number(0, min(2, level - 1))
    sizes = parts(draw, level + 1 - end, 2, 3, 3, 4, 5)
    goods, total = draw.sample(PRODUCE, len(sizes)), None
    story.say(
        f"{ann} had a stall {place}.",
        f"{ann} ran a stall {place}.",
        f"There was a stall {place}, which belonged to {ann}.",
    )
    for size, thing in zip(sizes, goods, strict=True):
        profit = _sale(story, ann, thing, size - 1, len(sizes) > 2)
        total = grow(
            story, total, profit, f"With the {thing}, the profit was [=] dollars.", "That made [=] dollars together."
        )
    assert total is not None
    story.aside(
        f"The stall was open for {draw.number(4, 9)} hours.",
        f"{ann} got up at {draw.number(4, 6)} in the morning.",
        f"It was the stall with the number {draw.number(2, 40)}.",
    )
    if end:
        rent = draw.number(3, min(20, max(3, total - 2)))
        story.say(
            f"The rent of the stall was {rent} dollars.",
            f"{ann} had to pay {rent} dollars of rent for the stall.",
            f"The stall itself cost {ann} {rent} dollars.",
        )
        total = story.sub(
            total, rent, "Without the rent, [=] dollars remained.", f"After paying the rent, {ann} had [=] dollars."
        )
    if end == 2:
        k = divisor(draw, total, 2, 4)
        story.say(
            f"What remained was shared equally by {k} people who had worked there.",
            f"{k} people had worked there, and they shared what remained equally.",
            f"The money that remained went to {k} helpers in equal parts.",
        )
        story.div(total, k, f"Each of the {k} people got [=] dollars.", "The share of each was [=] dollars.")
        story.ask(
            "How many dollars did each of them get?",
            "How much was the share of each, in dollars?",
            f"How many dollars did each of the {k} receive?",
            unit="dollars",
        )
        return
    story.ask(
        f"How many dollars of profit did {ann} make?",
        f"How large was {ann}'s profit, in dollars?",
        f"How many dollars did {ann} earn with the stall?",
        unit="dollars",
    )


@scene(levels=(2, 11), held_out=True)
def auction(story: Story, level: int) -> None:
    """Bids for old things rise and double; what the last bids are together, and what is left after the fee."""
    draw = story.draw
    fee = level > 2 and draw.chance(0.5)
    sizes = parts(draw, level + 1 - fee, 2, 3, 4)
    if len(sizes) > 4:
        raise RejectedDrawError("too many lots")
    seller, *bidders = people(draw, 3)
    lots = draw.sample(LOTS, len(sizes))
    what = "old things" if len(lots) > 1 else f"an old {lots[0]}"
    story.say(
        f"{seller} sold {what} at an auction.",
        f"At an auction, {seller} offered {what} for sale.",
        f"{seller} took {what} to an auction to sell.",
    )
    total = None
    for size, thing in zip(sizes, lots, strict=True):
        bid = draw.number(4, 20 if len(sizes) < 3 else 12)
        story.say(
            f"The first bid for the {thing} was {bid} dollars.",
            f"For the {thing}, somebody offered {bid} dollars at first.",
            f"The bids for the {thing} started at {bid} dollars.",
        )
        doubled = False
        for i in range(size - 1):
            ann, more = bidders[i % 2], draw.number(2, 12)
            if not doubled and draw.chance(0.25):
                doubled = True
                story.say(
                    f"{ann} doubled this bid.", f"{ann} offered twice as much.", f"Then {ann} bid twice this sum."
                )
                bid = story.mul(
                    2, bid, f"{ann} offered [=] dollars for the {thing}.", f"The bid of {ann} was [=] dollars."
                )
            else:
                story.say(
                    f"{ann} offered {more} dollars more than that.",
                    f"{ann} went {more} dollars higher.",
                    f"Then {ann} bid {more} dollars more.",
                )
                bid = story.add(
                    bid, more, f"{ann} offered [=] dollars for the {thing}.", f"The bid of {ann} was [=] dollars."
                )
        total = grow(
            story,
            total,
            bid,
            f"With the {thing}, {seller} got [=] dollars.",
            f"Together with the {thing}, that was [=] dollars.",
        )
    assert total is not None
    sold = "each thing" if len(lots) > 1 else f"the {lots[0]}"
    story.say(
        f"{sold.capitalize()} went to the last bidder.",
        f"The last bidder got {sold}.",
        f"The last bidder bought {sold}.",
    )
    if not fee:
        story.ask(
            f"How many dollars did {seller} get?",
            f"How much did the auction bring {seller}, in dollars?",
            f"How many dollars did the buyers pay {seller} in all?"
            if len(lots) > 1
            else f"How many dollars did {seller} receive?",
            unit="dollars",
        )
        return
    cost = draw.number(3, 15)
    story.say(
        f"The auction house kept {cost} dollars.",
        f"The auction house took {cost} dollars for its work.",
        f"Of the money, {cost} dollars went to the auction house.",
    )
    story.sub(total, cost, f"{seller} was left with [=] dollars.", f"After the fee, {seller} had [=] dollars.")
    story.ask(
        f"How many dollars were left for {seller}?",
        f"How much money did {seller} take home, in dollars?",
        f"How many dollars did {seller} get after this fee?",
        unit="dollars",
    )
