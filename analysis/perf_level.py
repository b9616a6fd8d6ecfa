"""A level of load as perf_analyzer sums it up: the requests of its windows, and the server's counters around them.

Every number perf_analyzer prints or writes is here once, from rows and readings, whether the run still goes on or is
read back from its directory. Latency is its word for our service time, done - sent.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loadgen.clock import NS_PER_S
from loadgen.estimate import nearest_rank
from loadgen.kserve import Statistics
from loadgen.measure import Window, ended_in, mean_between
from loadgen.plan import ClosedLoop, Load, OpenLoop
from loadgen.progress import Edge
from loadgen.records import Outcome, Rows
from loadgen.rundir import Sample

PERCENTS = (50, 90, 95, 99)
DELAYED_NS = 1_000_000
"""A request sent so long after it was due counts as delayed, as in later versions of perf_analyzer."""

GAUGES = {
    "nv_gpu_utilization": "Avg GPU Utilization",
    "nv_gpu_power_usage": "Avg GPU Power Usage",
    "nv_gpu_memory_used_bytes": "Max GPU Memory Usage",
    "nv_gpu_memory_total_bytes": "Total GPU Memory",
}
"""Metrics that perf_analyzer reads, and the names of their columns."""

Gauges = Mapping[str, Mapping[str, float]]
"""Column -> GPU -> value."""


@dataclass(frozen=True, slots=True)
class Server:
    """One model's counters between two readings; times are whole microseconds a request, rounded down."""

    name: str
    version: str
    inferences: int
    executions: int
    successes: int
    request_us: int
    queue_us: int
    compute_input_us: int
    compute_infer_us: int
    compute_output_us: int
    compute_us: int
    cache_hits: int = 0
    cache_misses: int = 0
    cache_hit_us: int = 0
    cache_miss_us: int = 0
    cache_and_compute_us: int = 0
    composing: tuple["Server", ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides how a level is summed up."""

    percentile: int | None = None
    batch: int = 1
    http: bool = False
    model: str = ""
    last_steps: frozenset[int] | None = None
    """Bodies that end a sequence; None for a model that keeps no state."""

    sequence_length: int = 0
    """Steps of a sequence, if that is not how many its stream has."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level; `value` is its concurrency or rate, None for loads that have neither."""

    kind: str
    value: float | None
    requests: int
    failed: int
    seconds: float
    throughput_per_s: float
    responses_per_s: float
    mean_ns: int
    std_ns: float
    percentiles_ns: Mapping[int, int]
    send_ns: int
    receive_ns: int
    sent_per_s: float
    delayed_percent: float
    overhead_percent: float
    sequences: int | None
    server: Server | None
    gauges: Gauges = field(default_factory=dict)
    percentile: int | None = None

    @property
    def stabilizing_ns(self) -> int:
        """The latency that a level is judged by."""
        return self.mean_ns if self.percentile is None else self.percentiles_ns[self.percentile]

    @property
    def network_us(self) -> int:
        """What of the mean latency neither the client library nor a stage of the server accounts for."""
        assert self.server is not None
        server = self.server
        stages_us = server.queue_us + server.compute_input_us + server.compute_infer_us + server.compute_output_us
        caches_us = server.cache_hit_us + server.cache_miss_us
        return max(0, us(self.mean_ns) - us(self.send_ns) - us(self.receive_ns) - stages_us - caches_us)


def us(duration_ns: float) -> int:
    """Return whole microseconds, rounded down."""
    return int(duration_ns // 1000)


def level_of(
    load: Load, rows: Rows, edges: Sequence[Edge], asked: Asked, samples: Iterable[Sample] = ()
) -> Level | None:
    """Sum up the windows between the first edge and the last; None if nothing completed in them."""
    window = Window(edges[0].at_ns, edges[-1].at_ns)
    ended = ended_in(rows, window)
    good = ended[ended["outcome"] == Outcome.OK]
    if len(good) == 0:
        return None
    seconds = window.length_ns / NS_PER_S
    took_ns = np.sort(good["done_ns"] - good["sent_ns"])
    percents = sorted({*PERCENTS, *([asked.percentile] if asked.percentile else [])})
    sent = rows[(rows["sent_ns"] >= window.start_ns) & (rows["sent_ns"] < window.end_ns)]
    kind, value = _named(load, rows)
    return Level(
        kind=kind,
        value=value,
        requests=len(good),
        failed=len(ended) - len(good),
        seconds=seconds,
        throughput_per_s=len(good) * asked.batch / seconds,
        responses_per_s=float(good["responses"].sum()) / seconds,
        mean_ns=int(took_ns.sum()) // len(good),
        std_ns=float(took_ns.std(ddof=1)) if len(good) > 1 else 0.0,
        percentiles_ns={percent: int(nearest_rank(took_ns, percent)) for percent in percents},
        send_ns=int(mean_between(good, "sent_ns", "flushed_ns") or 0) if asked.http else 0,
        receive_ns=int(mean_between(good, "first_byte_ns", "done_ns") or 0) if asked.http else 0,
        sent_per_s=len(sent) / seconds,
        delayed_percent=_delayed_percent(load, good),
        overhead_percent=_overhead_percent(load, good, window),
        sequences=_sequences(good, asked),
        server=_server(asked.model, edges[0].statistics, edges[-1].statistics),
        gauges=gauges_of(samples, window),
        percentile=asked.percentile,
    )


def _named(load: Load, rows: Rows) -> tuple[str, float | None]:
    match load:
        case ClosedLoop(concurrency):
            return "Concurrency", concurrency
        case OpenLoop(rate):
            return "Request Rate", rate
    due_ns = np.sort(rows["due_ns"])
    span_ns = int(due_ns[-1] - due_ns[0]) if len(due_ns) else 0
    return "Request Rate", round((len(due_ns) - 1) * NS_PER_S / span_ns) if span_ns else None


def _delayed_percent(load: Load, good: Rows) -> float:
    if isinstance(load, ClosedLoop):
        return 0.0
    return 100.0 * float((good["sent_ns"] - good["due_ns"] > DELAYED_NS).mean())


def _overhead_percent(load: Load, good: Rows, window: Window) -> float:
    """Return how much of the slots' time went by between an answer and the next request."""
    slots = load.concurrency if isinstance(load, ClosedLoop) else 1
    return min(100.0, 100.0 * float((good["sent_ns"] - good["due_ns"]).sum()) / (slots * window.length_ns))


def _sequences(good: Rows, asked: Asked) -> int | None:
    if asked.last_steps is None:
        return None
    if asked.sequence_length:
        return len(good) // asked.sequence_length
    return int(np.isin(good["body"], list(asked.last_steps)).sum())


def _server(name: str, before: Statistics | None, after: Statistics | None) -> Server | None:
    if before is None or after is None:
        return None
    successes = after.success_count - before.success_count
    hits = after.cache_hit_count - before.cache_hit_count
    misses = after.cache_miss_count - before.cache_miss_count
    computed = max(0, successes - hits)

    def each_us(count: int, *counters: str) -> int:
        total_ns = sum(getattr(after, counter) - getattr(before, counter) for counter in counters)
        return us(total_ns / count) if count else 0

    computes = ("compute_input_ns", "compute_infer_ns", "compute_output_ns")
    return Server(
        name=name,
        version=after.version,
        inferences=after.inference_count - before.inference_count,
        executions=after.execution_count - before.execution_count,
        successes=successes,
        request_us=each_us(successes, "success_ns"),
        queue_us=each_us(successes, "queue_ns"),
        compute_input_us=each_us(computed, "compute_input_ns"),
        compute_infer_us=each_us(computed, "compute_infer_ns"),
        compute_output_us=each_us(computed, "compute_output_ns"),
        compute_us=each_us(computed, *computes),
        cache_hits=hits,
        cache_misses=misses,
        cache_hit_us=each_us(hits, "cache_hit_ns"),
        cache_miss_us=each_us(misses, "cache_miss_ns"),
        cache_and_compute_us=each_us(successes, *computes, "cache_hit_ns", "cache_miss_ns"),
        composing=_composing(before, after),
    )


def _composing(before: Statistics, after: Statistics) -> tuple[Server, ...]:
    found = (_server(name, before.composing.get(name), reading) for name, reading in sorted(after.composing.items()))
    return tuple(each for each in found if each is not None)


def gauges_of(samples: Iterable[Sample], window: Window) -> Gauges:
    """Return what GPUs did in a window: means of utilisation and power, the highest memory in use, and its total."""
    found: dict[str, dict[str, list[float]]] = {column: {} for column in GAUGES.values()}
    for sample in samples:
        gpu = json.loads(sample.labels).get("gpu_uuid") if sample.metric in GAUGES else None
        if gpu and window.start_ns <= sample.at_ns < window.end_ns and math.isfinite(sample.value):
            found[GAUGES[sample.metric]].setdefault(gpu, []).append(sample.value)
    return {column: {gpu: _merged(column, found[column][gpu]) for gpu in sorted(found[column])} for column in found}


def _merged(column: str, values: Sequence[float]) -> float:
    if column.startswith("Avg"):
        return math.fsum(values) / len(values)
    return max(values) if column.startswith("Max") else values[0]
