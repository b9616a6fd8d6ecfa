"""The closed loop, in virtual time: what it holds in flight, when it sends, how it ends."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate, count, islice
from pathlib import Path

import pytest
from conftest import VirtualTime
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen import clock, corpus, journal, measure
from loadgen.clock import NS_PER_MS
from loadgen.drive import REST_MAX_NS, REST_MIN_NS, Drive, Due, Slots
from loadgen.journal import Journal
from loadgen.records import Outcome, Reply, Rows
from loadgen.transport.null import NullTransport
from loadgen.walk import Bodies

BODIES = [b"a" * 10, b"b" * 20, b"c" * 30]


class Bench:
    """A drive over a null transport, its journal and the failures it told of."""

    def __init__(
        self,
        folder: Path,
        time: VirtualTime,
        service_ns: Callable[[int], int],
        outcome: Callable[[int], Outcome] = lambda _: Outcome.OK,
    ) -> None:
        self.folder, self.failures = folder, list[Reply]()
        self.transport = NullTransport(time.now_ns, service_ns, outcome)
        self.journal = Journal(folder, worker=0, segment_rows=64)
        order = corpus.passes(len(BODIES), seed=0)
        self.drive = Drive(
            self.transport, self.journal, Bodies(BODIES, order), 10**9, self.failures.append, now_ns=time.now_ns
        )

    async def point(self, number: int, concurrency: int, length_ms: int) -> None:
        """Load for a while, stop, drain."""
        self.drive.start(number, Slots(self.drive, [(concurrency, 0)]))
        await clock.sleep_ns(length_ms * NS_PER_MS)
        self.drive.stop()
        await self.drive.drained()

    def rows(self, point: int = 1) -> Rows:
        """Return the rows of a point."""
        return journal.read_point(self.folder, point)


@pytest.mark.parametrize("concurrency", [1, 2, 7])
def test_every_slot_is_refilled_in_the_same_turn(tmp_path: Path, virtual_time: VirtualTime, concurrency: int) -> None:
    """A closed loop over a constant server sends N requests every service time, to the nanosecond."""
    bench = Bench(tmp_path, virtual_time, lambda _: 20 * NS_PER_MS)
    virtual_time.run(bench.point(1, concurrency, length_ms=990))
    rows = bench.rows()
    assert len(rows) == concurrency * 50
    assert set(rows["outcome"]) == {Outcome.OK}
    assert (rows["done_ns"] - rows["sent_ns"] == 20 * NS_PER_MS).all()
    assert (rows["sent_ns"] == rows["due_ns"]).all()
    window = measure.Window(int(rows["sent_ns"].min()), int(rows["done_ns"].max()))
    assert measure.in_flight_mean(rows, window) == concurrency


@settings(max_examples=30, deadline=None)
@given(services=st.lists(st.integers(1, 50), min_size=1, max_size=20), concurrency=st.integers(1, 9))
def test_in_flight_is_never_more_nor_less(
    tmp_path_factory: pytest.TempPathFactory, services: list[int], concurrency: int
) -> None:
    """Whatever the service times, N requests are in flight at every moment until the stop."""
    time = VirtualTime()
    folder = tmp_path_factory.mktemp("journal")
    bench = Bench(folder, time, lambda k: services[k % len(services)] * NS_PER_MS)

    async def main() -> None:
        bench.drive.start(1, Slots(bench.drive, [(concurrency, 0)]))
        for _ in range(100):
            await clock.sleep_ns(NS_PER_MS)
            assert bench.transport.in_flight == bench.drive.counts.in_flight == concurrency
        bench.drive.stop()
        await bench.drive.drained()

    time.run(main())
    assert bench.transport.in_flight == 0
    assert (bench.rows()["outcome"] == Outcome.OK).all()


def test_concurrency_goes_up_and_down_between_points(tmp_path: Path, virtual_time: VirtualTime) -> None:
    """Each point holds its own number of slots, also a smaller one after a larger one."""
    bench = Bench(tmp_path, virtual_time, lambda _: 10 * NS_PER_MS)

    async def main() -> None:
        for number, concurrency in enumerate((2, 8, 1), start=1):
            await bench.point(number, concurrency, length_ms=95)

    virtual_time.run(main())
    assert [len(bench.rows(point)) for point in (1, 2, 3)] == [20, 80, 10]


def test_failures_are_rows_and_slow_the_loop_down(tmp_path: Path, virtual_time: VirtualTime) -> None:
    """A dead server is asked again after 10, 20, 40 ... ms, at most once a second; each try is a row."""
    bench = Bench(tmp_path, virtual_time, lambda _: 0, lambda _: Outcome.GRPC_UNAVAILABLE)
    virtual_time.run(bench.point(1, 1, length_ms=5000))
    rows = bench.rows()
    gaps = [int(gap) for gap in rows["due_ns"][1:] - rows["done_ns"][:-1]]
    assert gaps == [min(REST_MAX_NS, REST_MIN_NS << k) for k in range(len(gaps))]
    assert len(rows) == len(bench.failures) == bench.drive.counts.failed == 11
    assert set(rows["outcome"]) == {Outcome.GRPC_UNAVAILABLE}


def test_one_failure_among_answers_costs_one_rest(tmp_path: Path, virtual_time: VirtualTime) -> None:
    """An answer ends the slowing down: isolated failures never add up."""
    bench = Bench(
        tmp_path,
        virtual_time,
        lambda _: NS_PER_MS,
        lambda k: Outcome.GRPC_INTERNAL if k % 10 == 0 else Outcome.OK,
    )
    virtual_time.run(bench.point(1, 1, length_ms=1000))
    rows = bench.rows()
    rests = (rows["due_ns"][1:] - rows["done_ns"][:-1])[rows["outcome"][:-1] == Outcome.GRPC_INTERNAL]
    assert set(rests) == {REST_MIN_NS}


def test_stop_while_a_slot_rests_drains_at_once(tmp_path: Path, virtual_time: VirtualTime) -> None:
    """Stopping does not wait for slots that rest after a failure."""
    bench = Bench(tmp_path, virtual_time, lambda _: 0, lambda _: Outcome.GRPC_UNAVAILABLE)
    virtual_time.run(bench.point(1, 3, length_ms=1))
    assert virtual_time.now_ns() < 1_010 * NS_PER_MS


def test_every_body_is_used_equally(tmp_path: Path, virtual_time: VirtualTime) -> None:
    """Each pass over the corpus sends every body once."""
    bench = Bench(tmp_path, virtual_time, lambda _: NS_PER_MS)
    virtual_time.run(bench.point(1, 1, length_ms=299))
    assert Counter(map(int, bench.rows()["body"])) == {0: 100, 1: 100, 2: 100}


@pytest.mark.parametrize("order", ["sequential", "shuffle", "random"])
def test_orders(order: str) -> None:
    """Sequential is the file's order, shuffle uses each once a pass, random draws; each repeats with its seed."""
    drawn = list(islice(corpus.passes(5, 3, order), 50))
    assert drawn == list(islice(corpus.passes(5, 3, order), 50))
    each_pass = {tuple(sorted(drawn[k : k + 5])) for k in range(0, 50, 5)}
    assert (each_pass == {(0, 1, 2, 3, 4)}) is (order != "random")
    assert (drawn == list(range(5)) * 10) is (order == "sequential")
    assert set(drawn) == set(range(5))


def test_a_full_disk_stops_the_loop_and_keeps_the_rows(
    tmp_path: Path, virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no further row can be kept nothing more is sent, and what was in flight still ends as a row."""
    bench = Bench(tmp_path, virtual_time, lambda _: NS_PER_MS)

    def full(_descriptor: int, _size_bytes: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_allocate", full)
    virtual_time.run(bench.point(1, 4, length_ms=100))
    assert bench.drive.broken is not None
    assert "No space left" in str(bench.drive.broken)
    assert len(bench.rows()) == 64
    assert set(bench.rows()["outcome"]) == {Outcome.OK}


# --- open loop -----------------------------------------------------------------------------------------------------


async def open_point(bench: Bench, offsets: Iterator[int], length_ms: int, max_in_flight: int = 4096) -> None:
    """Send at due times for a while, stop, drain."""
    bench.drive.start(1, Due(bench.drive, offsets, max_in_flight))
    await clock.sleep_ns(length_ms * NS_PER_MS)
    bench.drive.stop()
    await bench.drive.drained()


@settings(max_examples=30, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    services=st.lists(st.integers(1, 300), min_size=1, max_size=9),
)
def test_an_open_loop_sends_when_due_whatever_the_server_does(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], services: list[int]
) -> None:
    """Every request leaves at its due time to the nanosecond, however long the answers take; none is skipped."""
    time = VirtualTime()
    bench = Bench(tmp_path_factory.mktemp("journal"), time, lambda k: services[k % len(services)] * NS_PER_MS)
    offsets = [offset * NS_PER_MS for offset in accumulate(gaps)]
    start_ns = time.now_ns()
    time.run(open_point(bench, iter(offsets), length_ms=1 + sum(gaps)))
    rows = bench.rows()
    assert (rows["due_ns"] - start_ns).tolist() == offsets
    assert (rows["sent_ns"] == rows["due_ns"]).all()
    assert set(rows["outcome"]) == {Outcome.OK}


def test_what_passes_the_limit_is_recorded_as_unsent(tmp_path: Path, virtual_time: VirtualTime) -> None:
    """With so many in flight, what falls due is not sent, and is a row with its due time all the same."""
    bench = Bench(tmp_path, virtual_time, lambda _: 100 * NS_PER_MS)
    virtual_time.run(open_point(bench, count(0, 10 * NS_PER_MS), length_ms=195, max_in_flight=3))
    rows = bench.rows()
    sent = rows["outcome"] == Outcome.OK
    assert len(rows) == 20
    assert sent.sum() == 6
    assert bench.drive.counts.unsent == 14
    assert (rows["outcome"][~sent] == Outcome.UNSENT).all()
    assert (rows["sent_ns"][~sent] == 0).all()
    assert (rows["due_ns"][~sent] > 0).all()


def test_late_requests_go_at_once_and_count_from_their_due_time(tmp_path: Path, virtual_time: VirtualTime) -> None:
    """A client that was held up sends everything that is due, each with its own due time: nothing is merged."""
    bench = Bench(tmp_path, virtual_time, lambda _: NS_PER_MS)
    start_ns = virtual_time.now_ns()
    # As after a stall: the clock has moved on, and the loop wakes with two hundred requests due.
    late = NullClock(virtual_time, behind_ns=200 * NS_PER_MS)
    bench.drive.now_ns = late.now_ns
    virtual_time.run(open_point(bench, count(0, NS_PER_MS), length_ms=50))
    rows = bench.rows()
    assert (rows["due_ns"] - start_ns).tolist() == [k * NS_PER_MS for k in range(len(rows))]
    assert len(rows) >= 200
    assert (rows["sent_ns"][1:150] - start_ns >= 200 * NS_PER_MS).all()


class NullClock:
    """A clock that jumps ahead once, after its first reading."""

    def __init__(self, time: VirtualTime, behind_ns: int) -> None:
        self._time, self._ahead_ns, self._jump_ns = time, 0, behind_ns

    def now_ns(self) -> int:
        """Return the time, ahead from the second reading on."""
        now_ns = self._time.now_ns() + self._ahead_ns
        self._ahead_ns = self._jump_ns
        return now_ns


def test_concurrency_steps_go_up_and_down(tmp_path: Path, virtual_time: VirtualTime) -> None:
    """Each level is held from its start to its end; going down, slots that fall free stay free."""
    bench = Bench(tmp_path, virtual_time, lambda _: 10 * NS_PER_MS)
    held = []

    async def main() -> None:
        levels = [(2, 100 * NS_PER_MS), (6, 100 * NS_PER_MS), (1, 100 * NS_PER_MS)]
        bench.drive.start(1, Slots(bench.drive, levels))
        for _ in range(45):
            await clock.sleep_ns(10 * NS_PER_MS - 1)
            held.append(bench.drive.counts.in_flight)
            await clock.sleep_ns(1)
        bench.drive.stop()
        await bench.drive.drained()

    virtual_time.run(main())
    assert held[1:9] == [2] * 8
    assert held[11:19] == [6] * 8
    assert held[21:29] == [1] * 8
    assert held[31:39] == [2] * 8


@settings(max_examples=30, deadline=None)
@given(services=st.lists(st.integers(1, 50), min_size=1, max_size=20), concurrency=st.integers(1, 9))
def test_littles_identity_holds_to_the_nanosecond(
    tmp_path_factory: pytest.TempPathFactory, services: list[int], concurrency: int
) -> None:
    """The integral of requests in flight that the drive keeps is the sum of service times in the rows."""
    time = VirtualTime()
    folder = tmp_path_factory.mktemp("journal")
    bench = Bench(folder, time, lambda k: services[k % len(services)] * NS_PER_MS)
    time.run(bench.point(1, concurrency, length_ms=200))
    assert bench.drive.counts.in_flight_ns == measure.service_sum_ns(bench.rows())
