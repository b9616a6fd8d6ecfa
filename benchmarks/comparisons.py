"""How often two points of equal truth are called different, and how often 5 % is found.

`python benchmarks/comparisons.py [RUNS]` prints a table and writes docs/comparisons.md: the servers of coverage.py,
single windows of 20, 60 and 180 s compared by their own intervals, and five takes a side, whose truths scatter from
take to take by 1.5 %, compared by Welch's test.
"""

import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from coverage import SERVERS, WINDOWS_S, S, Server, simulate

from analysis import stats
from loadgen import estimate
from loadgen.estimate import Estimate

QUANTITIES = ("X", "mean", "p99")
SLOWER = 1.05
TAKES, SCATTER = 5, 0.015


def slower(server: Server, factor: float) -> Server:
    """Return the server with every service time longer by a factor."""

    def service_s(rng: np.random.Generator) -> Callable[[float], float]:
        own = server.service_s(rng)
        return lambda at_s: factor * own(at_s)

    return replace(server, service_s=service_s)


def found(name: str, window_s: int, factor: float, seed: int) -> list[Estimate]:
    """Measure one window: throughput, mean, p99."""
    done_ns, took_ns = simulate(slower(SERVERS[name], factor), window_s, seed)
    one = estimate.estimates(done_ns, took_ns, 0, window_s * S)
    assert one.mean_ns is not None
    return [one.throughput_per_s, one.mean_ns, one.percentiles_ns[99.0]]


def points_differ(name: str, window_s: int, factor: float, seed: int) -> list[float]:
    """Compare two single windows, the second slower by a factor; an unbounded interval never differs."""
    pairs = zip(found(name, window_s, 1.0, 2 * seed), found(name, window_s, factor, 2 * seed + 1), strict=True)
    return [float(_differs(*pair)) for pair in pairs]


def _differs(a: Estimate, b: Estimate) -> bool:
    limits = [(one.value, one.low, one.high) for one in (a, b)]
    known = [(value, low, high) for value, low, high in limits if low is not None and high is not None and low > 0]
    return len(known) == len(limits) and stats.ratio_of_points(*known).differs


def takes_differ(name: str, window_s: int, factor: float, seed: int) -> list[float]:
    """Compare five takes a side by one number a take."""
    rng = np.random.default_rng(seed)
    sides = []
    for side, slow in enumerate((1.0, factor)):
        speeds = slow * np.exp(SCATTER * rng.standard_normal(TAKES))
        seeds = [10**6 + (2 * seed + side) * TAKES + take for take in range(TAKES)]
        sides.append([found(name, window_s, speed, each) for speed, each in zip(speeds, seeds, strict=True)])
    values = [[[one.value for one in take] for take in side] for side in sides]
    return [
        float(stats.ratio_of_takes([take[q] for take in values[0]], [take[q] for take in values[1]]).differs)
        for q in range(len(QUANTITIES))
    ]


def main() -> None:
    """Simulate, print and write the tables."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    heads = [f"{name} {kind}" for kind in ("equal", "5 % slower") for name in QUANTITIES]
    lines = [f"| server | window | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    with ProcessPoolExecutor(2) as pool:

        def row(compare: Callable[..., list[float]], name: str, window_s: int, count: int) -> str:
            cells = []
            for factor in (1.0, SLOWER):
                results = list(pool.map(partial(compare, name, window_s, factor), range(count), chunksize=5))
                cells += [f"{share:.0f}" for share in 100 * np.mean(results, axis=0)]
            return " | ".join(cells)

        for name in SERVERS:
            for window_s in WINDOWS_S:
                lines.append(f"| {name} | {window_s} s | {row(points_differ, name, window_s, runs)} |")
                print(lines[-1], flush=True)
        single = len(lines)
        for name in ("M/M/4", "TRACCC"):
            lines.append(f"| {name} | 5 x 20 s a side | {row(takes_differ, name, 20, runs // 2)} |")
            print(lines[-1], flush=True)
    words = (
        "# How often points are called different\n\n"
        f"Made by `python benchmarks/comparisons.py {runs}` on simulated servers (benchmarks/coverage.py): "
        "percentage of comparisons whose 95 % interval of the ratio leaves out 1, for two servers of equal "
        "truth (should be at most 5) and for a second server 5 % slower (should be high). Two windows of one take "
        "each are compared by "
        "their own intervals (`analysis.stats.ratio_of_points`); five takes a side, whose own speeds scatter by "
        f"{SCATTER:.1%}, by Welch's test on logarithms (`ratio_of_takes`). With {runs} comparisons 5 % is known to "
        f"about +-{196 * math.sqrt(0.05 * 0.95 / runs):.1f} points.\n\n"
    )
    text = words + "\n".join(lines[:single]) + "\n\nTakes:\n\n" + "\n".join(lines[:2] + lines[single:]) + "\n"
    (Path(__file__).parents[1] / "docs" / "comparisons.md").write_text(text)


if __name__ == "__main__":
    main()
