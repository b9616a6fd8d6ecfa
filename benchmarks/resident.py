"""How much memory do clients keep after 1,000 and 10,000 requests of 1 MB?

Ours: the worker's own samples. perf_analyzer: its process, looked at every 50 ms while the server counts; it keeps
the inputs of every request until the window is over, so it is measured with windows of 5 s, its default, and of 1 s.
"""

import asyncio
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psutil
import serving
from contestants import Loadgen, MeasureError, PerfAnalyzer, Task

from loadgen import sweep_async
from loadgen.plan import ByCount, ClosedLoop, Generated

ELEMENTS = 1_000_000
EARLY, LATE = 1_000, 10_000
CONCURRENCY = 4
LOOK_S = 0.05
GIVE_UP_S = 180.0
MOST_OF_MEMORY = 0.5
"""Share of the machine's memory at which a client is stopped."""


@dataclass(frozen=True, slots=True)
class Resident:
    """Resident memory of a client in MB: after 1,000 and 10,000 requests, and its highest until then."""

    name: str
    early_mb: float
    late_mb: float | None
    highest_mb: float


def resident(address: str, transport: Loadgen) -> Resident:
    """Measure one of ours."""
    with tempfile.TemporaryDirectory() as folder:
        run = asyncio.run(
            sweep_async(
                model=serving.SINK,
                url=address,
                metrics_url=None,
                input_data=Generated("zero", shapes={"X": (ELEMENTS,)}),
                loads=[ClosedLoop(CONCURRENCY)],
                stopping=ByCount(LATE + EARLY, GIVE_UP_S),
                transport=transport.transport,
                output=Path(folder),
            )
        )
        done = run.records().filter(pl.col("outcome") == "ok").select("done_ns").collect()["done_ns"].sort()
        samples = run.samples().filter(pl.col("metric") == "process_resident_memory_bytes").sort("at_ns")
    if len(done) < LATE:
        raise MeasureError(f"only {len(done)} requests in {GIVE_UP_S:g} s")
    early, late = (float(samples.filter(pl.col("at_ns") >= done[n - 1])["value"][0]) / 1e6 for n in (EARLY, LATE))
    until = samples.filter(pl.col("at_ns") <= done[LATE - 1])["value"]
    return Resident(transport.name, early, late, max(late, *(value / 1e6 for value in until)))


def resident_theirs(address: str, client: PerfAnalyzer, window_ms: int) -> Resident:
    """Measure perf_analyzer, which goes on until it is interrupted: no two of its windows are equal."""
    task = Task(address, serving.SINK, ELEMENTS, CONCURRENCY, 0)
    with tempfile.TemporaryDirectory() as folder:
        options = ("-p", str(window_ms), "-r", "1000", "-s", "0")
        command = client.command(task, Path(folder) / "inputs", *options)
        before = serving.answered_now(address, serving.SINK)
        process = subprocess.Popen(
            command, env=client.environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            return _watched(
                f"{client.name} -p {window_ms}",
                psutil.Process(process.pid),
                lambda: serving.answered_now(address, serving.SINK) - before,
            )
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _watched(name: str, process: psutil.Process, count: Callable[[], int]) -> Resident:
    limit_mb = MOST_OF_MEMORY * psutil.virtual_memory().total / 1e6
    early_mb: float | None = None
    highest_mb, begun_s = 0.0, time.monotonic()
    while time.monotonic() < begun_s + GIVE_UP_S and process.status() != psutil.STATUS_ZOMBIE:
        done, now_mb = count(), process.memory_info().rss / 1e6
        highest_mb = max(highest_mb, now_mb)
        if early_mb is None and done >= EARLY:
            early_mb = now_mb
        if early_mb is not None and (done >= LATE or now_mb > limit_mb):
            return Resident(name, early_mb, now_mb if done >= LATE else None, highest_mb)
        time.sleep(LOOK_S)
    raise MeasureError(f"{name} did not get to {LATE} requests")
