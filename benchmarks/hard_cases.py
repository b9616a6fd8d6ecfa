"""Cases in which perf_analyzer answers wrongly or not at all: its answer and ours, beside the truth.

`python benchmarks/hard_cases.py [CASE ...]` runs the real perf_analyzer 2.49 and this tool one after the other, each
against a fresh server of the same kind (the simulating stub), prints a table, and writes docs/hard_cases.md when all
are run. Truths come from the server's law or from an exact recursion, never from our client.
"""

import csv
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import loadgen
from loadgen.plan import ByCount, ByTime, ClosedLoop, Load, OpenLoop, Stopping
from loadgen.server import embedded

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "live"))
import perf_analyzer_binary

MODEL = "traccc-gpu"
CELLS = 5
DOCUMENT = {
    "data": [
        {
            "GEOMETRY_ID": {"content": list(range(1, CELLS + 1)), "shape": [CELLS]},
            "FEATURES": {"content": [0.5] * (5 * CELLS), "shape": [CELLS, 5]},
        }
    ]
}
TIMEOUT_S = 150.0


@dataclass(frozen=True)
class Answer:
    """One line of the table."""

    does: str
    truth: str
    theirs: str
    ours: str


@dataclass(frozen=True)
class Theirs:
    """How perf_analyzer ended, the rows of its CSV (none if it wrote none), and what it printed."""

    code: int
    rows: list[dict[str, str]]
    text: str

    @property
    def ended(self) -> str:
        """Exit code and levels in words."""
        levels = ", ".join(next(iter(row.values())) for row in self.rows)
        return f"exit {self.code}, {f'CSV has {levels}' if self.rows else 'no CSV'}"


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """Run a fresh stub as a process; yields its address."""
    command = [sys.executable, "-m", "loadgen.server.stub", "--ns-per-cell", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as stub:
        assert stub.stdout is not None
        try:
            yield json.loads(stub.stdout.readline())["grpc"]
        finally:
            stub.terminate()


def analyze(server: Sequence[str], *arguments: str) -> Theirs:
    """Run perf_analyzer against a fresh server."""
    program = perf_analyzer_binary.install(embedded.install())
    with tempfile.TemporaryDirectory() as folder, serving(*server) as address:
        inputs, out = Path(folder) / "in.json", Path(folder) / "out.csv"
        inputs.write_text(json.dumps(DOCUMENT))
        common = ["-m", MODEL, "-u", address, "-i", "grpc", "--input-data", str(inputs), "-f", str(out)]
        done = program.run(*common, *arguments, timeout_s=TIMEOUT_S)
        rows = list(csv.DictReader(out.open())) if out.exists() else []
    return Theirs(done.returncode, rows, done.stdout + done.stderr)


def measure(server: Sequence[str], loads: Sequence[Load], stopping: Stopping) -> list[dict[str, Any]]:
    """Sweep a fresh server with our tool; return the rows of the points table."""
    with tempfile.TemporaryDirectory() as folder, serving(*server) as address:
        inputs = Path(folder) / "in.json"
        inputs.write_text(json.dumps(DOCUMENT))
        run = loadgen.sweep(
            model=MODEL,
            url=address,
            metrics_url=None,
            input_data=inputs,
            loads=loads,
            stopping=stopping,
            output=Path(folder) / "runs",
        )
        return run.points().to_dicts()


def rate(row: dict[str, Any]) -> str:
    """Return a throughput with its interval."""
    low, high = row["throughput_low_per_s"], row["throughput_high_per_s"]
    known = f" [{low:.2f} {high:.2f}]" if low is not None else ""
    return f"{row['throughput_per_s']:.2f}{known}/s"


def w1() -> Answer:
    """A level that does not settle."""
    server = ["--base-ms", "50", "--instances", "4", "--stall-at-s", "9.5", "--stall-for-s", "0.6"]
    theirs = analyze(server, "-p", "1000", "-r", "3", "--concurrency-range", "1:4")
    ours = measure(server, [ClosedLoop(n) for n in (1, 2, 3, 4)], ByTime(3600, 200))
    assert theirs.code == 0, theirs.text
    said = ", ".join(f"{row['concurrency']}: {rate(row)} {row['verdict']}" for row in ours)
    return Answer(
        "concurrency 1 to 4, four instances of 50 ms; 9.5 s in, all stand still for 0.6 s",
        "20, 40, 60, 80/s but for the level that met the stall",
        theirs.ended,
        said,
    )


def w2() -> Answer:
    """A single level that does not settle."""
    server = ["--base-ms", "300", "--law", "exponential", "--instances", "1"]
    theirs = analyze(server, "-p", "2000", "-r", "4", "-s", "3", "--concurrency-range", "2")
    (ours,) = measure(server, [ClosedLoop(2)], ByTime(30_000, 1000))
    return Answer(
        "exponential service of 300 ms, concurrency 2; perf_analyzer with -s 3 -r 4",
        "3.33/s",
        theirs.ended,
        f"{rate(ours)} {ours['verdict']}",
    )


def w3() -> Answer:
    """One failed request in 400."""
    server = ["--base-ms", "20", "--instances", "4", "--fail-every", "400"]
    theirs = analyze(server, "-p", "2000", "--concurrency-range", "1:4:1")
    ours = measure(server, [ClosedLoop(n) for n in (1, 2, 3, 4)], ByTime(6000, 500))
    said = ", ".join(f"{row['concurrency']}: {rate(row)} {row['failed']} failed, {row['verdict']}" for row in ours)
    return Answer(
        "every 400th request fails; concurrency 1 to 4, four instances of 20 ms",
        "somewhat below 50, 100, 150, 200/s; one in 400 fails",
        theirs.ended,
        said,
    )


STALL = ["--base-ms", "5", "--instances", "1", "--stall-at-s", "7", "--stall-for-s", "0.8", "--spin-us", "1500"]


def stalled_percentiles(service_s: float, gap_s: float, window_s: float, into_s: float) -> dict[int, float]:
    """Return exact response times of 50/s at one instance that stands still for 0.8 s: Lindley's recursion.

    `gap_s` is what lies between client and server, on no instance's account.
    """
    free_s, times = 0.0, []
    for number in range(round(50 * window_s)):
        due_s = number / 50
        begin_s = max(due_s, free_s)
        free_s = begin_s + service_s
        if begin_s < into_s + 0.8 and free_s > into_s:
            free_s += into_s + 0.8 - max(begin_s, into_s)
        times.append(free_s - due_s + gap_s)
    ordered = np.sort(times)
    return {percent: 1000 * float(ordered[int(percent / 100 * (len(times) - 1) + 0.5)]) for percent in (50, 90, 95)}


def w5() -> Answer:
    """A stall in an open loop: coordinated omission."""
    theirs = analyze(STALL, "-p", "4000", "-r", "4", "-s", "999", "--request-rate-range", "50")
    (ours,) = measure(STALL, [OpenLoop(50)], ByTime(6000, 3000))
    # The stall stretches one service, which the mean of the server's log holds too.
    service_s = ours["server_compute_infer_ns"] / 1e9 - 0.8 / ours["server_success"]
    gap_s = ours["network_ns"] / 1e9
    truth = stalled_percentiles(service_s, gap_s, 6.0, 4.0)
    pairs = {percent: (ours[f"response_p{percent}_ns"] / 1e6, value) for percent, value in truth.items()}
    off = max(abs(mine / value - 1) for percent, (mine, value) in pairs.items() if percent > 50)  # noqa: PLR2004
    row = theirs.rows[0] if theirs.rows else {}
    told = [f"p{p} {float(row[f'p{p} latency']) / 1000:.1f} ms" for p in (90, 95) if row]
    return Answer(
        "50/s constant, one instance of 5 ms, 0.8 s of standstill once (perf_analyzer: once in its 14 s)",
        ", ".join(f"p{percent} {value:.1f} ms" for percent, value in truth.items())
        + f" (window of 6 s; {1000 * service_s:.2f} ms in the server, {1000 * gap_s:.2f} outside)",
        ", ".join(told) or theirs.ended,
        ", ".join(f"p{p} {mine:.1f} ms" for p, (mine, _) in pairs.items())
        + f" (within {off:.1%} at p90, p95); service p95 {ours['service_p95_ns'] / 1e6:.1f} ms",
    )


def w6() -> Answer:
    """The same stall in a closed loop."""
    theirs = analyze(STALL, "-p", "4000", "-r", "4", "-s", "999", "--concurrency-range", "1")
    (ours,) = measure(STALL, [ClosedLoop(1)], ByTime(6000, 3000))
    row = theirs.rows[0] if theirs.rows else {}
    text = f"p99 {float(row['p99 latency']) / 1000:.1f} ms, no maximum" if row else theirs.ended
    p99_ms, max_ms = ours["service_p99_ns"] / 1e6, ours["service_max_ns"] / 1e6
    return Answer(
        "the same stall, concurrency 1",
        "one request of 805 ms; a closed loop cannot see more",
        text,
        f"service p99 {p99_ms:.1f} ms, max {max_ms:.0f} ms, {ours['verdict']}",
    )


def w7() -> Answer:
    """A rate that needs more than four in flight."""
    server = ["--base-ms", "200", "--instances", "16"]
    theirs = analyze(server, "-p", "4000", "--request-rate-range", "40")
    (ours,) = measure(server, [OpenLoop(40)], ByTime(12_000, 1000))
    got = f"{float(theirs.rows[0]['Inferences/Second']):.2f}/s" if theirs.rows else theirs.ended
    return Answer(
        "40/s on sixteen instances of 200 ms (perf_analyzer's default, synchronous)",
        "40/s",
        got,
        f"{rate(ours)}, p99 {ours['response_p99_ns'] / 1e6:.0f} ms, {ours['verdict']}",
    )


def w8() -> Answer:
    """Few requests a window."""
    server = ["--base-ms", "700", "--instances", "1"]
    theirs = analyze(server, "-p", "1000", "-v", "--concurrency-range", "1")
    (ours,) = measure(server, [ClosedLoop(1)], ByTime(60_000, 1000))
    windows = sorted(map(float, re.findall(r"Pass \[\d+\] throughput: ([\d.]+)", theirs.text)))
    told = f"; it reports {float(theirs.rows[0]['Inferences/Second']):.2f}/s" if theirs.rows else ""
    return Answer(
        "exactly 700 ms, concurrency 1, windows of 1.2 s",
        "1.43/s",
        f"{theirs.ended}; {len(windows)} windows, each {windows[0]:.2f} or {windows[-1]:.2f}/s{told}",
        f"{rate(ours)}, {ours['verdict']}",
    )


def w10() -> Answer:
    """A given number of requests."""
    server = ["--base-ms", "15", "--instances", "2"]
    theirs = analyze(server, "--request-count", "100", "--concurrency-range", "2")
    (ours,) = measure(server, [ClosedLoop(2)], ByCount(100))
    got = f"{float(theirs.rows[0]['Inferences/Second']):.2f}/s" if theirs.rows else theirs.ended
    return Answer("100 requests, two instances of 15 ms, concurrency 2", "at most 133.3/s", got, rate(ours))


def w11() -> Answer:
    """A standard deviation that does not fit perf_analyzer's integers."""
    server = ["--base-ms", "100", "--law", "bimodal", "--instances", "16"]
    theirs = analyze(server, "-p", "6000", "-s", "30", "--concurrency-range", "16")
    (ours,) = measure(server, [ClosedLoop(16)], ByTime(21_000, 2000))
    # Nine in ten take a third of the mean, the tenth seven times it.
    std_ms = 100 * np.sqrt(0.9 * (1 / 3 - 1) ** 2 + 0.1 * (7 - 1) ** 2)
    found = next((line.strip() for line in theirs.text.splitlines() if "standard deviation" in line), theirs.ended)
    return Answer(
        "bimodal service, sixteen instances, concurrency 16: thousands of requests",
        f"standard deviation {std_ms:.0f} ms",
        found,
        f"{ours['service_std_ns'] / 1e6:.0f} ms over {ours['completed']} requests",
    )


def w12() -> Answer:
    """Levels that go down are not held."""
    server = ["--base-ms", "100", "--instances", "8"]
    limit = ["--binary-search", "-l", "150", "-p", "1000", "--concurrency-range", "1:16"]
    theirs = analyze(server, *limit)
    ours = measure(server, [ClosedLoop(n) for n in (16, 8, 4, 2)], ByTime(4000, 500))
    over = theirs.text.count("went over the set limit")
    tried = re.findall(r"Request concurrency: (\d+)", theirs.text)
    said = [
        f"{row['concurrency']}: {row['in_flight_mean']:.2f} in flight, {row['service_mean_ns'] / 1e6:.0f} ms"
        for row in ours
    ]
    return Answer(
        "eight instances of 100 ms; concurrency 16, then 8, 4, 2 (perf_analyzer: binary search for 150 ms)",
        "200 ms at 16; 100 ms at 8, 4 and 2",
        f"tries {', '.join(tried)}; {over} of them over 150 ms",
        "; ".join(said),
    )


CASES: dict[str, Callable[[], Answer]] = {
    "W1": w1,
    "W2": w2,
    "W3": w3,
    "W5": w5,
    "W6": w6,
    "W7": w7,
    "W8": w8,
    "W10": w10,
    "W11": w11,
    "W12": w12,
}


def main() -> None:
    """Run the cases, print and write the table."""
    chosen = sys.argv[1:] or list(CASES)
    lines = ["| case | load and server | truth | perf_analyzer 2.49 | loadgen |", "|---" * 5 + "|"]
    for name in chosen:
        answer = CASES[name]()
        lines.append(f"| {name} | {answer.does} | {answer.truth} | {answer.theirs} | {answer.ours} |")
        print(lines[-1], flush=True)
    if chosen == list(CASES):
        words = (
            "# Hard cases\n\n"
            "Made by `python benchmarks/hard_cases.py`: the real perf_analyzer 2.49 and this tool, one after the "
            f"other, each against a fresh simulating stub, on {platform.machine()} with 2 shared cores. Truths "
            "follow from the stub's law; a stub on a busy machine is a little slower than its law.\n\n"
        )
        (Path(__file__).parents[1] / "docs" / "hard_cases.md").write_text(words + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
