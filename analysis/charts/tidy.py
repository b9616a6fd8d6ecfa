"""Points of one run or of many -> what a curve is drawn from: one row a place and series, with its interval. Pure.

Several takes of the same load become their mean with the interval of their spread (geometric mean and Student's t on
logarithms, as in `analysis.takes`); a single take keeps the interval of its own window. Values are never summed over
GPUs or runs, and what nobody measured stays null.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from analysis import levels, stats
from analysis.readable import counted, duration_unit

Z = 1.96

_NUMBERS = ("mu", "rate_per_s", "concurrency", "instances", "gpus", "throughput_per_s")

OPTIONAL: dict[str, pl.DataType] = {
    **{
        name: pl.String()
        for name in ("run", "label", "source", "model", "server", "inputs", "verdict", "reason", "load")
    },
    **{name: pl.Float64() for name in _NUMBERS},
    "repeat": pl.UInt32(),
    "simulated": pl.Boolean(),
}
"""Columns of points that a chart may lack."""

CURVE: dict[str, pl.DataType] = {
    "x": pl.Float64(),
    "series": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "takes": pl.UInt32(),
    "between": pl.Float64(),
    "within": pl.Float64(),
    "measured": pl.Boolean(),
    "note": pl.String(),
}
"""Columns of a curve; `between` and `within` are relative standard deviations of takes, `note` the objections."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A column of a table as it is drawn: its limits' columns, its axis' title, and the unit it is divided by."""

    column: str
    title: str
    unit: str
    scale: float = 1.0
    low: str = ""
    high: str = ""

    @property
    def axis_title(self) -> str:
        """Title with unit."""
        return f"{self.title} ({self.unit})"


THROUGHPUT = Quantity(
    "throughput_per_s", "Throughput", "events/s", low="throughput_low_per_s", high="throughput_high_per_s"
)


def completed(points: pl.DataFrame) -> pl.DataFrame:
    """Return points with every optional column, `series` and `measured`: no objection stands against it.

    A series is a label, with the pile-up where the label has several: other events are no takes of the same thing.
    """
    if "series" in points.columns and "measured" in points.columns:
        return points
    typed = [
        (pl.col(name) if name in points.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in OPTIONAL.items()
    ]
    full = points.with_columns(typed)
    label = pl.coalesce("label", "run", pl.lit("run"))
    pile_up = pl.when(pl.col("mu").drop_nulls().n_unique().over(label) > 1).then(
        pl.lit("mu ") + pl.col("mu").map_elements(levels.level_text, pl.String)
    )
    return full.with_columns(
        series=pl.concat_str(label, pile_up, separator=", ", ignore_nulls=True),
        measured=levels.SURE,
    )


def loaded(points: pl.DataFrame) -> pl.DataFrame:
    """Return completed points with `level`, the load they are drawn against.

    Where closed loops and other loads are mixed, only the more numerous kind is kept, and `left_out` says so.
    """
    full = completed(points)
    closed = full.filter(pl.col("concurrency").is_not_null())
    if not 0 < closed.height < full.height:
        return levels.levelled(full)
    most, rest = (closed, "open loops and others") if 2 * closed.height >= full.height else (None, "closed loops")
    kept = full.filter(pl.col("concurrency").is_null()) if most is None else most
    return levels.levelled(kept).with_columns(
        left_out=pl.lit(f"{full.height - kept.height} points of {rest} left out.")
    )


def headline(points: pl.DataFrame) -> str:
    """Return the time that the points are judged by; `service` where response times are unknown."""
    if "response_p99_ns" not in points.columns or not points["response_p99_ns"].is_not_null().any():
        return "service"
    known = points.filter(pl.col("load").is_not_null())
    return levels.headline_of(known) if known.height else "service"


def seconds_or_ms(name: str, column: str, points: pl.DataFrame, *, most: float | None = None) -> Quantity:
    """Return a column of nanoseconds in the unit that suits its largest value (or `most`)."""
    top: Any = points[column].max() if most is None else most
    unit, unit_ns = duration_unit(top)
    stem = column.removesuffix("_ns")
    return Quantity(column, name, unit, unit_ns, f"{stem}_low_ns", f"{stem}_high_ns")


def curve(points: pl.DataFrame, quantity: Quantity, x: str = "level") -> pl.DataFrame:
    """Return the curve of a quantity: one row a value of `x` and `series`, columns as `CURVE`.

    Where a place has points without objection, only those count; otherwise all of them, and it is not `measured`.
    """
    if points.is_empty():
        return pl.DataFrame(schema=CURVE)
    known = points.filter(pl.col(x).is_not_null())
    rows = [
        _place(group, quantity, float(at), series)
        for (at, series), group in known.group_by(x, "series", maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=CURVE).sort("series", "x", maintain_order=True)


def spread(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the mean of takes and its 95 % interval: geometric, with t on logarithms.

    Where a take is 0 the mean is arithmetic and has no interval.
    """
    return stats.mean_of_takes(values) if min(values) > 0 else (float(np.mean(values)), None, None)


def gapped(of: pl.DataFrame) -> pl.DataFrame:
    """Add a row without value where a series skips a place that others have between its ends: a gap, not a bridge.

    A series that shares fewer than half of the places was measured on a grid of its own, and is left alone.
    """
    places = sorted(set(of["x"]))
    holes: list[dict[str, Any]] = []
    for (series,), group in of.group_by("series", maintain_order=True):
        own = set(group["x"])
        inside = [at for at in places if min(own) < at < max(own)]
        missing = [at for at in inside if at not in own]
        if missing and 2 * len(missing) <= len(inside):
            holes += [{"x": at, "series": series, "measured": True} for at in missing]
    filled = pl.concat([of, pl.DataFrame(holes, schema=of.schema)]) if holes else of
    return filled.sort("series", "x", maintain_order=True)


def capped(*of: pl.DataFrame, most: int = 8) -> tuple[list[pl.DataFrame], str]:
    """Return curves with the same series in each, at most eight, those of the most places; and words on the rest.

    A ninth would have the colour and the shape of the first.
    """
    every = pl.concat([each.drop_nulls("value").select("series") for each in of])
    counts = every.group_by("series", maintain_order=True).agg(count=pl.len())
    if counts.height <= most:
        return [*of], ""
    kept = counts.sort("count", descending=True, maintain_order=True)["series"].head(most).to_list()
    told = f"{most} of {counts.height} data sets are shown."
    return [each.filter(pl.col("series").is_in(kept)) for each in of], told


def gap_words(of: pl.DataFrame, noun: str) -> list[str]:
    """Return a sentence on what `gapped` found missing, none where nothing is."""
    several = of["series"].n_unique() > 1
    missing = of.filter(pl.col("value").is_null()).select("series", "x").unique(maintain_order=True)
    named = [f"{series} at {at:g}" if several else f"{at:g}" for series, at in missing.iter_rows()]
    shown = ", ".join(named[:6]) + (f" and {len(named) - 6} more" if len(named) > 6 else "")  # noqa: PLR2004
    return [f"No figure ({noun}): {shown}."] if named else []


def diagonal(points: pl.DataFrame, count: str = "instances") -> tuple[pl.DataFrame, str]:
    """Return the points to draw against `count` (instances, GPUs), one concurrency for each, and words for it.

    Those at concurrency = instances where at least half of the counts have one (the studies' choice), otherwise at
    the concurrency of the highest mean throughput.
    """
    known = one_series(points.filter(pl.col(count).is_not_null()), count)
    known = distinguished(known, count, "concurrency")
    on = known.filter(pl.col("concurrency").cast(pl.Float64) == pl.col(count).cast(pl.Float64))
    counts, have = set(known[count]), set(on[count])
    if count == "instances" and counts and 2 * len(have) >= len(counts):
        absent = sorted(counts - have)
        told = f" No such point: {', '.join(f'{each:g}' for each in absent)}." if absent else ""
        return on, f"At concurrency = {count}.{told}"
    means = known.group_by("series", count, "concurrency", maintain_order=True).agg(
        mean=pl.col("throughput_per_s").mean()
    )
    best = means.sort("mean", descending=True, nulls_last=True).unique(["series", count], keep="first")
    chosen = known.join(
        best, on=["series", count, "concurrency"], how="semi", nulls_equal=True, maintain_order="left"
    )
    return chosen, "At the concurrency of the highest throughput."


def distinguished(points: pl.DataFrame, *place: str, keep: bool = False) -> pl.DataFrame:
    """Name series by what sets configurations apart: label, GPUs, instances; one alone keeps its label.

    A count that goes with the place (the load, if none is given), as on the diagonal concurrency = instances, sets
    nothing apart. With `keep` the name that a series has stays in front.
    """
    place = place or ("level",)
    words = [pl.col("series")] if keep or points["series"].n_unique() > 1 else []
    for column, noun in (("gpus", "GPU"), ("instances", "instance")):
        counts = points.group_by("series", *place).agg(several=pl.col(column).drop_nulls().n_unique())["several"]
        most: Any = counts.max()
        if column not in place and (most or 0) > 1:
            words.append(pl.col(column).map_elements(_counter(noun), pl.String))
    return points.with_columns(series=pl.concat_str(words, separator=", ", ignore_nulls=True)) if words else points


def counted_series(points: pl.DataFrame, column: str, noun: str, x: str) -> pl.DataFrame:
    """Name series by a count: `1 GPU`, `4 instances`; the label in front where several share a count and place."""
    known = points.filter(pl.col(column).is_not_null()).sort(column, maintain_order=True)
    name = pl.col(column).map_elements(_counter(noun), pl.String)
    named = pl.concat_str("series", name, separator=", ") if contested(known, [column, x]) else name
    return distinguished(known.with_columns(series=named), x, keep=True)


def one_series(points: pl.DataFrame, x: str, name: str = "measured") -> pl.DataFrame:
    """Join labels into one series where each place has one of them only, as the runs of a study do."""
    return points if contested(points, [x]) else points.with_columns(series=pl.lit(name))


def first_label(points: pl.DataFrame, most: str = "point") -> tuple[pl.DataFrame, str]:
    """Return the points of one series, that with the most values of a column, and words where there are several."""
    counts = points.group_by("series", maintain_order=True).agg(pl.col(most).drop_nulls().n_unique())
    if counts.height <= 1:
        return points, ""
    name = counts.sort(most, descending=True, maintain_order=True)["series"][0]
    return points.filter(pl.col("series") == name), f"Of {counts.height} data sets: {name}."


def one_label(points: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Return one configuration's points, those of the highest throughput where several share a load; and words."""
    told = []
    for column, noun in (("series", ""), ("instances", "instance"), ("gpus", "GPU")):
        if (points.group_by("level").agg(pl.col(column).n_unique())[column].max() or 0) > 1:  # type: ignore[operator]
            value = points.sort("throughput_per_s", descending=True, nulls_last=True)[column][0]
            points = points.filter(pl.col(column).eq_missing(pl.lit(value)))
            told.append(_counter(noun)(value) if noun and value is not None else str(value))
    return points, f"Of several, the one of the highest throughput: {', '.join(told)}." if told else ""


def contested(points: pl.DataFrame, place: list[str]) -> bool:
    """Say whether several series have points at one place."""
    most: Any = points.group_by(place).agg(pl.col("series").n_unique())["series"].max()
    return (most or 0) > 1


def _counter(noun: str) -> Any:  # noqa: ANN401 - polars' own type
    if noun == "concurrency":
        return lambda value: f"concurrency {value:g}"
    return lambda value: counted(int(value), noun)


def _place(group: pl.DataFrame, quantity: Quantity, at: float, series: str) -> dict[str, Any]:
    sure = group.filter("measured")
    used = (group if sure.is_empty() else sure).drop_nulls(quantity.column)
    row: dict[str, Any] = {"x": at, "series": series, "takes": used.height, "measured": not sure.is_empty()}
    reasons = [reason for reason in (group if sure.is_empty() else used)["reason"].drop_nulls().unique() if reason]
    row["note"] = "; ".join(sorted(reasons)[:2]) if reasons else None
    if used.is_empty():
        return row
    values = (used[quantity.column].cast(pl.Float64) / quantity.scale).to_list()
    own = _own_limits(used, quantity)
    mean, low, high = spread(values) if len(values) > 1 else (values[0], *own[0])
    row |= {"value": mean, "low": low, "high": high, "within": _within(own, values)}
    if len(values) > 1 and min(values) > 0:
        row["between"] = float(np.std(np.log(values), ddof=1))
    return row


def _own_limits(used: pl.DataFrame, quantity: Quantity) -> list[tuple[float | None, float | None]]:
    if quantity.low not in used.columns or quantity.high not in used.columns:
        return [(None, None)] * used.height
    limits = used.select(pl.col(quantity.low, quantity.high).cast(pl.Float64) / quantity.scale)
    return [(low, high) if low is not None and high is not None else (None, None) for low, high in limits.iter_rows()]


def _within(own: list[tuple[float | None, float | None]], values: list[float]) -> float | None:
    parts = [
        (high - low) / 2 / Z / value
        for (low, high), value in zip(own, values, strict=True)
        if low is not None and high is not None and value > 0
    ]
    return float(np.mean(parts)) if parts else None
