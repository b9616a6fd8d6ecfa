"""The run's end of its worker processes: start them, give orders, hear reports, notice a death."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import structs

from loadgen import clock
from loadgen.commands import (
    Broken,
    Drained,
    Failed,
    Open,
    Opened,
    Order,
    Probe,
    Probed,
    Progress,
    Report,
    Start,
    Stop,
)
from loadgen.errors import FleetError

LEAVE_TIMEOUT_S = 10.0
COMMON_START_NS = 50 * clock.NS_PER_MS
"""From the order to begin until several workers begin: time for it to reach them all."""

LINE_LIMIT_BYTES = 1 << 20

Answer = TypeVar("Answer", Opened, Probed, Drained)


@dataclass(slots=True)
class WorkerHandle:
    """One running worker; `on_report` hears everything it says besides the answers that are awaited."""

    process: asyncio.subprocess.Process
    on_report: Callable[[Progress | Failed], None]
    error_log: Path
    _answers: asyncio.Queue[Report] = field(default_factory=asyncio.Queue)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    failure: FleetError | None = None

    async def open(self, opening: Open) -> int:
        """Hand the worker its task; return its process id once it is ready."""
        return (await self._ask(opening, Opened)).pid

    async def probe(self, body: int) -> Probed:
        """Send one request and say how it went."""
        return await self._ask(Probe(body), Probed)

    def start(self, order: Start) -> None:
        """Begin a point."""
        self._tell(order)

    async def stop(self) -> Drained:
        """End the point; return the worker's own account of it when nothing is in flight."""
        return await self._ask(Stop(), Drained)

    async def failed(self) -> None:
        """Return when the worker can no longer do its work; `failure` says why."""
        await self._gone.wait()

    async def listen(self) -> None:
        """Pass on the worker's reports until it ends."""
        try:
            await self._hear()
        except FleetError as error:  # what it said could not be written down: the disk is full
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a fault of who hears it must end the run, not leave it waiting
            self._fail(FleetError(f"a report of the worker could not be taken: {error!r}"))

    async def _hear(self) -> None:
        stdout = self.process.stdout
        assert stdout is not None
        while line := await stdout.readline():
            match msgspec.json.decode(line, type=Report):
                case Progress() | Failed() as news:
                    self.on_report(news)
                case Broken(message):
                    self._fail(FleetError(message))
                case answer:
                    self._answers.put_nowait(answer)
        code = await self.process.wait()
        words = self._last_words()
        self._fail(FleetError(f"worker {self.process.pid} ended (status {code}){words}; what it recorded is safe"))

    def _fail(self, error: FleetError) -> None:
        self.failure = self.failure or error
        self._gone.set()

    def _last_words(self) -> str:
        lines = self.error_log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    async def _ask(self, order: Order, expected: type[Answer]) -> Answer:
        self._tell(order)
        answer = asyncio.ensure_future(self._answers.get())
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if not answer.done():
            answer.cancel()
            raise self.failure or FleetError("the worker is gone")
        reply = answer.result()
        assert isinstance(reply, expected), f"{order} was answered by {reply}"
        return reply

    def _tell(self, order: Order) -> None:
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(msgspec.json.encode(order) + b"\n")


@asynccontextmanager
async def worker(on_report: Callable[[Progress | Failed], None], error_log: Path) -> AsyncIterator[WorkerHandle]:
    """Start a worker process; leaving the context ends it, abandoning what is in flight."""
    with error_log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "loadgen.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=LINE_LIMIT_BYTES,
        )
    handle = WorkerHandle(process, on_report, error_log)
    listener = asyncio.create_task(handle.listen())
    try:
        yield handle
    finally:
        await _end(process)
        await listener


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), LEAVE_TIMEOUT_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers of a run, which drive a load together."""

    workers: tuple[WorkerHandle, ...]

    @property
    def failure(self) -> FleetError | None:
        """Why the fleet can no longer do its work; None while it can."""
        return next((each.failure for each in self.workers if each.failure is not None), None)

    async def open(self, opening: Open) -> None:
        """Hand each worker its task; return once all are ready."""
        numbers = range(len(self.workers))
        openings = [structs.replace(opening, worker=number, workers=len(self.workers)) for number in numbers]
        await asyncio.gather(*(each.open(own) for each, own in zip(self.workers, openings, strict=True)))

    async def probe(self, body: int) -> Probed:
        """Send one request and say how it went."""
        return await self.workers[0].probe(body)

    def start(self, order: Start) -> None:
        """Begin a point, at one instant if there are several workers."""
        if len(self.workers) > 1:
            order = structs.replace(order, at_ns=clock.now_ns() + COMMON_START_NS)
        for each in self.workers:
            each.start(order)

    async def stop(self) -> Drained:
        """End the point; return the workers' own account of it when nothing is in flight."""
        accounts = await asyncio.gather(*(each.stop() for each in self.workers))
        completed = sum(each.completed for each in accounts)
        return Drained(accounts[0].point, completed, sum(each.in_flight_ns for each in accounts))

    async def failed(self) -> None:
        """Return when a worker can no longer do its work; `failure` says why."""
        waits = [asyncio.ensure_future(each.failed()) for each in self.workers]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()


@asynccontextmanager
async def fleet(
    count: int, on_report: Callable[[Progress | Failed], None], error_log: Callable[[int], Path]
) -> AsyncIterator[Fleet]:
    """Start so many workers, each with a file for what it writes to stderr; leaving the context ends them."""
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(on_report, error_log(number))) for number in range(count)]
        yield Fleet(tuple(workers))


def together(latest: Iterable[Progress]) -> Progress:
    """Return the counts, the memory and the CPU of several workers as one report, of the latest time."""
    reports = list(latest)
    sums = {
        name: sum(getattr(each, name) for each in reports)
        for name in ("completed", "failed", "unsent", "in_flight", "resident_memory_bytes", "cpu_s")
    }
    last = max(reports, key=lambda each: each.at_ns)
    return structs.replace(last, **sums)
