"""The tidy tables that every source is brought to: one schema for runs, perf_analyzer files and traccc logs.

Columns, units and what is null where: docs/tables.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from analysis.hardware import GPU_SCHEMA
from analysis.pods import POD_SCHEMA
from analysis.runs import RECORDS_SCHEMA
from loadgen.points import SCHEMA as NATIVE

FACTS: dict[str, pl.DataType] = {
    "run": pl.String(),
    "label": pl.String(),
    "source": pl.String(),
    "kind": pl.String(),
    "model": pl.String(),
    "model_version": pl.String(),
    "server": pl.String(),
    "server_version": pl.String(),
    "inputs": pl.String(),
    "inputs_sha256": pl.String(),
    "mu": pl.Float64(),
    "instances": pl.UInt32(),
    "gpus": pl.UInt32(),
    "simulated": pl.Boolean(),
}
"""What all points of a run have in common; repeated in every table but `requests` and `samples`."""

RUNS: dict[str, pl.DataType] = {
    **FACTS,
    "host": pl.String(),
    "transport": pl.String(),
    "connections": pl.UInt32(),
    "workers": pl.UInt32(),
    "started_utc_ns": pl.Int64(),
    "started_at_ns": pl.Int64(),
    "ended": pl.String(),
    "loadgen_version": pl.String(),
}

_PLACE: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "repeat": pl.UInt32(),
    "load": pl.String(),
    "level": pl.Float64(),
}

POINTS: dict[str, pl.DataType] = {
    **FACTS,
    **_PLACE,
    "headline": pl.String(),
    **{name: kind for name, kind in NATIVE.items() if name not in {*FACTS, *_PLACE}},
}
"""Wide: one row a point. Percentiles that were asked for besides add their columns at the end."""

QUANTITIES: dict[str, pl.DataType] = {
    **FACTS,
    **_PLACE,
    "load_words": pl.String(),
    "verdict": pl.String(),
    "quantity": pl.String(),
    "unit": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
}
"""Long: one row a point and quantity that is known; `low` and `high` are the limits of its 95 % interval."""

GPUS: dict[str, pl.DataType] = {"run": pl.String(), "label": pl.String(), **GPU_SCHEMA}
PODS: dict[str, pl.DataType] = {"run": pl.String(), "label": pl.String(), **POD_SCHEMA}
ANSWERS: dict[str, pl.DataType] = {"label": pl.String(), "quantity": pl.String(), "value": pl.Float64()}
REQUESTS: dict[str, pl.DataType] = {
    "run": pl.String(),
    **RECORDS_SCHEMA,
    "service_ns": pl.Int64(),
    "response_ns": pl.Int64(),
    "send_lag_ns": pl.Int64(),
    "in_window": pl.Boolean(),
}
SAMPLES: dict[str, pl.DataType] = {
    "run": pl.String(),
    "at_ns": pl.Int64(),
    "source": pl.String(),
    "metric": pl.String(),
    "labels": pl.String(),
    "value": pl.Float64(),
}
PERCENTS = (50.0, 90.0, 95.0, 99.0)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Tables of everything that was loaded; `run` is the key that joins them.

    `runs`, `points`, `quantities`, `gpus`, `pods` are read, `requests` and `samples` wait until they are collected.
    `standalone` has the rows of traccc logs in full (`analysis.standalone.SCHEMA`), which are in `points` too.
    `answers` are values of what a model answered, where a table of them was named.
    `notes` say what was left out, and why.
    """

    runs: pl.DataFrame
    points: pl.DataFrame
    quantities: pl.DataFrame
    gpus: pl.DataFrame
    pods: pl.DataFrame
    standalone: pl.DataFrame
    answers: pl.DataFrame
    requests: pl.LazyFrame
    samples: pl.LazyFrame
    notes: tuple[str, ...] = ()


def durations(rows: pl.LazyFrame, time: str = "service_ns", percents: Sequence[float] = PERCENTS) -> pl.LazyFrame:
    """Summarise a time of the good requests of each point's window: count, mean and percentiles.

    Percentiles are nearest rank, as in the points table. Columns: `run`, `point`, `count`, `mean_ns`, `p50_ns`, ...
    """
    value = pl.col(time)
    ranks = {
        f"p{percent:g}_ns".replace(".", "_"): value.quantile(percent / 100, "nearest").cast(pl.Float64)
        for percent in percents
    }
    good = rows.filter(pl.col("in_window"), pl.col("outcome") == "ok", value.is_not_null())
    return good.group_by("run", "point").agg(count=pl.len(), mean_ns=value.mean(), **ranks).sort("run", "point")


def conform(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Bring a frame to a schema: missing columns null, types as stated, further columns kept at the end."""
    known = [
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema.items()
    ]
    return frame.select(*known, pl.exclude(*schema))


def stacked(frames: Sequence[pl.DataFrame], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return frames below each other in one schema; no frames are no rows."""
    empty = pl.DataFrame(schema=schema)
    return pl.concat([empty, *(conform(frame, schema) for frame in frames)], how="diagonal_relaxed")
