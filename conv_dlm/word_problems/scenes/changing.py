"""Scenes of coming and going, finding and building."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import listing, nouns, people, person
from conv_dlm.word_problems.scenes.comparing import comparison, divisors, first_upper, spread, total
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

BUILDINGS = nouns("tower, bridge, house, castle, gate, garage, barn, temple, pyramid")


@scene(levels=(2, 12))
def car_park(story: Story, level: int) -> None:
    """Cars that come to a car park and leave it, and the places that stay free."""
    draw = story.draw
    floors, each = draw.number(3, 5), draw.number(12, 30)
    know = draw.chance(0.5) or level < 3
    places, left = floors * each, level - (1 if know else 2)
    now = draw.number(places // 5, places // 2)
    if know:
        story.say(
            f"A car park has {places} places.",
            f"There are {places} places in a car park.",
            f"A car park has room for {places} cars.",
        )
    else:
        story.say(
            f"A car park has {floors} floors with {each} places each.",
            f"There are {floors} floors in a car park, and each of them has {each} places.",
            f"In a car park, there is room for {each} cars on each of {floors} floors.",
        )
        story.mul(floors, each, "The car park has [=] places.", f"On the {floors} floors, there are [=] places.")
    story.say(
        f"In the morning, {now} cars are there.",
        f"Early in the morning, {now} of the places are taken.",
        f"The day begins with {now} cars in it.",
    )
    story.aside(
        f"An hour costs {draw.number(2, 5)} dollars.",
        f"The car park is open for {draw.number(12, 20)} hours a day.",
        f"The car park was built {draw.number(3, 20)} years ago.",
    )
    halved, when = False, "" if left > 1 else "First"
    while left:
        others = [one for one in ("Then", "After that", "A little later", "Next") if one != when]
        when = draw.pick(*others) if when else "First"
        room = places - now - 2
        kinds = (
            ["come"] * 2 * (room > 4)
            + ["leave"] * 2 * (now > 9)
            + ["half"] * (now % 2 == 0 and now > 15 and not halved)
        )
        if left > 1:
            kinds += ["arrivals"] * 2 * (room > 25) + ["departures"] * (now > 40) + ["both"] * (now > 9 and room > 4)
        kind = draw.pick(*kinds)
        then = ("Now there are [=] cars.", "That makes [=] cars in the car park.")
        after = ("Then there are [=] cars left.", "That leaves [=] cars in the car park.")
        if kind in ("come", "both"):
            n = draw.number(3, min(25, room))
            story.say(
                f"{when}, {n} cars come in.", f"{when}, {n} more cars arrive.", f"{when}, {n} drivers bring their cars."
            )
            now = story.add(now, n, *then)
        if kind in ("leave", "both"):
            n = draw.number(3, min(30, now - 4))
            when = "In the same hour" if kind == "both" else when
            story.say(
                f"{when}, {n} cars leave.", f"{when}, {n} cars drive away.", f"{when}, {n} drivers fetch their cars."
            )
            now = story.sub(now, n, *after)
        if kind == "half":
            halved = True
            story.say(
                f"{when}, half of the cars leave.",
                f"{when}, half of the cars in it drive away.",
                f"{when}, one half of all the drivers fetch their cars.",
            )
            now = story.div(now, 2, "Half of the cars are [=] cars.", *after)
        if kind == "arrivals":
            n, k = draw.number(2, 4), draw.number(2, 5)
            story.say(
                f"{when}, {k} cars come in every hour for {n} hours.",
                f"{when}, for {n} hours, {k} cars arrive in each hour.",
                f"{when}, {n} hours pass, with {k} new cars in each.",
            )
            more = story.mul(n, k, f"In the {n} hours, [=] cars come in.", f"In {n} hours, that is [=] more cars.")
            now = story.add(now, more, *then)
        if kind == "departures":
            n, k = draw.number(2, 4), draw.number(2, 7)
            story.say(
                f"{when}, {k} cars leave every hour for {n} hours.",
                f"{when}, for {n} hours, {k} cars drive away in each hour.",
                f"{when}, {n} hours pass, and {k} drivers fetch their cars in each.",
            )
            less = story.mul(n, k, f"In the {n} hours, [=] cars leave.", f"In {n} hours, [=] cars drive away.")
            now = story.sub(now, less, *after)
        left -= 2 if kind in ("arrivals", "departures", "both") else 1
    story.sub(places, now, "So [=] places are free.", "The number of free places is [=].")
    story.ask(
        "How many places are free now?",
        "How many free places are there in the end?",
        "For how many more cars is there room now?",
        unit="places",
    )


@scene(levels=(1, 12))
def finds(story: Story, level: int) -> None:
    """What several children find, each in another way; then all of it, which is shared or in part given away."""
    draw = story.draw
    place, found = draw.pick(
        ("beach", "shell, pebble, stone"),
        ("forest", "chestnut, pine cone, acorn, mushroom"),
        ("meadow", "daisy/daisies, poppy/poppies"),
    )
    things = draw.pick(*nouns(found))
    plans = [(count, level - (count - 1) - end, end) for count in range(1, 6) for end in (0, 1)]
    count, parts, end = draw.pick(*(plan for plan in plans if max(1, plan[0] - 2) <= plan[1] <= 2 * plan[0]))
    children, values, top = people(draw, count), [], 30 if count < 4 else 20
    names, there = listing(children), "on" if place == "beach" else "in"
    story.say(
        f"{names} {'is' if count == 1 else 'are'} {there} the {place}.",
        f"{names} {'walks' if count == 1 else 'walk'} {'along' if place == 'beach' else 'through'} the {place}.",
        f"{names} {'spends' if count == 1 else 'spend'} the day {there} the {place}.",
    )
    for i, (child, operations) in enumerate(zip(children, spread(draw, parts, [2] * count), strict=True)):
        kind = (
            "given"
            if operations == 0
            else draw.pick("twice", "bags", *["than"] * 2 * (i > 0))
            if operations == 1
            else "loses"
        )
        who = child.he if count == 1 else child.name
        home = (f"{child} brings home [=] {things}.", f"That makes [=] {things} for {child}.")
        n, m, k = draw.number(4, 20), draw.number(2, 5), draw.number(2, 6)
        if kind == "given":
            story.say(
                f"{child} brings home {n} {things}.",
                f"{child} carries home {n} {things}.",
                f"{child} comes home with {n} {things}.",
            )
            values.append(n)
        elif kind == "than":
            how = comparison(draw, values[-1], top)
            story.say(
                f"{child} brings home {how.than(things)} {children[i - 1]}.",
                f"{child} carries home {how.than(things)} {children[i - 1]}.",
                f"{child} comes home with {how.than(things)} {children[i - 1]}.",
            )
            values.append(how.step(story, values[-1], *home))
        elif kind == "twice":
            more = draw.number(3, 15)
            story.say(
                f"{first_upper(who)} finds {n} {things} in the morning and {more} in the afternoon.",
                f"In the morning, {who} finds {n} {things}, and {more} more after lunch.",
                f"First, {who} finds {n} {things}, and later {more} more.",
            )
            values.append(story.add(n, more, *home))
        else:
            story.say(
                f"{first_upper(who)} fills {m} bags with {k} {things} each.",
                f"{first_upper(who)} fills {m} bags, each with {k} {things}.",
                f"{first_upper(who)} has {m} full bags of {k} {things} each.",
            )
            if kind == "bags":
                values.append(story.mul(m, k, *home))
            else:
                now = story.mul(m, k, f"In {child}'s bags, there are [=] {things}.", f"{child} finds [=] {things}.")
                if draw.chance(0.5):
                    more = draw.number(2, 9)
                    story.say(
                        f"{child.He} carries {more} more in {child.his} hands.",
                        f"Besides, {child.he} has {more} more in {child.his} pockets.",
                        f"Then {child.he} finds {more} more.",
                    )
                    values.append(story.add(now, more, *home))
                    continue
                lost = draw.number(2, max(2, now - 3) if now < 12 else 9)
                story.say(
                    f"On the way home, {child.he} loses {lost} of them.",
                    f"But {lost} of them are lost on the way home.",
                    f"Not all of them arrive: {child.he} loses {lost} on the way.",
                )
                values.append(story.sub(now, lost, *home))
    story.aside(
        f"They are home after {draw.number(2, 6)} hours."
        if count > 1
        else f"{children[0]} is home after {draw.number(2, 6)} hours.",
        f"The way home is {draw.number(2, 9)} kilometres long.",
        f"It is a warm day of {draw.number(20, 30)} degrees.",
    )
    now = total(story, [f"{child}'s {things}" for child in children], values, things)
    all_of_them = children[0].name if count == 1 else "the children"
    they, does = (children[0].he, "does") if count == 1 else ("they", "do")
    if end:
        fits, s = divisors(now), "s" if count == 1 else ""
        if fits and draw.chance(0.6):
            by = draw.pick(*fits)
            story.say(
                f"At home, {they} share{s} all the {things} equally among {by} friends.",
                f"At home, {by} friends get all the {things}, each the same number.",
                f"At home, {they} give{s} all the {things} to {by} friends in equal parts.",
            )
            story.div(
                now, by, f"Each friend gets [=] {things}.", f"For each of the {by} friends, there are [=] {things}."
            )
            story.ask(
                f"How many {things} does each friend get?",
                f"How many {things} are there for each friend?",
                f"How many {things} are one friend's share?",
                unit=things,
            )
            return
        gift = draw.number(2, min(20, now - 2))
        story.say(
            f"At home, {they} give{s} {gift} of the {things} to a friend.",
            f"At home, a friend gets {gift} of the {things}.",
            f"At home, {gift} of the {things} are handed to a friend.",
        )
        story.sub(
            now, gift, f"After the gift, [=] {things} are left.", f"{first_upper(all_of_them)} keep{s} [=] {things}."
        )
        story.ask(
            f"How many {things} are left?",
            f"How many {things} {does} {they} keep?",
            f"What number of {things} remains?",
            unit=things,
        )
        return
    story.ask(
        f"How many {things} {does} {all_of_them} bring home{' together' if count > 1 else ''}?",
        f"How many {things} {does} {they} bring home in all?",
        f"With how many {things} {does} {all_of_them} come home{' altogether' if count > 1 else ''}?",
        unit=things,
    )


@scene(levels=(1, 12), held_out=True)
def blocks(story: Story, level: int) -> None:
    """Blocks for several buildings, and how many of those in the box are left."""
    draw = story.draw
    plans = [(count, level - (count - 1) - end, end) for count in range(1, 6) for end in range(4)]
    count, parts, end = draw.pick(*(plan for plan in plans if max(0, plan[0] - 2) <= plan[1] <= 2 * plan[0]))
    ann, names, values = person(draw), draw.sample(BUILDINGS, count), []
    story.say(f"{ann} builds with wooden blocks.", f"{ann} plays with {ann.his} building blocks.")
    for i, operations in enumerate(spread(draw, parts, [2] * count)):
        a, the = names[i].a, f"the {names[i].one}"
        use = (f"{first_upper(the)} takes [=] blocks.", f"For {the}, {ann} needs [=] blocks.")
        rows, each = draw.number(3, 6), draw.number(2, 7)
        if operations == 0:
            n = draw.number(5, 25)
            story.say(f"{ann.He} uses {n} blocks for {a}.", f"{first_upper(a)} takes {n} blocks.")
            values.append(n)
        elif operations == 1 and i and draw.chance(0.6):
            how = comparison(draw, values[-1], 30)
            than = how.than("blocks")
            story.say(
                f"{first_upper(a)} takes {than} the {names[i - 1].one}.",
                f"For {a}, {ann.he} uses {than} for the {names[i - 1].one}.",
            )
            values.append(how.step(story, values[-1], *use))
        else:
            story.say(
                f"{first_upper(a)} has {rows} rows of {each} blocks.",
                f"For {a}, {ann.he} lays {rows} rows with {each} blocks each.",
            )
            if operations == 1:
                values.append(story.mul(rows, each, *use))
                continue
            full = story.mul(rows, each, f"The {rows} rows have [=] blocks.", f"In {rows} rows, there are [=] blocks.")
            if full > 9 and draw.chance(0.5):
                out = draw.number(2, min(6, full - 5))
                story.say(
                    f"{ann.He} takes {out} of them out again for a door.",
                    f"For a door, {out} of these blocks are taken away.",
                )
                values.append(story.sub(full, out, *use))
            else:
                top = draw.number(2, 6)
                story.say(f"{ann.He} puts {top} more blocks on top of it.", f"On top of it come {top} more blocks.")
                values.append(story.add(full, top, *use))
    now = total(story, [f"the {name.one}" for name in names], values, "blocks")
    if not end:
        story.ask(f"How many blocks does {ann} use?", "How many blocks is that in all?", unit="blocks")
        return
    box = now + draw.number(3, 30)
    if end == 1:
        story.say(
            f"At the start, there were {box} blocks in {ann.his} box.", f"Before that, the box held {box} blocks."
        )
    else:
        colours = draw.sample(("red", "blue", "green", "yellow"), end)
        cuts = [box // end + draw.number(-4, 4) for _ in colours[1:]]
        amounts = [box - sum(cuts), *cuts]
        if min(amounts) < 3:
            raise RejectedDrawError(f"{amounts} are too few blocks of a colour")
        told = listing([f"{n} {colour}" for n, colour in zip(amounts, colours, strict=True)])
        story.say(
            f"At the start, there were {told} blocks in {ann.his} box.", f"Before that, the box held {told} blocks."
        )
        box = total(story, [f"the {colour} ones" for colour in colours], amounts, "blocks")
    story.sub(box, now, "In the box, [=] blocks are left.", f"{ann} has [=] blocks left.")
    story.ask("How many blocks are left in the box?", f"How many blocks has {ann} not used?", unit="blocks")
