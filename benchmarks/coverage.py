"""How often our 95 % intervals hold: simulated servers, stationary, against truths of long runs.

`python benchmarks/coverage.py [RUNS]` prints a table and writes docs/coverage.md. Servers: M/M/4, 8 in flight
(50 ms); closed M/D/1, 4 in flight, 40 ms of thinking (20 ms); HITMISS: 90 % of 8 ms and 10 % of 80 ms; AR: 2 workers,
4 in flight, 40 ms wandering by 10 % with a correlation time of 2 s; TRACCC: 2 workers, 4 in
flight, ten events of unequal size in turn; REGIME: the whole server is at its speed or 1.6 times slower, for 15 and
8 s on average.
"""

import heapq
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from loadgen import estimate
from loadgen.estimate import Integers

S = 10**9
WINDOWS_S = (20, 60, 180)
SETTLE_S = 20
TRUTH_S = 40_000
QUANTITIES = ("X", "mean", "p50", "p99")


@dataclass(frozen=True)
class Server:
    """A closed system: slots, workers, mean thinking time, and service times by time and draw."""

    slots: int
    workers: int
    think_s: float
    service_s: Callable[[np.random.Generator], Callable[[float], float]]


def exponential(rng: np.random.Generator) -> Callable[[float], float]:
    """50 ms on average."""
    return lambda _: float(rng.exponential(0.05))


def constant(_rng: np.random.Generator) -> Callable[[float], float]:
    """20 ms."""
    return lambda _: 0.02


def hit_or_miss(rng: np.random.Generator) -> Callable[[float], float]:
    """8 ms, or 80 ms once in ten."""
    return lambda _: (0.008, 0.08)[int(rng.integers(10)) == 0]


def wandering(rng: np.random.Generator) -> Callable[[float], float]:
    """40 ms, log-normal, times the exponential of an AR(1) process in time."""
    state = {"at": 0.0, "x": float(rng.normal(0, 0.1))}
    sigma = math.sqrt(math.log(1 + 0.2**2))

    def service(at_s: float) -> float:
        keep = math.exp(-max(0.0, at_s - state["at"]) / 2.0)
        state["x"] = keep * state["x"] + 0.1 * math.sqrt(1 - keep * keep) * float(rng.normal())
        state["at"] = at_s
        return 0.04 * float(rng.lognormal(-sigma * sigma / 2, sigma)) * math.exp(state["x"])

    return service


def regimes(rng: np.random.Generator) -> Callable[[float], float]:
    """30 ms, or 48 ms, for times of 15 and 8 s on average."""
    state = {"until": 0.0, "slow": float(rng.random() < 8 / 23)}

    def service(at_s: float) -> float:
        while at_s >= state["until"]:
            state["slow"] = 1 - state["slow"]
            state["until"] += float(rng.exponential(8.0 if state["slow"] else 15.0))
        return 0.03 * (1.6 if state["slow"] else 1.0) * float(rng.lognormal(-0.005, 0.1))

    return service


def ten_events(rng: np.random.Generator) -> Callable[[float], float]:
    """60 ms on average: ten events of unequal size (coefficient of variation 0.33) in turn, each to 2 %."""
    sizes = np.random.default_rng(7).normal(0, 1, 10)
    sizes = 1 + 0.33 * (sizes - sizes.mean()) / sizes.std()
    turn = iter(range(10**9))
    return lambda _: 0.06 * float(sizes[next(turn) % 10]) * (1 + 0.02 * float(rng.normal()))


SERVERS = {
    "M/M/4": Server(8, 4, 0.0, exponential),
    "M/D/1 closed": Server(4, 1, 0.04, constant),
    "HITMISS": Server(4, 2, 0.0, hit_or_miss),
    "TRACCC": Server(4, 2, 0.0, ten_events),
    "AR 2 s": Server(4, 2, 0.0, wandering),
    "REGIME": Server(4, 2, 0.0, regimes),
}


def simulate(server: Server, seconds: float, seed: int) -> tuple[Integers, Integers]:
    """Return ends and service times, in nanoseconds, of what ended after the settling time."""
    rng = np.random.default_rng(seed)
    service = server.service_s(rng)
    free, waiting = [0.0] * server.workers, [0.0] * server.slots
    done, took = [], []
    limit = seconds + SETTLE_S
    while (sent := heapq.heappop(waiting)) < limit:
        begin = max(sent, heapq.heappop(free))
        end = begin + service(begin)
        heapq.heappush(free, end)
        heapq.heappush(waiting, end + (float(rng.exponential(server.think_s)) if server.think_s else 0.0))
        if SETTLE_S <= end < limit:
            done.append(end - SETTLE_S)
            took.append(end - sent)
    return (np.array(done) * S).astype(np.int64), (np.array(took) * S).astype(np.int64)


def truth(name: str) -> list[float]:
    """Return throughput, mean, p50 and p99 of a very long run."""
    done_ns, took_ns = simulate(SERVERS[name], TRUTH_S, seed=10**6)
    ordered = np.sort(took_ns)
    percentiles = [estimate.nearest_rank(ordered, percent) for percent in (50, 99)]
    return [len(done_ns) / TRUTH_S, float(took_ns.mean()), *percentiles]


def held(name: str, window_s: int, truths: list[float], seed: int) -> list[bool]:
    """Say which of the four intervals of one window hold the truth."""
    done_ns, took_ns = simulate(SERVERS[name], window_s, seed)
    found = estimate.estimates(done_ns, took_ns, 0, window_s * S)
    assert found.mean_ns is not None
    known = [found.throughput_per_s, found.mean_ns, found.percentiles_ns[50.0], found.percentiles_ns[99.0]]
    return [
        one.low is not None and one.low <= value <= (math.inf if one.high is None else one.high)
        for one, value in zip(known, truths, strict=True)
    ]


def main() -> None:
    """Simulate, print and write the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    lines = [f"| server | window | {' | '.join(QUANTITIES)} |", "|---" * (2 + len(QUANTITIES)) + "|"]
    with ProcessPoolExecutor(2) as pool:
        truths = dict(zip(SERVERS, pool.map(truth, SERVERS), strict=True))
        for name in SERVERS:
            for window_s in WINDOWS_S:
                results = pool.map(partial(held, name, window_s, truths[name]), range(runs), chunksize=20)
                shares = 100 * np.mean(list(results), axis=0)
                lines.append(f"| {name} | {window_s} s | {' | '.join(f'{share:.0f}' for share in shares)} |")
                print(lines[-1], flush=True)
    words = (
        "# How often the intervals hold\n\n"
        f"Made by `python benchmarks/coverage.py {runs}`: per cell {runs} simulated windows, the percentage in which "
        "the 95 % interval of `loadgen.estimate` holds the truth, which is that of one run of "
        f"{TRUTH_S:,} s. An unbounded upper limit counts as holding. With {runs} windows a share of 95 % is known to "
        f"about +-{196 * math.sqrt(0.95 * 0.05 / runs):.1f} points. Simulated servers; numpy {np.__version__}.\n\n"
    )
    (Path(__file__).parents[1] / "docs" / "coverage.md").write_text(words + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
