"""From p-values to words: different, probably different, equivalent, or cannot tell and what it would take. Pure."""

import math
from dataclasses import dataclass

from analysis import stats
from analysis.compare.contrast import Contrast

ALPHA = 0.05
MANY = 1000
TAIL_PERCENTILES = ("p95", "p99")


@dataclass(frozen=True, slots=True)
class Chances:
    """p-values of one contrast, as they are or adjusted for being one of many."""

    differs: float
    beyond: float
    equivalent: float


def margin_of(quantity: str) -> float:
    """Return the relative difference that does not matter: 2 %, of p95 and above 5 %."""
    return stats.P99_MARGIN if any(name in quantity for name in TAIL_PERCENTILES) else stats.MARGIN


def chances(of: Contrast, margin: float) -> Chances:
    """Return the p-values of a contrast of logarithms."""
    limit = math.log1p(margin)
    return Chances(of.differs(), of.beyond(limit), of.equivalent(limit))


def adjusted(of: list[Chances]) -> list[Chances]:
    """Return p-values adjusted for being many, each kind of claim for itself (Holm)."""
    kinds = [stats.holm([getattr(one, kind) for one in of]) for kind in ("differs", "beyond", "equivalent")]
    return [Chances(*values) for values in zip(*kinds, strict=True)]


def word(of: Chances) -> str:
    """Return the verdict in a word or two."""
    if of.beyond < ALPHA:
        return "different"
    if of.equivalent < ALPHA:
        return "equivalent"
    return "probably different" if of.differs < ALPHA else "cannot tell"


def direction(quantity: str, log_ratio: float) -> str:
    """Return how the second side is where it differs: `faster` and `slower` where that is meant."""
    more = log_ratio > 0
    if quantity.endswith("_ns"):
        return "slower" if more else "faster"
    if quantity == "throughput_per_s":
        return "faster" if more else "slower"
    return "higher" if more else "lower"


def sentence(verdict: str, quantity: str, contrast: Contrast, margin: float, takes: tuple[int, int]) -> str:
    """Say the verdict with the change, its interval, and the number of takes or that there was one a side."""
    how, change = direction(quantity, contrast.value), changed(contrast)
    if verdict == "different":
        return f"{how}: {change}"
    if verdict == "probably different":
        return f"probably {how}, size uncertain: {change}"
    if verdict == "equivalent":
        return f"equivalent within {100 * margin:.3g} %: {change}"
    among = ", as one of several points" if abs(contrast.value) > contrast.half() else ""
    return f"cannot tell{among}: {change}; {longer(contrast, margin, takes)}"


def changed(contrast: Contrast) -> str:
    """Return a relative change with its 95 % interval: `+4.5 % (+3.1 to +5.9)`."""
    half = contrast.half()
    value, low, high = (100 * math.expm1(contrast.value + step) for step in (0.0, -half, half))
    return f"{value:+.1f} % ({low:+.1f} to {high:+.1f})"


def longer(contrast: Contrast, margin: float, takes: tuple[int, int]) -> str:
    """Say what it would take to tell: the interval shrinks as the root of the time, or of the number of takes."""
    half, size, limit = contrast.half(), abs(contrast.value), math.log1p(margin)
    wanted = max(limit - size, size, limit / 2)
    factor = (half / wanted) ** 2
    if contrast.basis == "windows":
        return f"{_about(max(2, factor))} times longer would"
    least = max(takes) + 1
    return f"{_about(max(least, max(takes) * factor))} takes a side would"


def _about(count: float) -> str:
    return f"about {math.ceil(count)}" if count <= MANY else f"more than {MANY:,}"
