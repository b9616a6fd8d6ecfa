"""What a point means in terms of physics: events and cells a second, energy, and GPU time, an event.

Energy is the growth of each GPU's counter in the window, or its mean power times the window where there is no counter
(`energy_source`). The sum over GPUs is null if one of them has neither: less than the whole would look like thrift.
"""

from typing import Any

import polars as pl

from loadgen.clock import NS_PER_S
from loadgen.gpus import MIG_SEPARATOR

J_PER_KWH = 3.6e6
COUNTER, MEAN_POWER, MIXED = "counter", "mean power", "counter and mean power"

GPU_PHYSICS_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "gpu": pl.String(),
    "gpu_seconds": pl.Float64(),
    "gpu_seconds_per_event": pl.Float64(),
    "energy_j": pl.Float64(),
    "energy_source": pl.String(),
    "joules_per_event": pl.Float64(),
    "power_fraction": pl.Float64(),
}

PHYSICS_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "simulated": pl.Boolean(),
    "events": pl.UInt64(),
    "events_per_s": pl.Float64(),
    "cells": pl.UInt64(),
    "cells_per_s": pl.Float64(),
    "gpus": pl.UInt32(),
    "gpu_seconds": pl.Float64(),
    "gpu_seconds_per_event": pl.Float64(),
    "power_w": pl.Float64(),
    "power_limit_w": pl.Float64(),
    "power_fraction": pl.Float64(),
    "energy_j": pl.Float64(),
    "energy_source": pl.String(),
    "joules_per_event": pl.Float64(),
    "joules_per_event_low": pl.Float64(),
    "joules_per_event_high": pl.Float64(),
    "events_per_kwh": pl.Float64(),
    "reason": pl.String(),
}

_WINDOW_S = (pl.col("window_end_ns") - pl.col("window_start_ns")) / NS_PER_S
_EVENTS = pl.when(pl.col("events") > 0).then("events")


def gpu_physics(points: pl.DataFrame, gpus: pl.DataFrame, batch: int = 1) -> pl.DataFrame:
    """Return `GPU_PHYSICS_SCHEMA`, one row a point and GPU of `hardware.gpu_figures`.

    `gpu_seconds` is utilisation x window: how long the GPU (or the MIG instance) was at work. Figures an event are
    over all events of the point, whichever GPU they went to: they add up to those of `physics`.
    """
    events = points.select("point", _WINDOW_S.alias("window_s"), events=pl.col("completed") * batch)
    power_j = pl.col("power_w") * pl.col("window_s")
    source = pl.when(pl.col("energy_j").is_not_null()).then(pl.lit(COUNTER))
    table = gpus.join(events, on="point").with_columns(
        gpu_seconds=pl.col("utilisation") * pl.col("window_s"),
        energy_source=source.when(pl.col("power_w").is_not_null()).then(pl.lit(MEAN_POWER)),
        energy_j=pl.coalesce("energy_j", power_j),
    )
    table = table.with_columns(
        gpu_seconds_per_event=pl.col("gpu_seconds") / _EVENTS,
        joules_per_event=pl.col("energy_j") / _EVENTS,
    )
    return table.select(pl.col(name).cast(kind) for name, kind in GPU_PHYSICS_SCHEMA.items()).sort("point", "gpu")


def physics(points: pl.DataFrame, gpus: pl.DataFrame, cells: pl.DataFrame, batch: int = 1) -> pl.DataFrame:
    """Return `PHYSICS_SCHEMA`, one row a point: events and cells, and the sums over its GPUs.

    An event is one of a request's batch. `cells` is from `completed_cells`. GPU-seconds sum whole GPUs, or the MIG
    instances of a GPU that has no figure of its own. `power_fraction` is all power over all limits. The interval of
    joules an event is that of the throughput at the mean power of the window: wider than the truth where power
    follows throughput. `reason` says why energy or GPU time is null.
    """
    sums = _sums(gpu_physics(points, gpus, batch), gpus)
    columns = points.columns
    low, high = (
        pl.col(name) if name in columns else pl.lit(None, pl.Float64)
        for name in ("throughput_low_per_s", "throughput_high_per_s")
    )
    table = points.join(sums, on="point", how="left").join(cells, on="point", how="left")
    joules = pl.col("energy_j") / _EVENTS
    table = table.with_columns(events=pl.col("completed") * batch).with_columns(
        events_per_s=pl.col("throughput_per_s") * batch,
        cells_per_s=pl.col("cells") / _WINDOW_S,
        gpus=pl.col("gpus").fill_null(0),
        gpu_seconds_per_event=pl.col("gpu_seconds") / _EVENTS,
        power_fraction=pl.when(pl.col("power_limit_w") > 0).then(pl.col("power_w") / pl.col("power_limit_w")),
        joules_per_event=joules,
        joules_per_event_low=pl.when(high > 0).then(joules * pl.col("throughput_per_s") / high),
        joules_per_event_high=pl.when(low > 0).then(joules * pl.col("throughput_per_s") / low),
        events_per_kwh=pl.when(joules > 0).then(J_PER_KWH / joules),
        reason=pl.coalesce("reason_of_gpus", pl.when(pl.col("gpus").is_null()).then(pl.lit("no GPU figures"))),
    )
    return table.select(pl.col(name).cast(kind) for name, kind in PHYSICS_SCHEMA.items()).sort("point")


def completed_cells(points: pl.DataFrame, records: pl.LazyFrame, corpus: dict[str, Any]) -> pl.DataFrame:
    """Return `point` and `cells` of the requests that completed in its window; null if those of one are not known."""
    bodies = [(body, each.get("cells")) for body, each in enumerate(corpus.get("bodies", []))]
    known = pl.LazyFrame(bodies, schema={"body": pl.UInt32, "cells": pl.UInt64}, orient="row")
    windows = points.lazy().select("point", "window_start_ns", "window_end_ns")
    inside = (pl.col("done_ns") >= pl.col("window_start_ns")) & (pl.col("done_ns") < pl.col("window_end_ns"))
    good = records.filter(pl.col("outcome") == "ok").join(windows, on="point").filter(inside)
    counted = good.group_by("point", "body").len().join(known, on="body", how="left")
    total = (pl.col("len").cast(pl.UInt64) * pl.col("cells")).sum()
    whole = pl.when(pl.col("cells").is_not_null().all()).then(total)
    return counted.group_by("point").agg(cells=whole).sort("point").collect()


def _sums(each: pl.DataFrame, gpus: pl.DataFrame) -> pl.DataFrame:
    """Add the GPUs of each point up; null where one of them lacks the figure, with the reason."""
    wide = each.join(gpus.select("point", "gpu", "power_w", "power_limit_w"), on=["point", "gpu"])
    own = ~pl.col("gpu").str.contains(MIG_SEPARATOR, literal=True)
    uuid = pl.col("gpu").str.split(MIG_SEPARATOR).list.first()
    instances = pl.col("gpu_seconds").filter(~own)
    by_gpu = wide.group_by("point", uuid).agg(
        *(pl.col(name).filter(own).first() for name in ("energy_j", "energy_source", "power_w", "power_limit_w")),
        gpu_seconds=pl.coalesce(
            pl.col("gpu_seconds").filter(own).first(),
            pl.when((instances.len() > 0) & instances.is_not_null().all()).then(instances.sum()),
        ),
    )
    kinds = pl.col("energy_source").drop_nulls().unique().sort()
    names = ("energy_j", "power_w", "power_limit_w", "gpu_seconds")
    added = by_gpu.group_by("point").agg(
        pl.len().alias("gpus"),
        *(pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).sum()).alias(name) for name in names),
        pl.when(kinds.len() == 1).then(kinds.first()).otherwise(pl.lit(MIXED)).alias("energy_source"),
        pl.col("energy_j").null_count().alias("without_energy"),
        pl.col("gpu_seconds").null_count().alias("without_use"),
    )
    said = [
        pl.when(pl.col(column) > 0).then(pl.format("{} of {} GPUs without {}", column, "gpus", pl.lit(words)))
        for column, words in (("without_energy", "energy and power"), ("without_use", "utilisation"))
    ]
    return added.with_columns(
        energy_source=pl.when(pl.col("energy_j").is_not_null()).then("energy_source"),
        reason_of_gpus=pl.when(pl.any_horizontal(pl.col("without_energy", "without_use") > 0)).then(
            pl.concat_str(said, separator="; ", ignore_nulls=True)
        ),
    )
