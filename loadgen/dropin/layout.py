"""perf_analyzer 2.49's standard output, line for line. Pure: figures in, lines out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.perf_csv import number
from analysis.perf_level import GAUGES, Level, Server, us
from loadgen.dropin.options import Asked
from loadgen.dropin.translate import is_async, limit_of, range_of
from loadgen.plan import ClosedLoop, Load, OpenLoop

DELAYED_PERCENT = 1.0
OVERHEAD_PERCENT = 50.0
GPUS_MOST = 16
NOTHING_ENDED = "No valid requests recorded within time interval. Please use a larger time window."
NOT_KEPT_UP = "[WARNING] Perf Analyzer is not able to keep up with the desired load. The results may not be accurate."
RATE_NOT_KEPT_UP = "[WARNING] Perf Analyzer was not able to keep up with the desired request rate."
UNITS = {"Avg GPU Utilization": (100.0, "%"), "Avg GPU Power Usage": (1.0, " watts")}


@dataclass(frozen=True, slots=True)
class Model:
    """What the model is, as far as the output differs for it."""

    decoupled: bool = False
    keeps_state: bool = False
    cache: bool = False
    streams: int = 1
    requests: int = 1


def heading(asked: Asked, model: Model) -> Iterator[str]:
    """Yield what comes before the first level."""
    if any(each not in {"zero", "random"} for each in asked.input_data):
        steps = f" with {model.requests} step/steps" if model.streams == 1 else ""
        yield f" Successfully read data for {model.streams} stream/streams{steps}."
    yield "*** Measurement Settings ***"
    yield f"  Batch size: {asked.batch}"
    yield "  Service Kind: TRITON"
    uses_async = is_async(asked, keeps_state=model.keeps_state)
    yield from _stopping(asked, uses_async=uses_async)
    yield from _limits(asked)
    yield f"  Using {'asynchronous' if uses_async else 'synchronous'} calls for inference"
    if model.decoupled:
        yield "  Detected decoupled model, using the first response for measuring latency"
    yield ""


def _stopping(asked: Asked, *, uses_async: bool) -> Iterator[str]:
    if asked.request_count:
        yield f"  Sending a total of {asked.request_count} requests"
        return
    yield f'  Using "{asked.measurement_mode}" mode for stabilization'
    judged = "average " if asked.percentile == -1 else f"p{asked.percentile}"
    yield f"  Stabilizing using {judged}{'throughput' if uses_async else 'latency and throughput'}"
    if asked.measurement_mode == "time_windows":
        yield f"  Measurement window: {asked.measurement_interval_ms} msec"
    else:
        yield f"  Minimum number of samples in each window: {asked.measurement_request_count}"


def _limits(asked: Asked) -> Iterator[str]:
    end = limit_of(asked)
    if not asked.request_intervals and range_of(asked).end != 1:
        yield f"  Latency limit: {asked.latency_threshold_ms} msec"
        if asked.request_rate_range is None:
            yield f"  Concurrency limit: {number(end)} concurrent requests"
        elif end:
            yield f"  Request Rate limit: {number(end)} requests per seconds"
    if asked.request_rate_range is not None:
        law = "poisson" if asked.request_distribution == "poisson" else "uniform"
        yield f"  Using {law} distribution on request generation"
    if asked.binary_search:
        yield "  Using Binary Search algorithm"


def level_heading(load: Load) -> Iterator[str]:
    """Yield what comes before a level's windows."""
    match load:
        case ClosedLoop(concurrency):
            yield f"Request concurrency: {concurrency}"
        case OpenLoop(rate):
            yield f"Request Rate: {number(rate)} inference requests per seconds"


def window(place: int, level: Level | None) -> str:
    """Return the line of one window, counted from 1."""
    if level is None:
        return f"  Pass [{place}] cb::Error: {NOTHING_ENDED}"
    line = f"  Pass [{place}] throughput: {number(level.throughput_per_s)} infer/sec. "
    if level.percentile is not None:
        return f"{line}p{level.percentile} latency: {us(level.stabilizing_ns)} usec"
    return f"{line}Avg latency: {us(level.mean_ns)} usec (std {us(level.std_ns)} usec). "


def report(level: Level, asked: Asked, model: Model) -> Iterator[str]:
    """Yield a level's block."""
    yield "  Client: "
    yield from (f"    {line}" for line in _client(level, asked, model))
    if level.server is not None:
        yield "  Server: "
        yield from _server(level.server, model, 1)
    if asked.collect_metrics:
        yield "  Server Prometheus Metrics: "
        yield from _gauges(level)
    if level.overhead_percent > OVERHEAD_PERCENT:
        yield NOT_KEPT_UP


def _client(level: Level, asked: Asked, model: Model) -> Iterator[str]:
    yield f"Request count: {level.requests}"
    if level.delayed_percent > DELAYED_PERCENT:
        yield f"Avg send request rate: {level.sent_per_s:.2f} infer/sec"
        yield f"{RATE_NOT_KEPT_UP} {level.delayed_percent:.2f}% of the requests were delayed. "
    if level.sequences is not None:
        yield f"Sequence count: {level.sequences} ({number(level.sequences / level.seconds)} seq/sec)"
    yield f"Throughput: {number(level.throughput_per_s)} infer/sec"
    if model.decoupled:
        yield f"Response Throughput: {number(level.responses_per_s)} infer/sec"
    if asked.verbose:
        yield f"Avg client overhead: {level.overhead_percent:.2f}%"
    if level.percentile is None:
        yield f"Avg latency: {us(level.mean_ns)} usec (standard deviation {us(level.std_ns)} usec)"
    for percent, value_ns in sorted(level.percentiles_ns.items()):
        yield f"p{percent} latency: {us(value_ns)} usec"
    yield "" if model.decoupled else _library(level, asked)


def _library(level: Level, asked: Asked) -> str:
    total, send, receive = us(level.mean_ns), us(level.send_ns), us(level.receive_ns)
    wait = f"response wait {total - send - receive} usec"
    if asked.protocol == "grpc":
        if asked.verbose:
            return f"Avg gRPC time: {total} usec (marshal {send} usec + {wait} + unmarshal {receive} usec)"
        return f"Avg gRPC time: {total} usec ((un)marshal request/response {send + receive} usec + {wait})"
    if asked.verbose:
        return f"Avg HTTP time: {total} usec (send {send} usec + {wait} + receive {receive} usec)"
    return f"Avg HTTP time: {total} usec (send/recv {send + receive} usec + {wait})"


def _server(server: Server, model: Model, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if server.successes == 0:
        yield f"{indent}  Request count: 0"
        return
    yield f"{indent}  Inference count: {server.inferences}"
    yield f"{indent}  Execution count: {server.executions}"
    if model.cache:
        yield f"{indent}  Cache hit count: {server.cache_hits}"
        yield f"{indent}  Cache miss count: {server.cache_misses}"
    yield f"{indent}  Successful request count: {server.successes}"
    yield f"{indent}  Avg request latency: {server.request_us} usec ({_stages(server, model)})"
    if model.cache:
        yield from _cached(server, indent * 2)
    yield ""
    if server.composing:
        yield f"{indent}Composing models: "
    for each in server.composing:
        yield f"{indent}{each.name}, version: {each.version}"
        yield from _server(each, model, depth + 1)


def _stages(server: Server, model: Model) -> str:
    leaves = server.composing or (server,)
    queue_us = sum(each.queue_us for each in leaves)
    compute_us = sum(each.cache_and_compute_us if model.cache else each.compute_us for each in leaves)
    overhead_us = max(0, server.request_us - queue_us - compute_us)
    front = f"overhead {overhead_us} usec + queue {queue_us} usec"
    if model.cache:
        return f"{front} + cache hit/miss {compute_us} usec"
    if server.composing:
        return f"{front} + compute {compute_us} usec"
    return (
        f"{front} + compute input {server.compute_input_us} usec + compute infer {server.compute_infer_us} usec"
        f" + compute output {server.compute_output_us} usec"
    )


def _cached(server: Server, indent: str) -> Iterator[str]:
    yield f"{indent}  Average Cache Hit Latency: {server.cache_hit_us} usec"
    miss = f"{indent}  Average Cache Miss Latency: {server.cache_miss_us + server.compute_us} usec "
    if server.composing:
        yield miss
        return
    yield (
        f"{miss}(cache lookup/insertion {server.cache_miss_us} usec + compute input {server.compute_input_us} usec"
        f" + compute infer {server.compute_infer_us} usec + compute output {server.compute_output_us} usec)"
    )


def _gauges(level: Level) -> Iterator[str]:
    if any(len(values) > GPUS_MOST for values in level.gauges.values()):
        yield (
            "Too many GPUs on system to print out individual Prometheus metrics, use the CSV output feature to see "
            "metrics."
        )
        return
    for column in GAUGES.values():
        yield f"    {column}:"
        for gpu, value in level.gauges.get(column, {}).items():
            factor, unit = UNITS.get(column, (1.0, " bytes"))
            shown = f"{value:.0f}" if "Memory" in column else number(value * factor)
            yield f"      {gpu} : {shown}{unit}"


def summary(levels: Sequence[Level]) -> Iterator[str]:
    """Yield what comes after the last level; nothing if no level counts."""
    if not levels:
        return
    percentile = levels[0].percentile
    judged = "Average" if percentile is None else f"p{percentile}"
    yield f"Inferences/Second vs. Client {judged} Batch Latency"
    for level in levels:
        rate = f"{number(level.throughput_per_s)} infer/sec"
        yield f"{level.kind}: {number(level.value)}, throughput: {rate}, latency {us(level.stabilizing_ns)} usec"
