"""Requests and samples -> what happened when, in few enough bins for a page whatever the run's length. Pure."""

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.levels import levelled
from loadgen.clock import NS_PER_S
from loadgen.records import PROBE_POINT

FEWEST_BINS, MOST_BINS = 40, 300
MOST_SAMPLES = 1200
COMPLETIONS_A_BIN = 10
NICE_STEPS = (1.0, 2.0, 5.0)


def request_bins(records: pl.LazyFrame, origin_ns: int) -> pl.DataFrame:
    """Return the run in bins of equal width, some tens to about `MOST_BINS`; times are seconds after `origin_ns`.

    Columns: `start_s`, `end_s`, `throughput_per_s`, `failed_per_s`, `in_flight_mean` (time average), and
    `service_p05_ns`, `service_p50_ns`, `service_p95_ns` of what completed in the bin (null if nothing did).
    Warm-up and drain are in it; the probe is not. No row without an answered request.
    """
    columns = pl.col("outcome") == "ok", pl.col("sent_ns"), pl.col("done_ns")
    rows = records.filter(pl.col("point") != PROBE_POINT, pl.col("sent_ns").is_not_null()).select(*columns).collect()
    ended = rows.drop_nulls("done_ns")
    if ended.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(_BIN_COLUMNS, pl.Float64()))
    edges_ns = _edges_ns(rows["sent_ns"].to_numpy(), ended["done_ns"].to_numpy())
    width_ns = int(edges_ns[1] - edges_ns[0])
    table = pl.DataFrame({"bin": np.arange(len(edges_ns) - 1), "start_ns": edges_ns[:-1]})
    table = table.with_columns(in_flight_mean=pl.Series(_in_flight_mean(rows, edges_ns)))
    place = ((pl.col("done_ns") - int(edges_ns[0])) // width_ns).alias("bin")
    counts = ended.group_by(place).agg(*_bin_figures(width_ns / NS_PER_S))
    return (
        table.join(counts, on="bin", how="left")
        .sort("bin")
        .with_columns(pl.col("throughput_per_s", "failed_per_s").fill_null(0.0))
        .with_columns(start_s=(pl.col("start_ns") - origin_ns) / NS_PER_S)
        .with_columns(end_s=pl.col("start_s") + width_ns / NS_PER_S)
        .select(_BIN_COLUMNS)
    )


def sample_bins(samples: pl.DataFrame, origin_ns: int, most: int = MOST_SAMPLES) -> pl.DataFrame:
    """Return `series`, `at_s`, `value`: each series of samples (columns `series`, `at_ns`, `value`) thinned by means.

    Samples further apart than a bin keep their own time and value.
    """
    if samples.is_empty():
        return pl.DataFrame(schema={"series": pl.String(), "at_s": pl.Float64(), "value": pl.Float64()})
    span_ns = samples["at_ns"].max() - samples["at_ns"].min() + 1  # type: ignore[operator]
    most_each = max(1, most // samples["series"].n_unique())
    width_ns = -(-span_ns // most_each)
    place = ((pl.col("at_ns") - pl.col("at_ns").min()) // width_ns).alias("bin")
    means = samples.group_by("series", place).agg(pl.col("at_ns").mean(), pl.col("value").mean())
    at_s = ((pl.col("at_ns") - origin_ns) / NS_PER_S).alias("at_s")
    return means.select("series", at_s, "value").sort("series", "at_s")


def windows(points: pl.DataFrame, origin_ns: int) -> pl.DataFrame:
    """Return `point`, `level`, `verdict`, `start_s`, `end_s`, `middle_s`: where each point was measured."""
    start_s = (pl.col("window_start_ns") - origin_ns) / NS_PER_S
    end_s = (pl.col("window_end_ns") - origin_ns) / NS_PER_S
    return levelled(points).select(
        *("point", "level", "verdict"), start_s=start_s, end_s=end_s, middle_s=(start_s + end_s) / 2
    )


_BIN_COLUMNS = (
    *("start_s", "end_s", "throughput_per_s", "failed_per_s", "in_flight_mean"),
    *("service_p05_ns", "service_p50_ns", "service_p95_ns"),
)


def _edges_ns(sent_ns: npt.NDArray[np.int64], done_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    first_ns, last_ns = int(sent_ns.min()), int(done_ns.max())
    span_ns = last_ns - first_ns + 1
    # A slow server answers seldom: bins that waited for ten answers would span several points.
    wanted = min(MOST_BINS, max(FEWEST_BINS, len(done_ns) / COMPLETIONS_A_BIN))
    width_ns = _nice_at_least(max(span_ns / wanted, 1.0))
    return np.arange(-(-span_ns // width_ns) + 1, dtype=np.int64) * width_ns + first_ns


def _nice_at_least(width_ns: float) -> int:
    decade = 10.0 ** math.floor(math.log10(width_ns))
    return math.ceil(next((step * decade for step in NICE_STEPS if step * decade >= width_ns), 10 * decade))


def _bin_figures(width_s: float) -> tuple[pl.Expr, ...]:
    service_ns = (pl.col("done_ns") - pl.col("sent_ns")).filter(pl.col("outcome"))
    return (
        (pl.col("outcome").sum() / width_s).alias("throughput_per_s"),
        (pl.col("outcome").not_().sum() / width_s).alias("failed_per_s"),
        *(service_ns.quantile(q / 100, "nearest").cast(pl.Float64).alias(f"service_p{q:02}_ns") for q in (5, 50, 95)),
    )


def _in_flight_mean(rows: pl.DataFrame, edges_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Time average of requests in flight in each bin: the difference of two running integrals, one of each stamp."""
    sent = _integral(rows["sent_ns"].to_numpy(), edges_ns)
    done = _integral(rows["done_ns"].drop_nulls().to_numpy(), edges_ns)
    return np.diff(sent - done) / np.diff(edges_ns)


def _integral(stamps_ns: npt.NDArray[np.int64], edges_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """At each edge, the sum of (edge - stamp) over the stamps before it."""
    ordered = np.sort(stamps_ns - edges_ns[0]).astype(np.float64)
    before = np.searchsorted(ordered, edges_ns - edges_ns[0])
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    result: npt.NDArray[np.float64] = before * (edges_ns - edges_ns[0]) - sums[before]
    return result
