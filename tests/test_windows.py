"""perf_analyzer's rule for the end of a level, and the ladder of levels that it steers."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import ladder
from loadgen.ladder import Ladder
from loadgen.windows import ByWindows, Figures, Status, agree, at_the_end, judge, reaches_limit

MS = 1_000_000


def windows(*pairs: tuple[float, float | None]) -> list[Figures]:
    """Return windows of (requests a second, milliseconds)."""
    return [Figures(rate, None if ms is None else ms * MS) for rate, ms in pairs]


def test_three_windows_that_agree_end_a_level_and_two_do_not() -> None:
    """It takes three, however equal two may be."""
    assert judge(windows((10, 5), (10, 5)), ByWindows()) is None
    assert judge(windows((10, 5), (10, 5), (10, 5)), ByWindows()) == "stable"


def test_only_the_last_three_count() -> None:
    """A start that was different does not matter once three windows agree."""
    assert judge(windows((1, 90), (10, 5), (10.5, 5.2), (10.2, 5.4)), ByWindows()) == "stable"


@pytest.mark.parametrize(("high", "expected"), [(1.1, True), (1.1001, False)])
@pytest.mark.parametrize("of", ["rate", "latency"])
def test_agreement_is_the_ratio_of_the_highest_to_the_lowest(of: str, high: float, expected: bool) -> None:
    """max/min may reach 1 + stability and not pass it, in throughput and in latency alike."""
    rates, latencies = ((1.0, 1.05, high), (5.0, 5.0, 5.0)) if of == "rate" else ((9.0,) * 3, (1.0, 1.02, high))
    last = [Figures(rate, latency * 1e9) for rate, latency in zip(rates, latencies, strict=True)]
    assert agree(last, 0.1) is expected


@given(
    st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(1, 1e12)), min_size=3, max_size=3),
    st.floats(0, 2),
)
def test_agreement_does_not_depend_on_the_order_or_the_unit(
    pairs: list[tuple[float, float]], stability: float
) -> None:
    """Windows turned round, or measured in another unit of time, agree or not as before."""
    last = [Figures(rate, latency) for rate, latency in pairs]
    assert agree(last, stability) == agree(last[::-1], stability)
    assert agree(last, stability) == agree(
        [Figures(each.throughput_per_s, each.latency_ns) for each in last], stability
    )
    if agree(last, stability):
        assert agree(last, stability, latency=False)
        assert agree(last, stability + 1)


def test_a_window_without_an_answer_never_agrees() -> None:
    """Nothing in, nothing out is no agreement, and at the end says so."""
    silent = windows((0, None), (0, None), (0, None))
    assert not agree(silent, 10)
    assert judge(silent, ByWindows(max_trials=9)) is None
    assert judge(silent, ByWindows(max_trials=3)) == "empty"


def test_trials_run_out() -> None:
    """After so many windows as are allowed the level is unstable, not before."""
    uneven = windows((1, 1), (2, 2), (4, 4), (8, 8))
    assert judge(uneven[:3], ByWindows(max_trials=4)) is None
    assert judge(uneven, ByWindows(max_trials=4)) == "unstable"


def test_throughput_alone_suffices_where_it_may() -> None:
    """As perf_analyzer with asynchronous calls: a latency that drifts is accepted, but only at the end."""
    drifting = windows((10, 1), (10, 2), (10, 4))
    assert judge(drifting, ByWindows(throughput_suffices=True, max_trials=4)) is None
    assert judge(drifting, ByWindows(throughput_suffices=True, max_trials=3)) == "throughput_only"
    assert at_the_end(drifting, ByWindows()) == "unstable"


def test_a_window_at_the_limit_ends_an_unstable_level_at_once() -> None:
    """Any of the last three at the limit is enough; without a limit none is."""
    uneven = windows((1, 3), (2, 7), (4, 1))
    assert judge(uneven, ByWindows(latency_limit_ms=7)) == "unstable_over_limit"
    assert judge(uneven, ByWindows(latency_limit_ms=8)) is None
    assert judge(uneven, ByWindows()) is None


def test_the_limit_is_held_against_whole_milliseconds() -> None:
    """7.999 ms keeps a limit of 8 ms, 8 ms does not, nothing at all does not."""
    asked = ByWindows(latency_limit_ms=8)
    assert not reaches_limit(7.999 * MS, asked)
    assert reaches_limit(8 * MS, asked)
    assert reaches_limit(None, asked)
    assert not reaches_limit(1e12, ByWindows())


def test_a_counted_level_has_one_window() -> None:
    """With a number of requests there is nothing to agree with."""
    assert judge(windows((10, 5)), ByWindows(total_requests=20)) == "stable"
    assert judge(windows((0, None)), ByWindows(total_requests=20)) == "empty"


def walked(asked: Ladder, statuses: dict[float, Status], otherwise: Status = "stable") -> list[float]:
    """Return the levels that a ladder tries when they end as said."""
    chosen = ladder.levels(asked)
    tried = [next(chosen)]
    while len(tried) < 50:
        try:
            tried.append(chosen.send(statuses.get(tried[-1], otherwise)))
        except StopIteration:
            return tried
    return tried


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Ladder(1, 4), [1, 2, 3, 4]),
        (Ladder(1, 6, 2), [1, 3, 5]),
        (Ladder(2, 2), [2]),
        (Ladder(0.1, 0.3, 0.1, "rate"), [0.1, 0.2, 0.3]),
    ],
)
def test_a_climb_reaches_its_end(asked: Ladder, expected: Sequence[float]) -> None:
    """Every level of the range is tried, the last included, also where steps are no binary fractions."""
    assert walked(asked, {}) == expected


def test_an_unstable_level_does_not_end_a_climb_but_the_limit_does() -> None:
    """Levels behind an unstable one are measured too; those behind the limit are not."""
    assert walked(Ladder(1, 4), {2: "unstable"}) == [1, 2, 3, 4]
    assert walked(Ladder(1, 4), {2: "over_limit"}) == [1, 2]
    assert walked(Ladder(1, 4), {2: "unstable_over_limit"}) == [1, 2]


def test_a_climb_without_end_ends_where_it_stops_being_stable() -> None:
    """There is nothing else that would end it."""
    assert walked(Ladder(1, 0), {5: "unstable"}) == [1, 2, 3, 4, 5]


def test_bisection_closes_in_on_the_limit() -> None:
    """First both ends, then halves, as integers where levels are concurrencies, until a step is left."""
    over: dict[float, Status] = dict.fromkeys(map(float, range(6, 17)), "over_limit")
    assert walked(Ladder(1, 16, 1, binary=True), over) == [1, 16, 8, 4, 6, 5]
    assert walked(Ladder(1, 16, 1, binary=True), {1: "over_limit"}) == [1]
    assert walked(Ladder(1, 16, 1, binary=True), {}) == [1, 16]
    assert walked(Ladder(1, 2, 0.25, "rate", binary=True), {2: "over_limit"}) == [1, 2, 1.5, 1.75]
