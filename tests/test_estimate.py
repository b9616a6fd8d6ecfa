"""Intervals: known values, what they must never claim, and how often they hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen import estimate
from loadgen.estimate import Integers

S = 10**9


@pytest.mark.parametrize(("degrees", "known"), [(7, 2.3646), (11, 2.2010), (19, 2.0930), (100, 1.9840)])
def test_students_t(degrees: int, known: float) -> None:
    """The two-sided 95 % quantile, against the tables."""
    assert estimate.student_t(degrees) == pytest.approx(known, rel=5e-4)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=300), st.sampled_from([50, 90, 95, 99]))
def test_percentile_is_perf_analyzers(values: list[int], percent: int) -> None:
    """Nearest rank by floor(p/100 (n-1) + 1/2), computed here in exact integers."""
    ordered = sorted(values)
    index = (percent * (len(values) - 1) * 2 + 100) // 200
    assert estimate.nearest_rank(np.array(ordered), percent) == ordered[index]


def poisson(rate: float, seconds: float, seed: int) -> tuple[Integers, Integers]:
    """Return ends of a Poisson process and independent exponential durations of mean 100 ms."""
    rng = np.random.default_rng(seed)
    done_ns = np.cumsum(rng.exponential(S / rate, int(rate * seconds * 1.3))).astype(np.int64)
    return done_ns, rng.exponential(1e8, len(done_ns)).astype(np.int64)


def test_intervals_hold_about_as_often_as_they_say() -> None:
    """On independent data 95 % intervals of throughput, mean, p50 and p99 hold in 92 to 99 of 100 windows."""
    runs = 400
    truths = {"x": 80.0, "mean": 1e8, "p50": 1e8 * math.log(2), "p99": 1e8 * math.log(100)}
    held = dict.fromkeys(truths, 0)
    for seed in range(runs):
        found = estimate.estimates(*poisson(80, 30, seed), 0, 30 * S)
        assert found.mean_ns is not None
        percentiles = found.percentiles_ns
        known = {
            "x": found.throughput_per_s,
            "mean": found.mean_ns,
            "p50": percentiles[50.0],
            "p99": percentiles[99.0],
        }
        for name, truth in truths.items():
            one = known[name]
            assert one.low is not None
            held[name] += one.low <= truth <= (math.inf if one.high is None else one.high)
    assert all(0.92 * runs <= count <= 0.995 * runs for count in held.values()), held


def test_correlation_widens_an_interval() -> None:
    """A server whose speed wanders slowly is known less well than its number of requests suggests."""
    done_ns, durations_ns = poisson(80, 60, 1)
    wander = 1 + 0.5 * np.sin(done_ns / S / 3)
    plain = estimate.estimates(done_ns, durations_ns, 0, 60 * S)
    wandering = estimate.estimates(done_ns, (durations_ns * wander).astype(np.int64), 0, 60 * S)
    assert plain.mean_ns is not None
    assert wandering.mean_ns is not None
    assert wandering.mean_ns.relative > 2 * plain.mean_ns.relative
    assert wandering.correlation > estimate.CORRELATED > plain.correlation
    effective = wandering.percentiles_ns[50.0].effective
    assert effective is not None
    assert effective < 0.5 * wandering.requests


def test_few_requests_give_values_and_no_interval() -> None:
    """79 requests have a throughput, a mean and percentiles, and no limits; 80 have them."""
    done_ns, durations_ns = np.arange(1, 81) * 10**8, np.full(80, 10**7)
    few = estimate.estimates(done_ns[:79], durations_ns[:79], 0, 8 * S + 1)
    assert few.throughput_per_s.low is None
    assert few.mean_ns is not None
    assert few.mean_ns.high is None
    assert few.percentiles_ns[99.0].value == 10**7
    assert estimate.estimates(done_ns, durations_ns, 0, 8 * S + 1).throughput_per_s.low is not None


def test_a_tail_that_was_not_seen_is_not_bounded() -> None:
    """p99 of 150 requests has no upper limit, of 1,000 it has one; p99.9 of 1,000 has none."""
    done_ns, durations_ns = poisson(50, 40, 3)
    short = estimate.estimates(done_ns[:150], durations_ns[:150], 0, int(done_ns[149]) + 1)
    long = estimate.estimates(done_ns[:1000], durations_ns[:1000], 0, int(done_ns[999]) + 1)
    assert short.percentiles_ns[99.0].high is None
    assert short.percentiles_ns[99.0].relative == math.inf
    assert long.percentiles_ns[99.0].high is not None
    assert long.percentiles_ns[99.9].high is None


def test_one_request_is_the_least_uncertainty_of_throughput() -> None:
    """A clockwork gives equal counts in every batch; a request more or less at the edges remains."""
    done_ns = np.arange(1, 1001) * 10**7
    found = estimate.estimates(done_ns, np.full(1000, 10**6), 0, 10 * S + 1)
    low, high = found.throughput_per_s.low, found.throughput_per_s.high
    assert low is not None
    assert high is not None
    assert high - found.throughput_per_s.value >= 0.1 * (1 - 1e-6)
    assert found.throughput_per_s.value - low >= 0.1 * (1 - 1e-6)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(random: object) -> None:
    """Estimates are of a set of requests."""
    done_ns, durations_ns = poisson(40, 10, 5)
    order = np.array(range(len(done_ns)))
    random.shuffle(order)  # type: ignore[attr-defined]
    mixed = estimate.estimates(done_ns[order], durations_ns[order], 0, 10 * S)
    straight = estimate.estimates(done_ns, durations_ns, 0, 10 * S)
    assert mixed.percentiles_ns == straight.percentiles_ns
    assert mixed.throughput_per_s == straight.throughput_per_s
    assert mixed.mean_ns is not None
    assert straight.mean_ns is not None
    assert mixed.mean_ns.low == pytest.approx(straight.mean_ns.low)


def test_trend_finds_a_drift_and_no_other() -> None:
    """A fifth more over the window is significant; noise about a level is not; a perfect line is certain."""
    rng = np.random.default_rng(0)
    noise = 100 + rng.normal(0, 2, 20)
    drift = estimate.trend(noise * np.linspace(0.9, 1.1, 20))
    assert drift.change == pytest.approx(0.2, abs=0.05)
    assert drift.t > 3
    assert estimate.trend(noise).t < 3
    assert estimate.trend(np.full(20, 5.0)) == estimate.Trend()


def test_mser_drops_a_ramp_and_never_more_than_a_third() -> None:
    """A start that is off is dropped whole; without one little goes; a late change is not taken for warm-up."""
    rng = np.random.default_rng(0)
    level = 50 + rng.normal(0, 1, 90)
    ramp = level.copy()
    ramp[:12] += np.linspace(40, 5, 12)
    assert 11 <= estimate.mser(ramp) <= 15
    late = level.copy()
    late[:60] += 40
    assert estimate.mser(late) <= 30
    assert estimate.mser(level) <= 15


def test_warm_up_that_does_not_end_is_said() -> None:
    """The cut lies at the end of a slow start; one that lasts longer than a third is at the bound."""
    done_ns = np.arange(1, 3001) * 10**7
    base = np.full(3000, 2 * 10**7)
    slow = base + (done_ns < 5 * S) * 10**7
    cut = estimate.warmup_cut(done_ns, slow, 0, 30 * S + 1)
    assert 4.9 * S <= cut.at_ns <= 5.5 * S
    assert not cut.at_bound
    longer = base + (4e7 * np.exp(-done_ns / (8 * S))).astype(np.int64)
    assert estimate.warmup_cut(done_ns, longer, 0, 30 * S + 1).at_bound


@given(st.floats(0.001, 0.999), st.floats(5, 1e6))
def test_wilsons_limits_contain_the_share(share: float, size: float) -> None:
    """The limits lie within 0 and 1, about the share, and close in with size."""
    low, high = estimate.wilson(share, size, 2.0)
    assert -1e-12 <= low <= share <= high <= 1 + 1e-12
    wider = estimate.wilson(share, size / 2, 2.0)
    assert wider[0] <= low
    assert high <= wider[1]


def test_a_rate_is_never_said_to_be_below_zero() -> None:
    """Bursts with long pauses: the interval is wide, and ends at 0 on its lower side."""
    bursts = np.concatenate([np.arange(50) + at for at in (0, 500_000_000, 9_900_000_000)]).astype(np.int64)
    found = estimate.rate(bursts, 0, 10_000_000_000)
    assert found.low == 0.0
    assert found.high is not None
    assert found.high > 2 * found.value
