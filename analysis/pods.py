"""Metric samples of several metrics pages -> what each pod did inside each point's window. Unsampled is null."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.hardware import in_window
from loadgen.clock import NS_PER_S

NS_PER_US = 1_000

Numbers: TypeAlias = npt.NDArray[Any]
Series: TypeAlias = tuple[Numbers, Numbers]

COUNTERS = {
    "nv_inference_count": "inferences",
    "nv_inference_exec_count": "executions",
    "nv_inference_queue_duration_us": "queue_us",
    "nv_inference_compute_infer_duration_us": "compute_infer_us",
}
"""Counters of Triton's page -> what they count; summed over the labels of one page."""

POD_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "pod": pl.String(),
    "throughput_per_s": pl.Float64(),
    "queue_ns": pl.Float64(),
    "compute_infer_ns": pl.Float64(),
    "utilisation": pl.Float64(),
}


def pod_figures(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each point and pod (the `instance` of its page); columns as `POD_SCHEMA`.

    Throughput and the mean stages are growths of the page's counters between the ends of the window (linear between
    samples, null where they do not reach both ends); `utilisation` is the mean over the pod's GPUs and samples.
    """
    named = samples.with_columns(pod=pl.col("labels").str.json_path_match("$.instance")).drop_nulls("pod")
    windows = points.select("point", "window_start_ns", "window_end_ns").to_dicts()
    rows = [
        _row(window, pod, counters)
        for (pod,), part in named.group_by("pod")
        for counters in (_counters(part),)
        for window in windows
    ]
    use = in_window(points, named.filter(pl.col("metric") == "nv_gpu_utilization"))
    means = use.group_by("point", "pod").agg(utilisation=pl.col("value").mean())
    schema = {name: kind for name, kind in POD_SCHEMA.items() if name != "utilisation"}
    whole = pl.DataFrame(rows, schema=schema).join(means, on=["point", "pod"], how="left")
    figures = [name for name in POD_SCHEMA if name not in {"point", "pod"}]
    seen = whole.filter(pl.any_horizontal(pl.col(figures).is_not_null()))
    return seen.select(*POD_SCHEMA).sort("point", "pod")


def _row(window: dict[str, int], pod: object, counters: dict[str, Series]) -> dict[str, object]:
    start_ns, end_ns = window["window_start_ns"], window["window_end_ns"]
    grown = {name: _growth(*counters[name], start_ns, end_ns) for name in COUNTERS.values()}
    count, executions = grown["inferences"], grown["executions"]
    row: dict[str, object] = {"point": window["point"], "pod": pod}
    if count is not None:
        row["throughput_per_s"] = count * NS_PER_S / (end_ns - start_ns)
    for stage in ("queue", "compute_infer"):
        spent_us = grown[f"{stage}_us"]
        if spent_us is not None and executions:
            row[f"{stage}_ns"] = NS_PER_US * spent_us / executions
    return row


def _counters(samples: pl.DataFrame) -> dict[str, Series]:
    """Return when each counter was read, and what it was, summed over the labels of the page."""
    found = {}
    for metric, name in COUNTERS.items():
        of = samples.filter(pl.col("metric") == metric)
        sums = of.group_by("at_ns").agg(pl.col("value").sum()).sort("at_ns")
        found[name] = sums["at_ns"].to_numpy(), sums["value"].to_numpy()
    return found


def _growth(at_ns: Numbers, values: Numbers, start_ns: int, end_ns: int) -> float | None:
    if len(at_ns) == 0 or start_ns < at_ns[0] or end_ns > at_ns[-1]:
        return None
    start, end = np.interp([start_ns, end_ns], at_ns, values)
    return float(end - start) if end >= start else None
