"""Was it steady, and is it sure enough: looks at a growing record, and the word for what they find. Pure.

A point is looked at when it is `min_s` old, then at times that grow by half: looking more often would stop too early
by luck. It may stop when two looks in a row find it steady and as precise as asked, and agree. However it ends, the
point is kept with its word: nothing that was measured is dropped for being unsteady or imprecise.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from loadgen import estimate
from loadgen.estimate import Cut, Estimate, Estimates, Integers, Trend
from loadgen.plan import ByPrecision

LOOK_GROWTH = 1.5
LATENCIES_AT_FIRST_LOOK = 40
AGREEMENT = 1.5
"""Two looks agree if their throughputs differ by no more than this times the precision asked."""

DRIFT_CHANGE, DRIFT_T = 0.03, 3.0
OVERLOAD_GAP, OVERLOAD_T = 0.01, 2.5
LATENCIES_FOR_P99 = 100
UNBOUNDED_FACTOR = 3.1
"""A percentile p is bounded above from about this over 1 - p independent requests."""

STEADY = ("converged", "unconfirmed", "imprecise")
"""Words of points whose intervals mean what they say."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a record shows at one time; `cut` is where warm-up ends."""

    at_ns: int
    cut: Cut
    found: Estimates


@dataclass(frozen=True, slots=True)
class Judgement:
    """One of `converged`, `unconfirmed`, `imprecise`, `warming`, `drifting`, `too_few`, and why."""

    status: str
    reason: str


VARYING = Judgement("varying", "the load varies by design: its intervals are not those of a steady state")


def look(done_ns: Integers, durations_ns: Integers, begun_ns: int, at_ns: int, cut: Cut | None = None) -> Look:
    """Look at the good requests of a load begun at `begun_ns`, as far as `at_ns`; find the cut if none is set."""
    found_cut = cut or estimate.warmup_cut(done_ns, durations_ns, begun_ns, at_ns)
    return Look(at_ns, found_cut, estimate.estimates(done_ns, durations_ns, found_cut.at_ns, at_ns))


def first_look_s(asked: ByPrecision, mean_duration_s: float) -> float:
    """Return how old a point is at its first look: long against its latencies, within the time allowed."""
    return min(asked.max_s, max(asked.min_s, LATENCIES_AT_FIRST_LOOK * mean_duration_s))


def next_look_s(asked: ByPrecision, age_s: float) -> float | None:
    """Return the age of the look after the one at `age_s`; None if that was the last."""
    return None if age_s >= asked.max_s else min(age_s * LOOK_GROWTH, asked.max_s)


def judge(last: Look, before: Look | None, asked: ByPrecision) -> Judgement:
    """Find the word for a record from its last look and the one before."""
    found = last.found
    if found.mean_ns is None or found.batches is None:
        least = estimate.REQUESTS_MIN
        return Judgement("too_few", f"{found.requests} requests completed: intervals need {least}")
    if last.cut.at_bound:
        return Judgement("warming", "not warm: it was still changing after a third of the time")
    drifts = [trend for trend in (found.throughput_trend, found.mean_trend) if _drifts(trend)]
    if drifts:
        names = {id(found.throughput_trend): "throughput", id(found.mean_trend): "mean latency"}
        words = ", ".join(f"{names[id(trend)]} {trend.change:+.1%}" for trend in drifts)
        return Judgement(
            "drifting", f"drifted over the window: {words}; its intervals are not those of a steady state"
        )
    wide = wide_words(found, asked)
    if wide:
        return Judgement("imprecise", "; ".join(wide))
    if before is None or not _agree(last, before, asked):
        return Judgement("unconfirmed", "as precise as asked, at the last look only")
    return Judgement("converged", _precision_words(found))


def wide_words(found: Estimates, asked: ByPrecision) -> list[str]:
    """Say which intervals are wider than asked, and what it would take."""
    assert found.batches is not None
    window_s = found.batches.batch_ns * len(found.batches.counts) / 1e9
    words = []
    if found.throughput_per_s.relative > asked.throughput:
        factor = (found.throughput_per_s.relative / asked.throughput) ** 2
        have = f"throughput is known to +-{found.throughput_per_s.relative:.1%}"
        words.append(f"{have}: about {window_s * (factor - 1):.0f} s more for +-{100 * asked.throughput:g}%")
    for percent, target in ((50.0, asked.p50), (99.0, asked.p99)):
        one = found.percentiles_ns[percent]
        if one.relative > target:
            more = requests_needed(one, percent, target, found.requests)
            words.append(f"p{percent:g} needs about {more:,} more requests for +-{target:.0%}")
    return words


def requests_needed(one: Estimate, percent: float, target: float, requests: int) -> int:
    """Return how many more requests a percentile needs to be as precise as asked."""
    per_effective = requests / one.effective if one.effective else 1.0
    if math.isinf(one.relative):
        needed = UNBOUNDED_FACTOR / (1 - percent / 100) * per_effective
        return max(1, round(needed - requests), round(requests * 0.1))
    return max(1, round(requests * ((one.relative / target) ** 2 - 1)))


def remarks(found: Estimates, bodies: int) -> list[str]:
    """Say what makes an interval less than it seems: correlation, few latencies, few passes, few inputs."""
    if found.mean_ns is None or found.batches is None:
        return []
    said = []
    if found.correlation > estimate.CORRELATED:
        said.append(f"batches correlated (r {found.correlation:.2f}): take the intervals as a lower bound")
    kept_ns = found.batches.batch_ns * len(found.batches.counts)
    latencies = kept_ns / found.mean_ns.value if found.mean_ns.value else math.inf
    if latencies < LATENCIES_FOR_P99:
        said.append(f"p99's interval is optimistic: the window is {latencies:.0f} latencies long, want 100")
    if found.requests < 2 * bodies:
        said.append(f"{found.requests} requests are less than two passes over {bodies} inputs")
    return said


def overload(arrived: int, completed: int, in_flight: Iterable[float]) -> str | None:
    """Say why an open loop was above capacity, if more arrived than left and the backlog grew; None if it was not."""
    backlog = estimate.trend(np.array(list(in_flight)))
    gap = (arrived - completed) / arrived if arrived else 0.0
    if gap > OVERLOAD_GAP and backlog.t > OVERLOAD_T and backlog.change > 0:
        return f"{arrived} requests were due and {completed} completed: the backlog grew by {backlog.change:+.0%}"
    return None


def _drifts(trend: Trend) -> bool:
    return abs(trend.change) >= DRIFT_CHANGE and trend.t >= DRIFT_T


def _agree(last: Look, before: Look, asked: ByPrecision) -> bool:
    passes = before.found.batches is not None and not before.cut.at_bound and not wide_words(before.found, asked)
    steady = not any(map(_drifts, (before.found.throughput_trend, before.found.mean_trend)))
    earlier = before.found.throughput_per_s.value
    return passes and steady and abs(last.found.throughput_per_s.value / earlier - 1) <= AGREEMENT * asked.throughput


def _precision_words(found: Estimates) -> str:
    p99 = found.percentiles_ns[99.0]
    return f"steady; throughput +-{found.throughput_per_s.relative:.1%}, p99 +-{p99.relative:.1%}"
