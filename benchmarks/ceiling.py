"""How fast is the direct transport where the server costs next to nothing, beside h2load with one thread?

Servers: `nghttpd`, which sends a file and `grpc-status: 0`, and our own no-op server. There is no KServe on either,
so the load is driven as the worker process does it (drive, journal, bodies, transport, uvloop), in this process.
"""

import asyncio
import contextlib
import gc
import importlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import cast

import serving
from contestants import Figures, MeasureError, h2load_said, posted, program, run_program

from loadgen import clock, environment, journal
from loadgen.drive import Drive, Slots
from loadgen.endpoint import Endpoint
from loadgen.journal import Journal
from loadgen.measure import Window, measure
from loadgen.transport.direct import DirectTransport
from loadgen.transport.http2 import Connection
from loadgen.walk import Bodies

PATH = "/ModelInfer.grpc"
"""nghttpd knows a file's type by its name's end, which the path of Triton's method does not have."""

RESPONSE_BYTES = 64
WARMUP_S = 0.5
DEADLINE_NS = 60 * clock.NS_PER_S
HALF = 50.0
NEARLY_ALL = 99.0
CONNECT_TRIES = 100
PROBE_S = 1.0
PROBED = (16, 32, 64, 100)
"""Concurrencies; nghttpd takes no more than 100 streams of a connection unless it is told."""


class StaticFileTransport(DirectTransport):
    """The direct transport, with another path."""

    def _http2(self) -> Connection:
        return Connection(self._target.grpc, PATH, user_agent=f"loadgen/{environment.version()}")


@contextmanager
def nghttpd() -> Iterator[str]:
    """Run nghttpd, one thread, no TLS; yield its address."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as taken:
        folder = Path(name)
        (folder / PATH[1:]).write_bytes(b"\0" + RESPONSE_BYTES.to_bytes(4) + bytes(RESPONSE_BYTES))
        (folder / "types").write_text("application/grpc grpc\n")
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.close()
        options = ["--no-tls", "-a", "127.0.0.1", "-d", name, "--mime-types-file", str(folder / "types")]
        command = [program("nghttpd", "nghttp2-server"), *options, "--trailer", "grpc-status: 0", str(port)]
        with _running(command) as server:
            _wait_for(server, port)
            yield f"127.0.0.1:{port}"


@contextmanager
def noop() -> Iterator[str]:
    """Run our own no-op server; yield its address."""
    command = [sys.executable, "-m", "loadgen.server.noop", "--response-bytes", str(RESPONSE_BYTES)]
    with _running(command) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["grpc"]


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            yield server
        finally:
            server.terminate()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(CONNECT_TRIES):
        if server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
        time.sleep(0.05)
    raise MeasureError("nghttpd does not start")


@dataclass(frozen=True, slots=True)
class Direct:
    """The direct transport, driven in this process."""

    name: str = "loadgen direct"

    def measure(self, address: str, concurrency: int, seconds: float) -> Figures:
        """Drive a closed loop for a while; every answer must be OK."""
        with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=_loop_factory()) as runner:
            window, cpu_s = runner.run(_driven(Path(folder), address, concurrency, seconds))
            rows = journal.read_point(Path(folder), 1)
        found = measure(rows, window)
        if found.failed or found.service is None:
            raise MeasureError(f"{found.failed} failed and {found.completed} completed")
        percentiles = found.service.found.percentiles_ns
        return Figures(
            throughput_per_s=found.throughput_per_s.value,
            p50_us=percentiles[HALF].value / 1000,
            p99_us=percentiles[NEARLY_ALL].value / 1000,
            cpu_us=cpu_s / found.completed * 1e6,
        )


async def _driven(folder: Path, address: str, concurrency: int, seconds: float) -> tuple[Window, float]:
    transport = StaticFileTransport(Endpoint(address, serving.TINY))
    await transport.open()
    body = serving.message(serving.TINY, serving.TINY_ELEMENTS)
    gc.collect()
    gc.freeze()
    with Journal(folder, worker=0) as rows:
        drive = Drive(transport, rows, Bodies([body], repeat(0)), DEADLINE_NS, lambda _: None)
        drive.start(1, Slots(drive, [(concurrency, 0)]))
        await clock.sleep_ns(round(WARMUP_S * clock.NS_PER_S))
        start_ns, start_s = clock.now_ns(), time.process_time()
        await clock.sleep_ns(round(seconds * clock.NS_PER_S))
        end_ns, end_s = clock.now_ns(), time.process_time()
        drive.stop()
        await drive.drained()
    await transport.close()
    return Window(start_ns, end_ns), end_s - start_s


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    return cast("Callable[[], asyncio.AbstractEventLoop]", importlib.import_module("uvloop").new_event_loop)


@dataclass(frozen=True, slots=True)
class Posting:
    """h2load, one thread and one connection; its processor time includes its start."""

    name: str = "h2load"

    def measure(self, address: str, concurrency: int, seconds: float) -> Figures:
        """Post for a while."""
        message = serving.message(serving.TINY, serving.TINY_ELEMENTS)
        with posted(message) as body:
            log = body.parent / "log"
            command = [
                *(
                    program("h2load", "nghttp2-client"),
                    "-c1",
                    "-t1",
                    f"-m{concurrency}",
                    f"-D{round(seconds * 1000)}ms",
                ),
                *(f"--warm-up-time={round(WARMUP_S * 1000)}ms", f"--log-file={log}", "-d", str(body)),
                *("-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{address}{PATH}"),
            ]
            ended = run_program(command)
            requests_per_s, p50_us, p99_us = h2load_said(ended.text, log, seconds)
        requests = requests_per_s * (seconds + WARMUP_S)
        return Figures(requests_per_s, p50_us, p99_us, ended.cpu_s / requests * 1e6)


SERVERS = {"nghttpd": nghttpd, "our no-op server": noop}
CLIENTS: tuple[Direct | Posting, ...] = (Direct(), Posting())


def busiest(address: str) -> int:
    """Return the concurrency, of some, at which h2load has the highest throughput."""
    found = {number: Posting().measure(address, number, PROBE_S).throughput_per_s for number in PROBED}
    return max(found, key=found.__getitem__)
