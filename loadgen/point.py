"""One point: begin the load, measure until it is time to stop, drain; the server's counters are read meanwhile."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from loadgen import clock, journal, points, slo, steady
from loadgen.bench import Bench, Point, read_statistics, settled_statistics, tell_balance, wait, write_log
from loadgen.commands import Progress, Start
from loadgen.estimate import nearest_rank
from loadgen.kserve import Statistics
from loadgen.measure import Window
from loadgen.plan import ByCount, ByPrecision, ByTime, ClosedLoop, ConcurrencySteps, Load, Plan, Stopping
from loadgen.pointlog import Client, PointLog, is_closed, load_words
from loadgen.points import Row
from loadgen.records import Outcome
from loadgen.steady import Look
from loadgen.trials import Tried, until_agreed
from loadgen.windows import ByWindows

WARM_POLL_NS = 100 * clock.NS_PER_MS
ANY_THROUGHPUT = 1e9
READING_NS = 500 * clock.NS_PER_MS
"""Between two readings of the server's counters while nobody knows yet where the window begins."""


@dataclass(slots=True)
class Measured:
    """The window of a point and what was read at its edges."""

    window: Window
    opened: Statistics | None
    closed: Statistics | None
    fixed: bool
    looks: tuple[int, ...] = ()
    interrupted: bool = False


async def measure_point(bench: Bench, point: Point) -> Row | None:
    """Carry out one point and measure it; None if it was interrupted before there was a window.

    Raises:
        FleetError: the worker or the disk failed; the log and the journal hold what was done.
    """
    plan = bench.plan
    started = await settled_statistics(bench)
    bench.observer.point_started(load_words(point.load))
    bench.latest, bench.reports = {}, []
    begun_ns = clock.now_ns()
    stopping = point.stopping or plan.stopping
    asked, percents, objective = asked_of(stopping, point.load), percents_of(plan), objective_of(plan)
    facts = {
        "begun_ns": begun_ns,
        "repeat": point.repeat,
        "bodies": bench.bodies,
        "percents": percents,
        "slo": objective,
    }
    said = {"load": _builtins(point.load), "asked": _builtins(asked), **facts}
    write_log(bench, "point_started", point.number, started, None, **said)
    seed = plan.seed + point.repeat - 1 if point.seed is None else point.seed
    requests = stopping.total_requests if isinstance(stopping, ByWindows) else 0
    order = Start(point.number, point.load, seed, point.intervals, plan.spin_us * 1000, requests=requests)
    bench.fleet.start(order)
    measured = await _measure(bench, point, begun_ns)
    bench.phase = "drain"
    account = await bench.fleet.stop()
    bench.answered += account.completed
    drained = await settled_statistics(bench)
    write_log(bench, "point_drained", point.number, drained, in_flight_ns=account.in_flight_ns)
    bench.balance.count(started, drained, account.completed)
    tell_balance(bench)
    if measured is None:
        return None
    log = PointLog(
        point.number,
        point.load,
        measured.window,
        begun_ns,
        measured.opened,
        measured.closed,
        started,
        drained,
        point.repeat,
        measured.looks,
        measured.fixed,
        measured.interrupted,
        account.in_flight_ns,
        _client(bench, measured.window),
        asked,
        percents,
        bench.bodies,
        objective,
        bench.balanced,
    )
    return points.point_row(log, journal.read_point(bench.directory.journal, point.number), bench.target)


def objective_of(plan: Plan) -> str:
    """Return the objective whose goodput every point of a plan states; empty if there is none."""
    return plan.search.slo if plan.search else plan.slo


def percents_of(plan: Plan) -> tuple[float, ...]:
    """Return the percentiles asked for, that of the objective among them."""
    objective = objective_of(plan)
    own = (slo.parse(objective).percent,) if objective else ()
    return tuple(dict.fromkeys((*plan.percents, *own)))


def asked_of(stopping: Stopping, load: Load) -> ByPrecision:
    """Return the precision asked of a point; the rate of an open loop is given, so only its times need be precise."""
    asked = stopping if isinstance(stopping, ByPrecision) else ByPrecision()
    return asked if is_closed(load) else msgspec.structs.replace(asked, throughput=ANY_THROUGHPUT)


async def _measure(bench: Bench, point: Point, begun_ns: int) -> Measured | None:
    match point.stopping or bench.plan.stopping:
        case ByTime() as by_time:
            return None if await _warm_up(bench, point, by_time) else await _timed(bench, point, by_time)
        case ByPrecision() as by_precision:
            asked = asked_of(by_precision, point.load)
            return await _until_precise(bench, point, begun_ns, asked)
        case ByWindows() as by_windows:
            return _of_windows(bench, point, await until_agreed(bench, point, by_windows))
        case by_count:
            return await _until_count(bench, point, begun_ns, by_count)


def _of_windows(bench: Bench, point: Point, tried: Tried | None) -> Measured | None:
    """Return the windows that count as one."""
    if tried is None:
        return None
    first, last = tried.edges[0], tried.edges[-1]
    window = Window(first.at_ns, last.at_ns)
    measured = Measured(window, first.statistics, last.statistics, fixed=True, interrupted=tried.interrupted)
    write_log(bench, "window_opened", point.number, first.statistics, window.start_ns)
    _log_closed(bench, point, measured)
    return measured


async def _warm_up(bench: Bench, point: Point, asked: ByTime) -> bool:
    """Wait out the warm-up, and until every slot has had an answer; say whether it was interrupted."""
    bench.phase = "warm-up"
    if await wait(bench, asked.warmup_ms * clock.NS_PER_MS):
        return True
    while not _every_slot_answered(bench.progress, point):
        if await wait(bench, WARM_POLL_NS):
            return True
    return False


def _every_slot_answered(progress: Progress | None, point: Point) -> bool:
    slots = _slots(point.load)
    return progress is not None and progress.point == point.number and progress.completed + progress.failed >= slots


def _slots(load: Load) -> int:
    match load:
        case ClosedLoop(concurrency):
            return concurrency
        case ConcurrencySteps(levels):
            return levels[0][0]
    return 0


async def _timed(bench: Bench, point: Point, asked: ByTime) -> Measured:
    """Open the window now and close it after the time asked."""
    bench.phase = "window"
    opened = await read_statistics(bench)
    start_ns = clock.now_ns()
    write_log(bench, "window_opened", point.number, opened, start_ns)
    interrupted = await wait(bench, asked.window_ms * clock.NS_PER_MS)
    window = Window(start_ns, clock.now_ns())
    closed = await read_statistics(bench)
    measured = Measured(window, opened, closed, fixed=True, interrupted=interrupted)
    _log_closed(bench, point, measured)
    return measured


async def _until_precise(bench: Bench, point: Point, begun_ns: int, asked: ByPrecision) -> Measured | None:
    """Look at the record at growing ages until two looks agree that it is sure enough, or the time is over."""
    readings: list[Statistics] = []
    looks: list[Look] = []
    age_s: float | None = asked.min_s
    interrupted = False
    while age_s is not None and not interrupted:
        bench.phase = f"to {age_s:.0f} s"
        interrupted = await _read_until(bench, readings, begun_ns + round(age_s * clock.NS_PER_S))
        looks.append(_look(bench, point, begun_ns))
        if len(looks) > 1 and steady.judge(looks[-1], looks[-2], asked).status == "converged":
            break
        age_s = _next_age_s(looks, age_s, asked)
    if looks[-1].found.requests == 0 and interrupted:
        return None
    return _found(bench, point, readings, looks, interrupted=interrupted)


def _next_age_s(looks: list[Look], age_s: float, asked: ByPrecision) -> float | None:
    """Return the age of the next look; the first that counts is old against the latencies it saw."""
    mean = looks[-1].found.mean_ns
    first_s = steady.first_look_s(asked, mean.value / clock.NS_PER_S if mean else 0.0)
    if len(looks) == 1 and first_s > age_s:
        return first_s
    return steady.next_look_s(asked, age_s)


def _look(bench: Bench, point: Point, begun_ns: int) -> Look:
    rows = journal.read_point(bench.directory.journal, point.number)
    good = rows[rows["outcome"] == Outcome.OK]
    since = "sent_ns" if is_closed(point.load) else "due_ns"
    return steady.look(good["done_ns"], good["done_ns"] - good[since], begun_ns, clock.now_ns())


def _found(
    bench: Bench, point: Point, readings: list[Statistics], looks: list[Look], *, interrupted: bool
) -> Measured:
    """Return the window from the end of warm-up to the last look; it begins at a reading of the server's counters."""
    end_ns, cut_ns = looks[-1].at_ns, looks[-1].cut.at_ns
    opened = next((reading for reading in readings if reading.asked_ns >= cut_ns), None)
    start_ns = opened.asked_ns if opened and opened.asked_ns < (cut_ns + end_ns) // 2 else cut_ns
    closed = readings[-1] if readings else None
    measured = Measured(
        Window(start_ns, end_ns),
        opened,
        closed if closed is not opened else None,
        fixed=False,
        looks=tuple(look.at_ns for look in looks),
        interrupted=interrupted,
    )
    write_log(bench, "window_opened", point.number, opened, start_ns)
    _log_closed(bench, point, measured)
    return measured


async def _until_count(bench: Bench, point: Point, begun_ns: int, asked: ByCount) -> Measured | None:
    """Wait for so many answers after the first two of every slot; the window is between two completions."""
    bench.phase = f"{asked.requests} requests"
    skipped = 2 * _slots(point.load)
    give_up_ns = begun_ns + round(asked.max_s * clock.NS_PER_S)
    opened, closed, interrupted = await read_statistics(bench), None, False
    done_ns = np.empty(0, np.int64)
    while len(done_ns) <= skipped + asked.requests and not interrupted and clock.now_ns() < give_up_ns:
        interrupted = await wait(bench, WARM_POLL_NS)
        rows = journal.read_point(bench.directory.journal, point.number)
        done_ns = np.sort(rows["done_ns"][rows["outcome"] == Outcome.OK])
    closed = await read_statistics(bench)
    if len(done_ns) < skipped + 2:
        return None
    first, last = skipped - 1 if skipped else 0, min(len(done_ns) - 1, max(skipped - 1, 0) + asked.requests)
    # From after one completion until after another: as many intervals as requests, none of them half.
    window = Window(int(done_ns[first]) + 1, int(done_ns[last]) + 1)
    measured = Measured(window, opened, closed, fixed=True, interrupted=interrupted)
    write_log(bench, "window_opened", point.number, opened, window.start_ns)
    _log_closed(bench, point, measured)
    return measured


async def _read_until(bench: Bench, readings: list[Statistics], until_ns: int) -> bool:
    """Read the server's counters over and over until a time; say whether that was interrupted."""
    while (left_ns := until_ns - clock.now_ns()) > 0:
        if await wait(bench, min(left_ns, READING_NS)):
            return True
        reading = await read_statistics(bench)
        if reading is not None:
            readings.append(reading)
    return False


def _log_closed(bench: Bench, point: Point, measured: Measured) -> None:
    facts = {
        "interrupted": measured.interrupted,
        "fixed": measured.fixed,
        "looks": measured.looks,
        "client": _builtins(_client(bench, measured.window)),
    }
    write_log(bench, "window_closed", point.number, measured.closed, measured.window.end_ns, **facts)


def _client(bench: Bench, window: Window) -> Client:
    """Return what the workers' reports say of their event loops and of the busiest one's CPU in the window."""
    inside = [report for report in bench.reports if window.start_ns <= report.at_ns < window.end_ns]
    lags = np.sort(np.array([lag for report in inside for lag in report.loop_lag_ns], np.int64))
    shares = [share for number in bench.latest if (share := _cpu(inside, number)) is not None]
    return Client(nearest_rank(lags, 99) if len(lags) else None, max(shares, default=None))


def _cpu(reports: list[Progress], worker: int) -> float | None:
    """Return the share of a core that a worker used; None where a rate lacks its two readings."""
    own = [report for report in reports if report.worker == worker]
    if len(own) < 2:  # noqa: PLR2004 - a rate needs two readings
        return None
    return (own[-1].cpu_s - own[0].cpu_s) / ((own[-1].at_ns - own[0].at_ns) / clock.NS_PER_S)


def _builtins(value: object) -> Any:  # noqa: ANN401 - plain data
    return msgspec.to_builtins(value)
