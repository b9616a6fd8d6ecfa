"""Due times: absolute, seeded, the process that was asked for, and the same however many workers share it."""

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen import schedule, trace
from loadgen.errors import PlanError
from loadgen.plan import Arrivals, OpenLoop, Profile, Replay, Segment
from loadgen.ranges import profile_option, rate_levels, steps_option

ARRIVALS: list[Arrivals] = ["constant", "poisson", "gamma"]
S = 10**9


def test_constant_gaps_do_not_drift() -> None:
    """The k-th request is due at k / rate to the nanosecond, also after a million."""
    offsets = list(islice(schedule.offsets(OpenLoop(3.0), seed=0), 999_999, 1_000_002))
    assert offsets == [round(k / 3 * S) for k in range(999_999, 1_000_002)]


@pytest.mark.parametrize("arrivals", ARRIVALS)
@given(shares=st.integers(1, 7), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_shares_together_are_the_whole(arrivals: Arrivals, shares: int, seed: int) -> None:
    """Workers that share a load send exactly the due times of one worker that drives it alone."""
    load = OpenLoop(50.0, arrivals, cv=2.0)
    whole = list(islice(schedule.offsets(load, seed), 7 * 30))
    parts = [list(islice(schedule.offsets(load, seed, share, shares), 7 * 30)) for share in range(shares)]
    assert sorted(offset for part in parts for offset in part)[: len(whole)] == whole


@pytest.mark.parametrize(
    ("arrivals", "cv", "expected"), [("poisson", 1.0, 1.0), ("gamma", 2.5, 2.5), ("gamma", 0.4, 0.4)]
)
def test_gaps_have_the_rate_and_the_variation(arrivals: Arrivals, cv: float, expected: float) -> None:
    """Mean gap 1 / rate; coefficient of variation 1 for Poisson, as asked for gamma; seeded."""
    load = OpenLoop(200.0, arrivals, cv)
    offsets = list(islice(schedule.offsets(load, seed=5), 40_000))
    gaps = np.diff(offsets)
    assert gaps.mean() == pytest.approx(S / 200, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
    assert offsets == list(islice(schedule.offsets(load, seed=5), 40_000))
    assert offsets[:100] != list(islice(schedule.offsets(load, seed=6), 100))


def test_every_rate_meets_the_same_arrivals() -> None:
    """Twice the rate is the same process at twice the speed: points of a sweep differ in rate alone."""
    slow = list(islice(schedule.offsets(OpenLoop(10.0, "poisson"), seed=1), 500))
    fast = list(islice(schedule.offsets(OpenLoop(20.0, "poisson"), seed=1), 500))
    assert max(abs(a - 2 * b) for a, b in zip(slow, fast, strict=True)) <= 2


segments = st.lists(
    st.builds(Segment, st.floats(0.1, 5), st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=4
).filter(lambda parts: sum(part.from_per_s + part.to_per_s for part in parts) > 1)


@given(parts=segments, arrivals=st.sampled_from(ARRIVALS))
@settings(deadline=None)
def test_a_profile_goes_up_in_time_and_ends(parts: list[Segment], arrivals: Arrivals) -> None:
    """Due times never go back; a profile that is not repeated ends within its length; a repeated one goes on."""
    once = list(schedule.offsets(Profile(tuple(parts), repeat=False, arrivals=arrivals), seed=0))
    assert all(a <= b for a, b in pairwise(once))
    assert all(offset <= sum(part.duration_s for part in parts) * S * (1 + 1e-9) for offset in once)
    again = list(islice(schedule.offsets(Profile(tuple(parts), arrivals=arrivals), seed=0), len(once) + 20))
    assert again[: len(once)] == once
    assert len(again) == len(once) + 20


def test_ramps_steps_and_spikes_have_their_counts() -> None:
    """The number of requests due in each part is the integral of its rate."""
    ramp = list(schedule.offsets(Profile((Segment(10, 0, 20),), repeat=False), seed=0))
    assert len(ramp) == 100
    assert sum(offset < 5 * S for offset in ramp) == pytest.approx(25, abs=1)
    spikes = Profile((Segment(2, 10, 10), Segment(1, 50, 50), Segment(1, 0, 0)))
    offsets = list(islice(schedule.offsets(spikes, seed=0), 140))
    assert sum(offset < 2 * S for offset in offsets) == 20
    assert sum(2 * S <= offset < 3 * S for offset in offsets) == 50
    assert not any(3 * S < offset < 4 * S for offset in offsets)
    assert sum(4 * S <= offset < 8 * S for offset in offsets) == 70


# --- replay --------------------------------------------------------------------------------------------------------


def test_intervals_are_replayed_at_a_speed(tmp_path: Path) -> None:
    """Gaps of a file in microseconds, over and over, the first before the first request, at any speed."""
    file = tmp_path / "gaps"
    file.write_text("100000\n50000\n")
    gaps = trace.intervals_ns(Replay(str(file))).tolist()
    assert list(islice(schedule.replayed(gaps, 1.0, repeat=True), 5)) == [
        100_000_000, 150_000_000, 250_000_000, 300_000_000, 400_000_000,
    ]  # fmt: skip
    assert list(schedule.replayed(gaps, 2.0, repeat=False)) == [50_000_000, 75_000_000]


def test_a_run_is_replayed_as_it_was(tmp_path: Path) -> None:
    """The due times of a point of an earlier run come back with the gaps between them."""
    (tmp_path / "records").mkdir()
    rows = {"point": [1, 2, 2, 2], "due_ns": [5, 900, 1000, 1350]}
    pl.DataFrame(rows, schema={"point": pl.UInt32, "due_ns": pl.Int64}).write_parquet(
        tmp_path / "records" / "w.parquet"
    )
    assert trace.intervals_ns(Replay(str(tmp_path), point=2)).tolist() == [0, 100, 350]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5\n-3\n", "line 2: goes back in time"),
        ("5\nx\n", "line 2: 'x' is no whole number"),
        ("1.5\n", "line 1"),
        ("", "no arrival"),
        ("0\n0\n", "every interval is 0"),
    ],
)
def test_a_bad_trace_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    """Times that go back, text, and nothing at all are refused by line."""
    file = tmp_path / "gaps"
    file.write_text(text)
    with pytest.raises(PlanError, match=words):
        trace.intervals_ns(Replay(str(file)))
    with pytest.raises(PlanError, match="cannot read"):
        trace.intervals_ns(Replay(str(tmp_path / "absent")))
    with pytest.raises(PlanError, match="no sealed run"):
        trace.intervals_ns(Replay(str(tmp_path)))


# --- options -------------------------------------------------------------------------------------------------------


def test_options_of_loads() -> None:
    """Rates, profiles and steps are read as their help says."""
    assert rate_levels("10:50:20") == (10.0, 30.0, 50.0)
    assert rate_levels("0.1:0.5:0.1") == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5))
    assert profile_option("10:30,10-50:60") == (Segment(30, 10, 10), Segment(60, 10, 50))
    assert steps_option("2:10,8:2.5") == ((2, 10.0), (8, 2.5))


@given(st.text(alphabet="0123456789:-,.einfa ", max_size=14))
def test_any_other_text_is_a_plan_error(text: str) -> None:
    """Whatever is written, it is understood or refused in words."""
    for option in (rate_levels, profile_option, steps_option):
        try:
            assert option(text)
        except PlanError as error:
            assert "write" in str(error)  # noqa: PT017 - both ways are fine, one is checked
