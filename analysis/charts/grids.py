"""Charts of the grid instances x concurrency x label: lines of one along the other, with ratios; named data sets."""

import altair as alt
import polars as pl

from analysis import levels, theme
from analysis.charts import marks, tidy
from analysis.charts.gpu import INSTANCES, PERCENTS, mean_of_gpus, placed
from analysis.charts.marks import Axes
from analysis.charts.registry import Chart, chart, nothing
from analysis.charts.service import one_set, panelled, ratio_curve, ratio_to_first
from analysis.charts.tidy import THROUGHPUT, Quantity, seconds_or_ms

MOST_LEVELS = 6


@chart(
    "instances-throughput",
    "C19",
    "Throughput against instances, by concurrency",
    points=("instances", "concurrency", "throughput_per_s"),
)
def instances_throughput(points: pl.DataFrame) -> Chart:
    """Draw throughput against instances, a line a concurrency, with the ratio to the lowest concurrency."""
    full, told = by_concurrency(tidy.completed(points))
    return marks.noted(
        ratio_to_first(full, THROUGHPUT, "Throughput against instances, by concurrency", "instances", INSTANCES), told
    )


@chart(
    "instances-latency",
    "C19",
    "p95 against instances, by concurrency",
    points=("instances", "concurrency", "service_p95_ns"),
)
def instances_latency(points: pl.DataFrame) -> Chart:
    """Draw p95 of service time against instances, a line a concurrency, with the ratio to the lowest concurrency."""
    full, told = by_concurrency(tidy.completed(points))
    quantity = seconds_or_ms("p95 of service time", "service_p95_ns", full)
    return marks.noted(
        ratio_to_first(full, quantity, "p95 against instances, by concurrency", "instances", INSTANCES), told
    )


@chart(
    "instances-utilisation",
    "C19",
    "GPU utilisation against instances, by concurrency",
    points=("instances", "concurrency"),
    gpus=("utilisation",),
)
def instances_utilisation(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw the mean utilisation of the GPUs against instances, a line a concurrency; never their sum."""
    return _gpu_lines(
        "instances-utilisation",
        "GPU utilisation against instances, by concurrency",
        points,
        gpus,
        "utilisation_percent",
    )


@chart(
    "instances-memory",
    "C19",
    "GPU memory against instances, by concurrency",
    points=("instances", "concurrency"),
    gpus=("memory_used_max_bytes", "memory_total_bytes"),
)
def instances_memory(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw memory used, in percent of each GPU's own and averaged over GPUs, against instances."""
    return _gpu_lines(
        "instances-memory", "GPU memory against instances, by concurrency", points, gpus, "memory_percent"
    )


@chart(
    "concurrency-throughput",
    "C20",
    "Throughput against concurrency, by instances",
    points=("instances", "throughput_per_s"),
)
def concurrency_throughput(points: pl.DataFrame) -> Chart:
    """Draw throughput against the load, a line a number of instances, with the ratio to the fewest."""
    full, told = one_set(tidy.loaded(points), "instances")
    full = tidy.counted_series(full, "instances", "instance", "level")
    title = f"Throughput against {levels.axis(full).noun}, by instances"
    return marks.noted(ratio_to_first(full, THROUGHPUT, title, "level", levels.axis(full).title), told)


@chart(
    "devices-throughput",
    "C21",
    "Throughput at each concurrency, labels compared",
    points=("instances", "concurrency", "throughput_per_s"),
)
def devices_throughput(points: pl.DataFrame) -> Chart:
    """Draw throughput against instances, a line a label (CPU, GPU), a panel a concurrency; absent points are gaps."""
    return _panel_a_concurrency("Throughput at each concurrency, labels compared", points, THROUGHPUT)


@chart(
    "devices-latency",
    "C21",
    "Mean service time at each concurrency, labels compared",
    points=("instances", "concurrency", "service_mean_ns"),
)
def devices_latency(points: pl.DataFrame) -> Chart:
    """Draw mean service time against instances, a line a label (CPU, GPU), a panel a concurrency."""
    quantity = seconds_or_ms("Mean service time", "service_mean_ns", points)
    return _panel_a_concurrency("Mean service time at each concurrency, labels compared", points, quantity)


@chart("data-sets", "C22", "Data sets compared", also=("gpus",), points=("instances", "throughput_per_s"))
def data_sets(points: pl.DataFrame, gpus: pl.DataFrame | None = None) -> Chart:
    """Draw six quantities against instances, a line a label: throughput, GPU use and memory, p99, network, client."""
    full, words = tidy.diagonal(tidy.completed(points))
    full = tidy.distinguished(full, "instances")
    if gpus is not None and not gpus.is_empty():
        rows = placed(full, gpus)
        means = rows.group_by("run", "point").agg(pl.col("utilisation_percent", "memory_percent").mean())
        full = full.join(means, on=["run", "point"], how="left", nulls_equal=True)
    client = ("client_send_ns", "client_recv_ns")
    wanted = ("utilisation_percent", "memory_percent", "service_p99_ns", "network_ns", *client)
    full = full.with_columns(pl.lit(None, pl.Float64).alias(name) for name in wanted if name not in full.columns)
    full = full.with_columns(client_ns=pl.sum_horizontal(client, ignore_nulls=False))
    times = {"service_p99_ns": "p99 of service time", "network_ns": "Network", "client_ns": "Client send + receive"}
    quantities = [
        THROUGHPUT,
        Quantity("utilisation_percent", "Mean GPU utilisation", "%"),
        Quantity("memory_percent", "Mean GPU memory", "% of total"),
        *(seconds_or_ms(name, column, full) for column, name in times.items()),
    ]
    return marks.noted(panelled("Data sets compared", full, quantities, INSTANCES, x="instances"), words)


def by_concurrency(points: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Return the points with a series a concurrency, the first six, and words on those left out."""
    every = sorted(points["concurrency"].drop_nulls().unique())
    kept = points.filter(pl.col("concurrency").is_in(every[:MOST_LEVELS]))
    rest = f"Of {len(every)} concurrencies the lowest {MOST_LEVELS} are shown." if len(every) > MOST_LEVELS else ""
    if tidy.contested(kept, ["concurrency", "instances"]):
        kept, told = tidy.first_label(kept)
        rest = f"{told} {rest}".strip()
    return tidy.counted_series(kept, "concurrency", "concurrency", "instances"), rest


def _gpu_lines(name: str, title: str, points: pl.DataFrame, gpus: pl.DataFrame, column: str) -> Chart:
    full, told = by_concurrency(tidy.completed(points))
    names = full["series"].unique(maintain_order=True).to_list()
    rows = placed(full, gpus).with_columns(series="series")
    of = tidy.gapped(mean_of_gpus(rows, column, "instances"))
    if not of["value"].is_not_null().any():
        raise nothing(name, "no GPU was sampled in the window of any point")
    ratios = ratio_curve(of, names[0])
    every, quantity = tuple(of["x"]), PERCENTS[column]
    by = marks.Look(tuple(names), theme.CATEGORIES[: len(names)])
    above = Axes(
        INSTANCES, f"Mean {quantity.title}", quantity.unit, top=100, x_labels=ratios.is_empty(), x_values=every
    )
    panels = [marks.curves(of, above, by, width=theme.WIDTH, height=230)]
    if not ratios.is_empty():
        lower = Axes(INSTANCES, f"Ratio to {names[0]}", zero=False, x_values=every)
        low = marks.curves(ratios, lower, by, width=theme.WIDTH, height=75)
        panels.append(marks.reference(1.0) + low)
    notes = (told, marks.band_words(of), marks.hollow_words(of), *tidy.gap_words(of, "instances"))
    return marks.entitled(marks.stacked(*panels), title, full, *notes)


def _panel_a_concurrency(title: str, points: pl.DataFrame, quantity: Quantity) -> Chart:
    full, told = tidy.completed(points), ""
    every = sorted(full.drop_nulls(["concurrency", "instances"])["concurrency"].unique())
    if not every:
        raise nothing(title, "no point has both a concurrency and a number of instances")
    if len(every) > MOST_LEVELS:
        told = f"Of {len(every)} concurrencies the lowest {MOST_LEVELS} are shown."
    shown = every[:MOST_LEVELS]

    def part(level: float) -> pl.DataFrame:
        return tidy.distinguished(full.filter(pl.col("concurrency") == level), "instances")

    kept, rest = tidy.capped(*(tidy.gapped(tidy.curve(part(level), quantity, "instances")) for level in shown))
    each = dict(zip(shown, kept, strict=True))
    by = marks.look(pl.concat(kept))
    instances = tuple(full["instances"].drop_nulls().unique())
    axes = Axes(INSTANCES, quantity.title, quantity.unit, x_values=instances)
    panels = [
        marks.curves(of, axes, by, width=210, height=150).properties(
            title=alt.TitleParams(f"concurrency {level:g}", fontSize=11, fontWeight="normal", offset=4)
        )
        for level, of in each.items()
    ]
    gaps = tidy.gap_words(pl.concat(kept), "instances")
    notes = (told, rest, marks.band_words(*kept), marks.hollow_words(*kept), *gaps)
    return marks.entitled(marks.grid(panels, 3), title, full, *notes)
