"""What stands ready while points are measured: target, worker, log; waiting on them, and the server's counters."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from loadgen import balance, clock, replicas
from loadgen.balance import Balance
from loadgen.commands import Progress
from loadgen.errors import TargetError
from loadgen.fleet import Fleet, together
from loadgen.kserve import Statistics
from loadgen.plan import Load, Plan, Stopping, model_key
from loadgen.pointlog import Target
from loadgen.progress import Observer
from loadgen.rundir import OWN_SOURCE, EventLog, RunDirectory, Sample
from loadgen.server.client import Server
from loadgen.server.metrics import Page
from loadgen.windows import Status

QUIET_POLL_NS = 50 * clock.NS_PER_MS
QUIET_LIMIT_NS = 2000 * clock.NS_PER_MS


@dataclass(frozen=True, slots=True)
class Point:
    """One load to measure; `repeat` counts from 1."""

    number: int
    load: Load
    repeat: int = 1
    intervals: str = ""
    """File of the arrivals to replay."""

    stopping: Stopping | None = None
    """When to stop, if not as the plan says."""

    seed: int | None = None
    """Of the arrivals, if not that of the plan and the repeat."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model under load; `first_body` is the first of its requests in the corpus."""

    triton: Server
    version: str
    first_body: int = 0


@dataclass(slots=True)
class Bench:
    """Everything that stands ready when a point begins."""

    plan: Plan
    directory: RunDirectory
    log: EventLog
    observer: Observer
    interrupt: asyncio.Event
    served: tuple[Served, ...]
    fleet: Fleet
    target: Target
    background: tuple[asyncio.Task[None], ...]
    composing: tuple[Served, ...] = ()
    """Models that the served ones call: their statistics are read too."""

    pages: tuple[Page, ...] = ()
    """Of replicas, where there are several: their sums are the server's counters."""

    balance: Balance = field(default_factory=Balance)
    balanced: str = ""
    """Why its counters are those of several servers, once that is logged."""

    told: set[str] = field(default_factory=set)
    """Why readings failed, each told once."""

    baseline: Statistics | None = None
    """The server's counters before our first request."""

    answered: int = 0
    """Requests answered well since then, as the worker counts them."""

    status: Status | None = None
    """How the last level ended, where windows decide."""

    gauges: list[Sample] = field(default_factory=list)
    """GPU samples so far."""

    bodies: int = 0
    phase: str = ""
    latest: dict[int, Progress] = field(default_factory=dict)
    """Each worker's last report of the current point."""

    reports: list[Progress] = field(default_factory=list)
    """All of them."""

    @property
    def progress(self) -> Progress | None:
        """How far the current point is, all workers together; None before every one of them has said."""
        return together(self.latest.values()) if len(self.latest) == len(self.fleet.workers) else None


async def wait(bench: Bench, duration_ns: int) -> bool:
    """Wait `duration_ns`, or less: say whether it was interrupted.

    Raises:
        FleetError: the worker, or a background task of the run, failed meanwhile.
    """
    async with _racing(bench.interrupt.wait(), bench.fleet.failed()) as (interrupted, gone):
        watched = {interrupted, gone, *bench.background}
        await asyncio.wait(watched, timeout=duration_ns / clock.NS_PER_S, return_when=asyncio.FIRST_COMPLETED)
        if (failure := bench.fleet.failure) is not None:
            raise failure
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
        reading = await _from_pages(bench) if bench.pages else await _from_server(bench)
    except TargetError as error:
        if str(error) not in bench.told:
            bench.told.add(str(error))
            bench.observer.warn(f"server statistics are missing: {error}")
            bench.log.event("warning", text=str(error))
        return None
    if reading is not None:
        bench.balance.see(reading)
        tell_balance(bench)
    return reading


def tell_balance(bench: Bench) -> None:
    """Log, once, that several servers are read as one."""
    if bench.balance.reason and not bench.balanced:
        bench.balanced = bench.balance.reason
        bench.log.event("balanced", reason=bench.balanced)
        bench.observer.warn(f"server statistics are unavailable: {bench.balanced}; {balance.REMEDY}")


async def _from_server(bench: Bench) -> Statistics | None:
    known = await _read(bench.served)
    if len(known) < len(bench.served):
        return None
    whole = Statistics.together(known) if len(known) > 1 else next(iter(known.values()))
    return replace(whole, composing=await _read(bench.composing)) if bench.composing else whole


async def _from_pages(bench: Bench) -> Statistics:
    served, composing = map(wanted, bench.served), map(wanted, bench.composing)
    reading = await replicas.read(bench.pages, list(served), list(composing))
    bench.log.samples([Sample(reading.asked_ns, OWN_SOURCE, "replicas", "{}", float(len(reading.replicas)))])
    return reading


def wanted(of: Served) -> replicas.Model:
    """Return a model as it is looked for on pages."""
    return replicas.Model(model_key(of.triton.endpoint), of.triton.endpoint.model, of.version)


async def _read(models: Iterable[Served]) -> dict[str, Statistics]:
    """Return the counters of each model that has some, by name."""
    readings = {model_key(each.triton.endpoint): await each.triton.statistics(each.version) for each in models}
    return {name: reading for name, reading in readings.items() if reading is not None}


async def settled_statistics(bench: Bench) -> Statistics | None:
    """Read the counters until they hold every answer we had and two readings agree, or the patience is over.

    A backend may count a request after it has answered it, so that readings that agree may both be too early.
    Readings of several servers as one never agree: those are not waited for.
    """
    give_up_ns = clock.now_ns() + QUIET_LIMIT_NS
    reading = await read_statistics(bench)
    while reading is not None and not bench.balanced and clock.now_ns() < give_up_ns:
        await clock.sleep_ns(QUIET_POLL_NS)
        earlier, reading = reading, await read_statistics(bench)
        if reading is not None and _counters(reading) == _counters(earlier) and _all_counted(bench, reading):
            break
    return reading


def _all_counted(bench: Bench, reading: Statistics) -> bool:
    return bench.baseline is None or reading.success_count - bench.baseline.success_count >= bench.answered


def _counters(reading: Statistics) -> tuple[int, int]:
    return reading.success_count, reading.fail_count


def write_log(
    bench: Bench, event: str, point: int, statistics: Statistics | None, at_ns: int | None = None, **fields: object
) -> None:
    """Log an event of a point with a reading of the counters."""
    facts = asdict(statistics) if statistics else None
    bench.log.event(event, at_ns, point=point, statistics=facts, **fields)
