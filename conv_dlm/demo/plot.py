"""The plot of position against step, as SVG: which positions of the canvas each step unmasked."""

from conv_dlm.demo.colours import step_colour
from conv_dlm.demo.recording import GIVEN, Frame

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 38  # margins with ticks and labels
MOST_TICKS = 5


def plot(frame: Frame, steps: int, now: int) -> str:
    """Draw a dot for each unmasked position: filled for text, hollow after its end.

    Args:
        frame (`Frame`): the last frame of a run.
        steps (`int`): the last step on the axis.
        now (`int`): the step marked by a line; dots of later steps are faint.
    """
    length = len(frame.ids)
    x, y = Scale(1, steps, LEFT, WIDTH - RIGHT), Scale(1, length, HEIGHT - BOTTOM, TOP)
    dots = [
        _dot(x(since), y(place + 1), since, steps, place < frame.end, since > now)
        for place, since in enumerate(frame.since.tolist())
        if since > GIVEN
    ]
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="position against step">'
        + _axes(x, y)
        + (f'<line class="now" x1="{x(now)}" x2="{x(now)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>' if now else "")
        + "".join(dots)
        + "</svg>"
    )


class Scale:
    """Maps whole numbers to coordinates."""

    def __init__(self, first: int, last: int, start: float, end: float) -> None:
        self.first, self.last, self.start, self.end = first, last, start, end

    def __call__(self, number: int) -> float:
        share = (number - self.first) / max(self.last - self.first, 1)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[int]:
        """The first number, and at most `MOST_TICKS` round numbers that are not too close to it."""
        spaces = (base * 10**power for power in range(9) for base in (1, 2, 5))
        space = next(space for space in spaces if self.last / space <= MOST_TICKS)
        return [self.first, *(n for n in range(space, self.last + 1, space) if n - self.first > space / 2)]


def _axes(x: Scale, y: Scale) -> str:
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    parts = [f'<path class="axis" d="M{LEFT - 6},{TOP} V{bottom + 6} H{WIDTH - RIGHT}"/>']
    parts += [f'<text x="{x(n)}" y="{bottom + 19}" text-anchor="middle">{n}</text>' for n in x.ticks()]
    parts += [f'<text x="{LEFT - 11}" y="{y(n) + 3.5}" text-anchor="end">{n}</text>' for n in y.ticks()]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text>')
    turned = f'transform="rotate(-90 10 {middle})"'
    parts.append(f'<text x="10" y="{middle + 3.5}" {turned} text-anchor="middle">position</text>')
    return "".join(parts)


def _dot(x: float, y: float, since: int, steps: int, is_text: bool, later: bool) -> str:
    classes = " ".join(["dot", *([] if is_text else ["behind"]), *(["later"] if later else [])])
    fill = step_colour(since, steps) if is_text else "none"
    return f'<circle class="{classes}" cx="{x}" cy="{y}" r="3" fill="{fill}"/>'
