"""What the points of a run are compared by: concurrency, rate, or, where loads differ in kind, their number."""

from dataclasses import dataclass

import polars as pl

from loadgen.progress import headline
from loadgen.verdict import USABLE

__all__ = ["SURE", "USABLE", "Axis", "axis", "headline_of", "level_text", "levelled", "usable"]

SURE = pl.col("verdict").is_in(USABLE).fill_null(value=True)
"""Points whose numbers may be used as they stand: no objection was raised. What other tools measured has no verdict,
so nothing stands against it; charts and comparisons say where it is from."""


def usable(verdict: str | None) -> bool:
    """Say the same of one verdict."""
    return verdict is None or verdict in USABLE


@dataclass(frozen=True, slots=True)
class Axis:
    """The words of that quantity: title of an axis, heading of a column, and in a sentence."""

    title: str
    heading: str
    noun: str


CONCURRENCY = Axis("Concurrency (requests in flight)", "Concurrency", "concurrency")
RATE = Axis("Request rate asked (1/s)", "Rate, 1/s", "rate")
POINT = Axis("Point", "Point", "point")


def axis(points: pl.DataFrame) -> Axis:
    """Return by what the points are compared."""
    if points["concurrency"].is_not_null().all():
        return CONCURRENCY
    rates = points["rate_per_s"].is_not_null().all() if "rate_per_s" in points.columns else False
    return RATE if rates else POINT


def headline_of(points: pl.DataFrame) -> str:
    """Return the time that the points are judged by: `response` if every load is an open loop, else `service`."""
    return "service" if any(headline(row) == "service" for row in points.iter_rows(named=True)) else "response"


def levelled(points: pl.DataFrame) -> pl.DataFrame:
    """Add `level`: the quantity by which the points are compared."""
    column = {CONCURRENCY: "concurrency", RATE: "rate_per_s", POINT: "point"}[axis(points)]
    return points.with_columns(level=pl.col(column).cast(pl.Float64))


def level_text(level: float) -> str:
    """Return a level as it is written: `4`, `12.5`."""
    return f"{level:g}"
