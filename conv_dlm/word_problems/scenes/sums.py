"""Bare sums, as on a worksheet."""

from conv_dlm.word_problems.language import person
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 12))
def worksheet(story: Story, level: int) -> None:
    """Sums that have nothing to do with each other, over the whole range of values."""
    asked = [_bare_sum(story) for _ in range(level)]
    if level > 1:
        story.say(
            f"Here is a worksheet: {'; '.join(asked)}.",
            f"Work these out one after the other: {'; '.join(asked)}.",
            f"Solve all of these: {'; '.join(asked)}.",
        )
        story.ask("What is the last result?", "What does the last one give?", "How much is the last one?", unit="")
        return
    (only,) = asked
    a, operator, b = only.split()
    verb, joint = {"+": ("Add", "and"), "-": ("Take", "minus"), "*": ("Multiply", "by"), "/": ("Divide", "by")}[
        operator
    ]
    sign = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[operator]
    story.ask(f"What is {only}?", f"{verb} {a} {joint} {b}.", f"Work out {a} {sign} {b}.", unit="")


def _bare_sum(story: Story) -> str:
    """An operation on small or large numbers, worked out; returns it as it is asked."""
    draw = story.draw
    kind = draw.pick("+", "+", "-", "-", "*", "/")
    top = draw.pick(story.limit // 5, story.limit // 2, story.limit)
    if kind == "+":
        a = draw.number(2, top - 2)
        b = draw.number(2, top - a)
        story.add(a, b, "[=]")
    elif kind == "-":
        a = draw.number(4, top)
        b = draw.number(2, a - 2)
        story.sub(a, b, "[=]")
    elif kind == "*":
        a, b = draw.number(2, 12), draw.number(2, draw.pick(12, 12, 40))
        story.mul(a, b, "[=]")
    else:
        b = draw.number(2, 12)
        a = b * draw.number(2, draw.pick(12, 12, 40))
        story.div(a, b, "[=]")
    return f"{a} {kind} {b}"


@scene(levels=(2, 12))
def secret_number(story: Story, level: int) -> None:
    """Somebody changes a number, step by step."""
    draw = story.draw
    ann = person(draw)
    now = draw.number(2, 60)
    story.say(
        f"{ann} thinks of the number {now}.",
        f"{ann} writes {now} on the board.",
        f"{ann} starts from {now}.",
    )
    for i in range(level):
        then = draw.pick("Then", "Next", "After that") if i else "First"
        kind = draw.pick("add", "add", "sub", "sub", "double", "mul", "half", "div")
        if kind == "add":
            n = draw.number(2, 60)
            story.say(
                f"{then}, {ann.he} adds {n}.",
                f"{then}, {ann.he} puts {n} on top.",
                f"{then}, {ann.he} makes it {n} more.",
            )
            now = story.add(now, n, "Adding gives [=].", f"{ann} gets [=].")
        elif kind == "sub":
            n = draw.number(2, max(2, min(60, now - 2)))
            story.say(
                f"{then}, {ann.he} subtracts {n}.",
                f"{then}, {ann.he} takes away {n}.",
                f"{then}, {ann.he} makes it {n} less.",
            )
            now = story.sub(now, n, "Taking away gives [=].", f"{ann} gets [=].")
        elif kind == "double":
            story.say(
                f"{then}, {ann.he} doubles it.",
                f"{then}, {ann.he} takes it twice.",
                f"{then}, {ann.he} makes it twice as large.",
            )
            now = story.mul(now, 2, "Doubling gives [=].", f"{ann} gets [=].")
        elif kind == "mul":
            n = draw.number(3, 10)
            story.say(
                f"{then}, {ann.he} multiplies by {n}.",
                f"{then}, {ann.he} takes it times {n}.",
                f"{then}, {ann.he} makes it {n} times as large.",
            )
            now = story.mul(now, n, "Multiplying gives [=].", f"{ann} gets [=].")
        elif kind == "half":
            story.say(
                f"{then}, {ann.he} halves it.",
                f"{then}, {ann.he} takes half of it.",
                f"{then}, {ann.he} makes it half as large.",
            )
            now = story.div(now, 2, "Halving gives [=].", f"{ann} gets [=].")
        else:
            n = draw.number(3, 10)
            story.say(
                f"{then}, {ann.he} divides by {n}.",
                f"{then}, {ann.he} shares it out among {n}.",
                f"{then}, {ann.he} splits it by {n}.",
            )
            now = story.div(now, n, "Dividing gives [=].", f"{ann} gets [=].")
    story.ask(f"What number does {ann} have now?", "What is the result?", f"Which number does {ann} end with?", unit="")
