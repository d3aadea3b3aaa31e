"""Scenes of having, saving and owing money."""

from conv_dlm.word_problems.draw import Draw, RejectedDrawError
from conv_dlm.word_problems.language import Person, nouns, people, person
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

# What one saves for, with the prices that it may have.
WISHES = (
    ("book", 6, 25),
    ("kite", 6, 30),
    ("football", 10, 40),
    ("board game", 12, 45),
    ("backpack", 20, 70),
    ("skateboard", 30, 90),
    ("watch", 30, 110),
    ("tent", 45, 140),
    ("keyboard", 50, 150),
    ("guitar", 70, 200),
    ("camera", 80, 200),
    ("bicycle", 90, 200),
)
GIVERS = ["aunt", "uncle", "grandmother", "grandfather", "godmother", "godfather", "neighbour", "cousin"]
TRIFLES = nouns("comic, pen, sticker, marble, postcard, bracelet, candle, ball, key ring, apple, pencil, badge")
WINDFALLS = (
    "sells an old radio",
    "gets a birthday present",
    "wins a prize",
    "sells some books",
    "is paid for a job",
    "opens a money box",
)
# What a child spends money on, with what it may cost.
SPENDINGS = (
    ("a film", 5, 12),
    ("a bus ticket", 2, 5),
    ("some sweets", 2, 6),
    ("a haircut", 8, 20),
    ("a snack", 2, 8),
    ("a book", 4, 20),
    ("a T-shirt", 6, 20),
    ("a present", 5, 24),
)
CHORES = ("walks dogs", "mows lawns", "washes cars", "waters plants", "delivers newspapers", "rakes leaves")


def parts(draw: Draw, total: int, *sizes: int) -> list[int]:
    """Sizes that add up to `total`, at random: the numbers of operations of the parts of a story."""
    found: list[int] = []
    while rest := total - sum(found):
        fitting = [size for size in sizes if size <= rest]
        if not fitting:
            raise RejectedDrawError(f"{rest} operations are left over")
        found.append(draw.pick(*fitting))
    return found


def grow(story: Story, total: int | None, value: int, *wordings: str) -> int:
    """The total with one more value; with the first one, no operation: it is the total itself."""
    return value if total is None else story.add(total, value, *wordings)


def divisor(draw: Draw, value: int, low: int, high: int) -> int:
    """One of the divisors of `value` from `low` to `high`."""
    fitting = [n for n in range(low, high + 1) if value % n == 0]
    if not fitting:
        raise RejectedDrawError(f"{value} has no divisor from {low} to {high}")
    return draw.pick(*fitting)


def _saving(story: Story, ann: Person, saved: int, size: int, first: bool) -> int:
    """A gift (1 operation), some weeks of saving (2), or some weeks of getting and spending (3)."""
    draw = story.draw
    if size == 1:
        gift, giver = draw.number(3, 20), f"{ann.his} {draw.pick(*GIVERS)}"
        story.say(
            f"{giver.capitalize()} gives {ann.him} {gift} dollars.",
            f"{ann.He} gets {gift} dollars from {giver}.",
            f"Then {giver} adds {gift} dollars to {ann.his} savings.",
        )
        return story.add(
            saved, gift, f"With the gift from {giver}, {ann} has [=] dollars.", f"Then {ann.he} has [=] dollars."
        )
    weeks, rate = draw.number(2, 6), draw.number(2, 7)
    lead, span = ("For", f"{weeks} weeks") if first else ("For the next", f"{weeks} weeks")
    if size == 2:
        story.say(
            f"{lead} {span}, {ann.he} saves {rate} dollars a week.",
            f"{lead} {span}, {ann.he} puts {rate} dollars into {ann.his} money box every week.",
            f"{lead} {span}, {ann.he} puts aside {rate} dollars each week.",
        )
    else:
        spent = draw.number(2, 8)
        got, chore = rate + spent, draw.pick(*CHORES)
        story.say(
            f"{lead} {span}, {ann.he} {chore} for {got} dollars a week and spends {spent} of them each time.",
            f"{lead} {span}, {ann.he} {chore} and earns {got} dollars a week, but spends {spent} dollars every week.",
            f"{lead} {span}, {ann.he} {chore}: that brings {got} dollars a week, of which {ann.he} uses up {spent}.",
        )
        story.sub(
            got,
            spent,
            "Of each week's pay, [=] dollars are left.",
            f"Each week, {ann.he} keeps [=] dollars of the pay.",
        )
    more = story.mul(
        weeks, rate, f"In {weeks} weeks, {ann.he} saves [=] dollars.", f"The {weeks} weeks bring [=] dollars."
    )
    return story.add(saved, more, f"Now {ann} has [=] dollars.", f"That makes [=] dollars in {ann.his} money box.")


@scene(levels=(1, 12))
def saving_up(story: Story, level: int) -> None:
    """Savings grow in stretches of weeks, of 2 or 3 operations; then 2 for the weeks that are still needed."""
    draw = story.draw
    ann = person(draw)
    rate, weeks = draw.number(3, 10), draw.number(2, 8)
    saved = start = draw.number(4, 25) if level > 1 else 0
    story.say(f"{ann} is saving money.", f"{ann} has a money box.", f"{ann} wants to save some money.")
    if level > 1:
        story.say(
            f"At first, {ann.he} has {start} dollars.",
            f"{ann.He} begins with {start} dollars.",
            f"There are {start} dollars in {ann.his} money box at the beginning.",
        )
    for i, size in enumerate(parts(draw, max(0, level - 2), 1, 2, 2, 3)):
        saved = _saving(story, ann, saved, size, i == 0)
    price = saved + rate * weeks
    fitting = [name for name, low, high in WISHES if low <= price <= high]
    if not fitting:
        raise RejectedDrawError(f"nothing costs {price} dollars")
    thing = draw.pick(*fitting)
    story.say(
        f"{ann.He} wants to buy a {thing} that costs {price} dollars.",
        f"{ann.He} wishes for a {thing}, which costs {price} dollars.",
        f"The {thing} of {ann.his} dreams has a price of {price} dollars.",
    )
    story.aside(
        f"{ann} is {draw.number(8, 14)} years old.",
        f"The shop is {draw.number(2, 9)} miles away.",
        f"The shop closes at {draw.number(5, 8)} in the evening.",
    )
    story.say(
        f"From now on, {ann.he} saves {rate} dollars a week.",
        f"From this day on, {ann.he} puts aside {rate} dollars each week.",
        f"Every week from now on, {ann.he} saves {rate} dollars for it.",
    )
    if level > 1:
        story.sub(price, saved, f"{ann} still needs [=] dollars.", f"For the {thing}, [=] dollars are missing.")
        story.div(price - saved, rate, f"That takes {ann.him} [=] weeks.", f"{ann} has the money after [=] weeks.")
    else:
        story.div(price, rate, f"{ann} needs [=] weeks.", f"{ann} has saved enough after [=] weeks.")
    more = "more " if level > 2 else ""
    story.ask(
        f"How many {more}weeks does {ann} have to save for the {thing}?",
        f"In how many weeks can {ann} buy the {thing}?",
        f"How many weeks from now will {ann} have enough money for the {thing}?",
        unit="weeks",
    )


def _event(story: Story, ann: Person, now: int, kind: str) -> int:
    """Something that changes what is in a purse: 1 or 2 operations."""
    draw = story.draw
    n, price = draw.number(2, 6), draw.number(2, 6)
    thing, giver = draw.pick(*TRIFLES), f"{ann.his} {draw.pick(*GIVERS)}"
    when = draw.pick("Then", "Later", "The next day", "After that", "On the weekend")
    if kind == "gift":
        n = draw.number(3, 25)
        story.say(
            f"{when}, {giver} gave {ann.him} {n} dollars.",
            f"{when}, {ann.he} got {n} dollars from {giver}.",
            f"{when}, {ann.he} received {n} dollars from {giver}.",
        )
        return story.add(
            now, n, f"With the gift, {ann.he} had [=] dollars.", f"With {giver}'s money, it was [=] dollars."
        )
    if kind == "spend":
        what, low, high = draw.pick(*SPENDINGS)
        n = draw.number(low, high)
        story.say(
            f"{when}, {ann.he} paid {n} dollars for {what}.",
            f"{when}, {ann.he} spent {n} dollars on {what}.",
            f"{when}, {what} cost {ann.him} {n} dollars.",
        )
        return story.sub(now, n, f"After paying for {what}, {ann.he} had [=] dollars.", "Then [=] dollars were left.")
    if kind == "half":
        goal = draw.pick("put into the bank", "given to a charity", "lent to a friend", "given to a brother")
        story.say(
            f"{when}, half of {ann.his} money was {goal}.",
            f"{when}, half of the money that {ann.he} had was {goal}.",
            f"{when}, one half of all {ann.his} dollars was {goal}.",
        )
        return story.div(now, 2, f"{ann} kept half, that is [=] dollars.", "Half of the money was [=] dollars.")
    if kind == "buy":
        price = draw.number(2, 4)
        story.say(
            f"{when}, {ann.he} bought {n} {thing} for {price} dollars each.",
            f"{when}, {ann.he} bought {n} {thing}, and each {thing.one} cost {price} dollars.",
            f"{when}, {ann.he} paid {price} dollars apiece for {n} {thing}.",
        )
        cost = story.mul(n, price, f"The {n} {thing} cost [=] dollars.", f"For the {thing}, {ann.he} paid [=] dollars.")
        return story.sub(now, cost, f"After that, {ann.he} had [=] dollars left.", "So [=] dollars remained.")
    story.say(
        f"{when}, {ann.he} worked in a garden for {n} hours at {price} dollars an hour.",
        f"{when}, {ann.he} helped {giver} for {n} hours and got {price} dollars for each hour.",
        f"{when}, {ann.he} did {n} hours of work, for which {ann.he} got {price} dollars an hour.",
    )
    pay = story.mul(n, price, f"For {n} hours of work, {ann.he} got [=] dollars.", "The work brought [=] dollars.")
    return story.add(now, pay, f"With this pay, {ann.he} had [=] dollars.", "That made [=] dollars together.")


@scene(levels=(1, 12))
def pocket_money(story: Story, level: int) -> None:
    """What is in a purse, after gifts, payments and little jobs: a chain of events of 1 or 2 operations."""
    draw = story.draw
    ann, now = person(draw), draw.number(8, 50)
    story.say(
        f"{ann} had {now} dollars of pocket money.",
        f"In {ann}'s purse, there were {now} dollars.",
        f"{ann} owned {now} dollars at the start of the month.",
    )
    before = ""
    for size in parts(draw, level, 1, 2):
        kinds = ("gift", "spend", "spend", *(("half",) if now % 2 == 0 else ())) if size == 1 else ("buy", "earn")
        before = draw.pick(*(kind for kind in kinds if kind != before or kind == "spend" or size == 2))
        now = _event(story, ann, now, before)
    story.aside(
        f"{ann} is {draw.number(8, 14)} years old.",
        f"{ann} has had this purse for {draw.number(2, 6)} years.",
        f"{ann} lives at number {draw.number(2, 90)} of a quiet street.",
    )
    story.ask(
        f"How many dollars did {ann} have in the end?",
        f"How much money did {ann} have then, in dollars?",
        f"How many dollars were in {ann}'s purse after all this?",
        unit="dollars",
    )


@scene(levels=(1, 9))
def loan(story: Story, level: int) -> None:
    """A loan, perhaps with interest, is paid back in stretches of 2 operations; what is left, or for how many weeks."""
    draw = story.draw
    ann, ben = people(draw, 2)
    debt = draw.number(40, 120, 20) if level > 1 else draw.number(2, 9) * draw.number(3, 10)
    last = level == 1 or (level > 2 and draw.chance(0.6))
    sizes = parts(draw, level - last, 1, 2, 2)
    if sizes.count(1) > 3:
        raise RejectedDrawError("too many single payments")
    story.say(
        f"{ann} borrows {debt} dollars from {ben}.",
        f"{ben} lends {ann} {debt} dollars.",
        f"{ann} gets a loan of {debt} dollars from {ben}.",
    )
    if sizes and sizes[0] == 2 and draw.chance(0.5):
        percent, by = draw.pick((10, 10), (20, 5), (25, 4))
        story.say(
            f"{ann} has to pay {percent} % of the loan as interest on top.",
            f"The interest, {percent} % of the loan, is added to it.",
            f"In return, {ann} owes {ben} another {percent} % of the loan as interest.",
        )
        interest = story.div(
            debt, by, f"The interest is {percent} % of the loan, [=] dollars.", "The interest is [=] dollars."
        )
        debt = story.add(
            debt, interest, f"With the interest, {ann} owes [=] dollars.", "Loan and interest are [=] dollars."
        )
        sizes = sizes[1:]
    once = draw.shuffled(WINDFALLS)
    for i, size in enumerate(sizes):
        weeks, rate, after = draw.number(2, 6), draw.number(2, 8), "the next " if i else ""
        if size == 2:
            story.say(
                f"For {after}{weeks} weeks, {ann} pays back {rate} dollars a week.",
                f"{ann} pays {ben} {rate} dollars each week for {after}{weeks} weeks.",
                f"During {after}{weeks} weeks, {ben} gets back {rate} dollars every week.",
            )
            paid = story.mul(
                weeks, rate, f"In {weeks} weeks, {ann} pays [=] dollars.", f"The {weeks} weeks bring {ben} [=] dollars."
            )
            debt = story.sub(debt, paid, f"After that, {ann} owes [=] dollars.", "So [=] dollars are still to be paid.")
        elif i and draw.chance(0.3):
            n = draw.number(5, 30, 5)
            story.say(
                f"Then {ann} borrows {n} dollars more.",
                f"Then {ben} lends {ann} another {n} dollars.",
                f"Then {ann} gets another {n} dollars from {ben} as a loan.",
            )
            debt = story.add(debt, n, f"With the new loan, {ann} owes [=] dollars.", "Now the debt is [=] dollars.")
        else:
            n, why = draw.number(4, 24), once.pop()
            story.say(
                f"Then {ann} {why} and pays back {n} dollars at once.",
                f"Then {ann} {why} and gives {ben} {n} dollars back.",
                f"Then {ann} {why}, and {ben} gets back {n} dollars.",
            )
            debt = story.sub(debt, n, f"After this payment, {ann} owes [=] dollars.", "Then the debt is [=] dollars.")
    if not last:
        story.ask(
            f"How many dollars does {ann} still owe {ben}?",
            f"How much does {ann} still have to pay back, in dollars?",
            f"How many dollars are still missing until {ann} is free of debt?",
            unit="dollars",
        )
        return
    rate = divisor(draw, debt, max(3, (debt + 19) // 20), 12)
    story.say(
        f"From now on, {ann} pays {rate} dollars a week.",
        f"{ann} pays back {rate} dollars each week from now on.",
        f"From this day on, {ben} gets {rate} dollars every week.",
    )
    story.div(debt, rate, f"That takes {ann} [=] weeks.", "The debt is paid after [=] weeks.")
    story.ask(
        "After how many weeks is everything paid back?",
        f"How many weeks does {ann} need to pay back the rest of the debt?"
        if level > 1
        else f"How many weeks does {ann} need to pay back the loan?",
        f"How many weeks from now will {ann} owe nothing any more?",
        unit="weeks",
    )
