"""Metric samples -> what GPUs and CPU did inside each point's window. What was not sampled is null, never 0."""

import numpy as np
import polars as pl

GPU_METRICS = {
    "nv_gpu_utilization": "utilisation",
    "nv_gpu_power_usage": "power_w",
    "nv_gpu_power_limit": "power_limit_w",
    "nv_gpu_memory_used_bytes": "memory_used_max_bytes",
    "nv_gpu_memory_total_bytes": "memory_total_bytes",
}
"""Gauges of Triton's metrics page -> columns of `gpu_figures`."""

ENERGY_METRIC = "nv_energy_consumption"
CPU_METRIC = "nv_cpu_utilization"

GPU_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "gpu": pl.String(),
    **{column: pl.Float64() for column in GPU_METRICS.values()},
    "energy_j": pl.Float64(),
}


def gpu_figures(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each point and GPU sampled in its window; columns as `GPU_SCHEMA`.

    `utilisation` (fraction), `power_w` and `power_limit_w` are means, memory is the largest value seen, and
    `energy_j` is the counter at the window's end minus at its start (linear between samples, null where the
    samples do not reach both ends).
    """
    inside = in_window(points, gpu_samples(samples))
    gauges = inside.group_by("point", "gpu").agg(*map(_gauge, GPU_METRICS))
    joined = gauges.join(_energies(points, gpu_samples(samples)), on=["point", "gpu"], how="left")
    return joined.select(pl.col(name).cast(kind) for name, kind in GPU_SCHEMA.items()).sort("point", "gpu")


def cpu_figures(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return `point` and `cpu_utilisation` (mean fraction of the server's host), one row a sampled point."""
    inside = in_window(points, samples.filter(pl.col("metric") == CPU_METRIC))
    return inside.group_by("point").agg(cpu_utilisation=pl.col("value").mean()).sort("point")


def gpu_samples(samples: pl.DataFrame) -> pl.DataFrame:
    """Return the samples that carry a GPU's uuid, with it as column `gpu`."""
    named = samples.with_columns(gpu=pl.col("labels").str.json_path_match("$.gpu_uuid"))
    return named.filter(pl.col("metric").is_in([*GPU_METRICS, ENERGY_METRIC]), pl.col("gpu").is_not_null())


def in_window(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return the samples asked for inside a window (start included, end not), with that window's `point`."""
    windows = points.select("point", "window_start_ns", "window_end_ns").sort("window_start_ns")
    placed = samples.sort("at_ns").join_asof(windows, left_on="at_ns", right_on="window_start_ns")
    return placed.filter(pl.col("at_ns") < pl.col("window_end_ns"))


def _gauge(metric: str) -> pl.Expr:
    values = pl.col("value").filter(pl.col("metric") == metric)
    figure = values.max() if metric.startswith("nv_gpu_memory") else values.mean()
    return figure.alias(GPU_METRICS[metric])


def _energies(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    counters = samples.filter(pl.col("metric") == ENERGY_METRIC).sort("at_ns").partition_by("gpu")
    rows = [
        {"point": point, "gpu": counter["gpu"][0], "energy_j": _growth(counter, start_ns, end_ns)}
        for counter in counters
        for point, start_ns, end_ns in points.select("point", "window_start_ns", "window_end_ns").iter_rows()
    ]
    return pl.DataFrame(rows, schema={name: GPU_SCHEMA[name] for name in ("point", "gpu", "energy_j")})


def _growth(counter: pl.DataFrame, start_ns: int, end_ns: int) -> float | None:
    at_ns, values = counter["at_ns"].to_numpy(), counter["value"].to_numpy()
    if start_ns < at_ns[0] or end_ns > at_ns[-1]:
        return None
    start, end = np.interp([start_ns, end_ns], at_ns, values)
    return float(end - start) if end >= start else None
