"""When requests are due: nanoseconds from the start of a load, absolute, so that no lateness adds up. Pure.

Arrivals of rate one are drawn once from the seed and stretched by the load's rate over time: so every rate of a
sweep, and both sides of a comparison, meet the same arrivals. A worker that drives a share takes every n-th request
of the whole, so that the shares together are the process that was asked for.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, count, cycle, islice

import numpy as np

from loadgen.plan import Arrivals, OpenLoop, Profile, Segment

NS_PER_S = 1_000_000_000
CHUNK = 1024


def offsets(load: OpenLoop | Profile, seed: int, share: int = 0, shares: int = 1) -> Iterator[int]:
    """Yield due times of a load, ascending; of `shares` workers this is number `share`.

    Ends where the load does: an open loop never, a profile that is not repeated after its last segment.
    """
    units = unit_arrivals(load.arrivals, load.cv, seed)
    return islice(_due(units, load), share, None, shares)


def unit_arrivals(arrivals: Arrivals, cv: float, seed: int) -> Iterator[float]:
    """Yield arrival times of a process of rate one.

    `constant`: 0, 1, 2, ...; `poisson`: exponential gaps; `gamma`: gaps with coefficient of variation `cv` (above 1:
    bursts). The generator is PCG64 from the seed.
    """
    if arrivals == "constant":
        yield from map(float, count())
        return
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    shape = 1 / cv**2
    time = 0.0
    while True:
        exponential = arrivals == "poisson"
        gaps = generator.exponential(1.0, CHUNK) if exponential else generator.gamma(shape, 1 / shape, CHUNK)
        for gap in gaps.tolist():
            time += gap
            yield time


def replayed(
    intervals_ns: Sequence[int], speed: float, *, repeat: bool, share: int = 0, shares: int = 1
) -> Iterator[int]:
    """Yield due times of a recorded trace: its intervals, `speed` times as fast, over and over if `repeat`."""
    gaps = cycle(intervals_ns) if repeat else iter(intervals_ns)
    return islice((round(total / speed) for total in accumulate(gaps)), share, None, shares)


def _due(units: Iterator[float], load: OpenLoop | Profile) -> Iterator[int]:
    if isinstance(load, OpenLoop):
        return (round(unit / load.rate_per_s * NS_PER_S) for unit in units)
    return _stretched(units, load)


def _stretched(units: Iterator[float], load: Profile) -> Iterator[int]:
    """Map arrivals of rate one to the times at which the profile's expected count reaches them."""
    begun_s, begun_count = 0.0, 0.0
    segments = cycle(load.segments) if load.repeat else iter(load.segments)
    segment = next(segments)
    for unit in units:
        while unit >= begun_count + _expected(segment):
            begun_s, begun_count = begun_s + segment.duration_s, begun_count + _expected(segment)
            following = next(segments, None)
            if following is None:
                return
            segment = following
        yield round((begun_s + _time_of(segment)(unit - begun_count)) * NS_PER_S)


def _expected(segment: Segment) -> float:
    return (segment.from_per_s + segment.to_per_s) / 2 * segment.duration_s


def _time_of(segment: Segment) -> Callable[[float], float]:
    """Return when, in a segment whose rate changes linearly, the expected count reaches a number."""
    slope = (segment.to_per_s - segment.from_per_s) / segment.duration_s
    start = segment.from_per_s
    # The root of start t + slope t^2 / 2 = n, in the form that holds for a slope of zero too.
    return lambda n: 2 * n / (start + math.sqrt(max(start * start + 2 * slope * n, 0.0))) if n else 0.0
