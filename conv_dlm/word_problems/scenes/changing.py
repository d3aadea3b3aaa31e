"""Scenes of winning and losing, coming and going, finding and building."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import listing, nouns, people, person
from conv_dlm.word_problems.scenes.comparing import (
    comparison,
    divisors,
    first_upper,
    round_above,
    spread,
    total,
)
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

TEAMS = ("Lions", "Tigers", "Bears", "Eagles", "Sharks", "Wolves", "Hawks", "Foxes")
BUILDINGS = nouns("tower, bridge, house, castle, gate, garage, barn, temple, pyramid")
ROUNDS = (
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "last",
)


@scene(levels=(1, 12))
def season(story: Story, level: int) -> None:
    """Points of teams for wins and draws, less a penalty: 1 to 4 operations a team, then their difference or sum."""
    draw = story.draw
    count = draw.pick(*(k for k in (1, 2, 3) if k <= level - (k - 1) <= 4 * k))
    teams = [f"the {team}" for team in draw.sample(TEAMS, count)]
    operations = [1 + n for n in spread(draw, level - (count - 1) - count, [3] * count)]
    win, tie = draw.number(3, 5), 2
    wins = [draw.number(2, 12) for _ in teams]
    draws = [draw.number(2, 6) if n > 2 else 0 for n in operations]
    losses = [draw.number(2, 6) if n % 2 == 0 else 0 for n in operations]
    rule = f"{win} points and a draw {tie} points" if any(draws) else f"{win} points"
    story.say(
        f"In a school league, a win gives {rule}.",
        f"Teams of a league play against each other. A win is worth {rule}.",
        f"A team of the youth league gets {rule.replace('and a draw', 'for a win and')}"
        + (" for a draw." if any(draws) else " for a win."),
    )
    values = []
    for team, w, d, loss in zip(teams, wins, draws, losses, strict=True):
        name, more = first_upper(team), f" and {d} draws" if d else ""
        story.say(
            f"{name} have {w} wins{more}.",
            f"{name} win {w} games" + (f" and draw {d}." if d else "."),
            f"{name} finish the season with {w} wins{more}.",
        )
        now = story.mul(w, win, f"{name} get [=] points for their wins.", f"The {w} wins of {team} give [=] points.")
        if d:
            also = story.mul(d, tie, f"The {d} draws give [=] points.", f"For their {d} draws, they get [=] points.")
            now = story.add(now, also, f"Together, {team} have [=] points.", f"That makes [=] points for {team}.")
        if loss:
            story.say(
                f"They lose {loss} points for unfair play.",
                f"As a penalty, {loss} points are taken from them.",
                f"The referee takes {loss} points away from {team}.",
            )
            now = story.sub(now, loss, f"After the penalty, {team} have [=] points.", f"{name} keep [=] points.")
        values.append(now)
    story.aside(
        f"The season lasts {draw.number(5, 9)} months.",
        f"A game takes {draw.number(30, 60, 10)} minutes.",
        f"There are {draw.number(12, 18)} players in a team.",
    )
    if count == 1:
        story.ask(
            f"How many points do {teams[0]} have?",
            f"How many points do {teams[0]} get in all?",
            f"With how many points do {teams[0]} end the season?",
            unit="points",
        )
    elif count == 2 and draw.chance(0.7):
        (low, less), (high, more) = sorted(zip(values, teams, strict=True))
        story.sub(high, low, f"{first_upper(more)} are [=] points ahead.", "The difference is [=] points.")
        story.ask(
            f"How many more points do {more} have than {less}?",
            f"By how many points are {more} ahead of {less}?",
            f"How many fewer points do {less} have than {more}?",
            unit="points",
        )
    else:
        total(story, teams, values, "points")
        story.ask(
            f"How many points do {listing(teams)} have together?",
            "How many points do the teams have in all?",
            "What do the points of all the teams add up to?",
            unit="points",
        )


@scene(levels=(1, 12))
def game_points(story: Story, level: int) -> None:
    """Points that are won, lost, doubled and halved, and what is missing to the goal or to another child."""
    draw = story.draw
    ann, ben = people(draw, 2)
    now, turn, once = draw.number(8, 40), 0, {"double", "half"}
    end = draw.pick("now", "goal", "other") if level > 1 else "now"
    left = level - (end != "now")
    game = draw.pick("a board game", "a computer game", "an adventure game")
    story.say(
        f"{ann} plays {game} and has {now} points after the first round.",
        f"In the first round of {game}, {ann} gets {now} points.",
        f"{ann} starts {game} and wins {now} points in the first round.",
    )
    while left:
        when = f"In the {ROUNDS[turn]} round"
        kinds = (
            ["win"] * 2 + ["lose"] * 2 * (now > 12) + ["half"] * (now % 2 == 0 and now > 15) + ["double"] * (now < 60)
        )
        kinds += ["stars"] * 2 * (left > 1) + ["traps"] * (left > 1 and now > 40)
        kind = draw.pick(*(kind for kind in kinds if kind in once or kind not in ("double", "half")))
        once.discard(kind)
        then = (f"After the {ROUNDS[turn]} round, {ann} has [=] points.", f"Now {ann} has [=] points.")
        if kind == "win":
            n = draw.number(3, 25)
            story.say(
                f"{when}, {ann.he} gets {n} points.",
                f"{when}, {ann.he} wins {n} points.",
                f"{when}, {n} points are added to {ann.his} score.",
            )
            now = story.add(now, n, *then)
        elif kind == "lose":
            n = draw.number(3, min(20, now - 5))
            story.say(
                f"{when}, {ann.he} loses {n} points.",
                f"{when}, {n} points are taken from {ann.him}.",
                f"{when}, {ann.he} has to give {n} points back.",
            )
            now = story.sub(now, n, *then)
        elif kind == "double":
            story.say(
                f"{when}, a joker doubles {ann.his} points.",
                f"{when}, {ann.he} ends up with twice as many points as before.",
                f"{when}, a bit of luck turns {ann.his} points into twice as many.",
            )
            now = story.mul(2, now, "Twice as many points are [=] points.", *then)
        elif kind == "half":
            story.say(
                f"{when}, {ann.he} loses half of {ann.his} points.",
                f"{when}, bad luck takes half of {ann.his} points.",
                f"{when}, half of all {ann.his} points are gone.",
            )
            now = story.div(now, 2, "Half of the points are [=] points.", *then)
        elif kind == "stars":
            n, k = draw.number(2, 6), draw.number(2, 6)
            story.say(
                f"{when}, {ann.he} finds {n} stars and gets {k} points for each.",
                f"{when}, {ann.he} finds {n} stars that are worth {k} points each.",
                f"{when}, {n} stars bring {ann.him} {k} points each.",
            )
            more = story.mul(n, k, f"The {n} stars bring [=] points.", f"For the stars, {ann.he} gets [=] points.")
            now = story.add(now, more, *then)
        else:
            n, k = draw.number(2, 5), draw.number(2, 6)
            story.say(
                f"{when}, {ann.he} falls into {n} traps and loses {k} points in each.",
                f"{when}, {ann.he} steps into {n} traps that cost {k} points each.",
                f"{when}, {n} traps take {k} points each from {ann.him}.",
            )
            less = story.mul(n, k, f"The {n} traps cost [=] points.", f"In the traps, {ann.he} loses [=] points.")
            now = story.sub(now, less, *then)
        left -= 1 + (kind in ("stars", "traps"))
        turn += 1
        if turn == 1:
            story.aside(
                f"A round takes {draw.number(5, 20)} minutes.",
                f"The game is for children from {draw.number(6, 9)} years on.",
                f"{draw.number(3, 9)} friends are watching.",
            )
    if end == "now":
        story.ask(
            f"How many points does {ann} have now?",
            f"How many points does {ann} have in the end?",
            f"With how many points does {ann} finish?",
            unit="points",
        )
    elif end == "goal":
        goal = round_above(draw, now)
        story.say(
            f"{ann.He} needs {goal} points to win.",
            f"Whoever reaches {goal} points first wins.",
            f"The goal of the game is to reach {goal} points.",
        )
        story.sub(goal, now, f"{ann} is [=] points short of the goal.", f"To the goal, {ann} needs [=] more points.")
        story.ask(
            f"How many more points does {ann} need?",
            f"How many points is {ann} short of the goal?",
            f"How many points are missing for {ann} to win?",
            unit="points",
        )
    else:
        other = now + draw.pick(-1, 1) * draw.number(2, min(30, now - 2))
        story.say(
            f"{ben} has {other} points in the end.",
            f"{ben} finishes the same game with {other} points.",
            f"{ben}'s final score is {other} points.",
        )
        (low, less_name), (high, more_name) = sorted([(now, ann.name), (other, ben.name)])
        story.sub(high, low, f"{more_name} is [=] points ahead.", f"{more_name} has [=] points more than {less_name}.")
        story.ask(
            f"How many more points does {more_name} have than {less_name}?",
            f"By how many points is {more_name} ahead of {less_name}?",
            f"How many fewer points does {less_name} have than {more_name}?",
            unit="points",
        )


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
