"""Metric samples -> what GPUs and CPU did inside each point's window. What was not sampled is null, never 0."""

import polars as pl

from analysis.rates import growth
from loadgen.gpus import COLUMNS, ENERGY, FIGURES, MIG_SEPARATOR, SOURCES, is_dead

CPU_METRIC = "nv_cpu_utilization"
PAGES, NVML = "metrics", "nvml"
"""Sources of samples that GPU figures are taken from."""

GPU_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "gpu": pl.String(),
    "utilisation": pl.Float64(),
    "power_w": pl.Float64(),
    "power_limit_w": pl.Float64(),
    "power_fraction": pl.Float64(),
    "memory_used_max_bytes": pl.Float64(),
    "memory_total_bytes": pl.Float64(),
    "energy_j": pl.Float64(),
    "mig_profile": pl.String(),
    "source": pl.String(),
}

_KEY = ("point", "gpu")
_NAMES = pl.DataFrame(
    [
        (name, order, figure.source, figure.column, figure.factor, figure.whole)
        for order, (name, figure) in enumerate(FIGURES.items())
    ],
    schema=["metric", "order", "of", "column", "factor", "whole"],
    orient="row",
)


def gpu_figures(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each point and GPU sampled in its window; columns as `GPU_SCHEMA`.

    `gpu` is the uuid, with `/` and a number for a MIG instance, whose power is that of the whole GPU and stands in
    the whole GPU's row. `utilisation` (fraction), `power_w` and `power_limit_w` are means, `power_fraction` is one
    over the other, memory is the largest value seen. `energy_j` is the counter at the window's end minus at its start
    (linear between samples); null where the samples do not reach both ends, where it was reset, and where it stood
    still though power was drawn: some GPUs have none. `source` names the collectors used: Triton's own figures before
    those of DCGM, AMD's exporter, and NVML.
    """
    return _figures(points, gpu_samples(samples))


def gpu_figures_by_source(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return what `gpu_figures` gives for each collector by itself, to hold one beside the other."""
    all_of = gpu_samples(samples)
    found = [_figures(points, all_of.filter(pl.col("of") == source)) for source in SOURCES]
    return pl.concat(found).sort([*_KEY, "source"])


def cpu_figures(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return `point` and `cpu_utilisation` (mean fraction of the server's host), one row a sampled point."""
    inside = in_window(points, samples.filter(pl.col("metric") == CPU_METRIC))
    return inside.group_by("point").agg(cpu_utilisation=pl.col("value").mean()).sort("point")


def gpu_samples(samples: pl.DataFrame) -> pl.DataFrame:
    """Return every usable figure of a GPU, in our units: the samples with `gpu`, `of` (collector) and `column`.

    Left out are collectors that give nothing but zeros (`dead_collectors`), and what NVML says of GPUs of our host
    that no page names, where pages name some: the server does not use them.
    """
    every = _named(samples)
    dead = dead_collectors(samples)
    alive = every.join(dead, on=["gpu", "of"], how="anti")
    on_pages = every.filter(pl.col("of") != NVML)["gpu"].unique()
    if on_pages.is_empty():
        return alive
    return alive.filter((pl.col("of") != NVML) | pl.col("gpu").is_in(on_pages.implode()))


def dead_collectors(samples: pl.DataFrame) -> pl.DataFrame:
    """Return `gpu` and `of` of collectors whose utilisation, power and memory of it were 0 in the whole run."""
    gauges = _named(samples).filter(pl.col("column").is_in(COLUMNS))
    largest = gauges.group_by("gpu", "of", "column").agg(pl.col("value").abs().max())
    found = [
        (gpu, of)
        for (gpu, of), rows in largest.group_by("gpu", "of")
        if is_dead(dict(rows.select("column", "value").iter_rows()), str(gpu))
    ]
    return pl.DataFrame(found, schema={"gpu": pl.String, "of": pl.String}, orient="row").sort("gpu", "of")


def in_window(points: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return the samples asked for inside a window (start included, end not), with that window's `point`."""
    windows = points.select("point", "window_start_ns", "window_end_ns").sort("window_start_ns")
    placed = samples.sort("at_ns").join_asof(windows, left_on="at_ns", right_on="window_start_ns")
    return placed.filter(pl.col("at_ns") < pl.col("window_end_ns"))


def _named(samples: pl.DataFrame) -> pl.DataFrame:
    """Join what each metric means; which GPU by the rules of `loadgen.gpus.gpu_of`."""
    known = samples.filter(pl.col("source").is_in([PAGES, NVML])).join(_NAMES, on="metric", maintain_order="left")
    known = known.with_columns(pl.col("labels").str.json_path_match(f"$.{name}").alias(name) for name in _LABELS)
    serial = pl.when(pl.col("serial_number").is_not_null()).then(pl.coalesce("gpu_uuid", "serial_number"))
    uuid = pl.when(pl.col("of") == "amd").then(serial).otherwise(pl.coalesce("gpu_uuid", "UUID"))
    part = pl.when((pl.col("GPU_I_ID") != "") & ~pl.col("whole")).then(MIG_SEPARATOR + pl.col("GPU_I_ID"))
    named = known.with_columns(gpu=uuid + part.fill_null(""), value=pl.col("value") * pl.col("factor"))
    return named.filter(pl.col("gpu").is_not_null())


_LABELS = ("gpu_uuid", "UUID", "serial_number", "GPU_I_ID", "GPU_I_PROFILE", "instance")


def _figures(points: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    inside = in_window(points, named)
    best = inside.filter(pl.col("order") == pl.col("order").min().over([*_KEY, "column"]))
    used = _of("memory_used_bytes")
    gauges = best.group_by(_KEY).agg(
        *(_of(column).mean().alias(column) for column in COLUMNS),
        memory_used_max_bytes=used.max(),
        mig_profile=_profile(),
        sources=pl.col("of").filter(pl.col("column") != ENERGY).unique(),
    )
    joined = gauges.join(_energies(points, named), on=_KEY, how="left")
    total = pl.coalesce("memory_total_bytes", pl.col("memory_used_bytes") + pl.col("memory_free_bytes"))
    stood_still = (pl.col("energy_j") == 0) & (pl.col("power_w") > 0)
    figures = joined.with_columns(
        memory_total_bytes=total,
        power_fraction=pl.when(pl.col("power_limit_w") > 0).then(pl.col("power_w") / pl.col("power_limit_w")),
        energy_j=pl.when(~stood_still.fill_null(value=False)).then("energy_j"),
        source=_sources(),
    )
    return figures.select(pl.col(name).cast(kind) for name, kind in GPU_SCHEMA.items()).sort(_KEY)


def _of(column: str) -> pl.Expr:
    return pl.col("value").filter(pl.col("column") == column)


def _profile() -> pl.Expr:
    return pl.col("GPU_I_PROFILE").filter(pl.col("gpu").str.contains(MIG_SEPARATOR, literal=True)).first()


def _energies(points: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Return the growth of the first counter of each GPU that has one: each page's counter has a start of its own."""
    counters = named.filter(pl.col("column") == ENERGY).unique(["gpu", "metric", "instance", "at_ns"], keep="first")
    windows = points.select("point", "window_start_ns", "window_end_ns").rows()
    rows = []
    for counter in counters.sort("at_ns").partition_by("gpu", "metric", "instance"):
        names = counter.row(0, named=True)
        at_ns, values = counter["at_ns"].to_numpy(), counter["value"].to_numpy()
        for point, *window in windows:
            found = growth(at_ns, values, *window).value
            rows.append((point, names["gpu"], names["order"], names["instance"], found, names["of"]))
    kinds = {"order": pl.Int64, "instance": pl.String, "energy_j": pl.Float64, "energy_of": pl.String}
    table = pl.DataFrame(rows, schema={"point": pl.UInt32, "gpu": pl.String, **kinds}, orient="row")
    known = table.drop_nulls("energy_j").sort(pl.col("energy_j") == 0, "order", "instance")
    return known.unique(_KEY, keep="first", maintain_order=True).select(*_KEY, "energy_j", "energy_of")


def _sources() -> pl.Expr:
    """Join the names of the collectors used, in their order."""
    used = [
        pl.when(pl.col("sources").list.contains(name) | (pl.col("energy_of") == name).fill_null(value=False)).then(
            pl.lit(name)
        )
        for name in SOURCES
    ]
    return pl.concat_str(used, separator=" + ", ignore_nulls=True)
