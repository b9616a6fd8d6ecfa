"""Points -> places: one row a configuration, inputs and load, its takes together. Pure.

Means over takes are geometric with the 95 % interval of their spread (`analysis.charts.tidy.curve`); a single take
has the interval of its own window. Where a place has takes without objection only those count.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis import quantities
from analysis.charts import tidy
from analysis.charts.tidy import Quantity
from analysis.levels import SURE
from loadgen.progress import headline

KEYS = ("configuration", "input_set", "load", "level")
FACTS = ("instances", "gpus", "mu")
STAGES = ("server_queue_ns", "server_compute_infer_ns", "network_ns")
OF_GPUS = ("gpu_utilisation", "gpu_power_w", "energy_per_event_j")
INTERVALS = ("throughput_per_s", "p50_ns", "p99_ns")
MEASURED = (*INTERVALS, "mean_ns", *STAGES, "server_busy", "in_flight_mean", *OF_GPUS)
"""Quantities of a place; `p50_ns`, `p99_ns` and `mean_ns` are of the load's headline time."""


def judged(points: pl.DataFrame, gpus: pl.DataFrame) -> pl.DataFrame:
    """Return points with the headline time as `p50_ns`, `p99_ns`, `mean_ns` (and limits), and what their GPUs did.

    `measured` says that there is no objection; a point that was cut off is left out where another take was not.
    """
    figures = quantities.long(points, gpus).filter(pl.col("quantity").is_in(OF_GPUS))
    wide = figures.pivot("quantity", index=["run", "point"], values="value")
    joined = points.join(wide, on=["run", "point"], how="left", maintain_order="left")
    absent = [pl.lit(None, pl.Float64).alias(name) for name in OF_GPUS if name not in joined.columns]
    kinds = [_headline(row) for row in points.select("load", "headline").iter_rows(named=True)]
    timed = joined.with_columns(*absent, headline=pl.Series(kinds, dtype=pl.String))
    times = [f"{name}{limit}_ns" for name in ("p50", "p99", "mean") for limit in ("", "_low", "_high")]
    timed = timed.with_columns(_of_headline(name).alias(name) for name in times)
    return timed.with_columns(measured=SURE.fill_null(value=True))


def places(of: pl.DataFrame) -> pl.DataFrame:
    """Return one row a place, of points as `judged` gives them, in the order of the grid.

    Columns: `KEYS`, `FACTS`, `takes` (that count), `points` (all), `measured`, `failed`, `completed`, `verdicts`,
    `note`; each of `MEASURED`, with `_low` and `_high` for those of `INTERVALS`; `between`, the relative standard
    deviation of the throughput of takes.
    """
    rows = [_place(key, group) for key, group in of.group_by(KEYS, maintain_order=True)]
    frame = pl.DataFrame(rows, schema=_SCHEMA)
    order = ("input_set", "instances", "gpus", "configuration", "level")
    return frame.sort("mu", *order, nulls_last=True, maintain_order=True)


def comparable(of: pl.DataFrame) -> pl.DataFrame:
    """Return the places without objection that completed something; where there are none, all that did."""
    done = of.filter(pl.col("throughput_per_s") > 0)
    sure = done.filter("measured")
    return done if sure.is_empty() else sure


def best(of: pl.DataFrame) -> dict[str, Any] | None:
    """Return the place of the highest throughput, without objection if there is one such."""
    among = comparable(of)
    return None if among.is_empty() else among.sort("throughput_per_s", descending=True).row(0, named=True)


_SCHEMA: dict[str, pl.DataType] = {
    **{name: pl.String() for name in KEYS[:3]},
    "level": pl.Float64(),
    "instances": pl.UInt32(),
    "gpus": pl.UInt32(),
    "mu": pl.Float64(),
    "headline": pl.String(),
    "takes": pl.UInt32(),
    "points": pl.UInt32(),
    "measured": pl.Boolean(),
    "failed": pl.UInt64(),
    "completed": pl.UInt64(),
    "verdicts": pl.String(),
    "note": pl.String(),
    "between": pl.Float64(),
    **{name: pl.Float64() for name in MEASURED},
    **{limit: pl.Float64() for name in INTERVALS for limit in quantities.limits(name)},
}


def _place(key: Sequence[Any], group: pl.DataFrame) -> dict[str, Any]:
    found = dict(zip(KEYS, key, strict=True)) | {name: group[name].drop_nulls().first() for name in FACTS}
    counts = group["verdict"].drop_nulls().value_counts(sort=True).iter_rows()
    found |= {
        "headline": group["headline"][0],
        "points": group.height,
        "failed": group["failed"].sum() if group["failed"].is_not_null().any() else None,
        "completed": group["completed"].sum() if group["completed"].is_not_null().any() else None,
        "verdicts": ", ".join(f"{count} {verdict}" if count > 1 else str(verdict) for verdict, count in counts),
    }
    named = group.with_columns(series=pl.lit(""), level=pl.lit(0.0))
    for name in MEASURED:
        row = tidy.curve(named, Quantity(name, name, "", 1.0, *quantities.limits(name))).row(0, named=True)
        found[name] = row["value"]
        if name in INTERVALS:
            found |= dict(zip(quantities.limits(name), (row["low"], row["high"]), strict=True))
        if name == "throughput_per_s":
            found |= {one: row[one] for one in ("takes", "measured", "note", "between")}
    return found


def _headline(row: dict[str, Any]) -> str:
    return str(row["headline"] or headline(row))


def _of_headline(name: str) -> pl.Expr:
    own, other = pl.col(f"response_{name}"), pl.col(f"service_{name}")
    return pl.when(pl.col("headline") == "response").then(own).otherwise(other)
