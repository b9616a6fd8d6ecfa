"""One process that drives load: event loop, transport, journal; started as `python -m loadgen.worker`.

It takes orders on stdin and reports on stdout, a JSON line each. The end of stdin means that the run is gone: it
leaves at once, and its rows are in the journal. Ctrl-C is the run's to hear, so it is ignored here.
"""

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import psutil

from loadgen import clock, corpus, kserve, kserve_http, schedule
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
from loadgen.drive import Drive, Due, Pace, Slots
from loadgen.journal import Journal
from loadgen.plan import ClosedLoop, ConcurrencySteps, Replay
from loadgen.records import PROBE_POINT, Outcome, Reply
from loadgen.transport import Transport
from loadgen.transport.direct import DirectTransport
from loadgen.transport.grpcaio import GrpcAioTransport
from loadgen.transport.null import NullTransport
from loadgen.walk import Bodies, Message, Sequences, Walk
from loadgen.witness import Witness

PROGRESS_NS = 200 * clock.NS_PER_MS
LINE_LIMIT_BYTES = 1 << 20
DETAILS_LIMIT = 300
LAG_PROBE_NS, LAG_PAUSE_NS = 10 * clock.NS_PER_MS, 40 * clock.NS_PER_MS
"""Not one probe after the other, which would show in the CPU of a light load."""

TIMER_ROUNDING_NS = 1_100_000
"""asyncio waits whole milliseconds, rounded up: only what is later than that keeps a reply waiting."""


def report(line: Report) -> None:
    """Send one report to the run."""
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


class Worker:
    """Carries out the orders of one run, one point at a time."""

    def __init__(self, opening: Open, journal: Journal, transport: Transport) -> None:
        index = msgspec.json.decode(Path(opening.index).read_bytes(), type=corpus.Index)
        # Views of a mapped file, shared by all workers; what bytes are appended to, or grpcio sends, is copied once.
        copied = opening.in_sequences or opening.transport == "grpcio"
        bodies: list[Message] = list((corpus.load if copied else corpus.views)(Path(opening.corpus), index))
        self._answers = [body.answer for body in index.bodies]
        self._walks = _walks(opening, index, bodies)
        kept = Path(opening.kept_answers) if opening.kept_answers else None
        self._witness = Witness(journal, kept) if opening.digests else None
        self._drive = Drive(
            transport,
            journal,
            self._walks[0],
            opening.deadline_ns,
            self._on_failure,
            self._fault if any(self._answers) else None,
            self._witness,
        )
        self._transport, self._journal = transport, journal
        self._kserve = kserve_http if opening.transport == "http" else kserve
        self._bodies = bodies
        self._in_sequences, self._probe_sequence = opening.in_sequences, opening.sequence_ids[0]
        self._deadline_ns = opening.deadline_ns
        self._process = psutil.Process()
        self._number, self._workers = opening.worker, opening.workers
        self._point = PROBE_POINT
        self._failures_told: set[tuple[int, Outcome, str]] = set()
        self._loop_lags: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def obey(self, order: Order) -> None:
        """Carry out one order; what takes time goes on as a task."""
        match order:
            case Probe():
                self._probe(order.body)
            case Start():
                self._point = order.point
                gc.collect()
                gc.freeze()  # what exists now lives as long as the process: the collector need not walk it again
                is_open = not isinstance(order.load, ClosedLoop | ConcurrencySteps)
                self._drive.walk = self._walks[is_open]
                requests = part_of(order.requests, self._number, self._workers)
                self._drive.start(order.point, _pace(order, self._drive, self._number, self._workers), requests)
            case Stop():
                self._drive.stop()
                self._spawn_drain()

    async def tell_progress(self) -> None:
        """Report the counts of the current point, over and over."""
        while True:
            counts, usage = self._drive.counts, self._process.cpu_times()
            memory_bytes = self._process.memory_info().rss
            cpu_s = usage.user + usage.system
            count = (counts.completed, counts.failed, counts.unsent, counts.in_flight)
            lags, self._loop_lags = tuple(self._loop_lags), []
            report(Progress(clock.now_ns(), self._point, *count, memory_bytes, cpu_s, self._number, lags))
            if self._drive.broken is not None:
                report(Broken(str(self._drive.broken)))
                return
            await clock.sleep_ns(PROGRESS_NS)

    async def watch_loop(self) -> None:
        """Measure, over and over, how late the event loop wakes: what a reply then waits before it is seen."""
        while True:
            await clock.sleep_ns(LAG_PAUSE_NS)
            self._transport.longest_ns()
            due_ns, cpu_ns = clock.now_ns() + LAG_PROBE_NS, clock.thread_cpu_ns()
            await clock.sleep_ns(LAG_PROBE_NS)
            late_ns = clock.now_ns() - due_ns - TIMER_ROUNDING_NS
            # Timers are late in an idle loop too, and on a busy machine: callbacks held this one up for no longer
            # than they used the processor, nor than the longest of them took.
            held_ns = min(late_ns, clock.thread_cpu_ns() - cpu_ns, self._transport.longest_ns())
            self._loop_lags.append(max(0, held_ns))

    def _spawn_drain(self) -> None:
        task = asyncio.get_running_loop().create_task(self._drain())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        await self._drive.drained()
        report(Drained(self._point, self._drive.counts.completed, self._drive.counts.in_flight_ns))

    def _probe(self, body: int) -> None:
        message, due_ns = bytes(self._bodies[body]), clock.now_ns()
        if self._in_sequences:
            message = self._kserve.step(message, self._probe_sequence, first=True, last=True)
        row, sent_ns = self._journal.born(PROBE_POINT, body, due_ns, len(message), clock.now_ns)

        def on_reply(reply: Reply) -> None:
            self._journal.ended(row, reply)
            if self._witness is not None and reply.outcome is Outcome.OK:
                self._witness(row, body, reply.response)
            outputs = self._kserve.infer_outputs(reply.response) if reply.outcome is Outcome.OK else ()
            words = tuple(map(str, outputs))
            details = reply.details[:DETAILS_LIMIT]
            service_ns = reply.done_ns - sent_ns
            report(Probed(reply.outcome.label, details, service_ns, len(reply.response), words))

        self._transport.send(message, self._deadline_ns, on_reply)

    def _fault(self, body: int, response: bytes) -> str | None:
        expected = self._answers[body]
        return self._kserve.wrong_answer(response, expected) if expected else None

    def _on_failure(self, reply: Reply) -> None:
        kind = (self._point, reply.outcome, reply.details[:DETAILS_LIMIT])
        if kind not in self._failures_told:
            self._failures_told.add(kind)
            report(Failed(reply.done_ns, self._point, reply.outcome.label, kind[2]))


def _pace(order: Start, drive: Drive, number: int, workers: int) -> Pace:
    """Return the pace of this worker's share of the load."""
    match order.load:
        case ClosedLoop(concurrency):
            return Slots(drive, [(part_of(concurrency, number, workers), 0)], order.at_ns)
        case ConcurrencySteps(levels):
            steps = [(part_of(level, number, workers), round(seconds * clock.NS_PER_S)) for level, seconds in levels]
            return Slots(drive, steps, order.at_ns)
        case Replay() as replay:
            intervals_ns = np.load(order.intervals).tolist()
            offsets = schedule.replayed(
                intervals_ns, replay.speed, repeat=replay.repeat, share=number, shares=workers
            )
        case load:
            offsets = schedule.offsets(load, order.seed, number, workers)
    most = part_of(order.load.max_in_flight, number, workers)
    return Due(drive, offsets, most, order.spin_ns, order.at_ns)


def part_of(whole: int, number: int, workers: int) -> int:
    """Return worker `number`'s part of so many requests: the parts differ by one at most, and add up."""
    return whole // workers + (number < whole % workers)


def _walks(opening: Open, index: corpus.Index, bodies: list[Message]) -> tuple[Walk, Walk]:
    """Return this worker's walk in closed loops, and in open ones.

    Slots go through all requests in an order of the worker's own. Of what falls due, a worker sends every n-th, so
    that all together send what one would. Sequences go on from point to point, so there is one walk of them.
    """
    number, workers = opening.worker, opening.workers
    if opening.in_sequences:
        first_id, last_id = opening.sequence_ids
        streams = corpus.streams(index)
        sequences = Sequences(
            list(map(bytes, bodies)),
            streams,
            _own_order(opening, len(streams)),
            opening.sequence_length,
            first_id=first_id + 1 + number,
            last_id=last_id,
            id_step=workers,
            variation=opening.sequence_length_variation,
            seed=opening.seed + number,
            step=kserve_http.step if opening.transport == "http" else kserve.step,
        )
        return sequences, sequences
    shared = islice(_order(opening, len(bodies), opening.seed), number, None, workers)
    return Bodies(bodies, _own_order(opening, len(bodies))), Bodies(bodies, shared)


def _own_order(opening: Open, choices: int) -> Iterator[int]:
    """Yield choices in an order of this worker's own: another seed, and in the order of the file another start."""
    start = opening.worker * choices // opening.workers
    return islice(_order(opening, choices, opening.seed + opening.worker), start, None)


def _order(opening: Open, choices: int, seed: int) -> Iterator[int]:
    if opening.mix:
        groups, weights = zip(*opening.mix, strict=True)
        return corpus.mixed(groups, weights, seed, opening.order)
    return corpus.passes(choices, seed, opening.order, opening.weights)


def _transport(opening: Open) -> Transport:
    if opening.transport == "null":
        return NullTransport(clock.now_ns, lambda _: 0)
    if opening.transport == "http":
        from loadgen.transport.http1 import HttpTransport  # noqa: PLC0415 - aiohttp takes a while to import

        return HttpTransport(opening.endpoint)
    if opening.transport == "grpcio":
        return GrpcAioTransport(
            opening.endpoint, opening.connections, opening.compression, in_streams=opening.in_streams
        )
    return DirectTransport(opening.endpoint, opening.connections)


async def orders() -> asyncio.StreamReader:
    """Return stdin as a stream of order lines."""
    reader = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def serve() -> None:
    """Obey orders until stdin ends."""
    reader = await orders()
    opening = msgspec.json.decode(await reader.readline(), type=Open)
    transport = _transport(opening)
    await transport.open()
    with Journal(Path(opening.journal), opening.worker, digests=opening.digests) as journal:
        worker = Worker(opening, journal, transport)
        report(Opened(os.getpid()))
        watches = [asyncio.create_task(worker.tell_progress()), asyncio.create_task(worker.watch_loop())]
        while line := await reader.readline():
            worker.obey(msgspec.json.decode(line, type=Order))
        for watch in watches:
            watch.cancel()
        await transport.close()


def main() -> None:
    """Run one worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop where it is installed: it sees a reply sooner, for less."""
    with contextlib.suppress(ImportError):
        return cast("Callable[[], asyncio.AbstractEventLoop]", importlib.import_module("uvloop").new_event_loop)
    return None


if __name__ == "__main__":
    main()
