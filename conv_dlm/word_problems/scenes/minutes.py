"""Scenes of minutes and seconds: a timetable, rides in an elevator, a hike."""

from conv_dlm.word_problems.draw import RejectedDrawError
from conv_dlm.word_problems.language import order, person
from conv_dlm.word_problems.scenes.plans import pieces
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

PASTIMES = ("piano practice", "reading", "homework", "painting", "dancing", "singing", "cooking", "gardening", "chess")
TASKS = (("letters", "write"), ("windows", "clean"), ("shirts", "iron"), ("pictures", "frame"), ("beds", "make"))


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
