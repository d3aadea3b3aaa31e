"""Expressions for the decimal numbers in a range."""

DIGITS = "[0-9]"


def integers(low: int | None, high: int | None) -> str | None:
    """The integers from `low` to `high`, None for no bound; None where there is none."""
    if low is not None and high is not None and low > high:
        return None
    if low is None and high is None:
        return "-?(?:0|[1-9][0-9]*)"
    parts = []
    if low is None or low < 0:
        least = 1 if high is None or high >= 0 else -high
        parts.append("-" + _alternatives(naturals(least, None if low is None else -low)))
    if high is None or high >= 0:
        parts.append(naturals(max(low or 0, 0), high))
    return _alternatives(*parts)


def naturals(low: int, high: int | None) -> str:
    """The integers from `low` >= 0 to `high`, without leading zeros."""
    parts = []
    length = len(str(low))
    while high is None or low <= high:
        if high is None:
            parts += [*_same_length(str(low), "9" * length), f"[1-9]{_repeated(length, None)}"]
            break
        last = min(high, 10**length - 1)
        parts += _same_length(str(low), str(last))
        low, length = last + 1, length + 1
    return _alternatives(*parts)


def decimals(low: int | None, high: int | None, without_low: bool = False, without_high: bool = False) -> str | None:
    """Numbers with or without a fraction from `low` to `high`, with or without these two; None where there is none."""
    if low is None and high is None:
        return "-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
    parts = []
    if high is None or high > 0 or (high == 0 and not without_high):
        at_zero = low is not None and low >= 0
        parts.append(_magnitudes(low if at_zero and low else 0, high, at_zero and without_low, without_high))
    if low is None or low < 0:
        at_zero = high is None or high >= 0
        least = 0 if at_zero or high is None else -high
        below = _magnitudes(
            least,
            None if low is None else -low,
            without_high if not at_zero else high == 0 and without_high,
            without_low,
        )
        parts.append(None if below is None else f"-{below}")
    found = [part for part in parts if part is not None]
    return _alternatives(*found) if found else None


def _magnitudes(low: int, high: int | None, without_low: bool, without_high: bool) -> str | None:
    """Numbers from `low` >= 0 to `high`, with or without these two."""
    if high is not None and (low > high or (low == high and (without_low or without_high))):
        return None
    parts = []
    if low != high:  # those with low, low + 1, ... high - 1 before the point
        if without_low:
            parts.append(f"{low}\\.[0-9]*[1-9][0-9]*")
        begin = low + without_low
        if high is None or begin <= high - 1:
            parts.append(f"{naturals(begin, None if high is None else high - 1)}(?:\\.[0-9]+)?")
    if high is not None and not without_high:
        parts.append(f"{high}(?:\\.0+)?")
    return _alternatives(*parts)


def _same_length(low: str, high: str) -> list[str]:
    """Expressions for the numbers from `low` to `high`, which have as many digits."""
    if low == high:
        return [low]
    if len(low) == 1:
        return [f"[{low}-{high}]"]
    rest = len(low) - 1
    lowest, highest = "0" * rest, "9" * rest
    if low[0] == high[0]:
        return [low[0] + _alternatives(*_same_length(low[1:], high[1:]))]
    first, last, parts = int(low[0]), int(high[0]), []
    if low[1:] != lowest:
        parts.append(low[0] + _alternatives(*_same_length(low[1:], highest)))
        first += 1
    if high[1:] != highest:
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}]{_repeated(rest, rest)}")
    if high[1:] != highest:
        parts.append(high[0] + _alternatives(*_same_length(lowest, high[1:])))
    return parts


def _repeated(least: int, most: int | None) -> str:
    return f"{DIGITS}{{{least}}}" if least == most else f"{DIGITS}{{{least},{'' if most is None else most}}}"


def _alternatives(*parts: str) -> str:
    return f"(?:{'|'.join(parts)})"
