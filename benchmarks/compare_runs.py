"""How often does `python -m analysis compare` call equal servers different, and find one that is 5 % slower?

`python benchmarks/compare_runs.py FOLDER [COMPARISONS]` measures over loopback, on three processes of the simulating
stub at once so that what the machine does meanwhile meets all alike: `a`, `equal` (as fast) and `slower` (by 5 %),
each in one run of five repeats a comparison. A run that FOLDER has already is not measured again. Then every
comparison is made, of five takes a side and of the first take of each side alone, and counted.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl

import analysis
from analysis import Loaded
from analysis.compare import Choices, between, side_of

SERVICE_MS, SLOWER = 20.0, 1.05
INSTANCES, LEVELS = 4, "4:8:4"
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


def measure(folder: Path, side: str, comparisons: int) -> None:
    """Measure one side, unless FOLDER has it."""
    place = folder / side
    if list(place.glob("*/manifest.json")):
        return
    options = ["--input-data", "synthetic", "--mu", "1", "--events", "2", "--concurrency-range", LEVELS]
    options += ["-p", str(WINDOW_MS), "--warmup-ms", str(WARMUP_MS), "--repeats", str(comparisons * TAKES)]
    with stub(SIDES[side]) as address:
        command = [sys.executable, "-m", "loadgen", "sweep", "-m", "traccc-gpu", "-u", address, *options]
        subprocess.run([*command, "--output", str(place), "--quiet"], check=True)


def part(of: Loaded, first: int, last: int) -> Loaded:
    """Return the takes from `first` to `last`."""
    some = pl.col("repeat").is_between(first, last)
    return replace(of, points=of.points.filter(some), quantities=of.quantities.filter(some))


def counted(a: Loaded, b: Loaded, takes: int) -> dict[str, tuple[int, int, int]]:
    """Make every comparison of so many takes a side; count them, and what is called different by quantity."""
    comparisons = a.points["repeat"].n_unique() // TAKES
    found: dict[str, tuple[int, int, int]] = {}
    for number in range(comparisons):
        first = number * TAKES + 1
        sides = [side_of(label, part(one, first, first + takes - 1)) for label, one in (("a", a), ("b", b))]
        result = between(sides, Choices())
        for whole in result.whole:
            points = [one for one in result.points if one.quantity == whole.quantity]
            of, in_whole, at_point = found.get(whole.quantity, (0, 0, 0))
            named = any(one.verdict in DIFFERENT for one in points)
            found[whole.quantity] = (of + 1, in_whole + (whole.verdict in DIFFERENT), at_point + named)
    return found


def main() -> None:
    """Measure, compare, print."""
    folder, comparisons = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40  # noqa: PLR2004
    with ThreadPoolExecutor(len(SIDES)) as pool:
        list(pool.map(lambda side: measure(folder, side, comparisons), SIDES))
    loaded = {side: analysis.load(folder / side) for side in SIDES}
    print("| b is | takes a side | quantity | comparisons | whole sweep different | some point different |")
    print("|---" * 6 + "|")
    for side in ("equal", "slower"):
        for takes in (TAKES, 1):
            for name, (of, whole, point) in counted(loaded["a"], loaded[side], takes).items():
                print(f"| {side} | {takes} | {name} | {of} | {whole} | {point} |")


if __name__ == "__main__":
    main()
