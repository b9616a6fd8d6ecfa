"""Measure this machine's own client: a server that answers at once, and no network at all.

The workers are those of a run, journal and all; only what is at the other end is known to take no time.
"""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from loadgen import clock, corpus, environment, journal
from loadgen.atomic import write
from loadgen.calibration import Calibration, Client
from loadgen.commands import Failed, Open, Progress, Start
from loadgen.endpoint import Endpoint
from loadgen.errors import FleetError, PlanError
from loadgen.estimate import nearest_rank
from loadgen.fleet import Fleet, fleet
from loadgen.plan import ClosedLoop
from loadgen.prepare import index_json
from loadgen.records import Outcome
from loadgen.rundir import RunDirectory
from loadgen.server import launch

ANSWER_BYTES = 64
CROWDS = (8, 32, 128)
"""Concurrencies a worker among which the ceiling is looked for."""

SETTLING_S = 0.3
DEADLINE_NS = 60 * clock.NS_PER_S


@dataclass(frozen=True, slots=True)
class Payload:
    """The requests to send: a corpus and its index, on disk."""

    binary: Path
    index: Path
    request_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """What one concurrency showed."""

    throughput_per_s: float
    p50_ns: float
    cpu_us: float


@dataclass(slots=True)
class _Crew:
    """Workers at work against one address."""

    folder: Path
    reports: list[Progress] = field(default_factory=list)
    fleet: Fleet | None = None
    points: int = 0

    def hear(self, news: Progress | Failed) -> None:
        """Keep the reports of progress; a failure shows in the rows."""
        if isinstance(news, Progress):
            self.reports.append(news)

    async def measure(self, concurrency: int, seconds: float) -> Found:
        """Hold a concurrency for a while."""
        assert self.fleet is not None
        self.points += 1
        begun_ns = clock.now_ns() + round(SETTLING_S * clock.NS_PER_S)
        self.fleet.start(Start(self.points, ClosedLoop(concurrency)))
        await clock.sleep_ns(round((SETTLING_S + seconds) * clock.NS_PER_S))
        ended_ns = clock.now_ns()
        await self.fleet.stop()
        if (failure := self.fleet.failure) is not None:
            raise failure
        rows = journal.read_point(self.folder, self.points)
        inside = rows[(rows["done_ns"] >= begun_ns) & (rows["done_ns"] < ended_ns) & (rows["outcome"] == Outcome.OK)]
        if len(inside) == 0:
            outcomes = sorted({Outcome(int(code)).label for code in rows["outcome"]})
            raise FleetError(f"calibration: no request was answered ({', '.join(outcomes) or 'none was sent'})")
        p50_ns = nearest_rank(np.sort(inside["done_ns"] - inside["sent_ns"]), 50)
        return Found(len(inside) / ((ended_ns - begun_ns) / clock.NS_PER_S), p50_ns, self._cpu_us(begun_ns, ended_ns))

    def _cpu_us(self, begun_ns: int, ended_ns: int) -> float:
        """Return processor time a request of all workers, from their own reports of the point."""
        cpu_s, completed = 0.0, 0
        inside = [each for each in self.reports if each.point == self.points and begun_ns <= each.at_ns < ended_ns]
        for worker in {each.worker for each in inside}:
            own = [each for each in inside if each.worker == worker]
            cpu_s += own[-1].cpu_s - own[0].cpu_s
            completed += own[-1].completed - own[0].completed
        return 1e6 * cpu_s / completed if completed else 0.0


def made_payload(folder: Path, request_bytes: int) -> Payload:
    """Write requests of random bytes: what is in them does not matter to a server that does not look."""
    binary, index = folder / "corpus.bin", folder / "corpus.json"
    content = np.random.default_rng(0).bytes(request_bytes)
    requests = [corpus.Request("random bytes", content)]
    found = corpus.write(binary, requests, "random bytes", {"source": "random"}, synthetic=True)
    write(index, index_json(found))
    return Payload(binary, index, request_bytes)


def mean_request_bytes(run: Path) -> int:
    """Return the mean size of a run's requests.

    Raises:
        PlanError: the folder is no run directory.
    """
    path = RunDirectory(run).corpus_index
    try:
        bodies = corpus.read_index(path).bodies
    except (OSError, msgspec.MsgspecError) as error:
        raise PlanError(f"{run}: is not a run directory: {error}") from error
    return round(sum(body.size_bytes for body in bodies) / len(bodies))


async def calibrate(
    client: Client, payload: Payload, seconds: float, announce: Callable[[str], None] = lambda _text: None
) -> Calibration:
    """Measure the floor and the ceiling of a client with a payload, `seconds` a step.

    Raises:
        TargetError: the server that answers at once does not come up.
        FleetError: a worker fails, or nothing is answered.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("null", client.transport):
            (folder / name).mkdir()
        null = client._replace(transport="null", connections=1)
        async with _crew(null, payload, "null:1", folder / "null") as crew:
            without = await crew.measure(CROWDS[1] * client.workers, seconds)
        announce(f"without a transport: {without.throughput_per_s:,.0f}/s, {without.cpu_us:.1f} us of CPU a request")
        async with (
            launch.serve_noop(response_bytes=ANSWER_BYTES, log=folder / "noop.log") as address,
            _crew(client, payload, address, folder / client.transport) as crew,
        ):
            alone = await crew.measure(1, seconds)
            announce(f"one at a time: {alone.p50_ns / 1000:.0f} us, {alone.cpu_us:.1f} us of CPU a request")
            crowds = {crowd * client.workers: await crew.measure(crowd * client.workers, seconds) for crowd in CROWDS}
    concurrency, most = max(crowds.items(), key=lambda each: each[1].throughput_per_s)
    announce(
        f"ceiling: {most.throughput_per_s:,.0f}/s at concurrency {concurrency}, {most.cpu_us:.1f} us of CPU a request"
    )
    return Calibration(
        **client._asdict(),
        request_bytes=payload.request_bytes,
        floor_ns=alone.p50_ns,
        ceiling_per_s=most.throughput_per_s,
        ceiling_concurrency=concurrency,
        cpu_alone_us=alone.cpu_us,
        cpu_us=most.cpu_us,
        null_cpu_us=without.cpu_us,
        loadgen_version=environment.version(),
        at_utc_ns=clock.utc_ns(),
    )


@asynccontextmanager
async def _crew(client: Client, payload: Payload, address: str, folder: Path) -> AsyncIterator[_Crew]:
    crew = _Crew(folder)
    async with fleet(client.workers, crew.hear, lambda number: folder / f"worker-{number}.stderr") as workers:
        crew.fleet = workers
        opening = Open(
            worker=0,
            workers=client.workers,
            journal=str(folder),
            corpus=str(payload.binary),
            index=str(payload.index),
            endpoint=Endpoint(address, "noop"),
            deadline_ns=DEADLINE_NS,
            seed=0,
            transport=client.transport,
            connections=client.connections,
        )
        await workers.open(opening)
        yield crew
