"""How often does `python -m analysis compare` call one server different from itself, and find one 5 % slower?

`python benchmarks/compare_runs.py FOLDER [TAKES] [--triton]` measures over loopback, as a study in blocks of random
order: `a` and `equal`, which are one server under two names, and `slower` (by 5 %), processes of the simulating stub
or, with `--triton`, the stand-in model on real Tritons. The takes are cut into comparisons of 1, 5, 10 and 20 a side,
each is made, and as pairs, and what is called different is counted. A FOLDER that has a study is only counted.
"""

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl

import analysis
from analysis import Loaded
from analysis.compare import Choices, between, side_of
from loadgen.server.launch import serve_standin

SERVICE_MS, SLOWER = 20.0, 1.05
INSTANCES, LEVELS = 4, "4,8"
STRETCH, TRITON_LEVELS, TRITON_MU = 8.0, "2", "5"
"""Of the stand-in's work, so that the cores are idle for most of the time."""

TAKES = 200
WINDOW_MS, WARMUP_MS = 1500, 200
SIDES = ("a", "equal", "slower")
DIFFERENT = {"different", "probably different"}
TAKE = re.compile(r"-take(\d+)-")


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


def measure(folder: Path, takes: int, *, real: bool) -> None:
    """Measure so many takes of each side."""
    with (
        triton(1.0, folder / "servers" / "plain") if real else stub(1.0) as plain,
        triton(SLOWER, folder / "servers" / "slower") if real else stub(SLOWER) as slower,
    ):
        mu, levels = (TRITON_MU, TRITON_LEVELS) if real else ("1", LEVELS)
        options = ["-u", f"a={plain}", "-u", f"equal={plain}", "-u", f"slower={slower}", "--mu", mu, "--events", "2"]
        options += ["--concurrency-range", levels, "-p", str(WINDOW_MS), "--warmup-ms", str(WARMUP_MS)]
        command = [sys.executable, "-m", "loadgen", "study", str(folder / "study"), *options]
        subprocess.run([*command, "--takes", str(takes), "--quiet"], check=True)


def takes_of(side: Loaded, first: int, last: int) -> Loaded:
    """Return the takes of a side from one number to another."""
    numbers = {run: int(found[1]) for run in side.runs["run"] if (found := TAKE.search(run))}
    kept = pl.col("run").is_in([run for run, number in numbers.items() if first <= number <= last])
    tables = {name: getattr(side, name).filter(kept) for name in ("runs", "points", "quantities")}
    return replace(side, **tables)


def counted(a: Loaded, b: Loaded, takes: int, *, paired: bool) -> dict[str, tuple[int, int, int]]:
    """Make every comparison of so many takes a side; count them, and what is called different by quantity."""
    found: dict[str, tuple[int, int, int]] = {}
    for first in range(1, a.runs.height - takes + 2, takes):
        sides = [side_of(label, takes_of(one, first, first + takes - 1)) for label, one in (("a", a), ("b", b))]
        result = between(sides, Choices(paired=paired))
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
    parser.add_argument("takes", type=int, nargs="?", default=TAKES)
    parser.add_argument("--triton", action="store_true")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if not (folder / "study").exists():
        measure(folder, asked.takes, real=asked.triton)
    loaded = {side: analysis.load(folder / "study" / "runs" / f"*-{side}-*") for side in SIDES}
    print("| b is | takes a side | quantity | comparisons | whole sweep different | some point different |")
    print("|---" * 6 + "|")
    for side in ("equal", "slower"):
        for takes, paired in ((1, False), *((takes, paired) for takes in (5, 10, 20) for paired in (False, True))):
            found = counted(loaded["a"], loaded[side], takes, paired=paired)
            for name, (of, whole, point) in found.items():
                print(f"| {side} | {takes}{' pairs' if paired else ''} | {name} | {of} | {whole} | {point} |")


if __name__ == "__main__":
    main()
