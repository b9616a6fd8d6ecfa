"""What a search claims against what is true: a simulated queue, many seeds, beside plain bisection.

`python benchmarks/search_claims.py [RUNS]` prints a table and writes docs/search.md. Two workers, Poisson arrivals,
service of 50 ms on average with coefficient of variation 1 and 0.5; the true limit is that of
simulations of 20,000 s.
"""

import heapq
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from loadgen import search, steady
from loadgen.estimate import Floats, estimates
from loadgen.plan import OpenLoop, Search
from loadgen.search import Probe, Trial

WORKERS, MEAN_S, CAPACITY = 2, 0.05, 40.0
CASES = {"cv 1": (1.0, 0.5), "cv 0.5": (4.0, 0.2)}
"""Shape of the gamma law, and the limit of p99 in seconds."""

ALLOWED = 0.01
BISECTION_STEPS, BISECTION_S = 8, 30.0


def queue(rate_per_s: float, length_s: float, shape: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return arrivals and departures."""
    arrivals = np.cumsum(rng.exponential(1 / rate_per_s, int(length_s * rate_per_s * 1.3) + 50))
    arrivals = arrivals[arrivals < length_s]
    services = rng.gamma(shape, MEAN_S / shape, len(arrivals))
    free, departures = [0.0] * WORKERS, np.empty(len(arrivals))
    for place, at in enumerate(arrivals):
        departures[place] = max(heapq.heappop(free), at) + services[place]
        heapq.heappush(free, departures[place])
    return arrivals, departures


def true_limit(case: str, factor: float = 1.0) -> float:
    """Return the rate at which 1 % take longer than the limit times a factor."""
    shape, limit_s = CASES[case]
    rng, low, high = np.random.default_rng(99), 2.0, 0.99 * CAPACITY
    for _ in range(12):
        rate = (low + high) / 2
        arrivals, departures = queue(rate, 20_000, shape, rng)
        kept = ((departures - arrivals) > factor * limit_s).mean() <= ALLOWED
        low, high = (rate, high) if kept else (low, rate)
    return low


def trial(probe: Probe, case: str, rng: np.random.Generator) -> Trial:
    """Carry out a probe."""
    shape, limit_s = CASES[case]
    if not isinstance(probe.load, OpenLoop):
        return Trial(CAPACITY, (), ())
    warm, end = 0.2 * probe.window_s, 1.2 * probe.window_s
    arrivals, departures = queue(probe.load.rate_per_s, end, shape, rng)
    due, done = arrivals >= warm, (departures >= warm) & (departures < end)
    part = ((arrivals[due] - warm) / probe.window_s * search.BATCHES).astype(int).clip(0, search.BATCHES - 1)
    late = (departures - arrivals)[due] > limit_s
    ends, times = (departures * 1e9).astype(np.int64), ((departures - arrivals) * 1e9).astype(np.int64)
    p99 = estimates(ends, times, int(warm * 1e9), int(end * 1e9)).percentiles_ns[99.0]
    in_flight = [float(((arrivals < at) & (departures >= at)).sum()) for at in np.linspace(warm, end, 20)]
    counts = [np.bincount(chosen, minlength=search.BATCHES) for chosen in (part, part[late])]
    grew = steady.overload(int(due.sum()), int(done.sum()), in_flight) is not None
    return Trial(0.0, tuple(counts[0].tolist()), tuple(counts[1].tolist()), p99.low, p99.value, p99.high, grew)


def ours(case: str, seed: int) -> tuple[float, float, float]:
    """Return what a search claims and estimates, and the seconds of load it takes; NaN where it claims nothing."""
    rng, seconds = np.random.default_rng(seed), 0.0
    probing = search.search(Search(f"p99 < {1000 * CASES[case][1]:g}ms"), seed)
    probe = next(probing)
    try:
        while True:
            seconds += 1.2 * probe.window_s
            probe = probing.send(trial(probe, case, rng))
    except StopIteration as stop:
        answer = stop.value
    return answer.value or math.nan, answer.estimate or math.nan, seconds


def bisected(case: str, seed: int) -> tuple[float, float, float]:
    """Bisect on whether p99 of one window passes, as perf_analyzer's binary search does."""
    rng, (low, high) = np.random.default_rng(seed), (0.2 * CAPACITY, CAPACITY)
    shape, limit_s = CASES[case]
    for _ in range(BISECTION_STEPS):
        rate = (low + high) / 2
        arrivals, departures = queue(rate, 1.2 * BISECTION_S, shape, rng)
        times = np.sort((departures - arrivals)[arrivals > 0.2 * BISECTION_S])
        low, high = (rate, high) if times[int(0.99 * (len(times) - 1))] <= limit_s else (low, rate)
    return low, low, 1.2 * BISECTION_S * BISECTION_STEPS


def main() -> None:
    """Simulate, print and write the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    heads = ("server", "method", "true limit", "claim, mean", "sd", "claims above the limit", "p99 over by 10 %")
    lines = [f"| {' | '.join((*heads, 'no claim', 'estimate, mean', 'load'))} |", "|---" * (len(heads) + 3) + "|"]
    with ProcessPoolExecutor(2) as pool:
        for case in CASES:
            limit, over = true_limit(case), true_limit(case, 1.1)
            for name, method in (("search", ours), ("bisection 8 x 30 s", bisected)):
                found = np.array(list(pool.map(partial(method, case), range(runs))))
                claims = found[:, 0][~np.isnan(found[:, 0])]
                shares = [(claims > limit).mean(), (claims > over).mean(), np.isnan(found[:, 0]).mean()]
                figures = [f"{limit:.1f}/s", f"{claims.mean() / limit - 1:+.1%}", f"{claims.std() / limit:.1%}"]
                figures += [f"{share:.1%}" for share in shares]
                figures += [f"{np.nanmean(found[:, 1]) / limit - 1:+.1%}", f"{found[:, 2].mean():.0f} s"]
                lines.append(f"| {' | '.join((case, name, *figures))} |")
                print(lines[-1], flush=True)
    words = (
        "# What a search claims\n\n"
        f"Made by `python benchmarks/search_claims.py {runs}`: {runs} searches for the highest rate whose p99 keeps "
        "a limit, on a simulated queue of two workers and Poisson arrivals. A claim above the true limit is a "
        "promise the server does not keep.\n\n"
    )
    (Path(__file__).parents[1] / "docs" / "search.md").write_text(words + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
