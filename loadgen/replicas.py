"""Replicas of the server: each one's counters from its own metrics page, and its share of every window's requests."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from loadgen import clock, promql, scraped
from loadgen.balance import replica_requests
from loadgen.errors import TargetError
from loadgen.kserve import Statistics
from loadgen.pointlog import PointLog
from loadgen.rundir import Sample
from loadgen.server.metrics import Page, read_once

SUCCESS = "nv_inference_request_success"
COUNTS = {
    "inference_count": "nv_inference_count",
    "execution_count": "nv_inference_exec_count",
    "success_count": SUCCESS,
    "fail_count": "nv_inference_request_failure",
    "cache_hit_count": "nv_cache_num_hits_per_model",
    "cache_miss_count": "nv_cache_num_misses_per_model",
}
TIMES = {
    "success_ns": "nv_inference_request_duration_us",
    "queue_ns": "nv_inference_queue_duration_us",
    "compute_input_ns": "nv_inference_compute_input_duration_us",
    "compute_infer_ns": "nv_inference_compute_infer_duration_us",
    "compute_output_ns": "nv_inference_compute_output_duration_us",
}
"""Counters of `Statistics` -> those of Triton's page."""

SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "replica": pl.String(),
    "source": pl.String(),
    "requests": pl.Float64(),
    "share": pl.Float64(),
}
"""Columns of `replicas.parquet`."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model to look for on pages: `key` is its name in our tables."""

    key: str
    name: str
    version: str


def counters(samples: Iterable[Sample], model: Model, asked_ns: int, read_ns: int) -> Statistics | None:
    """Return a model's counters as its page has them, over all its GPUs; None if the page does not know the model."""
    sums: dict[str, float] = {}
    for sample in samples:
        labels = json.loads(sample.labels)
        if labels.get("model") == model.name and labels.get("version") == model.version:
            sums[sample.metric] = sums.get(sample.metric, 0.0) + sample.value
    if SUCCESS not in sums:
        return None
    facts: dict[str, Any] = {name: round(sums.get(metric, 0.0)) for name, metric in COUNTS.items()}
    facts |= {name: round(1000 * sums.get(metric, 0.0)) for name, metric in TIMES.items()}
    return Statistics(asked_ns, read_ns, model.version, **facts, fail_ns=0)


async def found(pages: Sequence[Page], models: Sequence[Model]) -> tuple[Page, ...]:
    """Return the pages that are those of replicas, where there are several: they count requests for every model."""
    reading = await asyncio.gather(*map(read_once, pages))
    known = [
        page
        for page, (samples, _) in zip(pages, reading, strict=True)
        if all(counters(samples, model, 0, 0) for model in models)
    ]
    return tuple(known) if len(known) > 1 else ()


async def read(pages: Sequence[Page], models: Sequence[Model], composing: Sequence[Model]) -> Statistics:
    """Read every replica's page now and return the sums of their counters, those of each in `replicas`.

    Raises:
        TargetError: a page cannot be read, or knows one of the models no more.
    """
    asked_ns = clock.now_ns()
    answers = await asyncio.gather(*map(read_once, pages))
    read_ns = clock.now_ns()
    refused = next((warnings[0] for _, warnings in answers if warnings), None)
    if refused is not None:
        raise TargetError(refused)
    texts = {page.instance: samples for page, (samples, _) in zip(pages, answers, strict=True)}
    of_models = {model.key: _of_replicas(texts, model, asked_ns, read_ns) for model in (*models, *composing)}
    parts = {model.key: of_models[model.key] for model in models}
    whole = Statistics.together(parts) if len(parts) > 1 else next(iter(parts.values()))
    by_replica = {
        name: Statistics.together({key: part.replicas[name] for key, part in parts.items()}) for name in texts
    }
    return replace(
        whole,
        replicas={name: replace(one, parts={}) for name, one in by_replica.items()},
        composing={model.key: of_models[model.key] for model in composing},
    )


def _of_replicas(texts: Mapping[str, Sequence[Sample]], model: Model, asked_ns: int, read_ns: int) -> Statistics:
    each = {name: counters(samples, model, asked_ns, read_ns) for name, samples in texts.items()}
    known = {name: one for name, one in each.items() if one is not None}
    if len(known) < len(each):
        lacking = next(name for name, one in each.items() if one is None)
        raise TargetError(f"metrics page of {lacking}: has no counters of {model.key}")
    return replace(Statistics.together(known), version=model.version, parts={}, replicas=known)


def rows(logs: Iterable[PointLog], prometheus: pl.DataFrame | None) -> pl.DataFrame:
    """Return each replica's requests and share in every window; columns as `SCHEMA`.

    From the replicas' own pages where they were read, exact; else as a Prometheus has them.
    """
    exact = [(log.point, name, "metrics", count) for log in logs for name, count in replica_requests(log).items()]
    asked = [] if exact or prometheus is None else _from_prometheus({log.point: log for log in logs}, prometheus)
    return shares(pl.DataFrame(exact or asked, schema=list(SCHEMA)[:4], orient="row"))


def _from_prometheus(logs: Mapping[int, PointLog], prometheus: pl.DataFrame) -> list[tuple[int, str, str, float]]:
    known = prometheus.filter(pl.col("query") == promql.BY_REPLICA, pl.col("value").is_not_null())
    return [
        (
            row["point"],
            promql.replica(json.loads(row["labels"])),
            scraped.SOURCE,
            row["value"] * logs[row["point"]].window.length_ns / clock.NS_PER_S,
        )
        for row in known.iter_rows(named=True)
        if row["point"] in logs
    ]


def shares(requests: pl.DataFrame) -> pl.DataFrame:
    """Add up each replica's requests in a point, and say what part of the point's they are."""
    typed = requests.select(pl.col(name).cast(SCHEMA[name]) for name in list(SCHEMA)[:4])
    summed = typed.group_by("point", "replica", "source").agg(
        pl.when(pl.col("requests").is_null().any()).then(None).otherwise(pl.col("requests").sum()).alias("requests")
    )
    whole = pl.col("requests").sum().over("point")
    known = (whole > 0) & pl.col("requests").is_not_null().all().over("point")
    share = pl.when(known).then(pl.col("requests") / whole)
    return summed.with_columns(share=share).select(list(SCHEMA)).sort("point", "replica")
