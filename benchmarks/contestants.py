"""The clients that are timed side by side: ours (both transports), perf_analyzer 2.49, h2load.

Each drives a model's gRPC endpoint for a while at one concurrency and says what it saw. The processor time a request
is user and system time of the client's processes; of which, and how the start is left out, each class says.
"""

import asyncio
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Literal, Protocol

import numpy as np
import serving

from analysis.runs import Run
from loadgen import clock, sweep_async
from loadgen.kserve import SERVICE
from loadgen.plan import ByTime, ClosedLoop, Generated
from loadgen.server import embedded

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "live"))
import perf_analyzer_binary

TIMEOUT_S = 120.0
START_TIMEOUT_S, START_TRIES = 15.0, 4
"""perf_analyzer, told to send as many requests as it has threads, now and then never ends."""

WARMUP_MS = 500
SAMPLE_NS = 100 * clock.NS_PER_MS
PASSES = 3
PASS_STRETCH = 1.2
"""perf_analyzer reports after three windows at the earliest, each 1.2 times as long as asked."""

Transport = Literal["direct", "grpcio"]


class MeasureError(Exception):
    """A client did not do what it was started for; the message is for the progress line."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a client is to do, for `seconds`; `elements` is the length of the model's input."""

    address: str
    model: str
    elements: int
    concurrency: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a client said, its processor time a request, and in `beside_us` what other processes of it took."""

    throughput_per_s: float
    p50_us: float
    p99_us: float
    cpu_us: float
    beside_us: float = 0.0


class Contestant(Protocol):
    """One client."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def measure(self, task: Task) -> Figures:
        """Do a task.

        Raises:
            MeasureError: requests failed, or it did not end as it should.
        """


@dataclass(frozen=True, slots=True)
class Ended:
    """A program's end: what it printed, and its processor time."""

    text: str
    cpu_s: float


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    quiet: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Ended:
    """Run a program to its end; its text is stdout and, unless `quiet`, stderr.

    Raises:
        MeasureError: its exit code is not 0, or it took too long.
    """
    errors = subprocess.DEVNULL if quiet else subprocess.STDOUT
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=errors)
        killer = Timer(timeout_s, process.kill)
        killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="replace")
    if process.returncode != 0:
        last = " / ".join(text.splitlines()[-3:])
        raise MeasureError(f"{Path(command[0]).name} ended with {process.returncode}: {last}")
    return Ended(text, usage.ru_utime + usage.ru_stime)


def program(name: str, package: str) -> str:
    """Return the path of a program; exit with a hint where it is missing."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        sys.exit(f"{name} is missing: `apt-get install {package}`")
    return found


@dataclass(frozen=True, slots=True)
class Loadgen:
    """This tool: a sweep of one point, its window after 0.5 s of warm-up.

    `cpu_us` is the worker process, which sends and records; `beside_us` the process of the run, which watches it.
    Both are what they used in the window, over the requests completed in it.
    """

    transport: Transport

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"loadgen {self.transport}"

    def measure(self, task: Task) -> Figures:
        """Do a task."""
        with tempfile.TemporaryDirectory() as folder:
            run, own = asyncio.run(self._sweep(task, Path(folder)))
            (row,) = run.points().to_dicts()
            if row["failed"]:
                raise MeasureError(f"{row['failed']} requests failed")
            samples = run.samples().filter(run.samples()["metric"] == "process_cpu_seconds_total").sort("at_ns")
            window = row["window_start_ns"], row["window_end_ns"]
            worker_s = _used(samples["at_ns"].to_list(), samples["value"].to_list(), window)
            beside_s = _used([at for at, _ in own], [used for _, used in own], window)
        done = row["completed"]
        return Figures(
            throughput_per_s=row["throughput_per_s"],
            p50_us=row["service_p50_ns"] / 1000,
            p99_us=row["service_p99_ns"] / 1000,
            cpu_us=worker_s / done * 1e6,
            beside_us=beside_s / done * 1e6,
        )

    async def _sweep(self, task: Task, folder: Path) -> tuple[Run, list[tuple[int, float]]]:
        own: list[tuple[int, float]] = []

        async def sample() -> None:
            while True:
                own.append((clock.now_ns(), time.process_time()))
                await clock.sleep_ns(SAMPLE_NS)

        sampling = asyncio.create_task(sample())
        run = await sweep_async(
            model=task.model,
            url=task.address,
            metrics_url=None,
            input_data=Generated("zero", shapes={"X": (task.elements,)}),
            loads=[ClosedLoop(task.concurrency)],
            stopping=ByTime(round(task.seconds * 1000), WARMUP_MS),
            transport=self.transport,
            output=folder,
        )
        sampling.cancel()
        return run, own


def _used(at_ns: Sequence[int], used_s: Sequence[float], window: tuple[int, int]) -> float:
    """Return what a counter of seconds grew by in a window, between its samples on a straight line."""
    before, after = np.interp(window, at_ns, used_s)
    return float(after - before)


@dataclass(slots=True)
class _Starts:
    """The processor time and the requests of a program's shortest run, measured once a kind of task."""

    known: dict[tuple[str, int, int], tuple[float, int]] = field(default_factory=dict)


def _counted(command: Sequence[str], task: Task, environment: Mapping[str, str] | None = None) -> tuple[Ended, int]:
    """Run a program; return its end and how many requests the server answered meanwhile."""
    before = serving.answered(task.address, task.model)
    ended = run_program(command, environment)
    return ended, serving.answered(task.address, task.model) - before


class PerfAnalyzer:
    """The real perf_analyzer 2.49 over gRPC, synchronous (its default) or asynchronous.

    It reports after three windows. The first, in which it starts its threads and connects, is left out of the
    throughput; its percentiles are of all three. Processor time: all of the process less a run of `concurrency`
    requests, over the difference of the requests that the server counted in both.
    """

    def __init__(self, *, asynchronous: bool = False) -> None:
        self.name = "perf_analyzer async" if asynchronous else "perf_analyzer"
        self._mode = ["-a"] if asynchronous else ["--sync"]
        self._installed = perf_analyzer_binary.install(embedded.install())
        paths = [str(self._installed.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        self._environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(paths)}
        self._starts = _Starts()

    def command(self, task: Task, inputs: Path, *options: str) -> list[str]:
        """Return the command line for a task; `inputs` is made a folder with the input's bytes."""
        inputs.mkdir(exist_ok=True)
        (inputs / "X").write_bytes(serving.content(task.model, task.elements))
        return [
            *(str(self._installed.binary), "-m", task.model, "-u", task.address, "-i", "grpc", *self._mode),
            *("--input-data", str(inputs), "--shape", f"X:{task.elements}"),
            *("--concurrency-range", str(task.concurrency), *options),
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        """What the program finds its libraries by."""
        return self._environment

    def measure(self, task: Task) -> Figures:
        """Do a task."""
        with tempfile.TemporaryDirectory() as folder:
            inputs, out = Path(folder) / "inputs", Path(folder) / "out.csv"
            window_ms = round(task.seconds * 1000 / (PASSES - 1) / PASS_STRETCH)
            options = ("-p", str(window_ms), "-s", "999", "-v", "-f", str(out))
            start_s, start_requests = self._start(task, inputs)
            ended, requests = _counted(self.command(task, inputs, *options), task, self._environment)
            if not out.exists():
                raise MeasureError("perf_analyzer wrote no CSV")
            (row,) = csv.DictReader(out.read_text().splitlines())
        passes = list(map(float, re.findall(r"Pass \[\d+\] throughput: ([\d.e+]+)", ended.text)))
        if len(passes) != PASSES:
            raise MeasureError(f"perf_analyzer had {len(passes)} windows")
        return Figures(
            throughput_per_s=float(np.mean(passes[1:])),
            p50_us=float(row["p50 latency"]),
            p99_us=float(row["p99 latency"]),
            cpu_us=(ended.cpu_s - start_s) / (requests - start_requests) * 1e6,
        )

    def _start(self, task: Task, inputs: Path) -> tuple[float, int]:
        key = task.model, task.elements, task.concurrency
        if key not in self._starts.known:
            self._starts.known[key] = self._shortest(task, inputs)
        return self._starts.known[key]

    def _shortest(self, task: Task, inputs: Path) -> tuple[float, int]:
        command = self.command(task, inputs, "--request-count", str(task.concurrency))
        for left in reversed(range(START_TRIES)):
            before = serving.answered(task.address, task.model)
            try:
                ended = run_program(command, self._environment, timeout_s=START_TIMEOUT_S)
            except MeasureError:
                if not left:
                    raise
            else:
                return ended.cpu_s, serving.answered(task.address, task.model) - before
        raise AssertionError("the last try returns or raises")


class H2load:
    """nghttp2's load generator, one thread and one connection: HTTP/2 alone, as nearly no client can be cheaper.

    It does not look at the gRPC status; that the server answered as many as it counts is checked. Percentiles are
    of its log, which has whole microseconds and includes the warm-up. Processor time: as for perf_analyzer.
    """

    name = "h2load"

    def __init__(self) -> None:
        self._program = program("h2load", "nghttp2-client")
        self._starts = _Starts()

    def command(self, address: str, path: str, body: Path, concurrency: int, *options: str) -> list[str]:
        """Return a command line that posts a file."""
        return [
            *(self._program, "-c1", "-t1", f"-m{concurrency}", "-d", str(body), *options),
            *("-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{address}{path}"),
        ]

    def measure(self, task: Task) -> Figures:
        """Do a task."""
        with posted(serving.message(task.model, task.elements)) as body:
            path = SERVICE + "ModelInfer"
            log = body.parent / "log"
            options = (f"-D{round(task.seconds * 1000)}ms", f"--warm-up-time={WARMUP_MS}ms", f"--log-file={log}")
            start_s, start_requests = self._start(task, body, path)
            command = self.command(task.address, path, body, task.concurrency, *options)
            ended, requests = _counted(command, task)
            throughput_per_s, p50_us, p99_us = h2load_said(ended.text, log, task.seconds)
        if requests < throughput_per_s * task.seconds:
            raise MeasureError(f"h2load counts {throughput_per_s:.0f}/s, the server answered only {requests}")
        cpu_us = (ended.cpu_s - start_s) / (requests - start_requests) * 1e6
        return Figures(throughput_per_s, p50_us, p99_us, cpu_us)

    def _start(self, task: Task, body: Path, path: str) -> tuple[float, int]:
        key = task.model, task.elements, task.concurrency
        if key not in self._starts.known:
            ended, requests = _counted(self.command(task.address, path, body, 1, "-n1"), task)
            self._starts.known[key] = ended.cpu_s, requests
        return self._starts.known[key]


@contextmanager
def posted(message: bytes) -> Iterator[Path]:
    """Yield a file with a gRPC message behind its five bytes of prefix, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(b"\0" + len(message).to_bytes(4) + message)
        yield body


def h2load_said(text: str, log: Path, seconds: float) -> tuple[float, float, float]:
    """Return throughput, p50 and p99 (microseconds) of a timed run.

    Raises:
        MeasureError: a request failed, or it printed something else.
    """
    found = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", text)
    statuses = re.search(r"status codes: (\d+) 2xx", text)
    if found is None or statuses is None or len({*found.groups(), statuses[1]}) > 1 or found[1] == "0":
        raise MeasureError("h2load: " + " / ".join(text.splitlines()[-8:-5]))
    rows = np.loadtxt(log, dtype=np.int64, usecols=(1, 2), ndmin=2)
    each_us = np.sort(rows[rows[:, 0] == 200, 1])  # noqa: PLR2004 - HTTP's OK
    p50_us, p99_us = (float(each_us[int(share * (len(each_us) - 1) + 0.5)]) for share in (0.5, 0.99))
    return int(found[1]) / seconds, p50_us, p99_us
