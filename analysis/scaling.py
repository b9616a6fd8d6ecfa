"""How throughput grows with concurrency: the knee, and whether contention shows. Pure.

Three laws are fitted to log X by least squares, and compared by the corrected Akaike criterion (AICc):

- bound: X = min(N / R0, C), the asymptotic bounds of a closed network (Denning and Buzen 1978); knee N* = R0 C;
- Amdahl: X = g N / (1 + a (N - 1));
- universal scalability law (Gunther 2007): X = g N / (1 + a (N - 1) + b N (N - 1)), peak at sqrt((1 - a) / b).

A plain queue has a corner, not a curve: the last law fits one there that means nothing. So it is named only when it
wins by 2, and its peak only when points beyond the peak surely fall.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadgen.estimate import student_t

Floats = npt.NDArray[np.float64]

Z = 1.96
POINTS_MIN = 5
"""Fewer levels than this carry no law."""

FLAT_MIN = 2
"""Levels beyond the knee: with one alone, nothing shows that throughput is flat there."""

AICC_WINS = 2.0
RESAMPLES = 200
NOISE_MIN = 1e-4
SPREAD = (2.5, 97.5)
ENOUGH = 0.95
"""Share of the capacity from which more concurrency buys next to nothing."""


@dataclass(frozen=True, slots=True)
class Level:
    """Throughput at one concurrency, with the limits of its 95 % interval where it has one."""

    concurrency: float
    throughput_per_s: float
    low_per_s: float | None = None
    high_per_s: float | None = None
    p99_ns: float | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A fitted value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a sweep says of a server: capacity, service at no load, knee; contention if the data demand it.

    `law` is `bound`, `amdahl` or `usl`; `peak` is None unless points beyond it surely fall.
    """

    law: str
    capacity_per_s: Known
    alone_s: Known
    knee: Known
    contention: float | None = None
    coherency: float | None = None
    peak: float | None = None


def scaling(levels: Sequence[Level]) -> Scaling | None:
    """Fit the laws to a sweep; None for fewer than 5 levels, or with fewer than 2 beyond the corner.

    Intervals are those of refits to throughputs redrawn from their own intervals, or from the scatter about the fit
    where that is larger.
    """
    levels = sorted((each for each in levels if each.throughput_per_s > 0), key=lambda each: each.concurrency)
    if len({each.concurrency for each in levels}) < POINTS_MIN:
        return None
    n = np.array([each.concurrency for each in levels], float)
    log_x = np.log([each.throughput_per_s for each in levels])
    alone, capacity = bound(n, log_x)
    if np.sum(n > alone * capacity) < FLAT_MIN:
        return None
    noise = np.maximum(_noise(levels), _scatter(log_x - _bound_log(n, alone, capacity)))
    fits = _redrawn(n, log_x, noise)
    found = {
        name: Known(value, *map(float, np.percentile(column, SPREAD)))
        for name, value, column in _named(fits, alone, capacity)
    }
    law, curve = _best_law(n, log_x, (alone, capacity))
    contention, coherency = curve or (None, None)
    peak = _peak(levels, contention, coherency) if contention is not None and coherency else None
    return Scaling(law, found["capacity"], found["alone"], found["knee"], contention, coherency, peak)


def bound(n: Floats, log_x: Floats) -> tuple[float, float]:
    """Fit min(N / R0, C): for every split into a rising and a flat part take the means, keep the best by squares."""
    best, chosen = math.inf, (math.nan, math.nan)
    for split in range(1, len(n)):
        alone = float(np.exp(np.mean(np.log(n[:split]) - log_x[:split])))
        capacity = float(np.exp(np.mean(log_x[split:])))
        squares = float(np.sum((log_x - _bound_log(n, alone, capacity)) ** 2))
        if squares < best:
            best, chosen = squares, (alone, capacity)
    return chosen


def curve(n: Floats, log_x: Floats, *, coherency: bool) -> tuple[float, float, float]:
    """Fit g, a, b of the universal scalability law to log X by Gauss-Newton, a, b >= 0; b = 0 is Amdahl's."""
    rate, a, b = math.exp(log_x[0]) / n[0], 0.05, 0.001 if coherency else 0.0
    damping = 1e-3
    squares = _squares(n, log_x, rate, a, b)
    for _ in range(200):
        below = 1 + a * (n - 1) + b * n * (n - 1)
        slopes = [np.ones_like(n), -(n - 1) / below, *([-n * (n - 1) / below] if coherency else [])]
        jacobian = np.stack(slopes, axis=1)
        residuals = log_x - _usl_log(n, rate, a, b)
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), jacobian.T @ residuals)
        steps = [float(each) for each in step]
        tried = rate * math.exp(steps[0]), max(a + steps[1], 0.0), max(b + steps[2], 0.0) if coherency else 0.0
        found = _squares(n, log_x, *tried)
        if found < squares:
            gained, (rate, a, b), squares, damping = squares - found, tried, found, damping / 3
            if gained <= 1e-14 * squares:
                break
        else:
            damping *= 4
            if damping > 1e12:  # noqa: PLR2004 - no step helps any more
                break
    return rate, a, b


def aicc(squares: float, points: int, parameters: int) -> float:
    """Return the corrected Akaike criterion of a least-squares fit; the variance counts as a parameter."""
    k = parameters + 1
    if points <= k + 1:
        return math.inf
    return points * math.log(max(squares, 1e-300) / points) + 2 * k + 2 * k * (k + 1) / (points - k - 1)


def recommended(levels: Sequence[Level], found: Scaling | None) -> tuple[Level, str] | None:
    """Return the least concurrency that reaches 95 % of what the server can do, and why; None without levels."""
    if not levels:
        return None
    best = max(levels, key=lambda each: each.throughput_per_s)
    # A capacity fitted through noise may lie above every point: nothing is asked that no point has shown.
    most = min(found.capacity_per_s.value, best.throughput_per_s) if found else best.throughput_per_s
    enough = [each for each in levels if each.throughput_per_s >= ENOUGH * most]
    chosen = min(enough, key=lambda each: each.concurrency)
    reason = f"the least that reaches {ENOUGH:.0%} of {most:.4g}/s"
    if found is not None:
        knee = f"{found.knee.value:.3g} ({found.knee.low:.3g} to {found.knee.high:.3g})"
        reason += f"; the knee is at {knee}, beyond it requests only wait"
    elif chosen.concurrency == max(each.concurrency for each in levels) and len(levels) > 1:
        reason += "; throughput was still growing, so more may do better"
    return chosen, reason


def _bound_log(n: Floats, alone: float, capacity: float) -> Floats:
    return np.asarray(np.minimum(np.log(n) - math.log(alone), math.log(capacity)))


def _usl_log(n: Floats, rate: float, a: float, b: float) -> Floats:
    return np.asarray(math.log(rate) + np.log(n) - np.log(1 + a * (n - 1) + b * n * (n - 1)))


def _squares(n: Floats, log_x: Floats, rate: float, a: float, b: float) -> float:
    return float(np.sum((log_x - _usl_log(n, rate, a, b)) ** 2))


def _best_law(n: Floats, log_x: Floats, line: tuple[float, float]) -> tuple[str, tuple[float, float] | None]:
    """Return the law that AICc prefers, by 2 if it is a curve, with the curve's contention and coherency."""
    scores = {"bound": aicc(float(np.sum((log_x - _bound_log(n, *line)) ** 2)), len(n), 2)}
    fits = {name: curve(n, log_x, coherency=name == "usl") for name in ("amdahl", "usl")}
    for parameters, (name, fit) in enumerate(fits.items(), start=2):
        scores[name] = aicc(_squares(n, log_x, *fit), len(n), parameters)
    simpler = min(scores["bound"], scores["amdahl"])
    if scores["usl"] <= simpler - AICC_WINS:
        return "usl", fits["usl"][1:]
    if scores["amdahl"] <= scores["bound"] - AICC_WINS:
        return "amdahl", (fits["amdahl"][1], 0.0)
    return "bound", None


def _peak(levels: Sequence[Level], contention: float, coherency: float) -> float | None:
    """Return the law's peak if a point beyond it is surely below the highest one."""
    if contention >= 1:
        return None
    peak = math.sqrt((1 - contention) / coherency)
    best = max(levels, key=lambda each: each.throughput_per_s)
    low = best.low_per_s if best.low_per_s is not None else best.throughput_per_s
    falls = [(each.high_per_s or each.throughput_per_s) < low for each in levels if each.concurrency > peak]
    return peak if any(falls) else None


def _noise(levels: Sequence[Level]) -> Floats:
    """Return the standard deviation of each log X that its interval tells, 0 where there is none."""
    halves = [
        (each.high_per_s - each.low_per_s) / 2 / each.throughput_per_s
        if each.low_per_s is not None and each.high_per_s is not None
        else 0.0
        for each in levels
    ]
    return np.array(halves) / Z


def _scatter(residuals: Floats) -> float:
    """Return the scatter about the fit, widened for the few points it is known from (Student's t)."""
    degrees = max(len(residuals) - 2, 1)
    return max(NOISE_MIN, math.sqrt(float(residuals @ residuals) / degrees) * student_t(degrees) / Z)


def _redrawn(n: Floats, log_x: Floats, noise: Floats) -> Floats:
    """Refit to redrawn throughputs; the same draws for the same sweep, so that a report is reproducible."""
    generator = np.random.default_rng(0)
    draws = log_x + noise * generator.standard_normal((RESAMPLES, len(n)))
    return np.array([bound(n, each) for each in draws])


def _named(fits: Floats, alone: float, capacity: float) -> list[tuple[str, float, Floats]]:
    return [
        ("alone", alone, fits[:, 0]),
        ("capacity", capacity, fits[:, 1]),
        ("knee", alone * capacity, fits[:, 0] * fits[:, 1]),
    ]
