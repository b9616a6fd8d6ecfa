"""What is asked of a Prometheus server: the built-in queries, those of the user, and how finely. Pure.

Rates are over `$window`: at a point its exact window, in a series over the run four scrapes. Two samples make a rate,
but four are asked for, so that at least three quarters of a window are covered by them.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from loadgen.endpoint import Prometheus

SAMPLES_MIN = 4
STEPS_MAX = 11_000
"""Samples a series in one answer, beyond which a Prometheus refuses."""

STEP_MIN_S = 1.0
SCRAPE_UNKNOWN_S = 15.0
RECENT_MS = 300_000
"""How far back one looks to see whether anything is there."""

REPLICA_LABELS = ("pod", "instance")
BY_REPLICA = "requests_by_replica_per_s"
PLACEHOLDER = re.compile(r"\$(window|selector|model)\b")
STAGE = "sum(rate({0}[$window])) / (1000 * sum(rate(nv_inference_request_success{{$model}}[$window])))"
REQUESTS = "nv_inference_request_success{$model}"
INFERENCES = "sum(rate(nv_inference_count{$model}[$window]))"


@dataclass(frozen=True, slots=True)
class Query:
    """One question: `over_run` is its form for a series, `at_point` for one window; `basis` are samples it needs."""

    name: str
    over_run: str
    at_point: str
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What `$selector` and `$model` stand for: label matchers, without braces."""

    selector: str
    model: str

    def filled(self, expression: str, window_ms: int) -> str:
        """Return a query with its placeholders replaced."""
        values = {"window": f"{window_ms}ms", "selector": self.selector, "model": self.model}
        return PLACEHOLDER.sub(lambda found: values[found[1]], expression)


def _steady(name: str, expression: str, basis: str) -> Query:
    """Return a query whose two forms are the same."""
    return Query(name, expression, expression, basis)


def _gauge(name: str, metric: str, scale: str = "100 * ") -> Query:
    basis = f"{metric}{{$selector}}"
    return Query(name, f"{scale}{basis}", f"{scale}avg_over_time({basis}[$window])", basis)


def _fraction(name: str, part: str, whole: str, over: str) -> Query:
    parts = [f"{metric}{{$selector}}" for metric in (part, whole)]
    windows = [f"{over}({each}[$window])" for each in parts]
    return Query(name, f"100 * {' / '.join(parts)}", f"100 * {' / '.join(windows)}", parts[0])


def _stage(name: str, metric: str) -> Query:
    return _steady(name, STAGE.format(f"{metric}{{$model}}"), REQUESTS)


GPUS = "nv_gpu_utilization{$selector}"
PENDING = "nv_inference_pending_request_count{$model}"
ENERGY = "nv_energy_consumption{$selector}"

BUILT_IN: tuple[Query, ...] = (
    _gauge("gpu_utilisation_percent", "nv_gpu_utilization"),
    _fraction("gpu_power_percent", "nv_gpu_power_usage", "nv_gpu_power_limit", "avg_over_time"),
    _fraction("gpu_memory_percent", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes", "max_over_time"),
    _gauge("cpu_utilisation_percent", "nv_cpu_utilization"),
    _stage("queue_ms", "nv_inference_queue_duration_us"),
    _stage("compute_input_ms", "nv_inference_compute_input_duration_us"),
    _stage("compute_infer_ms", "nv_inference_compute_infer_duration_us"),
    _stage("compute_output_ms", "nv_inference_compute_output_duration_us"),
    _stage("request_ms", "nv_inference_request_duration_us"),
    _steady("throughput_per_s", INFERENCES, REQUESTS),
    _steady(BY_REPLICA, f"sum by (pod, instance) (rate({REQUESTS}[$window]))", REQUESTS),
    _steady("mean_batch", f"{INFERENCES} / sum(rate(nv_inference_exec_count{{$model}}[$window]))", REQUESTS),
    _steady("failures_per_s", "sum by (reason) (rate(nv_inference_request_failure{$model}[$window]))", REQUESTS),
    Query("pending", f"sum({PENDING})", f"sum(avg_over_time({PENDING}[$window]))", PENDING),
    _steady("energy_j_per_event", f"sum(rate({ENERGY}[$window])) / {INFERENCES}", ENERGY),
    Query(
        "replicas",
        f"count(count by (pod, instance) ({REQUESTS}))",
        f"count(count by (pod, instance) (count_over_time({REQUESTS}[$window])))",
        REQUESTS,
    ),
    Query("gpus", f"count({GPUS})", f"count(count_over_time({GPUS}[$window]))", GPUS),
)


def queries(prometheus: Prometheus) -> list[Query]:
    """Return the built-in queries and the user's; one of the user's takes the place of ours of the same name."""
    own = [_steady(name, expression, "") for name, expression in prometheus.queries.items()]
    return [*(query for query in BUILT_IN if query.name not in prometheus.queries), *own]


def scope(prometheus: Prometheus, models: Iterable[tuple[str, str]]) -> Scope:
    """Return the matchers of a run's models, each a name and a version (empty: any)."""
    selector = prometheus.selector.strip().removeprefix("{").removesuffix("}").strip().rstrip(",")
    names, versions = (sorted({given[place] for given in models}) for place in (0, 1))
    matchers = [selector] if selector else []
    matchers += [_matcher("model", names)] if all(names) else []
    matchers += [_matcher("version", versions)] if all(versions) else []
    return Scope(selector, ",".join(matchers))


def _matcher(label: str, values: list[str]) -> str:
    if len(values) == 1:
        return f"{label}={json.dumps(values[0], ensure_ascii=False)}"
    return f"{label}=~{json.dumps('|'.join(map(re.escape, values)), ensure_ascii=False)}"


def scrapes(bases: Iterable[str]) -> str:
    """Return one query that counts the samples of each basis in a window; the label `basis` tells them apart.

    It is the best sampled series that counts: one that appears halfway says nothing of the scrape interval.
    """
    counts = (
        f'label_replace(max(count_over_time({basis}[$window])), "basis", "{number}", "", "")'
        for number, basis in enumerate(bases)
    )
    return " or ".join(counts)


def replica(labels: Mapping[str, str]) -> str:
    """Return the name of the replica that a series is of: its pod, or else its instance; `?` if it has neither."""
    return next((labels[name] for name in REPLICA_LABELS if labels.get(name)), "?")


def step_s(span_s: float, scrape_s: float | None) -> float:
    """Return the step of a series over the run: a scrape, unless that were too many steps or none is known."""
    wanted = max(STEP_MIN_S, scrape_s or STEP_MIN_S)
    return math.ceil(1000 * max(wanted, span_s / (STEPS_MAX - 1))) / 1000


def rate_window_ms(step: float, scrape_s: float | None) -> int:
    """Return over how long rates of a series over the run are taken."""
    return round(1000 * SAMPLES_MIN * max(step, scrape_s or SCRAPE_UNKNOWN_S))
