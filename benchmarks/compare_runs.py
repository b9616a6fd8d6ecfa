"""How often does `python -m analysis compare` call equal servers different, and find one that is 5 % slower?

`python benchmarks/compare_runs.py FOLDER [COMPARISONS] [--triton]` measures over loopback, on three servers at once,
so that what the machine does meanwhile meets all alike: `a`, `equal` (as fast) and `slower` (by 5 %), each in one run
of five repeats a comparison. They are processes of the simulating stub or, with `--triton`, the stand-in model on
three real Tritons. A run that FOLDER has already is not measured again. Then every comparison is made, of five takes
a side, of the same as pairs (they were measured at once), and of the first take of each side alone, and counted.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

import analysis
from analysis import Loaded
from analysis.compare import Choices, between, side_of
from loadgen.errors import PlanError
from loadgen.server.launch import serve_standin

SERVICE_MS, SLOWER = 20.0, 1.05
INSTANCES, LEVELS = 4, "4:8:4"
STRETCH, TRITON_LEVELS, TRITON_MU = 8.0, "1:2", "5"
"""Of the stand-in's work, so that three of them leave the two cores idle for most of the time."""

TAKES = 5
WINDOW_MS, WARMUP_MS = 2000, 200
SIDES = {"a": 1.0, "equal": 1.0, "slower": SLOWER}
DIFFERENT = {"different", "probably different"}


@contextmanager
def stub(factor: float) -> Iterator[str]:
    """Serve a stub of so many times the service time; yields its address."""
    options = ["--instances", str(INSTANCES), "--ns-per-cell", "0", "--base-ms", str(factor * SERVICE_MS)]
    command = [sys.executable, "-m", "loadgen.server.stub", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["grpc"]
        finally:
            process.terminate()


@contextmanager
def triton(factor: float, folder: Path) -> Iterator[str]:
    """Serve the stand-in, stretched by so much more, on a Triton of its own; yields its address."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    loop, started, done = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    address: list[str] = []

    async def serve() -> None:
        try:
            async with serve_standin(
                directory=folder, log=folder / "log", instances=1, stretch=factor * STRETCH
            ) as server:
                address.append(server.grpc)
                started.set()
                await done.wait()
        finally:
            started.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


def measure(place: Path, address: str, *, real: bool) -> None:
    """Measure one side of one comparison, unless it is there."""
    if list(place.glob("*/manifest.json")):
        return
    mu, levels = (TRITON_MU, TRITON_LEVELS) if real else ("1", LEVELS)
    options = ["--input-data", "synthetic", "--mu", mu, "--events", "2", "--concurrency-range", levels]
    options += ["-p", str(WINDOW_MS), "--warmup-ms", str(WARMUP_MS), "--repeats", str(TAKES)]
    command = [sys.executable, "-m", "loadgen", "sweep", "-m", "traccc-gpu", "-u", address, *options]
    subprocess.run([*command, "--output", str(place), "--quiet"], check=True)


def measure_all(folder: Path, comparisons: int, *, real: bool) -> None:
    """Measure every comparison, its sides at once."""
    with ExitStack() as stack, ThreadPoolExecutor(len(SIDES)) as pool:
        addresses = {
            side: stack.enter_context(triton(factor, folder / "servers" / side) if real else stub(factor))
            for side, factor in SIDES.items()
        }
        for number in range(comparisons):
            places = [folder / side / str(number) for side in SIDES]
            list(pool.map(partial(measure, real=real), places, addresses.values()))


def first_takes(of: Loaded, takes: int) -> Loaded:
    """Return the first takes of each load."""
    some = pl.col("repeat") <= takes
    return replace(of, points=of.points.filter(some), quantities=of.quantities.filter(some))


def counted(a: Sequence[Loaded], b: Sequence[Loaded], takes: int, *, paired: bool) -> dict[str, tuple[int, int, int]]:
    """Make every comparison of so many takes a side; count them, and what is called different by quantity."""
    found: dict[str, tuple[int, int, int]] = {}
    for both in zip(a, b, strict=True):
        sides = [side_of(label, first_takes(one, takes)) for label, one in zip("ab", both, strict=True)]
        try:
            result = between(sides, Choices(paired=paired))
        except PlanError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        for whole in result.whole:
            points = [one for one in result.points if one.quantity == whole.quantity]
            of, in_whole, at_point = found.get(whole.quantity, (0, 0, 0))
            named = any(one.verdict in DIFFERENT for one in points)
            found[whole.quantity] = (of + 1, in_whole + (whole.verdict in DIFFERENT), at_point + named)
    return found


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("comparisons", type=int, nargs="?", default=40)
    parser.add_argument("--triton", action="store_true")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    measure_all(folder, asked.comparisons, real=asked.triton)
    loaded = {
        side: [analysis.load(folder / side / str(number)) for number in range(asked.comparisons)] for side in SIDES
    }
    print("| b is | takes a side | quantity | comparisons | whole sweep different | some point different |")
    print("|---" * 6 + "|")
    for side in ("equal", "slower"):
        for takes, paired in ((TAKES, False), (TAKES, True), (1, False)):
            for name, (of, whole, point) in counted(loaded["a"], loaded[side], takes, paired=paired).items():
                print(f"| {side} | {takes}{' pairs' if paired else ''} | {name} | {of} | {whole} | {point} |")


if __name__ == "__main__":
    main()
