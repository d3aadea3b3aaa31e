"""Scenes of rates: so many liters a minute, pieces an hour, dollars a lap, baskets a person."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import listing, nouns, order, people
from conv_dlm.word_problems.scenes.plans import pieces
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 12))
def tank(story: Story, level: int) -> None:
    """A tank is filled and drained at rates, or by two flows at once; asked is how full it is, or until when."""
    draw = story.draw
    now = draw.number(20, 60)
    what = draw.pick("water tank", "bathtub", "rain barrel", "fish tank", "fountain")
    end = draw.number(0, min(2, level))  # operations of the last question: how full, when empty, when full
    story.say(
        f"There are {now} liters of water in a {what}.",
        f"A {what} holds {now} liters of water at first.",
        f"At the start, a {what} contains {now} liters of water.",
    )
    story.aside(
        f"The {what} is {draw.number(3, 20)} years old.",
        f"Next to the {what}, there are {draw.number(5, 20)} flowers.",
        f"The {what} cost {draw.number(60, 190, 10)} dollars.",
    )
    is_in = (f"Now there are [=] liters in the {what}.", f"Then the {what} holds [=] liters.")
    most, sizes = now, pieces(draw, level - end, 3)
    for then, size in zip(order(len(sizes)), sizes, strict=False):
        if size == 1 and now % 2 == 0 and now > 30 and draw.chance(0.4):
            story.say(
                f"{then}, half of the water is let out.",
                f"{then}, half of the water flows out.",
                f"{then}, one half of the water is drained.",
            )
            now = story.div(now, 2, "Half of the water is [=] liters.", f"Then [=] liters remain in the {what}.")
            continue
        fill = draw.chance(0.8 if now < 50 else 0.3)
        way, more = ("in", "more") if fill else ("out", "less")
        minutes, flow, rate, back = draw.number(2, 6), draw.number(4, 15), draw.number(3, 9), draw.number(2, 5)
        if size == 1:
            story.say(
                f"{then}, {flow} liters {'are poured in' if fill else 'are taken out'} with buckets.",
                f"{then}, somebody {'pours in' if fill else 'takes out'} {flow} liters.",
                f"{then}, {flow} liters are {'added' if fill else 'removed'}.",
            )
        elif size == 2:
            story.say(
                f"{then}, {rate} liters a minute flow {way} for {minutes} minutes.",
                f"{then}, for {minutes} minutes, a pump {'brings in' if fill else 'takes out'} {rate} liters a minute.",
                f"{then}, during {minutes} minutes, {rate} liters flow {way} every minute.",
            )
            flow = story.mul(
                minutes, rate, f"In {minutes} minutes, [=] liters flow {way}.", f"So [=] liters flow {way}."
            )
        else:
            rate += back
            story.say(
                f"{then}, for {minutes} minutes, {rate} liters a minute flow {way} while {back} liters a minute flow "
                f"{'out' if fill else 'in'}.",
                f"{then}, a pump {'brings in' if fill else 'takes out'} {rate} liters a minute and, at the same time, "
                f"{back} liters a minute {'leak out' if fill else 'come in from a hose'}. "
                f"This goes on for {minutes} minutes.",
                f"{then}, {rate} liters flow {way} and {back} liters flow {'out' if fill else 'in'} every minute. This "
                f"lasts for {minutes} minutes.",
            )
            rate = story.sub(
                rate, back, f"That is [=] liters {more} each minute.", f"A minute makes [=] liters {more}."
            )
            flow = story.mul(minutes, rate, f"In {minutes} minutes, that is [=] liters {more}.")
        now = (story.add if fill else story.sub)(now, flow, *is_in)
        most = max(most, now)
    rate, minutes = draw.number(2, 9), draw.number(2, 9)
    if end == 0:
        story.ask(
            f"How many liters of water are in the {what} now?",
            f"How many liters of water does the {what} hold in the end?",
            f"How much water is there in the {what} at the end, in liters?",
            unit="liters",
        )
        return
    if end == 1:
        story.say(
            f"Now a pump empties the {what} at {rate} liters a minute.",
            f"Now the drain is opened, and {rate} liters a minute flow out.",
            f"Now all the water is pumped out, {rate} liters each minute.",
        )
        story.div(now, rate, f"The {now} liters are gone after [=] minutes.", "To empty it takes [=] minutes.")
    else:
        full = now + rate * minutes
        if full < most or full > 200:
            raise RejectedDrawError("it was fuller before")
        story.say(
            f"The {what} can hold {full} liters, and now it is filled up at {rate} liters a minute.",
            f"There is room for {full} liters in all, and now a tap fills it up with {rate} liters a minute.",
            f"It is full when it holds {full} liters, and now {rate} liters a minute flow in.",
        )
        room = story.sub(full, now, "There is room for [=] liters more.", "Until it is full, [=] liters are missing.")
        story.div(room, rate, "This takes [=] minutes.", f"The {what} is full after [=] minutes.")
    state = "empty" if end == 1 else "full"
    story.ask(
        f"After how many minutes is it {state}?",
        f"How many minutes does it take until the {what} is {state}?",
        f"How long does it take to get it {state}, in minutes?",
        unit="minutes",
    )


@scene(levels=(1, 12))
def factory(story: Story, level: int) -> None:
    """Machines with different rates, added up; then hours, faulty ones, a stock, boxes, and boxes that leave."""
    draw = story.draw
    kinds = draw.pick(*[k for k in range(1, 6) if 0 <= level - (2 * k - 1) <= 5])
    extra = level - (2 * kinds - 1)
    things = draw.pick(*nouns("toy car, doll, lamp, chair, ball, kite, clock, basket, drum, umbrella"))
    after = draw.pick(*_FACTORY_ENDS[extra])
    story.say(f"A factory makes {things}.", f"In a factory, {things} are made.", f"There is a factory for {things}.")
    colors = draw.sample(("old", "new", "large", "small", "green"), kinds)
    rate = 0
    for i, color in enumerate(colors):
        n, each = draw.number(2, 5 if kinds < 4 else 3), draw.number(2, 8 if kinds < 3 else 4)
        story.say(
            f"There are {n} {color} machines that make {each} {things} an hour each.",
            f"Each of the {n} {color} machines makes {each} {things} an hour.",
            f"In an hour, every one of the {n} {color} machines makes {each} {things}.",
        )
        made = story.mul(
            n,
            each,
            f"The {color} machines make [=] {things} an hour.",
            f"The {n} {color} machines make [=] {things} each hour.",
        )
        with_these = f"With the {color} machines, that is [=] {things} an hour."
        rate = story.add(rate, made, with_these, f"Together that is [=] {things} an hour.") if i else made
    story.aside(
        f"The factory has {draw.number(3, 9)} floors.",
        f"The boss of the factory is {draw.number(40, 60)} years old.",
        f"The factory is {draw.number(4, 30)} kilometers from the sea.",
    )
    if not extra:
        story.ask(
            f"How many {things} do the machines make in an hour?",
            f"How many {things} does the factory make an hour?",
            f"How many {things} come from all machines in one hour?",
            unit=things,
        )
        return
    hours, box = draw.number(2, 5), draw.number(3, 10)
    story.say(
        f"All machines run for {hours} hours.",
        f"The machines work for {hours} hours.",
        f"They run {hours} hours today.",
    )
    now = story.mul(hours, rate, f"In {hours} hours, they make [=] {things}.", f"In all, [=] {things} are made.")
    unit, asked, does = str(things), "have been made", "do the machines make"
    for what in after:
        n = draw.number(2, 9)
        if what == "faulty":
            if "box" in after and "stock" not in after:
                n = now % box + (box if now % box < 2 else 0)
            story.say(
                f"But {n} of the {things} are broken and thrown away.",
                f"Of all these {things}, {n} are faulty and sorted out.",
                f"Sadly, {n} of these {things} are damaged and can't be used.",
            )
            now = story.sub(now, n, f"Without the broken ones, [=] {things} are left.", f"Then [=] {things} are good.")
            asked, does = "are left", "can be used"
        elif what == "stock":
            n = draw.number(2, 5) * box - now % box if "box" in after else draw.number(10, 40)
            story.say(
                f"From yesterday, there are {n} more {things} in stock.",
                f"Yesterday's {n} {things} are added to them.",
                f"The {n} {things} of the day before are put with them.",
            )
            now = story.add(now, n, f"With those of yesterday, that is [=] {things}.", f"Then there are [=] {things}.")
            asked, does = "are there in all", "does the factory have"
        elif what == "box":
            story.say(
                f"The {things} are packed in boxes of {box}.",
                f"The {things} are put in boxes, {box} in each.",
                f"Each box that the {things} are packed in takes {box} of them.",
            )
            now = story.div(now, box, "They fill [=] boxes.", f"The {now} {things} fill [=] boxes.")
            unit, asked, does = "boxes", "are filled", "do they fill"
        else:
            n = draw.number(2, max(2, now - 2))
            story.say(
                f"A truck takes away {n} boxes.",
                f"Then {n} boxes are sold.",
                f"Then {n} of the boxes leave on a truck.",
            )
            now = story.sub(now, n, "Then [=] boxes remain.", f"Without these {n}, there are [=] boxes left.")
            asked, does = "are left", "remain"
    story.ask(
        f"How many {unit} {asked}?",
        f"How many {unit} {does}?",
        f"At the end of the day, how many {unit} {asked}?",
        unit=unit,
    )


# What comes after the hours, by the number of operations from the hours on.
_FACTORY_ENDS = (
    [()],
    [()],
    [("faulty",), ("stock",), ("box",)],
    [("faulty", "box"), ("stock", "box"), ("faulty", "stock"), ("box", "truck")],
    [("faulty", "stock", "box"), ("faulty", "box", "truck"), ("stock", "box", "truck")],
    [("faulty", "stock", "box", "truck")],
)


@scene(levels=(1, 12))
def sponsored_run(story: Story, level: int) -> None:
    """Runners' laps, each told by those of another; their sum, the dollars they bring, and what is missing."""
    draw = story.draw
    alone = level < 4 and (level == 1 or draw.chance(0.4))  # the last one's laps are asked for
    # Operations at the end, the dollars and what is missing; for each runner but the first there are 2.
    end = 0 if alone else 1 if level % 2 else 2 * draw.number(0, 1) if level > 3 else 0
    count = level + 1 if alone else (level - end) // 2 + 1
    runners, laps = people(draw, count), [draw.number(5, 12)]
    goes, go = draw.pick(("runs", "run"), ("swims", "swim"), ("skates", "skate"))
    purse, each = draw.pick("zoo", "school library", "animal shelter", "playground"), draw.number(2, 3)
    story.say(
        f"Friends {go} laps for the {purse}.",
        f"Some children {go} laps to help the {purse}.",
        f"A few friends {go} laps so that the {purse} gets money.",
    )
    story.say(
        f"{runners[0]} {goes} {laps[0]} laps.",
        f"{runners[0]} manages {laps[0]} laps.",
        f"{runners[0]} does {laps[0]} laps.",
    )
    story.aside(
        f"A banner with {draw.number(5, 20)} stars hangs over the start.",
        f"It is {draw.number(15, 28)} degrees warm.",
        f"There are {draw.number(20, 60)} people watching.",
    )
    for i in range(1, count):
        ben, n, j = runners[i], draw.number(2, 5), draw.number(max(0, i - 2), i - 1)
        ann, other = runners[j], laps[j]
        kinds = ["more"] + ["less"] * (other > n + 3) + ["twice"] * (other < 9)
        kinds += ["half"] * (other % 2 == 0 and other > 9)
        pair = i > 1 and laps[i - 1] + laps[i - 2] < 20 and draw.chance(0.25)
        kind = "both" if pair else draw.pick(*kinds)
        as_many = {
            "more": f"{n} laps more than {ann}",
            "less": f"{n} laps fewer than {ann}",
            "both": f"as many laps as {runners[i - 2]} and {runners[i - 1]} together",
        }.get(kind, f"{kind} as many laps as {ann}")
        story.say(f"{ben} {goes} {as_many}.", f"{ben} manages {as_many}.", f"{ben} does {as_many}.")
        does = (f"{ben} {goes} [=] laps.", f"So {ben} {goes} [=] laps.", f"{ben} manages [=] laps.")
        if kind == "more":
            laps.append(story.add(other, n, *does))
        elif kind == "less":
            laps.append(story.sub(other, n, *does))
        elif kind == "both":
            laps.append(story.add(laps[i - 2], laps[i - 1], *does))
        else:
            laps.append(story.mul(2, other, *does) if kind == "twice" else story.div(other, 2, *does))
    if alone:
        story.ask(
            f"How many laps does {runners[-1]} {go}?",
            f"How many laps does {runners[-1]} manage?",
            f"What is the number of laps of {runners[-1]}?",
            unit="laps",
        )
        return
    total = laps[0]
    for i in range(1, count):
        names = listing(runners[: i + 1]) if i < 3 else f"The first {i + 1} of them"
        so_far = (f"With {runners[i]}, that makes [=] laps.", f"{names} {go} [=] laps together.")
        total = story.add(total, laps[i], *so_far)
    if end == 0:
        story.ask(
            f"How many laps do they {go} in all?",
            f"How many laps do {'both' if count == 2 else f'all {count}'} of them {go} together?",
            "What is the number of their laps altogether?",
            unit="laps",
        )
        return
    story.say(
        f"Each lap brings {each} dollars.",
        f"For every lap, the {purse} gets {each} dollars.",
        f"A lap is worth {each} dollars.",
    )
    money = story.mul(total, each, f"The {total} laps bring [=] dollars.", f"The {purse} gets [=] dollars.")
    if end == 1:
        story.ask(
            f"How many dollars does the {purse} get?",
            "How many dollars do all these laps bring?",
            f"How much money is that for the {purse}, in dollars?",
            unit="dollars",
        )
        return
    need = (money // 10 + draw.number(1, 5)) * 10
    if need > 200:
        raise RejectedDrawError("too much money")
    story.say(
        f"The {purse} needs {need} dollars.",
        f"They hope for {need} dollars.",
        f"The aim is to reach {need} dollars.",
    )
    story.sub(
        need, money, "Then [=] dollars are still missing.", f"To reach {need} dollars, they need [=] dollars more."
    )
    story.ask(
        "How many dollars are still missing?",
        "How many dollars more do they need?",
        f"How many dollars are they short of {need} dollars?",
        unit="dollars",
    )


@scene(levels=(3, 12), held_out=True)
def pickers(story: Story, level: int) -> None:
    """Speeds compared: so many a minute each, some told by another's speed; the difference, the sum, or portions."""
    draw = story.draw
    pick, things, loss, pots = draw.pick(
        ("pick", "cherries", "eat {n} of the cherries", "bowls"),
        ("fold", "napkins", "throw away {n} torn napkins", "piles"),
        ("peel", "chestnuts", "throw away {n} bad chestnuts", "bowls"),
        ("wrap", "sweets", "eat {n} of the sweets", "bags"),
    )
    # For each an amount, and their sums or difference; speeds that are told by another's; the end.
    plans = [(n, told, level - told - (2 * n - 1)) for n in (2, 3, 4) for told in range(n)]
    count, told, end = draw.pick(*[plan for plan in plans if 0 <= plan[2] <= 2])
    who, speeds, minutes = people(draw, count), [draw.number(4, 9)], draw.number(2, 6 if count == 2 else 4)
    all_ = "Both" if count == 2 else f"All {count}"
    story.say(f"{listing(who)} {pick} {things}.", f"We see how {listing(who)} {pick} {things}.")
    story.say(
        f"{who[0]} can {pick} {speeds[0]} {things} a minute.", f"In a minute, {who[0]} {pick}s {speeds[0]} {things}."
    )
    for i in range(1, count):
        ben, ann, last, n = who[i], who[i - 1], speeds[-1], draw.number(2, 4)
        if i >= count - told:
            kind = draw.pick("more", "fewer") if last > n + 3 else "twice"
            how = f"twice as many {things} a minute as {ann}"
            how = how if kind == "twice" else f"{n} {kind} {things} a minute than {ann}"
            story.say(f"{ben} manages {how}.", f"{ben} {pick}s {how}.")
            does = (f"{ben} {pick}s [=] {things} a minute.", f"The speed of {ben} is [=] {things} a minute.")
            one = {"more": story.add, "fewer": story.sub}
            speeds.append(story.mul(2, last, *does) if kind == "twice" else one[kind](last, n, *does))
        else:
            speeds.append(draw.pick(*[n for n in range(4, 12) if abs(n - last) > 1]))
            story.say(f"{ben} manages {speeds[-1]} a minute.", f"{ben} can {pick} {speeds[-1]} {things} a minute.")
    story.say(f"{all_} of them do this for {minutes} minutes.", f"They all stop after {minutes} minutes.")
    done = [
        story.mul(
            minutes, n, f"In {minutes} minutes, {ann} {pick}s [=] {things}.", f"The part of {ann} is [=] {things}."
        )
        for ann, n in zip(who, speeds, strict=True)
    ]
    if count == 2 and end == 0 and draw.chance(0.6):
        low, high = sorted((0, 1), key=lambda i: done[i])
        story.sub(done[high], done[low], f"{who[high]} {pick}s [=] {things} more.", f"The difference is [=] {things}.")
        than = f"{who[high]} {pick} than {who[low]}"
        story.ask(f"How many more {things} does {than}?", f"How many {things} more does {than}?", unit=things)
        return
    total = done[0]
    for ann, n in zip(who[1:], done[1:], strict=True):
        total = story.add(
            total, n, f"With those of {ann}, that is [=] {things}.", f"Together with {ann}, that makes [=] {things}."
        )
    each, n = draw.number(3, 10), draw.number(3, 12)
    if end == 2 or (end == 1 and draw.chance(0.5)):
        if end == 2:
            n = total % each + each
        story.say(f"Then they {loss.format(n=n)}.", f"After that they {loss.format(n=n)}.")
        total = story.sub(total, n, f"Then they have [=] {things}.", f"Now [=] {things} are left.")
        if end == 1:
            story.ask(f"How many {things} are left?", f"How many {things} do they have then?", unit=things)
            return
    elif end == 1:
        fits = [n for n in range(2, 13) if total % n == 0 and total // n <= 12]
        if not fits:
            raise RejectedDrawError("nothing divides the sum")
        each = draw.pick(*fits)
    if end:
        story.say(f"The {things} are put in {pots} of {each}.", f"They make {pots} with {each} {things} in each.")
        story.div(total, each, f"They fill [=] {pots}.", f"The {total} {things} make [=] {pots}.")
        story.ask(f"How many {pots} are there?", f"How many {pots} do they get?", unit=pots)
        return
    story.ask(f"How many {things} do they {pick} together?", f"How many {things} is that in all?", unit=things)
