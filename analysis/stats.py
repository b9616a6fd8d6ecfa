"""Is one thing faster than another: ratios of two sides, with intervals, and the words for them. Pure.

The take is the unit: within one take an interval says how well the take is known, not how well it repeats. So two
sides of several takes are compared by Welch's test on the logarithms of one number a take; two single points only by
their own intervals, which is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from loadgen.estimate import Floats, student_t

MARGIN, P99_MARGIN = 0.02, 0.05
"""Relative differences that do not matter: of throughput, mean and p50; of p99."""

TAIL_DEGREES_MAX = 1e4
TAIL_REACH, TAIL_NODES = 12.0, 200
BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Ratio:
    """Side B over side A with its 95 % interval; `takes` are how many of each went in."""

    value: float
    low: float
    high: float
    takes: tuple[int, int]

    @property
    def half(self) -> float:
        """Half of the interval's width, relative."""
        return (math.log(self.high) - math.log(self.low)) / 2

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 1."""
        return not self.low <= 1 <= self.high


def ratio_of_takes(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Compare sides of at least two takes each: Welch's interval of the difference of mean logarithms.

    Raises:
        ValueError: a side has fewer than two takes, or a value is not above 0.
    """
    if min(len(a), len(b)) < 2 or min(*a, *b) <= 0:  # noqa: PLR2004 - a spread needs two
        raise ValueError("a side needs at least two takes, all above 0")
    sides = [np.log(np.asarray(side, float)) for side in (a, b)]
    shares = [float(side.var(ddof=1)) / len(side) for side in sides]
    error = math.sqrt(sum(shares))
    degrees = (
        sum(shares) ** 2 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True))
        if error
        else math.inf
    )
    return _ratio(float(sides[1].mean() - sides[0].mean()), _t(degrees) * error, (len(a), len(b)))


def ratio_of_points(a: tuple[float, float, float], b: tuple[float, float, float]) -> Ratio:
    """Compare two single values by their own 95 % intervals, each (value, low, high).

    The interval holds for the two windows that were measured, not for what another take would show.
    """
    halves = [max(math.log(high / value), math.log(value / low)) for value, low, high in (a, b)]
    return _ratio(math.log(b[0] / a[0]), math.hypot(*halves), (1, 1))


def words(ratio: Ratio, *, margin: float = MARGIN, more: str = "higher", less: str = "lower") -> str:
    """Say what an interval of a ratio means, given the difference that does not matter."""
    change = f"{ratio.value - 1:+.1%} ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%})"
    name = more if ratio.value > 1 else less
    limit = math.log1p(margin)
    low, high = math.log(ratio.low), math.log(ratio.high)
    if low > limit or high < -limit:
        return f"{name}: {change}"
    if ratio.differs:
        return f"probably {name}, size uncertain: {change}"
    if -limit < low and high < limit:
        return f"no difference that matters: {change}, margin {margin:.0%}"
    takes = max(ratio.takes)
    needed = max(takes + 1, math.ceil(takes * (ratio.half / limit) ** 2))
    return f"cannot tell: {change}; about {needed} takes a side would"


def mean_of_takes(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the geometric mean of one number a take with its 95 % interval (t on logarithms); none for one take."""
    logs = np.log(np.asarray(values, float))
    centre = float(logs.mean())
    if len(logs) < 2:  # noqa: PLR2004 - a spread needs two
        return math.exp(centre), None, None
    half = _t(len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def tail(t: float, degrees: float) -> float:
    """Return the probability that Student's t exceeds `t`; at least one degree of freedom is taken.

    By the angle of t over root degrees, whose density is a power of the cosine: Gauss-Legendre over what is left.
    """
    if t == 0:
        return 0.5
    if t < 0:
        return 1 - tail(-t, degrees)
    degrees = min(max(degrees, 1.0), TAIL_DEGREES_MAX)
    start = math.atan(t / math.sqrt(degrees))
    end = min(math.pi / 2, start + TAIL_REACH / math.sqrt(degrees))
    nodes, weights = _legendre()
    angles = start + (end - start) * (nodes + 1) / 2
    # lgamma of the halves: the integral over the whole quarter turn is root(pi) gamma(v/2) / (2 gamma((v+1)/2)).
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    return float(scale * (end - start) / 2 * (weights @ np.cos(angles) ** (degrees - 1)))


@cache
def _legendre() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(TAIL_NODES)


@cache
def critical(share: float, degrees: float) -> float:
    """Return the t that Student's t exceeds with this probability (below one half)."""
    low, high = 0.0, 1.0
    while tail(high, degrees) > share:
        high *= 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, degrees) > share else (low, middle)
    return (low + high) / 2


def holm(probabilities: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being many (Holm 1979): those below 5 % hold together with 95 % confidence."""
    order = sorted(range(len(probabilities)), key=lambda place: probabilities[place])
    adjusted, most = [0.0] * len(probabilities), 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (len(probabilities) - rank) * probabilities[place]))
        adjusted[place] = most
    return adjusted


def _ratio(log: float, half: float, takes: tuple[int, int]) -> Ratio:
    return Ratio(math.exp(log), math.exp(log - half), math.exp(log + half), takes)


def _t(degrees: float) -> float:
    """Return Student's 97.5 % quantile; exact where its expansion is not: below 7 degrees."""
    if degrees >= 7:  # noqa: PLR2004 - the expansion is within 0.03 % from here
        return student_t(min(round(degrees), 10**6))
    return float(np.interp(degrees, range(1, 8), (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365)))
