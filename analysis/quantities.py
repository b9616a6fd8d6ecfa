"""Wide points -> one row a point and quantity, with its interval; what GPUs did is reduced to a figure a point. Pure.

Figures of several GPUs are never summed but for energy: utilisation and power are means over the GPUs sampled, memory
is that of the fullest.
"""

import polars as pl

from analysis.tidy import QUANTITIES, stacked
from loadgen.points import SCHEMA as NATIVE

UNITS = {"_ns": "ns", "_per_s": "1/s", "_bytes": "bytes", "_w": "W", "_j": "J"}
PLAIN = ("in_flight_mean", "server_busy", "server_mean_batch", "client_cpu")
NOT_QUANTITIES = ("begun_ns", "window_start_ns", "window_end_ns", "rate_per_s", "little_residual_ns", "resolution_ns")
OF_GPUS = {
    "gpu_utilisation": pl.col("utilisation").mean(),
    "gpu_power_w": pl.col("power_w").mean(),
    "gpu_memory_used_max_bytes": pl.col("memory_used_max_bytes").max(),
    "gpu_energy_j": pl.when(pl.col("energy_j").is_not_null().all()).then(pl.col("energy_j").sum()),
}
"""Energy is the sum over all GPUs, null unless it is known of each."""


def limits(quantity: str) -> tuple[str, str]:
    """Return the columns of a quantity's limits: `service_p99_ns` has `service_p99_low_ns` and `..._high_ns`."""
    unit = suffix(quantity)
    stem = quantity.removesuffix(unit)
    return f"{stem}_low{unit}", f"{stem}_high{unit}"


def suffix(quantity: str) -> str:
    """Return the unit at the end of a column's name, empty for a plain number."""
    return next((unit for unit in UNITS if quantity.endswith(unit)), "")


def columns(points: pl.DataFrame) -> list[str]:
    """Return the columns of a points table that are quantities of a point."""
    numeric = {name for name, kind in points.schema.items() if kind.is_numeric()}
    of_limits = {limit for name in numeric for limit in limits(name)}
    return [
        name
        for name in points.columns
        if name in numeric - of_limits and name not in NOT_QUANTITIES and (suffix(name) or name in PLAIN)
    ]


def long(points: pl.DataFrame, gpus: pl.DataFrame) -> pl.DataFrame:
    """Return the known quantities of each point, columns as `QUANTITIES`.

    `error_share` (failed over ended) and the GPUs' figures are added to the columns of `points`.
    """
    wide = _with_shares(_with_gpus(points, gpus))
    found = [_one(wide, name) for name in columns(points)]
    found += [_one(wide, name) for name in ("error_share", *OF_GPUS, "energy_per_event_j")]
    return stacked(found, QUANTITIES).select(list(QUANTITIES))


def _one(wide: pl.DataFrame, name: str) -> pl.DataFrame:
    low, high = (pl.col(limit) if limit in wide.columns else pl.lit(None) for limit in limits(name))
    kept = [column for column in QUANTITIES if column in wide.columns]
    row = wide.filter(pl.col(name).is_not_null()).select(
        *kept,
        quantity=pl.lit(name),
        unit=pl.lit(UNITS.get(suffix(name), "1")),
        value=pl.col(name).cast(pl.Float64),
        low=low.cast(pl.Float64),
        high=high.cast(pl.Float64),
    )
    return row.filter(pl.col("value").is_not_nan())


def _with_gpus(points: pl.DataFrame, gpus: pl.DataFrame) -> pl.DataFrame:
    figures = gpus.group_by("run", "point").agg(**OF_GPUS)
    joined = points.join(figures, on=["run", "point"], how="left")
    events = pl.when(pl.col("completed") > 0).then(pl.col("completed"))
    return joined.with_columns(energy_per_event_j=pl.col("gpu_energy_j") / events)


def _with_shares(wide: pl.DataFrame) -> pl.DataFrame:
    ended = pl.col("completed") + pl.col("failed")
    return wide.with_columns(error_share=pl.when(ended > 0).then(pl.col("failed") / ended))


def known_names() -> list[str]:
    """Return the names that a quantity may have, before any percentile that was asked for besides."""
    return [*columns(pl.DataFrame(schema=NATIVE)), "error_share", *OF_GPUS, "energy_per_event_j"]
