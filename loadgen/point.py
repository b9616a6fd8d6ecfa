"""One point: fill the slots, warm up, open the window, close it, drain; server counters read at each turn."""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from typing import Any

from loadgen import clock, journal, points
from loadgen.commands import Progress
from loadgen.errors import TargetError
from loadgen.fleet import WorkerHandle
from loadgen.kserve import Statistics
from loadgen.measure import Window
from loadgen.plan import ClosedLoop, Plan
from loadgen.points import PointLog, Row, Target
from loadgen.progress import Observer
from loadgen.rundir import EventLog, RunDirectory
from loadgen.server.triton import Triton

QUIET_POLL_NS = 50 * clock.NS_PER_MS
QUIET_LIMIT_NS = 2000 * clock.NS_PER_MS
WARM_POLL_NS = 100 * clock.NS_PER_MS


@dataclass(slots=True)
class Bench:
    """Everything that stands ready when a point begins."""

    plan: Plan
    directory: RunDirectory
    log: EventLog
    observer: Observer
    interrupt: asyncio.Event
    triton: Triton
    worker: WorkerHandle
    target: Target
    version: str
    background: tuple[asyncio.Task[None], ...]
    baseline: Statistics | None = None
    """The server's counters before our first request."""

    answered: int = 0
    """Requests answered well since then, as the worker counts them."""

    phase: str = ""
    progress: Progress | None = None


async def measure_point(bench: Bench, point: int, load: ClosedLoop) -> Row | None:
    """Carry out one point and measure it; None if it was interrupted before its window opened.

    Raises:
        FleetError: the worker or the disk failed; the log and the journal hold what was done.
    """
    started = await _settled_statistics(bench)
    _log(bench, "point_started", point, started, concurrency=load.concurrency)
    bench.observer.point_started(load.concurrency)
    bench.progress = None
    bench.worker.start(point, load.concurrency)
    window = None if await _warm_up(bench, point, load.concurrency) else await _window(bench, point)
    bench.phase = "drain"
    bench.answered += await bench.worker.stop()
    drained = await _settled_statistics(bench)
    _log(bench, "point_drained", point, drained)
    if window is None:
        return None
    span, opened, closed, interrupted = window
    log = PointLog(point, load.concurrency, span, opened, closed, started, drained, interrupted)
    return points.point_row(log, journal.read_point(bench.directory.journal, point), bench.target)


async def _warm_up(bench: Bench, point: int, concurrency: int) -> bool:
    """Wait out the warm-up, and until every slot has had an answer; say whether it was interrupted."""
    bench.phase = "warm-up"
    if await wait(bench, bench.plan.warmup_ms * clock.NS_PER_MS):
        return True
    while not _every_slot_answered(bench.progress, point, concurrency):
        if await wait(bench, WARM_POLL_NS):
            return True
    return False


def _every_slot_answered(progress: Progress | None, point: int, concurrency: int) -> bool:
    here = progress is not None and progress.point == point
    return here and progress is not None and progress.completed + progress.failed >= concurrency


async def _window(bench: Bench, point: int) -> tuple[Window, Statistics | None, Statistics | None, bool]:
    bench.phase = "window"
    opened = await read_statistics(bench)
    start_ns = clock.now_ns()
    _log(bench, "window_opened", point, opened, start_ns)
    interrupted = await wait(bench, bench.plan.window_ms * clock.NS_PER_MS)
    end_ns = clock.now_ns()
    closed = await read_statistics(bench)
    _log(bench, "window_closed", point, closed, end_ns, interrupted=interrupted)
    return Window(start_ns, end_ns), opened, closed, interrupted


async def wait(bench: Bench, duration_ns: int) -> bool:
    """Wait `duration_ns`, or less: say whether it was interrupted.

    Raises:
        FleetError: the worker, or a background task of the run, failed meanwhile.
    """
    async with _racing(bench.interrupt.wait(), bench.worker.failed()) as (interrupted, gone):
        watched = {interrupted, gone, *bench.background}
        await asyncio.wait(watched, timeout=duration_ns / clock.NS_PER_S, return_when=asyncio.FIRST_COMPLETED)
        if bench.worker.failure is not None:
            raise bench.worker.failure
        for task in bench.background:
            if task.done():
                task.result()
        return bench.interrupt.is_set()


@contextlib.asynccontextmanager
async def _racing(*waits: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - a tuple of as many tasks
    tasks = tuple(map(asyncio.ensure_future, waits))
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()


async def read_statistics(bench: Bench) -> Statistics | None:
    """Read the server's counters once; None, with a warning, where it has none to give."""
    try:
        return await bench.triton.statistics(bench.version)
    except TargetError as error:
        bench.observer.warn(f"server statistics are missing: {error}")
        bench.log.event("warning", text=str(error))
        return None


async def _settled_statistics(bench: Bench) -> Statistics | None:
    """Read the counters until they hold every answer we had and two readings agree, or the patience is over.

    A backend may count a request after it has answered it, so that readings that agree may both be too early.
    """
    give_up_ns = clock.now_ns() + QUIET_LIMIT_NS
    reading = await read_statistics(bench)
    while reading is not None and clock.now_ns() < give_up_ns:
        await clock.sleep_ns(QUIET_POLL_NS)
        earlier, reading = reading, await read_statistics(bench)
        if reading is not None and _counters(reading) == _counters(earlier) and _all_counted(bench, reading):
            break
    return reading


def _all_counted(bench: Bench, reading: Statistics) -> bool:
    return bench.baseline is None or reading.success_count - bench.baseline.success_count >= bench.answered


def _counters(reading: Statistics) -> tuple[int, int]:
    return reading.success_count, reading.fail_count


def _log(
    bench: Bench, event: str, point: int, statistics: Statistics | None, at_ns: int | None = None, **fields: object
) -> None:
    facts = asdict(statistics) if statistics else None
    bench.log.event(event, at_ns, point=point, statistics=facts, **fields)
