"""Scenes of winning and losing: a season of several teams, and a game in rounds."""

from conv_dlm.word_problems.language import listing, people
from conv_dlm.word_problems.scenes.comparing import first_upper, round_above, spread, total
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story

TEAMS = ("Lions", "Tigers", "Bears", "Eagles", "Sharks", "Wolves", "Hawks", "Foxes")
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
