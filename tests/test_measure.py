"""Rows and windows to numbers, against figures worked out by hand and by brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import measure
from loadgen.kserve import Statistics
from loadgen.measure import Window
from loadgen.records import ROW, Outcome, Rows


def rows_of(*facts: tuple[int, int, int, Outcome]) -> Rows:
    """Return rows from (due, sent, done, outcome)."""
    rows = np.zeros(len(facts), dtype=ROW)
    for row, (due_ns, sent_ns, done_ns, outcome) in zip(rows, facts, strict=True):
        row["due_ns"], row["sent_ns"], row["done_ns"], row["outcome"] = due_ns, sent_ns, done_ns, outcome
    return rows


def reading(at_ns: int, success: int, stage_ns: int) -> Statistics:
    """Return counters of `success` requests of `stage_ns` in each stage."""
    total_ns = success * stage_ns
    return Statistics(
        at_ns, at_ns, "1", success, success, success, 5 * total_ns, 0, 0, total_ns, total_ns, total_ns, total_ns
    )


def test_the_window_is_a_filter_on_when_requests_ended() -> None:
    """What ended inside counts, wherever it began; the end of the window is outside."""
    rows = rows_of(
        (1, 1, 99, Outcome.OK),
        (50, 60, 100, Outcome.OK),
        (110, 120, 199, Outcome.OK),
        (150, 150, 160, Outcome.GRPC_INTERNAL),
        (150, 150, 200, Outcome.OK),
        (190, 190, 0, Outcome.OPEN_AT_END),
    )
    seen = measure.measure(rows, Window(100, 200))
    assert (seen.completed, seen.failed) == (2, 1)
    assert seen.throughput_per_s.value == 2e9 / 100
    assert seen.service is not None
    assert seen.response is not None
    assert (seen.service.min_ns, seen.service.max_ns) == (40, 79)
    assert seen.service.found.mean_ns is not None
    assert seen.service.found.mean_ns.value == 59.5
    assert seen.service.std_ns == pytest.approx(27.577, rel=1e-3)
    assert (seen.response.min_ns, seen.response.max_ns) == (50, 89)
    assert seen.send_lag_p99_ns == 10


def test_sending_and_receiving_are_means_of_what_was_stamped() -> None:
    """From sent to flushed and from first byte to done, of completed requests that have both stamps; else missing."""
    rows = rows_of((0, 10, 60, Outcome.OK), (0, 20, 90, Outcome.OK), (0, 30, 95, Outcome.TIMEOUT))
    seen = measure.measure(rows, Window(1, 100))
    assert (seen.client_send_ns, seen.client_recv_ns) == (None, None)
    rows["flushed_ns"], rows["first_byte_ns"] = (14, 26, 90), (58, 0, 90)
    seen = measure.measure(rows, Window(1, 100))
    assert (seen.client_send_ns, seen.client_recv_ns) == ((4 + 6) / 2, 2)


def test_nothing_completed_is_missing_not_zero() -> None:
    """A window without a completed request has a throughput of 0 and no latency at all."""
    seen = measure.measure(rows_of((1, 1, 50, Outcome.TIMEOUT)), Window(0, 100))
    assert (seen.completed, seen.failed, seen.throughput_per_s.value) == (0, 1, 0)
    assert seen.service is None
    assert seen.response is None


def test_what_is_due_and_not_sent_is_counted() -> None:
    """Requests that fell due in the window are its arrivals; those that were not sent are counted apart."""
    rows = rows_of((10, 0, 0, Outcome.UNSENT), (20, 20, 150, Outcome.OK), (120, 120, 130, Outcome.OK))
    seen = measure.measure(rows, Window(1, 100))
    assert (seen.arrived, seen.unsent, seen.completed, seen.failed) == (2, 1, 0, 0)


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), max_size=30), st.integers(1, 7))
def test_parts_of_the_window_add_up_to_it(spans: list[tuple[int, int]], parts: int) -> None:
    """The mean in flight of the parts, by their lengths, is that of the whole."""
    rows = rows_of(*((sent, sent, sent + length, Outcome.OK) for sent, length in spans))
    window = Window(0, 30 * parts)
    each = measure.in_flight_parts(rows, window, parts)
    assert sum(each) / parts == pytest.approx(measure.in_flight_mean(rows, window))


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 200)), max_size=30), st.integers(1, 199))
def test_in_flight_mean_is_the_time_average(spans: list[tuple[int, int]], start_ns: int) -> None:
    """It equals counting, at every nanosecond of the window, the requests that are out."""
    rows = rows_of(*((sent, sent, sent + length, Outcome.OK) for sent, length in spans))
    window = Window(start_ns, 200)
    counted = sum(sent <= now < sent + length for now in range(start_ns, 200) for sent, length in spans)
    assert measure.in_flight_mean(rows, window) == pytest.approx(counted / window.length_ns)


def test_open_requests_are_in_flight_to_the_end() -> None:
    """A request that was never answered counts until the window closes."""
    rows = rows_of((50, 50, 0, Outcome.OPEN_AT_END))
    assert measure.in_flight_mean(rows, Window(0, 100)) == 0.5


def test_stages_are_means_over_the_window() -> None:
    """Stage times are differences over the requests between two readings; busy is compute over instance time."""
    stages = measure.stages(reading(1000, 10, 5), reading(2000, 30, 10), instances=2)
    assert stages is not None
    assert stages.success == 20
    assert stages.queue_ns == stages.compute_infer_ns == (300 - 50) / 20
    assert stages.busy == 3 * 250 / (2 * 1000)


def test_no_success_between_readings_gives_no_stages() -> None:
    """Without a request there is no mean; and unknown instances leave busy unknown."""
    assert measure.stages(reading(1, 10, 5), reading(2, 10, 5), instances=2) is None
    stages = measure.stages(reading(1, 10, 5), reading(2, 11, 5), instances=None)
    assert stages is not None
    assert stages.busy is None


def test_goodput_counts_good_requests_within_the_limit_and_no_other() -> None:
    """A failed one, a slow one, and one that ended outside do not keep the objective."""
    rows = rows_of(
        (0, 5, 110, Outcome.OK),
        (100, 100, 120, Outcome.OK),
        (100, 100, 121, Outcome.OK),
        (100, 100, 115, Outcome.WRONG_ANSWER),
        (90, 190, 200, Outcome.OK),
        (40, 185, 195, Outcome.OK),
    )
    window = Window(100, 200)
    assert measure.goodput(rows, window, "due_ns", 20).value == 1e9 / 100
    assert measure.goodput(rows, window, "sent_ns", 20).value == 2e9 / 100


def test_what_is_beyond_the_limit_is_counted_where_it_was_due() -> None:
    """However late it ended: what was never answered, or failed, is beyond any limit."""
    rows = rows_of(
        (100, 100, 110, Outcome.OK),
        (149, 149, 500, Outcome.OK),
        (150, 150, 161, Outcome.OK),
        (160, 0, 0, Outcome.UNSENT),
        (170, 170, 171, Outcome.TIMEOUT),
        (200, 200, 900, Outcome.OK),
        (99, 99, 900, Outcome.OK),
    )
    assert measure.beyond(rows, Window(100, 200), "due_ns", 10, 2) == ((2, 3), (1, 3))


def test_goodput_has_an_interval_when_there_is_enough() -> None:
    """Of a steady stream half of which is slow, half counts."""
    ended = [(i * 1000, i * 1000, i * 1000 + (10 if i % 2 else 500), Outcome.OK) for i in range(1000)]
    found = measure.goodput(rows_of(*ended), Window(0, 1_000_000), "due_ns", 100)
    assert found.value == pytest.approx(500e9 / 1e6)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 500e9 / 1e6 <= found.high <= 510e9 / 1e6
