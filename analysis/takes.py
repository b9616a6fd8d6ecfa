"""Several takes of the same load: their mean, how far they scatter, and how far each one's own interval reaches."""

import math
from statistics import NormalDist
from typing import Any

import polars as pl

from analysis import stats
from analysis.levels import SURE, levelled
from loadgen.progress import headline

Z = 1.96
SCHEMA: dict[str, pl.DataType] = {
    "level": pl.Float64(),
    "takes": pl.UInt32(),
    "quantity": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "between": pl.Float64(),
    "within": pl.Float64(),
}


def takes(points: pl.DataFrame) -> pl.DataFrame:
    """Summarise the usable points of each level: one row a level and quantity.

    `value` is the geometric mean with its 95 % interval over takes (the take's own interval where there is one take);
    `between` the standard deviation of takes, `within` that which their own intervals tell, both relative.
    Quantities are `throughput_per_s`, and `p50_ns` and `p99_ns` of the load's headline time.
    """
    rows: list[dict[str, Any]] = []
    some = (pl.col("completed") > 0).fill_null(value=True)
    usable = levelled(points).filter(SURE, some) if points.height else points
    if usable.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    for (level,), group in usable.group_by("level", maintain_order=True):
        rows += [row for name in _columns(group.row(0, named=True)) if (row := _summary(level, name, group))]
    return pl.DataFrame(rows, schema=SCHEMA).sort("level", maintain_order=True)


def repeated(points: pl.DataFrame) -> bool:
    """Say whether any level was measured more than once."""
    return bool((takes(points)["takes"] > 1).any())


def scatter_words(of: pl.DataFrame) -> str | None:
    """Say that the throughputs of takes scatter more than their own intervals tell, if they surely do.

    All levels together, as a sum of squares: by chance it passes the limit once in a hundred runs.
    """
    known = of.filter(pl.col("quantity") == "throughput_per_s", pl.col("takes") > 1).drop_nulls(["between", "within"])
    degrees = int((known["takes"] - 1).sum())
    squares = known.select(((pl.col("takes") - 1) * (pl.col("between") / pl.col("within")) ** 2).sum()).item()
    if not degrees or squares <= chi_squared(degrees):
        return None
    between, within = (math.sqrt(float((known[name] ** 2).mean() or 0.0)) for name in ("between", "within"))  # type: ignore[arg-type]
    return (
        f"Takes scatter by {between:.1%} where one take's own interval tells {within:.1%} "
        "(standard deviations): quote the spread of takes"
    )


def chi_squared(degrees: int) -> float:
    """Return the 99 % quantile of chi squared (Wilson and Hilferty 1931; within 1 % from 2 degrees)."""
    ninth = 2 / (9 * degrees)
    return degrees * (1 - ninth + NormalDist().inv_cdf(0.99) * math.sqrt(ninth)) ** 3


def _columns(row: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Return the column of each quantity, with those of its limits."""
    kind = headline(row)
    return {
        "throughput_per_s": ("throughput_per_s", "throughput_low_per_s", "throughput_high_per_s"),
        **{
            f"{name}_ns": (f"{kind}_{name}_ns", f"{kind}_{name}_low_ns", f"{kind}_{name}_high_ns")
            for name in ("p50", "p99")
        },
    }


def _summary(level: object, quantity: str, group: pl.DataFrame) -> dict[str, Any] | None:
    value, low, high = _columns(group.row(0, named=True))[quantity]
    known = group.drop_nulls(value).filter(pl.col(value) > 0)
    if known.is_empty():
        return None
    mean, mean_low, mean_high = stats.mean_of_takes(known[value].to_list())
    relative = known.select(((pl.col(high) - pl.col(low)) / 2 / Z / pl.col(value)).alias("own"))["own"].drop_nulls()
    if known.height == 1:
        mean_low, mean_high = known.select(low, high).row(0)
    return {
        "level": level,
        "takes": known.height,
        "quantity": quantity,
        "value": mean,
        "low": mean_low,
        "high": mean_high,
        "between": known[value].log().std() if known.height > 1 else None,
        "within": relative.mean() if len(relative) else None,
    }
