"""An independent clock: how much longer do clients say that a request took than the wire shows?

`python benchmarks/wire.py [--rounds 3] [--requests 2000]` sends requests at concurrency 1 to a tiny model on a real
Triton, with the direct transport, grpcio and the real perf_analyzer 2.49 in turn, while `dumpcap` records the
loopback interface. A request's time on the wire is from the first packet of its DATA to the packet that ends the
response; what the client says beyond that is its own. Prints a table, progress on stderr, and writes docs/wire.md.
"""

import argparse
import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import serving
from contestants import Loadgen, MeasureError, PerfAnalyzer, Task, program, run_program
from performance import on_triton
from tally import conditions, say, spread, table

from loadgen import sweep_async
from loadgen.errors import LoadgenError
from loadgen.plan import ByCount, ClosedLoop, Generated

Nanoseconds = npt.NDArray[np.int64]

TARGET_US = 60.0
TRIES = 2
SETTLE_S = 0.5
MODEL_INFER = "/ModelInfer"
END_STREAM = 1
DATA = "0"
FIELDS = ("frame.time_epoch", "tcp.stream", "tcp.srcport", "http2.streamid", "http2.type", "http2.flags")
PATH_FIELD = "http2.headers.path"
DOCUMENT = Path(__file__).parents[1] / "docs" / "wire.md"


@dataclass(slots=True)
class Exchange:
    """One request on the wire: when its DATA began and when the response ended, in nanoseconds since 1970."""

    begun_ns: int = 0
    ended_ns: int = 0
    is_inference: bool = False


@dataclass(slots=True)
class Wire:
    """The exchanges of a capture, by TCP connection and HTTP/2 stream."""

    port: str
    exchanges: dict[tuple[str, str], Exchange] = field(default_factory=dict)

    def take(self, line: str) -> None:
        """Take a packet as tshark prints it; lists of a packet's frames are joined by commas."""
        at, connection, source, streams, kinds, flags, paths = line.split("\t")
        frames = list(zip(*(each.split(",") for each in (streams, kinds, flags)), strict=True))
        headed = iter(paths.split(","))
        at_ns = _nanoseconds(at)
        for stream, kind, flag in frames:
            if stream in {"0", ""}:
                continue
            exchange = self.exchanges.setdefault((connection, stream), Exchange())
            if source == self.port:
                if int(flag, 16) & END_STREAM:
                    exchange.ended_ns = at_ns
            elif kind == DATA:
                exchange.begun_ns = exchange.begun_ns or at_ns
            elif paths and kind == "1":
                exchange.is_inference = next(headed).endswith(MODEL_INFER)

    def inferences(self) -> tuple[Nanoseconds, Nanoseconds]:
        """Return when each inference began and ended, in order.

        Raises:
            MeasureError: one lacks its begin or its end: packets were lost.
        """
        found = [exchange for exchange in self.exchanges.values() if exchange.is_inference]
        if any(not (each.begun_ns and each.ended_ns) for each in found):
            raise MeasureError("the capture lacks packets")
        found.sort(key=lambda each: each.begun_ns)
        return np.array([each.begun_ns for each in found]), np.array([each.ended_ns for each in found])


def _nanoseconds(text: str) -> int:
    whole, _, part = text.partition(".")
    return int(whole) * 10**9 + int(part.ljust(9, "0")[:9])


@contextmanager
def capturing(address: str, file: Path) -> Iterator[None]:
    """Record the packets of a port of the loopback interface.

    Raises:
        MeasureError: packets were dropped.
    """
    port = address.rpartition(":")[2]
    command = [program("dumpcap", "tshark"), "-q", "-i", "lo", "-f", f"tcp port {port}", "-B", "64", "-w", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as recorder:
        assert recorder.stderr is not None
        said = _started(recorder)
        try:
            yield
            time.sleep(SETTLE_S)
        finally:
            recorder.send_signal(signal.SIGINT)
            said += recorder.stderr.read()
    dropped = re.search(r"received/dropped on interface '[^']*': \d+/(\d+)", said)
    if dropped is None or dropped[1] != "0":
        raise MeasureError(f"packets were dropped: {said.splitlines()[-1:]}")


def _started(recorder: subprocess.Popen[str]) -> str:
    """Wait until the capture runs; exit where it is not permitted."""
    said = ""
    assert recorder.stderr is not None
    for line in recorder.stderr:
        said += line
        if line.startswith("File:"):
            time.sleep(SETTLE_S)
            return said
    sys.exit(f"skipped: capturing is not permitted here (be root, or in the group wireshark): {said.strip()}")


def on_the_wire(address: str, file: Path) -> tuple[Nanoseconds, Nanoseconds]:
    """Return when each inference of a capture began and ended, in order."""
    port = address.rpartition(":")[2]
    shown = [argument for name in (*FIELDS, PATH_FIELD) for argument in ("-e", name)]
    lost = "tcp.analysis.retransmission or tcp.analysis.lost_segment or tcp.analysis.duplicate_ack"
    read = [program("tshark", "tshark"), "-r", str(file), "-d", f"tcp.port=={port},http2"]
    if run_program([*read, "-Y", lost], quiet=True).text.strip():
        raise MeasureError("packets are in the capture twice, or were sent twice")
    wire = Wire(port)
    said = run_program([*read, "-Y", "http2.streamid", "-T", "fields", *shown], quiet=True)
    for line in said.text.splitlines():
        wire.take(line)
    return wire.inferences()


@dataclass(frozen=True, slots=True)
class Said:
    """What a client says of its requests, in order: how long each took, and how many it sent before them."""

    took_ns: Nanoseconds
    before: int = 0


def ours(transport: Loadgen, address: str, requests: int, folder: Path) -> Said:
    """Send with one of our transports; the run's probe comes before its point."""
    run = asyncio.run(
        sweep_async(
            model=serving.TINY,
            url=address,
            metrics_url=None,
            input_data=Generated("zero", shapes={"X": (serving.TINY_ELEMENTS,)}),
            loads=[ClosedLoop(1)],
            stopping=ByCount(requests),
            transport=transport.transport,
            output=folder / "runs",
        )
    )
    rows = run.records().sort("seq").collect()
    if rows.filter(pl.col("outcome") != "ok").height:
        raise MeasureError("requests failed")
    took = rows.select(pl.col("done_ns") - pl.col("sent_ns")).to_series().to_numpy()
    before = rows.filter(pl.col("point") == 0).height
    return Said(took[before:], before)


def theirs(client: PerfAnalyzer, address: str, requests: int, folder: Path) -> Said:
    """Send with perf_analyzer, whose export has every request of its window."""
    export = folder / "export.json"
    task = Task(address, serving.TINY, serving.TINY_ELEMENTS, 1, 0)
    options = ("--request-count", str(requests), "--profile-export-file", str(export))
    run_program(client.command(task, folder / "inputs", *options), client.environment)
    (experiment,) = json.loads(export.read_text())["experiments"]
    found = sorted((each["timestamp"], each["response_timestamps"][-1]) for each in experiment["requests"])
    return Said(np.array([end - begin for begin, end in found]))


Client = Callable[[str, int, Path], Said]


def beyond_us(client: Client, address: str, requests: int) -> npt.NDArray[np.float64]:
    """Return what the client says beyond the wire, in microseconds, request by request.

    Raises:
        MeasureError: client and wire do not count alike, or the wire takes longer than the client says.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "lo.pcapng"
        with capturing(address, file):
            said = client(address, requests, folder)
        begun_ns, ended_ns = on_the_wire(address, file)
    if len(begun_ns) != len(said.took_ns) + said.before or len(said.took_ns) < requests:
        raise MeasureError(f"{len(begun_ns)} requests on the wire, {len(said.took_ns)} + {said.before} at the client")
    beyond = said.took_ns - (ended_ns - begun_ns)[said.before :]
    if beyond.min() < 0:
        raise MeasureError(f"a request took {-beyond.min()} ns longer on the wire than its client says")
    return np.asarray(beyond / 1000)


def tried(client: Client, address: str, requests: int) -> npt.NDArray[np.float64]:
    """Measure, once more if it fails; it says so."""
    for _ in range(TRIES - 1):
        try:
            return beyond_us(client, address, requests)
        except MeasureError as error:
            say(f"  failed, once more: {error}")
    return beyond_us(client, address, requests)


def measured(address: str, rounds: int, requests: int) -> dict[str, list[tuple[float, float]]]:
    """Return median and p99 of every round, by client; the order turns round by round."""
    analyzer = PerfAnalyzer()
    clients: dict[str, Client] = {
        each.name: lambda address, requests, folder, each=each: ours(each, address, requests, folder)  # type: ignore[misc]
        for each in (Loadgen("direct"), Loadgen("grpcio"))
    }
    clients[analyzer.name] = lambda address, requests, folder: theirs(analyzer, address, requests, folder)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    for number in range(rounds):
        for name in clients if number % 2 == 0 else reversed(clients):
            beyond = tried(clients[name], address, requests)
            middle, high = (float(np.percentile(beyond, percent)) for percent in (50, 99))
            found[name].append((middle, high))
            say(
                f"round {number + 1}/{rounds}: {name}: {len(beyond)} requests, p50 {middle:.1f} us, p99 {high:.1f} us"
            )
    return found


def document(found: dict[str, list[tuple[float, float]]], requests: int) -> list[str]:
    """Return the table and what becomes of the targets."""
    middles = {name: [middle for middle, _ in rounds] for name, rounds in found.items()}
    rows = [
        [name, spread(middles[name], ".1f"), spread([high for _, high in rounds], ".1f")]
        for name, rounds in found.items()
    ]
    direct, analyzer = (float(np.median(middles[name])) for name in ("loadgen direct", "perf_analyzer"))
    return [
        f"{requests} requests a round at concurrency 1 to a tiny model on a real Triton, the loopback interface",
        "recorded beside it. The figures are what the client says a request took, less the time on the wire from the",
        "first packet of its DATA to the packet that ends the response, request by request.",
        "",
        *table(["client", "p50 us", "p99 us"], rows),
        _met("direct below perf_analyzer", f"{direct:.1f} and {analyzer:.1f} us", met=direct < analyzer),
        _met(f"direct at most {TARGET_US:g} us", f"{direct:.1f} us", met=direct <= TARGET_US),
    ]


def _met(what: str, figures: str, *, met: bool) -> str:
    return f"- median, {what}: {figures}: **{'met' if met else 'not met'}**"


def main() -> None:
    """Measure, print, write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2000)
    given = parser.parse_args()
    program("dumpcap", "tshark")
    program("tshark", "tshark")
    lines = ["# The client's clock beside the wire's", "", "Made by `python benchmarks/wire.py`.", ""]
    lines += [*conditions(given.rounds), ""]
    with on_triton() as address:
        try:
            lines += document(measured(address, given.rounds, given.requests), given.requests)
        except (MeasureError, LoadgenError) as error:
            sys.exit(f"no result: {error}")
    print("\n".join(lines))
    DOCUMENT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
