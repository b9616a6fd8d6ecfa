"""What perf_analyzer was asked -> our Plan; combinations that it refuses are refused in its words."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.dropin.options import Asked, Range
from loadgen.endpoint import UNIX, Endpoint, Tls
from loadgen.errors import PlanError
from loadgen.ladder import Ladder
from loadgen.plan import Generated, InputData, Load, PerfJson, Plan, Replay, checked
from loadgen.windows import ByWindows

PORTS = {"http": 8000, "grpc": 8001}
METRICS_PORT = 8002
DEFAULT_THREADS = 16
READY_TIMEOUT_S = 1.0
MODES = "--concurrency-range, --request-rate-range, or --request-intervals"
VERIFY = {(1, 2): "full", (1, 1): "full", (1, 0): "chain"}
"""(peer, host) of libcurl's numbers -> what is checked; with peer 0 nothing is."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A combination of options that makes no sense, and what perf_analyzer says of it."""

    applies: Callable[[Asked], Any]
    words: str


REFUSALS = (
    Refusal(lambda a: not a.model, "Failed to parse -m (model name). The value must be specified."),
    Refusal(
        lambda a: a.percentile != -1 and not 1 <= a.percentile <= 99,  # noqa: PLR2004 - its own limits
        "Failed to parse --percentile. The value must be -1 for not reporting or in range (0, 100).",
    ),
    Refusal(lambda a: a.is_async and a.is_sync, "Cannot specify --async and --sync simultaneously."),
    Refusal(lambda a: a.streaming and a.protocol != "grpc", "Streaming is only allowed with gRPC protocol."),
    Refusal(lambda a: a.streaming and a.is_sync, "Cannot specify --streaming and --sync simultaneously."),
    Refusal(
        lambda a: a.compression is not None and a.protocol != "grpc",
        "Using compression algorithm is only allowed with gRPC protocol.",
    ),
    Refusal(
        lambda a: a.request_parameters and a.protocol != "grpc",
        "The --request-parameter option is currently only supported by gRPC protocol.",
    ),
    Refusal(
        lambda a: "zero" in a.input_data and _paths(a), "--input-data zero cannot be given together with a path."
    ),
    Refusal(
        lambda a: sum(map(bool, (a.concurrency_range, a.request_rate_range, a.request_intervals, _is_old(a)))) > 1,
        f"Cannot specify more then one inference load mode. Please choose only one of the following modes: {MODES}.",
    ),
    Refusal(
        lambda a: a.binary_search and not a.latency_threshold_ms,
        "The --latency-threshold cannot be 0 for binary search mode.",
    ),
    Refusal(
        lambda a: a.binary_search and not range_of(a).end,
        "The end of the range can not be 0 (or 0.0) for binary search mode.",
    ),
    Refusal(
        lambda a: a.binary_search and range_of(a).end < range_of(a).start,
        "The end of the range can not be less than start of the range for binary search mode.",
    ),
    Refusal(
        lambda a: not range_of(a).end and not a.latency_threshold_ms,
        "The end of the search range and the latency limit can not be both 0 (or 0.0) simultaneously",
    ),
    Refusal(
        lambda a: a.request_count and range_of(a).end > range_of(a).start,
        "--request-count not supported with multiple levels in one run",
    ),
    Refusal(
        lambda a: a.warmup_request_count and range_of(a).end > range_of(a).start,
        "--warmup-request-count not supported with multiple levels in one run",
    ),
    Refusal(
        lambda a: a.request_count and a.request_count < range_of(a).start and not a.request_intervals,
        "--request-count can not be less than concurrency or request rate",
    ),
    Refusal(
        lambda a: (a.metrics_url or a.metrics_interval_ms) and not a.collect_metrics,
        "Must specify --collect-metrics when using the --metrics-url or --metrics-interval option.",
    ),
)


def plan_of(asked: Asked) -> Plan:
    """Return the plan of a command line.

    Raises:
        PlanError: options contradict each other, or one is out of range.
    """
    for refusal in REFUSALS:
        if refusal.applies(asked):
            raise PlanError(refusal.words)
    inputs = _inputs(asked)
    of_its_own = isinstance(inputs, PerfJson) and asked.sequence_length <= 0
    return checked(
        Plan(
            endpoint=_endpoint(asked),
            inputs=inputs,
            loads=_loads(asked),
            ladder=None if asked.request_intervals else _ladder(asked),
            stopping=_stopping(asked),
            name=asked.model,
            percents=(float(asked.percentile),) if asked.percentile != -1 else (),
            composing_models=asked.composing_models,
            compression=asked.compression or "none",
            metrics_interval_ms=asked.metrics_interval_ms or 1000,
            batch=asked.batch,
            order="sequential",
            sequence_length=max(0, asked.sequence_length),
            sequence_length_variation=0.0 if of_its_own else asked.sequence_length_variation,
            sequence_ids=asked.sequence_ids,
            parameters=dict(asked.request_parameters),
            streaming=asked.streaming,
            trace=dict(asked.trace),
            keep_corpus=bool(asked.profile_export),
            ready_timeout_s=READY_TIMEOUT_S,
        )
    )


def is_async(asked: Asked, *, keeps_state: bool) -> bool:
    """Say whether perf_analyzer would use its asynchronous calls."""
    return asked.is_async or asked.streaming or (keeps_state and not asked.is_sync)


def range_of(asked: Asked) -> Range:
    """Return the levels asked for, as written."""
    if asked.request_rate_range or asked.concurrency_range:
        return asked.request_rate_range or asked.concurrency_range or Range()
    end = asked.old_end if asked.old_dynamic and asked.old_end is not None else 1
    return Range(start=asked.old_start or 1, end=end)


def limit_of(asked: Asked) -> float:
    """Return the last level there can be; 0 for none. A concurrency without end has that of the threads."""
    end = range_of(asked).end
    if end == 0 and asked.request_rate_range is None:
        return asked.max_threads or DEFAULT_THREADS
    return end


def _is_old(asked: Asked) -> bool:
    return asked.old_dynamic or asked.old_start is not None or asked.old_end is not None


def _ladder(asked: Asked) -> Ladder:
    wanted, end = range_of(asked), limit_of(asked)
    last = end if end == 0 else max(end, wanted.start)
    return Ladder(
        start=wanted.start,
        end=last,
        step=wanted.step,
        over="rate" if asked.request_rate_range else "concurrency",
        arrivals=asked.request_distribution,
        binary=asked.binary_search,
    )


def _loads(asked: Asked) -> tuple[Load, ...]:
    return (Replay(os.path.abspath(asked.request_intervals)),) if asked.request_intervals else ()  # noqa: PTH100 - links stay


def _stopping(asked: Asked) -> ByWindows:
    counted = asked.measurement_mode == "count_windows"
    is_lenient = None if not (asked.is_async or asked.streaming or asked.is_sync) else not asked.is_sync
    return ByWindows(
        interval_ms=asked.measurement_interval_ms,
        window_requests=asked.measurement_request_count if counted else 0,
        stability=asked.stability_percentage / 100,
        max_trials=asked.max_trials,
        percentile=None if asked.percentile == -1 else asked.percentile,
        latency_limit_ms=asked.latency_threshold_ms,
        throughput_suffices=is_lenient,
        warmup_requests=asked.warmup_request_count,
        total_requests=asked.request_count,
    )


def _endpoint(asked: Asked) -> Endpoint:
    scheme, separator, rest = asked.url.partition("://")
    address = rest if separator else asked.url
    address = address.rstrip("/") or "localhost"
    if ":" not in address:
        address = f"{address}:{PORTS[asked.protocol]}"
    grpc, http = (address, "") if asked.protocol == "grpc" else ("", address)
    return Endpoint(
        grpc=grpc,
        model=asked.model,
        version=asked.model_version,
        metrics_urls=(_metrics_url(asked, address),) if asked.collect_metrics else (),
        tls=_tls(asked, secured=scheme == "https" and bool(separator)),
        headers=dict(asked.headers),
        http=http,
    )


def _metrics_url(asked: Asked, address: str) -> str:
    host = "localhost" if address.startswith(UNIX) else address.rpartition(":")[0]
    url = asked.metrics_url or f"{host}:{METRICS_PORT}/metrics"
    return url if "://" in url else f"http://{url}"


def _tls(asked: Asked, *, secured: bool) -> Tls | None:
    ssl = asked.ssl
    if asked.protocol == "grpc":
        return Tls(ssl.grpc_ca, ssl.grpc_cert, ssl.grpc_key) if ssl.use_grpc else None
    verify = VERIFY.get((ssl.https_verify_peer, ssl.https_verify_host), "none")
    return Tls(ssl.https_ca, ssl.https_cert, ssl.https_key, verify=verify) if secured else None  # type: ignore[arg-type]


def _paths(asked: Asked) -> tuple[str, ...]:
    return tuple(each for each in asked.input_data if each not in {"zero", "random"})


def _inputs(asked: Asked) -> InputData:
    paths = tuple(os.path.abspath(path) for path in _paths(asked))  # noqa: PTH100 - links stay
    if paths:
        return PerfJson(paths[:1] if Path(paths[0]).is_dir() else paths)
    return Generated(
        "zero" if "zero" in asked.input_data else "random",
        shapes=dict(asked.shapes),
        string_bytes=asked.string_length,
        string=asked.string_data,
    )
