"""The direct transport beside grpcio, the real perf_analyzer 2.49 and h2load: throughput, times, processor, memory.

`python benchmarks/performance.py [--rounds 5] [--seconds 3] [--only a,b,c,d]` runs, in one go and in turn (A B C,
then C B A), on a real Triton:
  a  a tiny model at concurrency 1 to 64            b  bodies of 0.5, 5 and 20 MB
  c  memory after 10,000 requests of 1 MB           d  the ceiling: nghttpd and our no-op server, against h2load
It prints tables and verdicts, progress on stderr; a run of all four parts writes docs/performance.md too.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ceiling
import resident
import serving
from contestants import Contestant, Figures, H2load, Loadgen, MeasureError, PerfAnalyzer, Task, program
from resident import Resident
from tally import Tally, conditions, say, spread, table, verdict

from loadgen.errors import LoadgenError

CONCURRENCIES = (1, 2, 4, 16, 64)
SIZES_MB = (0.5, 5.0, 20.0)
SIZE_CONCURRENCIES = (1, 4)
PARTS = "abcd"
TRIES = 2
DIRECT, GRPCIO, THEIRS, POSTING = "loadgen direct", "loadgen grpcio", "perf_analyzer", "h2load"
FLAT = 1.10
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"

COUNTED = """\
What is counted. *CPU a request* is user and system time of the client. loadgen: the worker process, which sends and \
records, in its window of the run; `+` is what the run's other process, which watches, took in the same window. \
perf_analyzer and h2load: the whole process less the shortest run of the same command, over the difference of the \
requests that the server counted. The throughput of perf_analyzer leaves out the first of its three windows, in \
which it starts; its percentiles are of all three, and h2load's include its warm-up; both count whole microseconds. \
Times of loadgen are service times, from just before a request is handed to the transport to when its last byte is \
seen; what it does between a reply and the next request is in throughput and CPU only, and so it is for the others."""


def throughput(figures: Figures) -> float:
    """Return requests a second."""
    return figures.throughput_per_s


def p50(figures: Figures) -> float:
    """Return the median time, in microseconds."""
    return figures.p50_us


def p99(figures: Figures) -> float:
    """Return the 99th percentile, in microseconds."""
    return figures.p99_us


def cpu(figures: Figures) -> float:
    """Return processor time a request, in microseconds: all of the client's processes."""
    return figures.cpu_us + figures.beside_us


def beside(figures: Figures) -> float:
    """Return the part of it that does not send."""
    return figures.beside_us


@contextlib.contextmanager
def on_triton() -> Iterator[str]:
    """Serve the models on a real Triton; yield its address."""
    with asyncio.Runner() as runner:
        context = serving.serving()
        server = runner.run(context.__aenter__())
        try:
            yield server.grpc
        finally:
            runner.run(context.__aexit__(None, None, None))


def tried(measure: Callable[[], Figures]) -> Figures | None:
    """Measure, once more if it fails; None if it fails again."""
    for _ in range(TRIES):
        try:
            return measure()
        except (MeasureError, LoadgenError, OSError, subprocess.SubprocessError) as error:
            say(f"  failed: {error}")
    return None


def in_turn(tasks: dict[str, Task], clients: Sequence[Contestant], rounds: int, part: str) -> Tally:
    """Measure every task with every client, in the other order every second round."""
    tally = Tally()
    for number in range(rounds):
        for case, task in tasks.items():
            for client in clients if number % 2 == 0 else reversed(clients):
                figures = tried(lambda client=client, task=task: client.measure(task))  # type: ignore[misc]
                tally.add(case, client.name, figures)
                say(f"{part} round {number + 1}/{rounds}, {case}: {client.name}: {_words(figures)}")
    return tally


def _words(figures: Figures | None) -> str:
    if figures is None:
        return "no figures"
    times = f"p50 {figures.p50_us:.0f} us, p99 {figures.p99_us:.0f} us"
    return f"{figures.throughput_per_s:.0f}/s, {times}, {cpu(figures):.1f} us of CPU"


def tiny(address: str, rounds: int, seconds: float) -> list[str]:
    """Part a: client overhead."""
    clients: list[Contestant] = [
        Loadgen("direct"),
        Loadgen("grpcio"),
        PerfAnalyzer(),
        PerfAnalyzer(asynchronous=True),
        H2load(),
    ]
    tasks = {
        f"concurrency {number}": Task(address, serving.TINY, serving.TINY_ELEMENTS, number, seconds)
        for number in CONCURRENCIES
    }
    tally = in_turn(tasks, clients, rounds, "a")
    lines = [f"## a. A tiny model: FP32[{serving.TINY_ELEMENTS}], echoed", "", COUNTED, ""]
    head = ["load", "client", "requests/s", "p50 us", "p99 us", "CPU us a request"]
    lines += table(head, [_row(tally, case, client.name) for case in tasks for client in clients])
    lines += ["perf_analyzer is judged in its default, synchronous mode.", ""]
    first = next(iter(tasks))
    for case in tasks:
        lines.append(verdict(f"{case}: CPU, direct / perf_analyzer", _over(tally, case, cpu), 0.40, most=True))
    lines.append(verdict(f"{first}: p50, direct / perf_analyzer", _over(tally, first, p50), 1.0, most=True))
    for case in tasks:
        ratios = _over(tally, case, throughput)
        lines.append(verdict(f"{case}: throughput, direct / perf_analyzer", ratios, 1.0, most=False))
    lines += ["", "Beside the targets, how much of perf_analyzer's CPU h2load takes, and of its p50:", ""]
    for case in tasks:
        shares = tally.ratios(case, POSTING, THEIRS, cpu), tally.ratios(case, POSTING, THEIRS, p50)
        lines.append(f"- {case}: CPU {spread(shares[0], '.2f')}, p50 {spread(shares[1], '.2f')}")
    return [*lines, ""]


def _over(tally: Tally, case: str, pick: Callable[[Figures], float], theirs: str = THEIRS) -> list[float]:
    return tally.ratios(case, DIRECT, theirs, pick)


def _row(tally: Tally, case: str, client: str) -> list[str]:
    picked = [spread(tally.values(case, client, pick)) for pick in (throughput, p50, p99)]
    used = spread(tally.values(case, client, cpu), ".1f")
    other = tally.values(case, client, beside)
    if any(other):
        used += f", of it + {spread(other, '.1f')}"
    return [case, client, *picked, used]


def bodies(address: str, rounds: int, seconds: float) -> list[str]:
    """Part b: large requests."""
    clients: list[Contestant] = [Loadgen("direct"), Loadgen("grpcio"), PerfAnalyzer()]
    tasks = {
        f"{size_mb:g} MB, concurrency {number}": Task(address, serving.SINK, round(size_mb * 1e6), number, seconds)
        for size_mb in SIZES_MB
        for number in SIZE_CONCURRENCIES
    }
    tally = in_turn(tasks, clients, rounds, "b")
    lines = ["## b. Large bodies: UINT8, a few bytes in return", ""]
    head = ["load", "client", "requests/s", "p50 us", "p99 us", "CPU us a request"]
    lines += table(head, [_row(tally, case, client.name) for case in tasks for client in clients])
    for case in tasks:
        for other in (THEIRS, GRPCIO):
            ratios = _over(tally, case, throughput, other)
            lines.append(verdict(f"{case}: throughput, direct / {other}", ratios, 1.0, most=False))
    return [*lines, ""]


def memory(address: str) -> list[str]:
    """Part c: resident memory."""
    theirs = PerfAnalyzer()
    measurements: list[Callable[[], Resident]] = [
        lambda: resident.resident(address, Loadgen("direct")),
        lambda: resident.resident(address, Loadgen("grpcio")),
        lambda: resident.resident_theirs(address, theirs, 1000),
        lambda: resident.resident_theirs(address, theirs, 5000),
    ]
    found: list[Resident] = []
    for number, measurement in enumerate(measurements):
        try:
            found.append(measurement())
            say(f"c {number + 1}/{len(measurements)}: {found[-1]}")
        except (MeasureError, LoadgenError, OSError, subprocess.SubprocessError) as error:
            say(f"c {number + 1}/{len(measurements)}: failed: {error}")
    head = ["client", "after 1,000", "after 10,000", "highest"]
    rows = [[each.name, *map(_megabytes, (each.early_mb, each.late_mb, each.highest_mb))] for each in found]
    by_name = {each.name: each for each in found}
    ours = by_name.get(DIRECT)
    grown = [ours.late_mb / ours.early_mb] if ours and ours.late_mb else []
    shares = [ours.highest_mb / each.highest_mb for each in found if ours and each.name.startswith(THEIRS)]
    return [
        f"## c. Resident memory of the client, requests of 1 MB, concurrency {resident.CONCURRENCY}; one round",
        "",
        "Ours is the worker process. perf_analyzer keeps a copy of the inputs of every request of a window:",
        "its memory follows the window (`-p`, milliseconds; 5000 is its default) and the throughput.",
        "",
        *table(head, rows),
        verdict("direct, after 10,000 / after 1,000", grown, FLAT, most=True),
        verdict("direct / perf_analyzer, highest", shares, 1.0, most=True),
        "",
    ]


def _megabytes(value: float | None) -> str:
    return f"{value:.0f} MB" if value is not None else "stopped before"


def ceilings(rounds: int, seconds: float) -> list[str]:
    """Part d: the direct transport where the server costs next to nothing."""
    tally, cases = Tally(), list[str]()
    for name, server in ceiling.SERVERS.items():
        with server() as address:
            most = ceiling.busiest(address)
            levels = {f"{name}, concurrency {number}": number for number in (1, most)}
            cases += levels
            for number in range(rounds):
                for case, level in levels.items():
                    for client in ceiling.CLIENTS if number % 2 == 0 else reversed(ceiling.CLIENTS):
                        figures = tried(
                            lambda client=client, level=level, at=address: client.measure(at, level, seconds)  # type: ignore[misc]
                        )
                        tally.add(case, client.name, figures)
                        say(f"d round {number + 1}/{rounds}, {case}: {client.name}: {_words(figures)}")
    lines = [
        "## d. The ceiling: a server that costs next to nothing",
        "",
        "Direct is driven in one process as a worker drives it, every request in the journal. The higher concurrency",
        f"is that of {', '.join(map(str, ceiling.PROBED))} at which h2load is fastest.",
        "",
    ]
    head = ["server and load", "client", "requests/s", "p50 us", "p99 us", "CPU us a request"]
    lines += table(head, [_row(tally, case, client.name) for case in cases for client in ceiling.CLIENTS])
    for single, many in zip(cases[::2], cases[1::2], strict=True):
        lines.append(
            verdict(f"{many}: throughput, direct / h2load", _over(tally, many, throughput, POSTING), 0.9, most=False)
        )
        lines.append(verdict(f"{single}: p50, direct / h2load", _over(tally, single, p50, POSTING), 1.05, most=True))
    return [*lines, ""]


def measured(parts: str, rounds: int, seconds: float) -> Iterator[list[str]]:
    """Yield what each part says, as it is done."""
    if set("abc") & set(parts):
        with on_triton() as address:
            if "a" in parts:
                yield tiny(address, rounds, seconds)
            if "b" in parts:
                yield bodies(address, rounds, seconds)
            if "c" in parts:
                yield memory(address)
    if "d" in parts:
        yield ceilings(rounds, seconds)


def main() -> None:
    """Measure the parts asked for; print, and write the document where that is all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, as a,d")
    given = parser.parse_args()
    parts = "".join(part for part in PARTS if part in given.only.split(","))
    program("h2load", "nghttp2-client")
    program("nghttpd", "nghttp2-server")
    lines = ["# Performance of the client", "", "Made by `python benchmarks/performance.py`.", ""]
    lines += [*conditions(given.rounds, given.seconds), ""]
    print("\n".join(lines), flush=True)
    try:
        for section in measured(parts, given.rounds, given.seconds):
            lines += section
            print("\n".join(section), flush=True)
    except LoadgenError as error:  # no Triton or no perf_analyzer to be had
        sys.exit(str(error))
    if parts == PARTS:
        DOCUMENT.write_text("\n".join(lines).rstrip() + "\n")
        say(f"written: {DOCUMENT.name}")


if __name__ == "__main__":
    main()
