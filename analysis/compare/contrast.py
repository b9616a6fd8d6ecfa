"""How two sides differ in one number: estimate, standard error, degrees of freedom. Pure.

Four bases, by what there is: `takes` (each side several: Welch; one side several: its scatter is taken for both),
`pairs` (several a side, taken in turns: Student's t of the pairs' differences),
`floor` (one take a side, and the scatter between takes known from elsewhere), `windows` (one take a side: its own
interval, which knows nothing of what a restart changes).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import stats
from loadgen.estimate import student_t

WINDOW_DEGREES = 19
"""Intervals of a window come from 20 batches of time."""


@dataclass(frozen=True, slots=True)
class Value:
    """One take's number with the limits of its own interval, None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Scatter:
    """Standard deviation of the logarithm of one number from take to take, as seen elsewhere."""

    deviation: float
    degrees: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """Side B minus side A, of logarithms or of the numbers themselves."""

    value: float
    error: float
    degrees: float
    basis: str

    def half(self, confidence: float = 0.95) -> float:
        """Return half the width of the interval."""
        return stats.critical((1 - confidence) / 2, self.degrees) * self.error

    def above(self, limit: float) -> float:
        """Return the p-value of "not above the limit": small where B - A is shown to be above."""
        if self.error == 0:
            return 0.0 if self.value > limit else 1.0
        return stats.tail((self.value - limit) / self.error, self.degrees)

    def below(self, limit: float) -> float:
        """Return the p-value of "not below the limit"."""
        if self.error == 0:
            return 0.0 if self.value < limit else 1.0
        return stats.tail((limit - self.value) / self.error, self.degrees)

    def differs(self) -> float:
        """Return the two-sided p-value of "no difference"."""
        return min(1.0, 2 * min(self.above(0.0), self.below(0.0)))

    def beyond(self, margin: float) -> float:
        """Return the p-value of "within the margin": small where the difference surely matters."""
        return min(1.0, 2 * min(self.above(margin), self.below(-margin)))

    def equivalent(self, margin: float) -> float:
        """Return the p-value of "beyond the margin" by two one-sided tests (Schuirmann 1987)."""
        return max(self.below(margin), self.above(-margin))


def of_ratio(
    a: Sequence[Value], b: Sequence[Value], floor: Scatter | None = None, *, paired: bool = False
) -> Contrast | None:
    """Return log(B / A); None where a value is not above 0, or nothing tells how sure it is.

    `paired`: the k-th of one side belongs to the k-th of the other; there are as many of each.
    """
    if any(one.value <= 0 for one in (*a, *b)):
        return None
    if min(len(a), len(b)) == max(len(a), len(b)) == 1 and floor is not None:
        return _of_floor(a[0], b[0], floor)
    return _contrast(a, b, math.log, paired=paired)


def of_difference(
    a: Sequence[Value], b: Sequence[Value], floor: Scatter | None = None, *, paired: bool = False
) -> Contrast | None:
    """Return B - A; None where nothing tells how sure it is.

    Where there is a ratio, it is that of the geometric means by the delta method: their logarithmic mean times the
    contrast of logarithms, so that both say the same. Else (a value is not above 0) of the plain means.
    """
    ratio = of_ratio(a, b, floor, paired=paired)
    if ratio is None:
        return _contrast(a, b, lambda value: value, paired=paired)
    means = [geometric([one.value for one in side]) for side in (a, b)]
    scale = (means[1] - means[0]) / math.log(means[1] / means[0]) if means[0] != means[1] else means[0]
    return Contrast(scale * ratio.value, scale * ratio.error, ratio.degrees, ratio.basis)


def geometric(values: Sequence[float]) -> float:
    """Return the geometric mean, or the plain one where a value is not above 0."""
    if len(values) == 1 or min(values) <= 0:
        return math.fsum(values) / len(values)
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _contrast(
    a: Sequence[Value], b: Sequence[Value], scale: Callable[[float], float], *, paired: bool
) -> Contrast | None:
    if len(a) == len(b) == 1:
        return _of_windows(a[0], b[0], scale)
    sides = [np.array([scale(one.value) for one in side]) for side in (a, b)]
    value = float(sides[1].mean() - sides[0].mean())
    counts = [len(side) for side in sides]
    if paired:
        deviation = float((sides[1] - sides[0]).std(ddof=1))
        return Contrast(value, deviation / math.sqrt(counts[0]), counts[0] - 1, "pairs")
    if min(counts) == 1:
        several = max(sides, key=len)
        error = float(several.std(ddof=1)) * math.sqrt(sum(1 / count for count in counts))
        return Contrast(value, error, max(counts) - 1, "takes")
    shares = [float(side.var(ddof=1)) / len(side) for side in sides]
    total = sum(shares)
    spread = sum(share**2 / (count - 1) for share, count in zip(shares, counts, strict=True))
    return Contrast(value, math.sqrt(total), total**2 / spread if spread else min(counts) - 1, "takes")


def _of_windows(a: Value, b: Value, scale: Callable[[float], float]) -> Contrast | None:
    halves = []
    for one in (a, b):
        if one.low is None or one.high is None or (scale is math.log and one.low <= 0):
            return None
        halves.append(max(scale(one.high) - scale(one.value), scale(one.value) - scale(one.low)))
    error = math.hypot(*halves) / student_t(WINDOW_DEGREES)
    return Contrast(scale(b.value) - scale(a.value), error, WINDOW_DEGREES, "windows")


def _of_floor(a: Value, b: Value, floor: Scatter) -> Contrast:
    """Take the scatter of takes for each side, or the windows' own intervals where they are wider."""
    own = _of_windows(a, b, math.log)
    error = math.sqrt(2) * floor.deviation
    if own is not None and own.half() > stats.critical(0.025, floor.degrees) * error:
        return own
    return Contrast(math.log(b.value / a.value), error, floor.degrees, "floor")


def mean_of(contrasts: Sequence[Contrast]) -> Contrast | None:
    """Return the mean of independent contrasts of single takes: the whole sweep's."""
    if not contrasts:
        return None
    count = len(contrasts)
    error = math.sqrt(sum(one.error**2 for one in contrasts)) / count
    if any(one.basis == "floor" for one in contrasts):
        # What shifts a take shifts all its points alike: their errors do not average out.
        error = max(one.error for one in contrasts)
    return Contrast(
        sum(one.value for one in contrasts) / count, error, min(one.degrees for one in contrasts), contrasts[0].basis
    )


def scatter(groups: Sequence[Sequence[float]]) -> Scatter | None:
    """Return the scatter from take to take, pooled over groups of takes of one thing; None without two of any."""
    logs = [np.log(np.asarray(group)) for group in groups if len(group) > 1 and min(group) > 0]
    degrees = sum(len(group) - 1 for group in logs)
    if not degrees:
        return None
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in logs)
    return Scatter(math.sqrt(squares / degrees), degrees)
