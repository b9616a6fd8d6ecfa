"""The client's own host in each point's window: its processors, its network, what our processes took of them."""

import polars as pl

from analysis.rates import counter_rates

CPU_METRIC, PROCESS_METRIC = "host_cpu_seconds_total", "process_cpu_seconds_total"
RECEIVED, SENT = "host_network_received_bytes_total", "host_network_sent_bytes_total"
SOURCE = "loadgen"
LOOPBACK = "^lo[0-9]*$"

CLIENT_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "host_cpu": pl.Float64(),
    "process_cpu_cores": pl.Float64(),
    "loop_lag_p99_ns": pl.Float64(),
    "network_in_bytes_per_s": pl.Float64(),
    "network_out_bytes_per_s": pl.Float64(),
    "loopback_bytes_per_s": pl.Float64(),
}


def client_figures(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return one row a point; columns as `CLIENT_SCHEMA`, null where the samples do not enclose the window.

    `host_cpu` is the busy share of all cores, whoever used them; `process_cpu_cores` is what our workers used.
    The network is the sum over all interfaces but the loopback, all programs together; a bridge and what is attached
    to it both count. `loopback_bytes_per_s` is what a server on the same host is sent and answers.
    """
    own = samples.filter(pl.col("source") == SOURCE)
    rates = counter_rates(points, own, CPU_METRIC, PROCESS_METRIC, RECEIVED, SENT)
    mode, interface = (pl.col("labels").str.json_path_match(f"$.{name}") for name in ("mode", "interface"))
    rates = rates.with_columns(mode=mode, loopback=interface.str.contains(LOOPBACK).fill_null(value=False))
    is_busy, is_total = ((pl.col("metric") == CPU_METRIC) & (pl.col("mode") == name) for name in ("busy", "total"))
    total = pl.col("growth").filter(is_total).sum()
    figures = rates.group_by("point").agg(
        host_cpu=pl.when(total > 0).then(pl.col("growth").filter(is_busy).sum() / total),
        process_cpu_cores=_sum(pl.col("metric") == PROCESS_METRIC),
        network_in_bytes_per_s=_sum((pl.col("metric") == RECEIVED) & ~pl.col("loopback")),
        network_out_bytes_per_s=_sum((pl.col("metric") == SENT) & ~pl.col("loopback")),
        loopback_bytes_per_s=_sum((pl.col("metric") == SENT) & pl.col("loopback")),
    )
    joined = points.select("point", "loop_lag_p99_ns").join(figures, on="point", how="left")
    return joined.select(pl.col(name).cast(kind) for name, kind in CLIENT_SCHEMA.items()).sort("point")


def _sum(which: pl.Expr) -> pl.Expr:
    """Sum rates that are known, null if none is: an interface may come or go without taking the others with it."""
    known = pl.col("rate_per_s").filter(which).drop_nulls()
    return pl.when(known.len() > 0).then(known.sum())
