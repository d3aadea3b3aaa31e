"""Scenes of friends: their collections, and parties."""

import itertools
from collections.abc import Sequence

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import Noun, Person, listing, nouns, people, person
from conv_dlm.word_problems.scenes.plans import plans
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(2, 12))
def card_trading(story: Story, level: int) -> None:
    """Collections told one by the other; then what friends trade with the last of them, or the sum and an album."""
    draw = story.draw
    trading = [plan for plan in plans(level, (1, 2, 3), tuple(range(1, 8))) if plan[1] >= plan[0]]
    pooling = [plan for plan in plans(level, (1, 2, 3, 4), (1, 2, 3, 4), (0, 2), (0, 1), (0, 1)) if plan[0] == plan[1]]
    plan = draw.pick(*draw.pick(*[kind for kind in (trading, pooling) if kind]))
    cards = draw.pick(*nouns("card, sticker, stamp, coin, postcard"))
    friends = people(draw, plan[0] + 1)
    counts = [draw.number(10, 40)]
    story.say(
        f"{listing(friends)} collect {cards}. {friends[0]} has {counts[0]} {cards}.",
        f"{friends[0]} has {counts[0]} {cards}.",
        f"{listing(friends)} are friends who collect {cards}. There are {counts[0]} in {friends[0]}'s collection.",
    )
    for ben, ann in itertools.pairwise(friends):
        counts.append(_compared(story, ben, ann, counts[-1], cards))
    story.aside(
        f"They have been friends for {draw.number(2, 6)} years.",
        f"They meet at {draw.number(2, 5)} in the afternoon.",
        f"They are in a class with {draw.number(18, 28)} pupils.",
    )
    if plan in trading:
        _trades(story, friends[-1], friends[:-1], counts[-1], cards, level)
    else:
        _pooled(story, friends, counts, cards, plan[2:])


def _compared(story: Story, ann: Person, ben: Person, now: int, cards: Noun) -> int:
    """How many `ben` has, told by how many `ann` has."""
    draw = story.draw
    if now < 8:
        raise RejectedDrawError("too few to trade")
    n = draw.number(2, 12)
    kind = draw.pick("more", "fewer", "half" if now % 2 == 0 and now > 10 else "more", "twice" if now < 25 else "fewer")
    if kind == "more":
        story.say(
            f"{ben} has {n} more {cards} than {ann}.",
            f"{ben} owns {n} {cards} more than {ann}.",
            f"Compared with {ann}, {ben} has {n} {cards} more.",
        )
        return story.add(now, n, f"{ben} has [=] {cards}.", f"That makes [=] {cards} for {ben}.")
    if kind == "fewer":
        story.say(
            f"{ben} has {n} fewer {cards} than {ann}.",
            f"{ben} owns {n} {cards} fewer than {ann}.",
            f"Compared with {ann}, {ben} has {n} {cards} fewer.",
        )
        return story.sub(now, n, f"{ben} has [=] {cards}.", f"That makes [=] {cards} for {ben}.")
    story.say(
        f"{ben} has {kind} as many {cards} as {ann}.",
        f"{ben} owns {kind} as many {cards} as {ann} does.",
        f"Compared with {ann}, {ben} has {kind} as many {cards}.",
    )
    if kind == "half":
        return story.div(now, 2, f"{ben} has half as many, [=] {cards}.", f"{ben} has half of that, [=] {cards}.")
    return story.mul(now, 2, f"{ben} has twice as many, [=] {cards}.", f"{ben} has double that, [=] {cards}.")


def _trades(story: Story, ann: Person, others: Sequence[Person], now: int, cards: Noun, level: int) -> None:
    draw = story.draw
    doubles, singles = (
        draw.shuffled(("swap", "packs", "swap", "packs")),
        draw.shuffled(("gives", "gets", "gives", "wins")),
    )
    ben = draw.pick(*others)
    while (left := level - len(story.steps)) > 0:
        kind = singles.pop() if left == 1 or (len(singles) > 1 and draw.chance(0.3)) else doubles.pop()
        ben = draw.pick(*[other for other in others if other is not ben] or others)
        n, m = draw.number(2, max(2, min(12, now // 2))), draw.number(2, 8)
        if kind == "swap":
            story.say(
                f"{ann} trades {n} of {ann.his} {cards} for {m} of {ben}'s.",
                f"{ann} gives {n} {cards} to {ben} and gets {m} others in return.",
                f"{ben} gets {n} {cards} from {ann}, who receives {m} of {ben}'s for them.",
            )
            now = story.sub(
                now,
                n,
                f"Without the {n} for {ben}, {ann} has [=] {cards}.",
                f"{ann} gives {n} to {ben} and keeps [=] {cards}.",
            )
            now = story.add(
                now,
                m,
                f"With the {m} from {ben}, {ann} has [=] {cards}.",
                f"For these, {ann} gets {m}, which makes [=] {cards}.",
            )
        elif kind == "packs":
            n, m = draw.number(2, 4), draw.number(3, 6)
            story.say(
                f"Then {ann} buys {n} packs of {m} {cards}.",
                f"In a shop, {ann} buys {n} packs with {m} {cards} each.",
                f"{ann} gets {n} packs as a present, each with {m} {cards} in it.",
            )
            new = story.mul(n, m, f"In the {n} packs, there are [=] {cards}.", f"The {n} packs hold [=] {cards}.")
            now = story.add(now, new, f"With these, {ann} has [=] {cards}.", f"Then {ann} owns [=] {cards}.")
        elif kind == "gives":
            story.say(
                f"{ann} gives {n} {cards} to {ben}.",
                f"{ben} gets {n} {cards} from {ann}.",
                f"{n} of {ann}'s {cards} go to {ben}.",
            )
            now = story.sub(
                now,
                n,
                f"{ann} gives away {n} and keeps [=] {cards}.",
                f"Without those for {ben}, {ann} has [=] {cards}.",
            )
        elif kind == "gets":
            story.say(
                f"{ben} gives {m} {cards} to {ann}.",
                f"{ann} gets {m} {cards} from {ben}.",
                f"{m} of {ben}'s {cards} go to {ann}.",
            )
            now = story.add(
                now, m, f"With those from {ben}, {ann} has [=] {cards}.", f"{ann} gets {m} and then has [=] {cards}."
            )
        else:
            story.say(
                f"{ann} wins {m} {cards} in a game.",
                f"In a game with a classmate, {ann} wins {m} {cards}.",
                f"{ann} plays a game and wins {m} {cards}.",
            )
            now = story.add(
                now, m, f"After the game, {ann} has [=] {cards}.", f"With those from the game, {ann} has [=] {cards}."
            )
    story.ask(
        f"How many {cards} does {ann} have now?",
        f"How many {cards} does {ann} have in the end?",
        f"How many {cards} are in {ann}'s collection then?",
        unit=cards,
    )


def _pooled(story: Story, friends: Sequence[Person], counts: Sequence[int], cards: Noun, plan: Sequence[int]) -> None:
    draw = story.draw
    packs, away, pages = plan
    if any(plan):
        story.say(
            f"They put all their {cards} together.",
            "They join their collections into one.",
            f"They make one large collection of all these {cards}.",
        )
    now = counts[0]
    for i, (ann, count) in enumerate(zip(friends[1:], counts[1:], strict=True)):
        first = f"{friends[0]} and {ann} have [=] {cards} together."
        now = story.add(
            now,
            count,
            f"Together with {ann}'s, there are [=] {cards}." if i else first,
            f"With those of {ann}, it is [=] {cards}.",
        )
    if packs:
        n, m = draw.number(2, 4), draw.number(3, 8)
        story.say(
            f"Then they buy {n} packs of {m} {cards}.",
            f"They buy {n} more packs with {m} {cards} each.",
            f"They add {n} new packs, and each has {m} {cards} in it.",
        )
        new = story.mul(n, m, f"In the {n} packs, there are [=] {cards}.", f"The {n} packs hold [=] {cards}.")
        now = story.add(now, new, f"With the new ones, they have [=] {cards}.", f"Then they own [=] {cards}.")
    size = draw.pick(*[k for k in range(4, 13) if (away or now % k == 0) and (k < 6 or now < 12 * k)] or [5])
    if away:
        n = 2 + (now - 2) % size if pages else draw.number(2, 20)
        story.say(
            f"They give {n} of them to a child who has none.",
            f"A child who has none gets {n} of them.",
            f"{n} of them are for a child who has none.",
        )
        now = story.sub(now, n, f"They keep [=] {cards}.", f"After the gift, [=] {cards} are left.")
    if pages:
        story.say(
            f"They fill an album with their {cards}, {size} on each page.",
            f"They put their {cards} into an album with {size} on every page.",
            f"All the {cards} they now have go into an album, where each page takes {size}.",
        )
        story.div(now, size, "They fill [=] pages.", f"The {cards} take up [=] pages.")
        story.ask(
            "How many pages do they fill?",
            "How many pages of the album are full?",
            "How many pages do they need?",
            unit="pages",
        )
        return
    story.ask(
        f"How many {cards} do they have now?" if any(plan) else f"How many {cards} do they have together?",
        f"How many {cards} do they have in all now?",
        f"What number of {cards} do the friends have together in the end?"
        if any(plan)
        else f"What number of {cards} do they have in total?",
        unit=cards,
    )


@scene(levels=(2, 12))
def party_bags(story: Story, level: int) -> None:
    """Bags for the guests of a party: what goes in, what has to be bought, and what it costs."""
    draw = story.draw
    guests, stock, packs, second, extras = draw.pick(
        *[
            plan
            for plan in plans(level - 1, (0, 1, 2), (0, 1), (0, 1, 2), (0, 4, 5), (0, 1, 2))
            if plan[2] == 2 or not plan[3] + plan[4]
        ]
    )
    ann = person(draw)
    parts = [draw.number(4 - guests, 12 - 4 * guests) for _ in range(guests + 1)]
    groups = draw.sample(("friends", "cousins", "neighbors", "classmates"), guests + 1)
    if not guests:
        groups = ["children"]
    invited = listing([f"{n} {group}" for n, group in zip(parts, groups, strict=True)])
    story.say(
        f"{ann} invites {invited} to a party and makes a party bag for each guest.",
        f"{ann} makes one party bag for each of {ann.his} guests. The guests are {invited}.",
        f"{ann} gives a party for {invited} and fills one party bag for each guest.",
    )
    bags = parts[0]
    for n, group in zip(parts[1:], groups[1:], strict=True):
        bags = story.add(bags, n, f"With the {group}, there are [=] guests.", f"{ann} needs bags for [=] guests.")
    story.aside(
        f"The party begins at {draw.number(2, 4)} in the afternoon.",
        f"{ann} turns {draw.number(7, 12)} on that day.",
        f"The party will last {draw.number(2, 4)} hours.",
    )
    goods = draw.sample(nouns("balloon, sticker, cookie, pencil, whistle, bouncy ball, bead, chocolate"), 2)
    cost = _filling(story, ann, bags, goods[0], stock, packs)
    if second:
        more = _filling(story, ann, bags, goods[1], second - 4, 2)
        cost = story.add(cost, more, "Both cost [=] dollars together.", f"With the {goods[1]}, that is [=] dollars.")
    if extras:
        cake = draw.number(8, 25)
        story.say(
            f"{ann.He} also buys a cake for {cake} dollars.",
            f"A cake costs {ann.him} {cake} dollars more.",
            f"There is also a cake, for which {ann.he} pays {cake} dollars.",
        )
        cost = story.add(
            cost, cake, "With the cake, it is [=] dollars.", f"Together with the cake, {ann} pays [=] dollars."
        )
    if extras == 2:
        money = cost // 10 * 10 + draw.number(10, 40, 10)
        story.say(
            f"{ann} has {money} dollars for all this.",
            f"For everything, {ann} has {money} dollars.",
            f"{ann.He} has saved {money} dollars for it.",
        )
        story.sub(money, cost, f"{ann} has [=] dollars left.", "That leaves [=] dollars.")
        story.ask(
            f"How many dollars does {ann} have left?",
            "How many dollars are left?",
            f"How many dollars does {ann} still have afterwards?",
            unit="dollars",
        )
    elif packs == 2:
        story.ask(
            f"How many dollars does {ann} spend?",
            f"How much does {ann} pay, in dollars?",
            f"What does {ann} have to pay in all, in dollars?",
            unit="dollars",
        )
    elif packs:
        story.ask(
            f"How many packs does {ann} buy?",
            f"How many packs does {ann} have to buy?",
            f"What number of packs must {ann} buy?",
            unit="packs",
        )
    else:
        things = f"more {goods[0]}" if stock else str(goods[0])
        story.ask(
            f"How many {things} does {ann} need?",
            f"How many {things} must {ann} get?",
            f"How many {things} does {ann} have to get?",
            unit=goods[0],
        )


def _filling(story: Story, ann: Person, bags: int, things: Noun, stock: int, packs: int) -> int:
    """What goes into each bag: how many are needed, or the packs of them, or what they cost."""
    draw = story.draw
    each = draw.number(2, 5)
    story.say(
        f"Each bag gets {each} {things}.",
        f"Into every bag go {each} {things}.",
        f"{ann} puts {each} {things} into each bag.",
    )
    need = story.mul(bags, each, f"{ann} needs [=] {things}.", f"For {bags} bags, {ann.he} needs [=] {things}.")
    sizes = [k for k in range(4, 13) if (need > 2 * k + 2 if stock else need % k == 0 and need > k)]
    size = draw.pick(*sizes or [2])
    if stock:
        have = need - size * draw.number(2, max(2, (need - 2) // size)) if packs else draw.number(2, max(2, need - 2))
        story.say(
            f"{ann} has {have} {things} already.",
            f"There are already {have} {things} at home.",
            f"{ann.He} still has {have} {things} from last year.",
        )
        need = story.sub(need, have, f"{ann} has to buy [=] {things}.", f"[=] {things} are missing.")
    if packs:
        price = draw.number(2, 6)
        costs = (
            f", and a pack costs {price} dollars",
            f" at {price} dollars a pack",
            f", and the price of a pack is {price} dollars",
        )
        costs = costs if packs == 2 else ("", "", "")
        story.say(
            f"The {things} come in packs of {size}{costs[0]}.",
            f"The shop sells the {things} in packs of {size}{costs[1]}.",
            f"{things.many.capitalize()} are sold in packs of {size}{costs[2]}.",
        )
        need = story.div(need, size, f"{ann} buys [=] packs of {things}.", f"That takes [=] packs of {things}.")
        if packs == 2:
            need = story.mul(
                need, price, f"The {things} cost [=] dollars.", f"For the packs of {things}, {ann} pays [=] dollars."
            )
    return need
