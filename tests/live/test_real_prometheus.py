"""A real Prometheus scrapes the real Triton: what it says of a window, beside what we counted in the same."""

import asyncio
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from beside import program, prometheus

from analysis.runs import Run
from loadgen import Synthetic, sweep_async
from loadgen.doctor import Finding, examined
from loadgen.endpoint import Endpoint, Prometheus
from loadgen.server.launch import serve_standin

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

EVENTS = Synthetic(mu=10.0, events=3)
TOLERANCE = 0.15
"""Prometheus sees a window from its first scrape in it to its last: up to a scrape of 0.2 s is cut off at either end,
a twentieth of 8 s, in which a shared machine may be three times as slow as in the mean.
"""

STAGES = {
    "queue_ms": "server_queue_ns",
    "compute_infer_ms": "server_compute_infer_ns",
    "request_ms": "server_request_ns",
}


def figures(run: Run, query: str) -> dict[int, float | None]:
    """Return a query's value at each point, where it has one series."""
    found = pl.read_parquet(run.path / "prometheus.parquet").filter(pl.col("query") == query)
    return dict(zip(found["point"], found["value"], strict=True))


def test_windowed_stages_from_promql_are_those_of_our_own_deltas(tmp_path: Path) -> None:
    """Queue, compute and throughput of each window are ours, within the tolerance; what is missing has its reason."""
    program("prometheus", "prometheus")

    async def main() -> tuple[Run, dict[str, Finding]]:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log") as server:
            page = server.metrics_url.removeprefix("http://").removesuffix("/metrics")
            with prometheus({"pod-a": page}, tmp_path / "prometheus", scrape_ms=200) as url:
                own = {"mine": "sum(increase(nv_inference_count{$model}[$window]))", "wrong": "sum(("}
                options: dict[str, Any] = {"concurrency": (1, 4), "warmup_ms": 500, "window_ms": 8000}
                run = await sweep_async(
                    model=server.model,
                    url=server.grpc,
                    metrics_url=server.metrics_url,
                    input_data=EVENTS,
                    prometheus=Prometheus(url, selector='namespace="test"', queries=own),
                    output=tmp_path / "runs",
                    **options,
                )
                asking = Prometheus(url, queries={"wrong": "sum(("})
                target = Endpoint(server.grpc, server.model, prometheus=asking)
                return run, {found.what: found for found in await examined(target)}

    run, found = asyncio.run(main())
    assert found["prometheus"].state == found["scrapes"].state == "ok"
    assert found["wrong"].state == "fault"
    print(found["prometheus"], found["scrapes"], sep="\n")
    points = run.points()
    for query, column in STAGES.items():
        of_query = figures(run, query)
        for row in points.iter_rows(named=True):
            theirs, ours = of_query[row["point"]], row[column] / 1e6
            assert theirs is not None
            print(
                f"{row['load_words']}: {query}: PromQL {theirs:.4f}, our delta {ours:.4f}, {theirs / ours - 1:+.2%}"
            )
            assert abs(theirs - ours) <= TOLERANCE * ours + 0.02
    for row in points.iter_rows(named=True):
        assert figures(run, "throughput_per_s")[row["point"]] == pytest.approx(row["throughput_per_s"], rel=TOLERANCE)
        assert figures(run, "mine")[row["point"]] == pytest.approx(row["completed"], rel=TOLERANCE)
    known = pl.read_parquet(run.path / "prometheus.parquet")
    reasons = dict(known.filter(pl.col("value").is_null()).select("query", "reason").iter_rows())
    assert reasons["gpu_utilisation_percent"] == 'no such series ({namespace="test"})'
    assert "parse error" in reasons["wrong"]
    series = run.samples().filter(pl.col("source") == "prometheus")
    assert series["at_ns"].is_between(run.manifest["started_at_ns"], run.manifest["ended_at_ns"]).all()
    assert set(series.filter(pl.col("metric") == "replicas")["value"]) == {1.0}
    told = [event["text"] for event in run.events("warning")]
    assert sum("parse error" in text for text in told) == 1
    assert pl.read_parquet(run.path / "replicas.parquet")["replica"].to_list() == ["pod-a", "pod-a"]
