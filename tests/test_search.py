"""The search: it claims what a server keeps, no more, whatever the noise; and says so where nothing keeps it."""

import heapq
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen import search, slo
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError
from loadgen.estimate import estimates
from loadgen.plan import ClosedLoop, Generated, OpenLoop, Plan, Search, checked
from loadgen.search import Answer, Probe, Trial
from loadgen.steady import overload

LIMIT_S, WORKERS, MEAN_S, SHAPE = 0.2, 2, 0.05, 4
KEPT_PER_S = 23.6
"""The rate at which 1 % take more than LIMIT_S, from simulations of 20,000 s; 25.5/s at a limit 10 % higher."""


def queue(rate_per_s: float, length_s: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return arrivals and departures of Poisson arrivals at workers with Erlang service times."""
    arrivals = np.cumsum(rng.exponential(1 / rate_per_s, int(length_s * rate_per_s * 1.3) + 50))
    arrivals = arrivals[arrivals < length_s]
    free = [0.0] * WORKERS
    departures = np.empty(len(arrivals))
    for place, at in enumerate(arrivals):
        departures[place] = max(heapq.heappop(free), at) + rng.gamma(SHAPE, MEAN_S / SHAPE)
        heapq.heappush(free, departures[place])
    return arrivals, departures


def measured(probe: Probe, rng: np.random.Generator) -> Trial:
    """Carry out a probe on the simulated queue."""
    if not isinstance(probe.load, OpenLoop):
        return Trial(WORKERS / MEAN_S, (), ())
    warm, end = 0.2 * probe.window_s, 1.2 * probe.window_s
    arrivals, departures = queue(probe.load.rate_per_s, end, rng)
    due = arrivals >= warm
    part = np.minimum(((arrivals[due] - warm) / probe.window_s * search.BATCHES).astype(int), search.BATCHES - 1)
    late = (departures - arrivals)[due] > LIMIT_S
    done = (departures >= warm) & (departures < end)
    seconds = (departures * 1e9).astype(np.int64), ((departures - arrivals) * 1e9).astype(np.int64)
    found = estimates(seconds[0], seconds[1], int(warm * 1e9), int(end * 1e9)).percentiles_ns[99.0]
    in_flight = [((arrivals < at) & (departures >= at)).sum() for at in np.linspace(warm, end, 20)]
    return Trial(
        0.0,
        tuple(np.bincount(part, minlength=search.BATCHES).tolist()),
        tuple(np.bincount(part, weights=late, minlength=search.BATCHES).astype(int).tolist()),
        found.low,
        found.value,
        found.high,
        overload(int(due.sum()), int(done.sum()), in_flight) is not None,
    )


def answered(asked: Search, server: Callable[[Probe], Trial], seed: int = 0) -> tuple[Answer, list[Probe]]:
    """Run a search against a function from probe to trial."""
    probing = search.search(asked, seed)
    probes = [next(probing)]
    try:
        while True:
            probes.append(probing.send(server(probes[-1])))
    except StopIteration as stop:
        return stop.value, probes


def test_rates_claimed_are_kept_by_a_noisy_server() -> None:
    """Of 30 searches at most two claim a rate that breaks the objective; the estimates' bias is within 4 %."""
    answers = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        answers.append(answered(Search("p99 < 200ms"), partial(measured, rng=rng), seed)[0])
    claims = [answer.value for answer in answers if answer.value is not None]
    assert len(claims) >= 24
    assert sum(claim > KEPT_PER_S for claim in claims) <= 2
    assert np.mean([answer.estimate for answer in answers]) == pytest.approx(KEPT_PER_S, rel=0.04)
    assert all(answer.certified == (answer.value is not None) for answer in answers)


def test_a_hopeless_objective_is_given_up_after_one_probe() -> None:
    """One request at a time that is too slow already ends the search."""
    trial = Trial(10.0, (), (), low_ns=3e8, value_ns=4e8, high_ns=5e8)
    answer, probes = answered(Search("p99 < 200ms"), lambda _: trial)
    assert (answer.value, answer.certified, len(probes)) == (None, False, 1)
    assert "already with one request" in answer.reason


def test_a_rate_that_fails_certification_is_stepped_down_and_never_claimed() -> None:
    """Three failed certifications leave no claim, each a twentieth below the one before."""

    def never_certified(probe: Probe) -> Trial:
        rate = probe.load.rate_per_s if isinstance(probe.load, OpenLoop) else 0.0
        over = 0 if rate < 50 and probe.purpose != "certify" else 5
        return Trial(100.0, (100,) * 10, (over,) * 10, low_ns=1e8, value_ns=1.9e8, high_ns=2.1e8)

    answer, probes = answered(Search("p99 < 200ms"), never_certified)
    tried = [probe.load.rate_per_s for probe in probes if probe.purpose == "certify"]  # type: ignore[union-attr]
    assert (answer.value, answer.certified) == (None, False)
    assert tried[1:] == pytest.approx([0.95 * rate for rate in tried[:-1]])
    assert answer.words.startswith("p99 < 200ms: no load was shown to keep it")


def test_probes_that_the_client_spoilt_take_no_part_in_the_fit() -> None:
    """A faulty trial that would shift the answer does not."""

    def spoilt(probe: Probe) -> Trial:
        rate = probe.load.rate_per_s if isinstance(probe.load, OpenLoop) else 0.0
        fault = "client_limited: late" if rate > 60 else ""
        over = round(200 / (1 + math.exp(-30 * math.log(max(rate, 1.0) / 40))))
        kept = rate < 40
        return Trial(100.0, (200,) * 10, (0 if fault else over,) * 10, None, None, 1e8 if kept else 9e8, fault=fault)

    answer, _ = answered(Search("p50 < 200ms"), spoilt)
    assert answer.estimate == pytest.approx(40, rel=0.03)


@settings(max_examples=200, deadline=None)
@given(limit=st.integers(0, 80), width=st.integers(0, 3), most=st.integers(1, 64))
def test_concurrency_is_found_exactly_and_what_is_close_is_not_claimed(limit: int, width: int, most: int) -> None:
    """Against any monotone server the answer is the highest level whose interval is wholly within the limit."""

    def server(probe: Probe) -> Trial:
        assert isinstance(probe.load, ClosedLoop)
        assert probe.load.concurrency <= most
        level = probe.load.concurrency
        low, high = 1e6 * (level - width), 1e6 * (level + width)
        return Trial(1e6, (), (), low, 1e6 * level, high)

    asked = Search(f"service_p99 < {limit + 0.5}ms", "concurrency", max_concurrency=most)
    answer, probes = answered(asked, server)
    sure = min(most, limit - width)
    assert answer.value == (sure if sure >= 1 else None)
    assert len(probes) <= 3 * (2 * math.ceil(math.log2(most + 1)) + 1)
    if answer.fails_at is not None:
        assert answer.fails_at > limit + width


def test_an_undecided_level_is_measured_longer_and_then_left() -> None:
    """The window doubles twice, and the level is not claimed."""
    windows = []

    def server(probe: Probe) -> Trial:
        windows.append((probe.load.concurrency, probe.window_s))  # type: ignore[union-attr]
        unsure = probe.load.concurrency > 1  # type: ignore[union-attr]
        return Trial(100.0, (), (), 1e8, 1.5e8, 3e8 if unsure else 1.6e8)

    answer, _ = answered(Search("service_p99 < 200ms", "concurrency", probe_s=5), server)
    assert windows == [(1, 5), (2, 5), (2, 10), (2, 20)], "500 requests at 100/s are enough"
    assert (answer.value, answer.fails_at) == (1, None)
    assert "concurrency 2 could not be decided" in answer.reason


@pytest.mark.parametrize(
    "wrong", ["p99", "latency < 5ms", "p99 > 5ms", "p0 < 5ms", "p100 < 5ms", "p99 < 0ms", "p99 < 5", "mean < 5ms"]
)
def test_what_is_no_objective_is_refused_with_the_text(wrong: str) -> None:
    """The message quotes it and says how to write one."""
    with pytest.raises(PlanError, match=wrong.replace("(", r"\(")) as error:
        slo.parse(wrong)
    assert "write" in str(error.value)


def test_objectives_are_read_in_nanoseconds() -> None:
    """Units, percentiles with a fraction, and which time is meant."""
    objective = slo.parse(" service_p99.9 <= 2.5s")
    assert (objective.time, objective.percent, objective.limit_ns) == ("service", 99.9, 2_500_000_000)
    assert objective.since(closed=False) == "sent_ns"
    assert [slo.parse("p99 < 5ms").since(closed=closed) for closed in (True, False)] == ["sent_ns", "due_ns"]
    assert slo.parse("response_p99 < 5ms").since(closed=False) == "due_ns"


@pytest.mark.parametrize(
    "changes",
    [
        {"search": Search("response_p99 < 5ms", "concurrency")},
        {"loads": (ClosedLoop(4),), "slo": "response_p99 < 5ms"},
        {"loads": (ClosedLoop(4),), "search": Search("p99 < 5ms")},
        {"search": Search("p99 < 5ms", probe_s=10, max_probe_s=5)},
        {"loads": ()},
    ],
)
def test_plans_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    """A closed loop has no response time; a search finds its own loads."""
    with pytest.raises(PlanError):
        checked(Plan(Endpoint("h:1", "m"), Generated("zero"), **changes))  # type: ignore[arg-type]
