"""How sure a number is: intervals that respect autocorrelation, the end of warm-up, trends. Pure numpy.

A window is split into batches of equal time; what is correlated inside a batch does no harm, and what is left between
neighbouring batches widens the interval. Percentiles get theirs from the share of each batch that lies below them,
read back through the sorted values: averaging percentiles of batches would be biased.

Formulas: ratio estimator of batch means with a first-order autoregressive correction; Wilson limits at the effective
sample size (Korn and Graubard 1998); MSER truncation (White 1997). `benchmarks/coverage.py` measures how often the
intervals hold.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

BATCHES_MIN, BATCHES_MAX = 8, 20
REQUESTS_PER_BATCH = 10
REQUESTS_MIN = BATCHES_MIN * REQUESTS_PER_BATCH
"""With fewer requests no interval is given."""

INFLATION_LIMIT = 0.9
CORRELATED = 0.3
"""Correlation of neighbouring batches from which an interval is only a lower bound of the uncertainty."""

MERGED = (2, 4)
"""How many batches are taken as one where they correlate."""

WARMUP_SHARE_MAX = 1 / 3
WARMUP_BINS = 100
CONFIDENCE = 0.95
PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the limits of its interval; None where there is no telling, `high` also where it is unbounded.

    `effective` is how many independent requests would say as much; `correlation` that of neighbouring batches.
    """

    value: float
    low: float | None = None
    high: float | None = None
    effective: float | None = None
    correlation: float = 0.0

    @property
    def relative(self) -> float:
        """The larger side of the interval over the value; infinite where there is none."""
        if self.low is None or self.high is None or self.value <= 0:
            return math.inf
        return max(self.high - self.value, self.value - self.low) / self.value


@dataclass(frozen=True, slots=True)
class Trend:
    """Fitted change over the window relative to the mean, and how many standard errors it is."""

    change: float = 0.0
    t: float = 0.0


@dataclass(frozen=True, slots=True)
class Batches:
    """What of a window fell into each of its batches."""

    batch_ns: float
    counts: Floats
    duration_sums_ns: Floats


@dataclass(frozen=True, slots=True)
class Estimates:
    """All that is known of the good requests of a window; percentiles by percent."""

    requests: int
    throughput_per_s: Estimate
    mean_ns: Estimate | None = None
    percentiles_ns: Mapping[float, Estimate] = field(default_factory=dict)
    throughput_trend: Trend = Trend()
    mean_trend: Trend = Trend()
    batches: Batches | None = None

    @property
    def correlation(self) -> float:
        """The largest correlation of neighbouring batches, of throughput or mean."""
        return max(self.throughput_per_s.correlation, self.mean_ns.correlation if self.mean_ns else 0.0)


def estimates(
    done_ns: Integers, durations_ns: Integers, start_ns: int, end_ns: int, percents: Sequence[float] = PERCENTS
) -> Estimates:
    """Estimate throughput, mean and percentiles of the requests that ended in [start, end).

    `done_ns` and `durations_ns` are of good requests, in any order; others than those of the window are left out.
    """
    inside = (done_ns >= start_ns) & (done_ns < end_ns)
    done_ns, durations_ns = done_ns[inside], durations_ns[inside]
    requests, length_s = len(done_ns), (end_ns - start_ns) / 1e9
    if requests < REQUESTS_MIN:
        return _few(durations_ns, length_s, percents)
    count = min(BATCHES_MAX, max(BATCHES_MIN, requests // REQUESTS_PER_BATCH))
    of_batch = np.minimum((done_ns - start_ns) * count // (end_ns - start_ns), count - 1)
    counts = np.bincount(of_batch, minlength=count).astype(float)
    sums = np.bincount(of_batch, weights=durations_ns, minlength=count).astype(float)
    # One request more or less at an edge is always possible, even where every batch holds the same number.
    throughput = ratio(counts, np.full(count, length_s / count), floor=1 / length_s)
    ordered = np.sort(durations_ns)
    return Estimates(
        requests,
        throughput,
        ratio(sums, counts),
        {percent: quantile(ordered, durations_ns, of_batch, count, percent) for percent in percents},
        trend(counts),
        trend(sums / np.maximum(counts, 1)),
        Batches((end_ns - start_ns) / count, counts, sums),
    )


def rate(done_ns: Integers, start_ns: int, end_ns: int) -> Estimate:
    """Estimate how many of these events a second there are in [start, end); no interval for few of them."""
    inside = done_ns[(done_ns >= start_ns) & (done_ns < end_ns)]
    length_s = (end_ns - start_ns) / 1e9
    if len(inside) < REQUESTS_MIN:
        return Estimate(len(inside) / length_s)
    counts = _batch_counts(inside, start_ns, end_ns, BATCHES_MAX)
    return ratio(counts, np.full(BATCHES_MAX, length_s / BATCHES_MAX), floor=1 / length_s)


def _batch_counts(at_ns: Integers, start_ns: int, end_ns: int, batches: int) -> Floats:
    """Count events in each of so many equal parts of [start, end)."""
    of_batch = np.minimum((at_ns - start_ns) * batches // (end_ns - start_ns), batches - 1)
    return np.bincount(of_batch, minlength=batches).astype(float)


def ratio(numerators: Floats, denominators: Floats, floor: float = 0.0) -> Estimate:
    """Estimate sum(numerators) / sum(denominators), none negative; half the width is at least `floor`."""
    count, total = len(numerators), float(denominators.sum())
    value = float(numerators.sum()) / total
    residuals = numerators - value * denominators
    half = max(student_t(count - 1) * math.sqrt(variance(residuals)) / total, floor)
    return Estimate(value, max(0.0, value - half), value + half, None, neighbour_correlation(residuals))


def quantile(ordered: Integers, durations: Integers, of_batch: Integers, count: int, percent: float) -> Estimate:
    """Estimate a percentile of correlated values; `high` is None where too few lie above it to bound it."""
    share, size = percent / 100, len(ordered)
    value = nearest_rank(ordered, percent)
    below = np.bincount(of_batch, weights=durations <= value, minlength=count)
    sizes = np.bincount(of_batch, minlength=count).astype(float)
    residuals = below - below.sum() / size * sizes
    correlation = neighbour_correlation(residuals)
    effective = size / max(1.0, variance(residuals) / size / (share * (1 - share)))
    low, high = wilson(share, effective, student_t(count - 1))
    first, last = math.floor(size * low) - 1, math.ceil(size * high)
    return Estimate(
        value,
        float(ordered[max(first, 0)]),
        float(ordered[last]) if last < size and size * high <= size - 1 else None,
        effective,
        correlation,
    )


def nearest_rank(ordered: Integers, percent: float) -> float:
    """Return the nearest-rank percentile of sorted values: index floor(p/100 (n-1) + 1/2), as perf_analyzer."""
    return float(ordered[int(percent / 100 * (len(ordered) - 1) + 0.5)])


def wilson(share: float, size: float, t: float) -> tuple[float, float]:
    """Return Wilson's limits of a share seen in `size` independent trials, with `t` in place of the normal's z."""
    shrink = 1 + t * t / size
    centre = (share + t * t / (2 * size)) / shrink
    half = t / shrink * math.sqrt(share * (1 - share) / size + t * t / (4 * size * size))
    return centre - half, centre + half


def variance(residuals: Floats) -> float:
    """Return the variance of a sum over correlated batches, from the residuals of each.

    Where neighbours correlate visibly, batches of twice and four times the length are tried too, each with the
    Student's t of its number, and the widest answer is taken: a correlation longer than a few batches is more than
    the first-order correction sees. It makes intervals of slowly wandering servers hold oftener (docs/coverage.md).
    """
    count, correlation = len(residuals), neighbour_correlation(residuals)
    own = _batch_variance(residuals, correlation)
    if correlation <= CORRELATED:
        return own
    wider = [residuals.reshape(-1, merged).sum(axis=1) for merged in MERGED if count % merged == 0]
    scales = [(student_t(len(each) - 1) / student_t(count - 1)) ** 2 for each in wider]
    others = [_batch_variance(each, neighbour_correlation(each)) for each in wider]
    return max(own, *(scale * other for scale, other in zip(scales, others, strict=True)), 0.0)


def _batch_variance(residuals: Floats, correlation: float) -> float:
    count = len(residuals)
    return count / (count - 1) * float(residuals @ residuals) * inflation(correlation, count) ** 2


def neighbour_correlation(residuals: Floats) -> float:
    """Return the lag-one autocorrelation of a series; 0 for a constant one."""
    centred = residuals - residuals.mean()
    total = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / total if total > 0 else 0.0


def inflation(correlation: float, count: int) -> float:
    """Return by how much an interval widens for a series of `count` whose neighbours correlate so (AR(1)).

    1/count undoes the estimate's own bias to first order.
    """
    phi = min(max(correlation + 1 / count, 0.0), INFLATION_LIMIT)
    return math.sqrt((1 + phi) / (1 - phi))


def trend(series: Floats) -> Trend:
    """Fit a straight line to a series of batches."""
    count, mean = len(series), float(series.mean())
    place = np.arange(count) - (count - 1) / 2
    spread = float(place @ place)
    slope = float(place @ series) / spread
    residuals = series - mean - slope * place
    error = math.sqrt(float(residuals @ residuals) / (count - 2) / spread)
    error *= inflation(neighbour_correlation(residuals), count)
    if mean == 0 or slope == 0:
        return Trend()
    return Trend(slope * (count - 1) / mean, abs(slope) / error if error > 0 else math.inf)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where warm-up ends; `at_bound`: it had not ended within the third of the time that may be cut."""

    at_ns: int
    at_bound: bool


def warmup_cut(done_ns: Integers, durations_ns: Integers, start_ns: int, end_ns: int) -> Cut:
    """Find the end of warm-up of a load that began at `start_ns`: the later of MSER's cuts of rate and mean duration.

    MSER chooses the cut that makes the mean of what remains look surest: the least sum of squares over its squared
    length. It never cuts more than a third, so that at least twice of what is thrown away is kept.
    """
    inside = (done_ns >= start_ns) & (done_ns < end_ns)
    done_ns, durations_ns = done_ns[inside], durations_ns[inside]
    if len(done_ns) < REQUESTS_MIN:
        return Cut(start_ns, at_bound=False)
    bins = int(min(WARMUP_BINS, max(BATCHES_MAX, len(done_ns) // 5)))
    of_bin = np.minimum((done_ns - start_ns) * bins // (end_ns - start_ns), bins - 1)
    counts = np.bincount(of_bin, minlength=bins).astype(float)
    sums = np.bincount(of_bin, weights=durations_ns, minlength=bins)
    filled = np.flatnonzero(counts)
    means = np.interp(np.arange(bins), filled, sums[filled] / counts[filled])
    cuts = [mser(series) for series in (counts, means)]
    limit = int(bins * WARMUP_SHARE_MAX)
    return Cut(start_ns + max(cuts) * (end_ns - start_ns) // bins, at_bound=max(cuts) >= limit)


def mser(series: Floats) -> int:
    """Return how many leading values to drop, at most a third: White's MSER."""
    count = len(series)
    series = series - series.mean()  # so that squares of large numbers do not drown their differences
    left = np.arange(count, 0, -1)
    total, squares = np.cumsum(series[::-1])[::-1], np.cumsum((series * series)[::-1])[::-1]
    scores = np.maximum(squares - total * total / left, 0) / (left * left)
    return int(np.argmin(scores[: int(count * WARMUP_SHARE_MAX) + 1]))


def student_t(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided quantile of Student's t (Cornish-Fisher, Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / degrees**power for power, term in enumerate(terms))


def _few(durations_ns: Integers, length_s: float, percents: Sequence[float]) -> Estimates:
    throughput = Estimate(len(durations_ns) / length_s)
    if len(durations_ns) == 0:
        return Estimates(0, throughput)
    ordered = np.sort(durations_ns)
    values = {percent: Estimate(nearest_rank(ordered, percent)) for percent in percents}
    return Estimates(len(durations_ns), throughput, Estimate(float(ordered.mean())), values)
