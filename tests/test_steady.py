"""Looks at a growing record: when it may stop, what it is called, what it would take."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import steady
from loadgen.estimate import Cut, Estimate, Integers
from loadgen.plan import ByPrecision
from loadgen.steady import Look

S = 10**9
ASKED = ByPrecision()


def record(seconds: float, rate: float, service_ms: float, noise: float = 0.0) -> tuple[Integers, Integers]:
    """Return ends and durations of a server of one rate."""
    rng = np.random.default_rng(0)
    count = int(seconds * rate)
    done_ns = ((np.arange(count) + rng.random(count)) / rate * S).astype(np.int64)
    durations_ns = (service_ms * 1e6 * (1 + noise * rng.standard_normal(count))).astype(np.int64)
    return np.sort(done_ns), durations_ns


def looks(done_ns: Integers, durations_ns: Integers, first_s: float, second_s: float) -> tuple[Look, Look]:
    """Look twice."""
    first, second = (steady.look(done_ns, durations_ns, 0, round(at_s * S)) for at_s in (first_s, second_s))
    return first, second


def test_two_looks_that_agree_converge() -> None:
    """A steady, precise record is converged at the second look, unconfirmed at the first."""
    first, second = looks(*record(30, 50, 20, 0.05), 20, 30)
    assert steady.judge(first, None, ASKED).status == "unconfirmed"
    assert steady.judge(second, first, ASKED).status == "converged"


def test_looks_that_disagree_do_not() -> None:
    """A record that is precise but not where it was at the look before is not confirmed."""
    slow, fast = record(20, 40, 20, 0.05), record(30, 50, 20, 0.05)
    first, _ = looks(*slow, 20, 20)
    _, second = looks(*fast, 20, 30)
    assert steady.judge(second, first, ASKED).status == "unconfirmed"


def test_a_wide_interval_says_what_it_would_take() -> None:
    """An imprecise record names the percentile and about how many requests more it needs: never fewer than none."""
    rng = np.random.default_rng(1)
    done_ns = np.cumsum(rng.exponential(S / 50, 1000)).astype(np.int64)
    durations_ns = rng.exponential(2e7, 1000).astype(np.int64)
    found = steady.look(done_ns, durations_ns, 0, int(done_ns[-1]) + 1, Cut(0, at_bound=False))
    judged = steady.judge(found, None, ASKED)
    assert judged.status == "imprecise"
    assert "p99 needs about" in judged.reason
    assert "s more for +-2" in judged.reason


def test_few_requests_are_named_so() -> None:
    """Below 80 requests there is no interval, and the word says it."""
    found = steady.look(*record(1, 50, 5), 0, S)
    assert steady.judge(found, None, ASKED).status == "too_few"


def test_a_server_that_never_warms_is_warming() -> None:
    """A change that goes on past a third of the record is not warm-up that can be cut."""
    done_ns, durations_ns = record(30, 50, 20, 0.02)
    durations_ns = durations_ns + (done_ns < 14 * S) * 20_000_000
    _, second = looks(done_ns, durations_ns, 20, 30)
    assert steady.judge(second, None, ASKED).status in {"warming", "drifting"}


def test_warm_up_is_cut_and_the_rest_is_used() -> None:
    """A slow start within the first third is found and left out of the figures."""
    done_ns, durations_ns = record(30, 50, 20, 0.02)
    durations_ns = durations_ns + (done_ns < 4 * S) * 30_000_000
    _, second = looks(done_ns, durations_ns, 20, 30)
    assert 3.5 * S < second.cut.at_ns < 6 * S
    assert second.found.mean_ns is not None
    assert second.found.mean_ns.value == pytest.approx(2e7, rel=0.01)


@given(st.floats(0.5, 200), st.floats(0, 100))
def test_looks_grow_and_end(min_s: float, mean_s: float) -> None:
    """The first look waits for 40 latencies, each is half as far again, and the last is at the longest time."""
    asked = ByPrecision(min_s=min_s, max_s=max(min_s, 120))
    age_s: float | None = steady.first_look_s(asked, mean_s)
    assert min(asked.max_s, 40 * mean_s) <= (age_s or 0) <= asked.max_s
    seen = []
    while age_s is not None:
        seen.append(age_s)
        age_s = steady.next_look_s(asked, age_s)
    assert seen[-1] == asked.max_s
    assert all(later <= 1.5 * earlier + 1e-9 for earlier, later in pairwise(seen))


def test_requests_needed_shrink_with_the_square() -> None:
    """Half the width needs four times the requests; an unbounded percentile needs some."""
    one = Estimate(100.0, 80.0, 120.0, effective=500.0)
    assert steady.requests_needed(one, 99.0, 0.1, 1000) == 3000
    assert steady.requests_needed(Estimate(100.0, 80.0, None, effective=50.0), 99.0, 0.1, 100) >= 500


def test_a_backlog_that_grows_is_an_overload() -> None:
    """More arrivals than completions and a growing queue: overload; noise about a level is none."""
    assert steady.overload(1000, 900, range(1, 21)) is not None
    assert steady.overload(1000, 998, range(1, 21)) is None
    assert steady.overload(1000, 900, [5.0, 6.0] * 10) is None


def test_remarks_warn_of_what_weakens_an_interval() -> None:
    """Correlated batches, a window of few latencies, and less than two passes over the inputs are said."""
    rng = np.random.default_rng(0)
    done_ns, _ = record(30, 50, 2000)
    wave = (1e9 * (1 + 0.5 * np.sin(done_ns / S / 4))).astype(np.int64)
    found = steady.look(done_ns, wave + rng.integers(0, 100, len(wave)), 0, 30 * S, Cut(0, at_bound=False)).found
    said = " ".join(steady.remarks(found, bodies=2000))
    assert "batches correlated" in said
    assert "latencies long" in said
    assert "less than two passes over 2000 inputs" in said
