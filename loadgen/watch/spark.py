"""A line of values in one row of characters. Pure."""

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*%#"
GAP, PLAIN_GAP = "·", " "


def spark(values: Sequence[float | None], top: float, *, plain: bool = False) -> str:
    """Return a bar a value, from 0 to `top`; None is a gap, NaN (before the first value) a blank.

    What lies above `top` has the highest bar. Where a terminal has no such characters, `plain` uses ASCII.
    """
    bars, gap = (PLAIN_BARS, PLAIN_GAP) if plain else (BARS, GAP)
    return "".join(_bar(value, top, bars, gap) for value in values)


def _bar(value: float | None, top: float, bars: str, gap: str) -> str:
    if value is None:
        return gap
    if math.isnan(value):
        return " "
    if top <= 0:
        return bars[0]
    return bars[min(len(bars) - 1, max(0, round(value / top * (len(bars) - 1))))]


def highest(values: Sequence[float | None]) -> float:
    """Return the largest value that is known, or 0."""
    return max((value for value in values if value is not None and not math.isnan(value)), default=0.0)
