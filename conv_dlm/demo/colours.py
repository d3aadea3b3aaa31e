"""The colours of steps: from pale to dark, so that their order is visible in greyscale too."""

# Lightness falls evenly in OKLab, from 0.955 to 0.355, while the hue turns from yellow by green to blue.
RAMP = ("#fbf2bd", "#bcdca0", "#73c39c", "#31a4a1", "#257e9a", "#385880", "#393858")
DARK, LIGHT = "#000000", "#ffffff"  # of letters


def step_colour(step: int, steps: int) -> str:
    """The colour of step `step` out of `steps`, counting from 1, as #rrggbb."""
    place = (len(RAMP) - 1) * (min(step, steps) - 1) / max(steps - 1, 1)
    below = min(int(place), len(RAMP) - 2)
    low, high = _channels(RAMP[below]), _channels(RAMP[below + 1])
    mixed = (round(a + (place - below) * (b - a)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def letter_colour(background: str) -> str:
    """Black or white, whichever has more contrast: at least 4.5 to 1 on any background."""
    light = luminance(background)
    return DARK if (light + 0.05) ** 2 > 1.05 * 0.05 else LIGHT


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb as WCAG 2 defines it, from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in _channels(colour))]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
