"""The points table as perf_analyzer's verbose CSV with metrics, for every tool that reads that already.

Its rules: rows by increasing throughput, whole microseconds rounded down, throughput to 6 significant digits, a GPU
cell is `uuid:value;` repeated. Requests are serialised before the load starts and answers are not decoded while it
runs, so Client Send and Client Recv are 0 and the response wait is the whole service time.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from analysis.hardware import gpu_figures
from analysis.runs import Run
from loadgen import atomic

STAGES = {
    "Network+Server Send/Recv": "network_ns",
    "Server Queue": "server_queue_ns",
    "Server Compute Input": "server_compute_input_ns",
    "Server Compute Infer": "server_compute_infer_ns",
    "Server Compute Output": "server_compute_output_ns",
}
LATENCIES = {
    "p50 latency": "service_p50_ns",
    "p90 latency": "service_p90_ns",
    "p95 latency": "service_p95_ns",
    "p99 latency": "service_p99_ns",
    "Avg latency": "service_mean_ns",
}
GPUS = {
    "Avg GPU Utilization": "utilisation",
    "Avg GPU Power Usage": "power_w",
    "Max GPU Memory Usage": "memory_used_max_bytes",
    "Total GPU Memory": "memory_total_bytes",
}
NS_PER_US = 1000


def write_csv(run: Run, path: Path) -> Path:
    """Write a run's points as perf_analyzer's CSV.

    Raises:
        PlanError: the run's tables cannot be read, or the file cannot be written.
    """
    points = run.points()
    return atomic.write(path, csv_text(points, gpu_figures(points, run.samples())).encode())


def csv_text(points: pl.DataFrame, gpus: pl.DataFrame) -> str:
    """Return the CSV; points without a completed request are left out, for their times do not exist.

    Without server statistics the five server columns are absent, as in perf_analyzer.
    """
    shown = points.filter(pl.col("completed") > 0).sort("throughput_per_s", "concurrency", "point")
    stages = STAGES if shown["server_queue_ns"].is_not_null().any() else {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    by_rate = shown["concurrency"].is_null().all() and not shown.is_empty()
    writer.writerow(header(stages, by_rate=by_rate))
    for point in shown.iter_rows(named=True):
        writer.writerow(_cells(point, stages, gpus.filter(pl.col("point") == point["point"])))
    return text.getvalue()


def header(stages: Mapping[str, str], *, by_rate: bool = False) -> list[str]:
    """Return the column names, with the server's stages or without."""
    return [
        *("Request Rate" if by_rate else "Concurrency", "Inferences/Second", "Client Send"),
        *stages,
        *("Client Recv", *LATENCIES, "request/response", "response wait", *GPUS),
    ]


def _cells(point: Mapping[str, Any], stages: Mapping[str, str], gpus: pl.DataFrame) -> list[str]:
    return [
        *(_level(point), f"{point['throughput_per_s']:.6g}", "0"),
        *(_microseconds(point[column]) for column in stages.values()),
        *("0", *(_microseconds(point[column]) for column in LATENCIES.values())),
        *("0", _microseconds(point["service_mean_ns"])),
        *(_gpu_cell(gpus, column) for column in GPUS.values()),
    ]


def _level(point: Mapping[str, Any]) -> str:
    if point["concurrency"] is not None:
        return str(point["concurrency"])
    return "" if point["rate_per_s"] is None else f"{point['rate_per_s']:g}"


def _microseconds(duration_ns: float | None) -> str:
    return "" if duration_ns is None else str(max(0, int(duration_ns // NS_PER_US)))


def _gpu_cell(gpus: pl.DataFrame, column: str) -> str:
    figures = gpus.select("gpu", column).drop_nulls().sort("gpu")
    digits = ".0f" if column.endswith("_bytes") else ".6g"
    return "".join(f"{gpu}:{value:{digits}};" for gpu, value in figures.iter_rows())
