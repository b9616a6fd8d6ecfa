"""What perf_analyzer's own figures give away about themselves: one rule a fault that is known of it.

A rule looks at one level, or at a whole sweep, and says its reason in a sentence, or None.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from analysis.perf_analyzer.tables import Level, Row, level_words, sweep_words

LITTLE_TOLERANCE = 0.15
"""Requests cut by a window's edges, and a client that is slow between two, explain no more than this."""

WHOLE_TOLERANCE = 0.05
OVERHEAD_MAX = 0.5
COUNT_TOLERANCE, COUNT_SLACK = 0.1, 5
STD_SLACK = 0.9
REQUESTS_OF_A_P99 = 51
"""Up to here the nearest rank of 99 % is the largest."""

REQUESTS_OF_A_STD = 20
BANDS = (("p50", 0.4), ("p90", 0.05), ("p95", 0.04), ("p99", 0.01))
"""Shares of requests that lie above a percentile and below the next."""

PERCENTILES = ("service_p50_ns", "service_p90_ns", "service_p95_ns", "service_p99_ns")
SERVER_STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
STAGES = ("network_ns", *(f"server_{name}_ns" for name in SERVER_STAGES))

Rule = Callable[[Row], str | None]


def judged(level: Level) -> tuple[Row, list[str]]:
    """Return a level's figures without those that cannot be true, and all that is suspicious of it."""
    figures = dict(level.figures)
    found = list(level.notes)
    if reason := wrong_std(figures):
        figures["service_std_ns"] = None
        found.append(reason)
    found += [reason for rule in RULES if (reason := rule(figures))]
    found += [reason for gpu in level.gpus if (reason := odd_gpu(gpu))]
    return figures, list(dict.fromkeys(found))


def wrong_std(figures: Row) -> str | None:
    """perf_analyzer sums squares in 64 bits: where they overflow, the standard deviation is too small to be true."""
    std, mean, requests = (figures.get(name) for name in ("service_std_ns", "service_mean_ns", "completed"))
    if std is None or mean is None or (requests or REQUESTS_OF_A_STD) < REQUESTS_OF_A_STD:
        return None
    above = [(share, figures.get(f"service_{name}_ns")) for name, share in BANDS]
    squares = [share * max(0.0, value - mean) ** 2 for share, value in above if value is not None]
    median = figures.get("service_p50_ns")
    squares += [0.5 * max(0.0, mean - median) ** 2] if median is not None else []
    least = sum(squares) ** 0.5
    if std >= STD_SLACK * least:
        return None
    return f"standard deviation {std / 1e6:.6g} ms is below the {least / 1e6:.6g} ms its percentiles require: missing"


def little(figures: Row) -> str | None:
    """Throughput x mean latency must be the concurrency (Little 1961), times the batch size."""
    slots, rate, mean = figures.get("concurrency"), figures.get("throughput_per_s"), mean_ns(figures)
    if not slots or rate is None or mean is None:
        return None
    batch = figures.get("batch_size")
    ratio = rate * mean / 1e9 / slots / (batch or 1)
    if abs(ratio - 1) <= LITTLE_TOLERANCE:
        return None
    if batch is None and round(ratio) > 1 and abs(ratio / round(ratio) - 1) <= WHOLE_TOLERANCE:
        return f"throughput x latency is {round(ratio)} times the concurrency: batches of {round(ratio)}, presumably"
    in_flight = ratio * slots
    return f"throughput x latency says {in_flight:.3g} requests in flight, asked were {slots}"


def mean_ns(figures: Row) -> float | None:
    """Return the mean latency, or what perf_analyzer split it into, where nothing was cut off at 0 in the split."""
    if figures.get("service_mean_ns") is not None:
        return float(figures["service_mean_ns"])
    parts = [figures.get(name) for name in (*STAGES, "client_send_ns", "client_recv_ns")]
    if None in parts or not figures.get("network_ns"):
        return None
    return float(sum(part for part in parts if part is not None))


def clamped_network(figures: Row) -> str | None:
    """Stages longer than the latency are of other requests than the client's."""
    if figures.get("network_ns") != 0 or not figures.get("server_queue_ns"):
        return None
    return "network time is 0: the server's stages fill the latency; of another replica, or of other clients too?"


def out_of_order(figures: Row) -> str | None:
    """Percentiles grow."""
    known = [figures[name] for name in PERCENTILES if figures.get(name) is not None]
    return "percentiles do not grow" if any(a > b for a, b in pairwise(known)) else None


def few_requests(figures: Row) -> str | None:
    """A percentile beyond the sample is its largest value."""
    requests = figures.get("completed")
    if not requests or requests > REQUESTS_OF_A_P99 or figures.get("service_p99_ns") is None:
        return None
    return f"{requests} requests: their p99 is the longest of them"


def other_count(figures: Row) -> str | None:
    """The server's window is not the client's; a large difference is other traffic."""
    client, server = figures.get("completed"), figures.get("server_success")
    if client is None or server is None or abs(server - client) <= COUNT_SLACK + COUNT_TOLERANCE * client:
        return None
    return f"the server counted {server} requests, the client {client}: other clients, or windows that do not match"


def busy_client(figures: Row) -> str | None:
    """perf_analyzer's own limit."""
    overhead = figures.get("client_overhead")
    return f"perf_analyzer itself was busy for {overhead:.0%} of the time" if (overhead or 0) > OVERHEAD_MAX else None


def late(figures: Row) -> str | None:
    """What was sent late has waited where no latency counts it."""
    share = figures.get("delayed")
    return f"{share:.0%} of requests were sent late, and their latency begins when they were sent" if share else None


def by_request_count(figures: Row) -> str | None:
    """`--request-count` divides by whole seconds."""
    if not figures.get("request_count"):
        return None
    return "made with --request-count, whose window is whole seconds: throughput is a lower bound"


def odd_gpu(gpu: Row) -> str | None:
    """A mean share above 1 is none."""
    used = gpu.get("utilisation")
    return f"utilisation of {gpu['gpu'][:12]} is {used:g}, above 1" if used is not None and used > 1 else None


RULES: tuple[Rule, ...] = (
    little,
    clamped_network,
    out_of_order,
    few_requests,
    other_count,
    busy_client,
    late,
    by_request_count,
)


def of_sweep(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield what is suspicious of levels beside each other, after the words for where that is."""
    for group in _sets(rows):
        yield from _gaps(group)
        yield from _twice(group)


def _sets(rows: Iterable[Row]) -> Iterator[list[Row]]:
    sets: dict[object, list[Row]] = {}
    for row in rows:
        if row.get("concurrency") is not None:
            sets.setdefault((row.get("run"), row.get("labels")), []).append(row)
    yield from sets.values()


def _gaps(rows: list[Row]) -> Iterator[tuple[str, str]]:
    """A sweep has one step: where it is a multiple, levels are absent, and perf_analyzer does not say why."""
    levels = sorted({int(row["concurrency"]) for row in rows})
    steps = [b - a for a, b in pairwise(levels)]
    if len(steps) < 2 or any(step % min(steps) for step in steps):  # noqa: PLR2004 - one step has no other beside it
        return
    absent = [level for level in _between(levels, min(steps)) if level not in levels]
    if absent and steps.count(min(steps)) * 2 > len(steps):
        shown = ", ".join(map(str, absent[:8])) + (", ..." if len(absent) > 8 else "")  # noqa: PLR2004 - enough to see
        yield sweep_words(rows[0]), f"no level {shown}: unstable, over the threshold, or never run"


def _between(levels: list[int], step: int) -> Sequence[int]:
    return range(levels[0], levels[-1], step)[:100_000]


def _twice(rows: list[Row]) -> Iterator[tuple[str, str]]:
    seen: dict[int, int] = {}
    for row in rows:
        seen[row["concurrency"]] = seen.get(row["concurrency"], 0) + 1
        if seen[row["concurrency"]] == 2:  # noqa: PLR2004 - say it once
            yield level_words(row), "stands more than once, and nothing tells the two apart"
