"""What queueing theory says of simple servers: the truths that measurements are held against. Pure.

Closed systems with a gap between answer and next request: deterministic service by the asymptotic bounds, which it
meets; exponential service by exact load-dependent mean value analysis (Reiser and Lavenberg 1980). Open systems:
M/M/c by Erlang's C, M/D/1 by Crommelin's formula (1932).
"""

import math
from collections.abc import Callable

import numpy as np


def closed_constant(slots: int, workers: int, service_s: float, gap_s: float) -> tuple[float, float]:
    """Return throughput and mean service time of D/D/c with a gap."""
    rate = min(slots / (service_s + gap_s), workers / service_s)
    return rate, slots / rate - gap_s


def closed_exponential(slots: int, workers: int, service_s: float, gap_s: float) -> tuple[float, float]:
    """Return throughput and mean service time of M/M/c with a gap, by mean value analysis."""
    shares, rate, time_s = [1.0], 0.0, 0.0
    for customers in range(1, slots + 1):
        visits = range(1, customers + 1)
        time_s = sum(j / min(j, workers) * service_s * shares[j - 1] for j in visits)
        rate = customers / (gap_s + time_s)
        busy = [rate * service_s / min(j, workers) * shares[j - 1] for j in visits]
        shares = [1 - sum(busy), *busy]
    return rate, time_s


def closed_exponential_percentile(slots: int, workers: int, service_s: float, percent: float) -> float:
    """Return a percentile of M/M/c without a gap: slots - c departures at c workers' rate, then one's own service."""
    rng = np.random.default_rng(0)
    waits = rng.gamma(slots - workers, service_s / workers, 2_000_000) if slots > workers else 0.0
    return float(np.percentile(waits + rng.exponential(service_s, 2_000_000), percent))


def open_exponential(rate_per_s: float, workers: int, service_s: float) -> tuple[float, Callable[[float], float]]:
    """Return the mean time of M/M/c, and the share of requests that take longer than a time."""
    offered = rate_per_s * service_s
    last = offered**workers / math.factorial(workers) / (1 - offered / workers)
    wait = last / (sum(offered**k / math.factorial(k) for k in range(workers)) + last)
    serving, draining = 1 / service_s, workers / service_s - rate_per_s

    def longer(time_s: float) -> float:
        mixed = draining * math.exp(-serving * time_s) - serving * math.exp(-draining * time_s)
        return (1 - wait) * math.exp(-serving * time_s) + wait * mixed / (draining - serving)

    return service_s + wait / draining, longer


def open_constant(rate_per_s: float, service_s: float) -> tuple[float, Callable[[float], float]]:
    """Return the mean time of M/D/1, and the share of requests that take longer than a time."""
    load = rate_per_s * service_s

    def longer(time_s: float) -> float:
        wait_s = time_s - service_s
        if wait_s < 0:
            return 1.0
        terms = [
            (rate_per_s * (k * service_s - wait_s)) ** k
            * math.exp(-rate_per_s * (k * service_s - wait_s))
            / math.factorial(k)
            for k in range(int(wait_s / service_s) + 1)
        ]
        return 1 - (1 - load) * math.fsum(terms)

    return service_s + load * service_s / (2 * (1 - load)), longer


def percentile(longer: Callable[[float], float], percent: float) -> float:
    """Return the time that a share of requests does not exceed, by bisection."""
    low, high = 0.0, 1e-3
    while longer(high) > 1 - percent / 100:
        high *= 1.5
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if longer(middle) > 1 - percent / 100 else (low, middle)
    return high
