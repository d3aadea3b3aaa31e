"""Bare sums, as on a worksheet."""

from conv_dlm.word_problems.language import person
from conv_dlm.word_problems.scenes.registry import scene
from conv_dlm.word_problems.story import Story


@scene(levels=(1, 1))
def worksheet(story: Story, level: int) -> None:
    """One sum, over the whole range of values."""
    draw = story.draw
    kind = draw.pick("add", "sub", "mul", "div")
    if kind == "add":
        a = draw.number(2, story.limit - 2)
        b = draw.number(2, story.limit - a)
        story.add(a, b, "[=]", "The sum is [=].")
        story.ask(f"What is {a} + {b}?", f"Add {a} and {b}.", f"Work out {a} plus {b}.", unit="")
    elif kind == "sub":
        a = draw.number(4, story.limit)
        b = draw.number(2, a - 2)
        story.sub(a, b, "[=]", "The difference is [=].")
        story.ask(f"What is {a} - {b}?", f"Subtract {b} from {a}.", f"Work out {a} minus {b}.", unit="")
    elif kind == "mul":
        a, b = draw.number(2, 12), draw.number(2, draw.pick(12, 40))
        story.mul(a, b, "[=]", "The product is [=].")
        story.ask(f"What is {a} * {b}?", f"Multiply {a} by {b}.", f"Work out {a} times {b}.", unit="")
    else:
        b, quotient = draw.number(2, 12), draw.number(2, draw.pick(12, 40))
        story.div(b * quotient, b, "[=]", "The quotient is [=].")
        story.ask(
            f"What is {b * quotient} / {b}?",
            f"Divide {b * quotient} by {b}.",
            f"Work out how often {b} goes into {b * quotient}.",
            unit="",
        )


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
