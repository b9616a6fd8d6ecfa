"""Counters -> how much they grew, and how fast, in exactly each point's window."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loadgen.clock import NS_PER_S

NOT_BEFORE = "no sample before the window"
NOT_AFTER = "no sample after the window"
RESET = "the counter went back in the window: what it counted was started anew"

RATES_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "source": pl.String(),
    "metric": pl.String(),
    "labels": pl.String(),
    "growth": pl.Float64(),
    "rate_per_s": pl.Float64(),
    "reason": pl.String(),
}


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much a counter grew; None with the reason where that cannot be known."""

    value: float | None
    reason: str | None = None


def growth(at_ns: NDArray[np.int64], values: NDArray[np.float64], start_ns: int, end_ns: int) -> Growth:
    """Return the growth of a counter between two times, linear between its samples (in order of time).

    A counter that went back between the samples that enclose the window has no growth: what it lost is not known.
    """
    if len(at_ns) == 0 or at_ns[0] > start_ns:
        return Growth(None, NOT_BEFORE)
    if at_ns[-1] < end_ns:
        return Growth(None, NOT_AFTER)
    first = int(np.searchsorted(at_ns, start_ns, side="right")) - 1
    last = int(np.searchsorted(at_ns, end_ns, side="left"))
    if np.any(np.diff(values[first : last + 1]) < 0):
        return Growth(None, RESET)
    start, end = np.interp([start_ns, end_ns], at_ns, values)
    return Growth(float(end - start))


def counter_rates(points: pl.DataFrame, samples: pl.DataFrame, *metrics: str) -> pl.DataFrame:
    """Return `RATES_SCHEMA`, one row a point and series (source, metric, labels) of any counters.

    `growth` is in the counter's own unit, `rate_per_s` that over the window; both null with the `reason` where the
    samples do not enclose the window, or the counter was reset in it. The `_bucket`, `_sum` and `_count` of a
    histogram are counters too: a mean in the window is the growth of `_sum` over that of `_count`.
    """
    windows = points.select("point", "window_start_ns", "window_end_ns").rows()
    rows = []
    for series in _series(samples, metrics):
        names = series.row(0, named=True)
        at_ns, values = series["at_ns"].to_numpy(), series["value"].to_numpy()
        for point, start_ns, end_ns in windows:
            found = growth(at_ns, values, start_ns, end_ns)
            per_s = None if found.value is None else found.value / ((end_ns - start_ns) / NS_PER_S)
            known = (point, names["source"], names["metric"], names["labels"])
            rows.append((*known, found.value, per_s, found.reason))
    table = pl.DataFrame(rows, schema=RATES_SCHEMA, orient="row")
    return table.sort("point", "source", "metric", "labels")


def _series(samples: pl.DataFrame, metrics: tuple[str, ...]) -> list[pl.DataFrame]:
    wanted = samples.filter(pl.col("metric").is_in(metrics)).sort("at_ns", maintain_order=True)
    return wanted.partition_by("source", "metric", "labels") if not wanted.is_empty() else []
