"""Throughput, stages and times of the service against its load: one configuration, several, and several takes."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from analysis import levels, stats, theme
from analysis.charts import marks, tidy
from analysis.charts.gpu import along, mean_of_gpus, placed
from analysis.charts.marks import Axes, Look
from analysis.charts.registry import Chart, chart, nothing
from analysis.charts.tidy import THROUGHPUT, Quantity, seconds_or_ms
from analysis.readable import duration_unit

STAGES = {
    "queue": ("server_queue_ns", theme.ORANGE),
    "compute input": ("server_compute_input_ns", theme.SKY),
    "compute infer": ("server_compute_infer_ns", theme.BLUE),
    "compute output": ("server_compute_output_ns", theme.PURPLE),
}
NETWORK = "network + client"
Drawn: TypeAlias = tuple[pl.DataFrame, Quantity]
"""A curve and what it is of."""

COMPUTE = ("compute infer", "compute input", "compute output")


@chart("latency-breakdown", "C4", "Compute stages of the server", points=("server_compute_infer_ns",))
def latency_breakdown(points: pl.DataFrame) -> Chart:
    """Draw the three compute stages on a logarithmic axis, for input and output are small."""
    full, x, x_title, words = _chosen(points)
    full, told = tidy.first_label(full) if x == "instances" else tidy.one_label(full)
    of, unit = stage_curves(full, COMPUTE, x)
    by = Look(COMPUTE, tuple(STAGES[name][1] for name in COMPUTE))
    panel = marks.curves(of, Axes(x_title, "Mean time, log scale", unit, log_y=True), by)
    return marks.entitled(panel, "Compute stages of the server", full, words, told, *_notes(of))


@chart("inference-latency", "C5", "Compute time of the model", points=("server_compute_infer_ns",))
def inference_latency(points: pl.DataFrame) -> Chart:
    """Draw the server's mean compute infer time."""
    full, x, x_title, words = _chosen(points)
    full = full if x == "instances" else tidy.distinguished(full)
    quantity = seconds_or_ms("Compute infer, mean", "server_compute_infer_ns", full)
    return _one_quantity("Compute time of the model", full, quantity, (x, x_title), words)


@chart("throughput-by-gpus", "C8", "Throughput by number of GPUs", points=("throughput_per_s", "gpus"))
def throughput_by_gpus(points: pl.DataFrame) -> Chart:
    """Draw throughput for each number of GPUs, and below it the ratio to the fewest, dashed where none is gained."""
    full, told = one_set(tidy.loaded(points), "gpus")
    full = tidy.counted_series(full, "gpus", "GPU", "level")
    title = "Throughput by number of GPUs"
    return marks.noted(ratio_to_first(full, THROUGHPUT, title, "level", levels.axis(full).title), told)


@chart("single-pass", "C13", "Throughput and mean service time", points=("throughput_per_s", "service_mean_ns"))
def single_pass(points: pl.DataFrame) -> Chart:
    """Draw throughput above and mean service time below against the load."""
    full = tidy.distinguished(tidy.loaded(points))
    time = seconds_or_ms("Mean service time", "service_mean_ns", full)
    return panels_below("Throughput and mean service time", full, [THROUGHPUT, time], levels.axis(full).title)


@chart("takes-overlay", "C14", "Throughput, every take", points=("throughput_per_s",))
def takes_overlay(points: pl.DataFrame) -> Chart:
    """Draw every take as a line of its own, however long each is."""
    full = tidy.distinguished(tidy.loaded(points))
    alike = full.group_by("series", "level", "repeat").agg(pl.col("run").n_unique())["run"].max() or 0
    wanted = ("series", "run") if alike > 1 else ("series",)  # type: ignore[operator]
    names = [name for name in wanted if full[name].n_unique() > 1]
    take = pl.concat_str(
        *map(pl.col, names), pl.lit("take ") + pl.col("repeat").fill_null(1).cast(pl.String), separator=", "
    )
    named = tidy.distinguished(full.with_columns(series=take), keep=True)
    of = tidy.curve(named, THROUGHPUT)
    (kept,), told = tidy.capped(of)
    panel = marks.curves(kept, Axes(levels.axis(full).title, "Throughput", "events/s"), marks.look(kept, columns=2))
    return marks.entitled(panel, "Throughput, every take", full, told, *_notes(kept))


@chart("takes-mean", "C15", "Mean over takes and their scatter", points=("throughput_per_s", "service_mean_ns"))
def takes_mean(points: pl.DataFrame) -> Chart:
    """Draw mean throughput and mean service time over takes; below, the scatter between takes and within one."""
    full, told = tidy.one_label(tidy.loaded(points))
    of = tidy.curve(full.with_columns(series=pl.lit("throughput")), THROUGHPUT)
    if not (of["takes"] > 1).any():
        raise nothing("takes-mean", "no load was measured more than once (measure with --repeats)")
    time = seconds_or_ms("Mean service time", "service_mean_ns", full)
    x_title, every = levels.axis(full).title, tuple(of["x"])
    mean = tidy.curve(full.with_columns(series=pl.lit("time")), time)
    scatter = pl.concat(
        [_scatter(of, kind, name) for kind, name in (("between", "between takes"), ("within", "within a take"))]
    )
    size: dict[str, Any] = {"width": theme.WIDTH, "height": 140}
    panels = [
        marks.curves(of, marks.axes_of(THROUGHPUT, x_title, every, bare=True), Look(("throughput",)), **size),
        marks.curves(mean, marks.axes_of(time, x_title, every, bare=True), Look(("time",), (theme.GREEN,)), **size),
        marks.curves(
            scatter, Axes(x_title, "Throughput, sd", "%", x_values=every),
            Look(("between takes", "within a take"), (theme.VERMILLION, theme.SKY)), width=theme.WIDTH, height=90,
        ),
    ]  # fmt: skip
    panel = alt.vconcat(*panels, spacing=12).resolve_scale(color="independent", shape="independent")
    return marks.entitled(panel, "Mean over takes and their scatter", full, told, *_notes(of, mean))


@chart("gpus-compared", "C16", "Throughput by number of GPUs, mean over takes", points=("throughput_per_s", "gpus"))
def gpus_compared(points: pl.DataFrame) -> Chart:
    """Draw the mean throughput over takes, with its interval, a line a number of GPUs."""
    full = tidy.counted_series(tidy.loaded(points), "gpus", "GPU", "level")
    where = ("level", levels.axis(full).title)
    return _one_quantity("Throughput by number of GPUs, mean over takes", full, THROUGHPUT, where, "")


@chart("configurations", "C17", "Configurations compared", points=("throughput_per_s",))
def configurations(points: pl.DataFrame) -> Chart:
    """Draw throughput and every stage of the server, a panel each, a line a configuration."""
    full = tidy.distinguished(tidy.loaded(points))
    stages = [
        seconds_or_ms(f"Mean {name}", column, full) for name, (column, _) in STAGES.items() if column in full.columns
    ]
    return panelled("Configurations compared", full, [THROUGHPUT, *stages], levels.axis(full).title)


@chart(
    *("throughput-breakdown", "C18", "Throughput and compute stages"),
    points=("throughput_per_s", "server_compute_infer_ns"),
)  # fmt: skip
def throughput_breakdown(points: pl.DataFrame) -> Chart:
    """Draw throughput above, and below it the compute stages on a logarithmic axis."""
    full, told = tidy.one_label(tidy.loaded(points))
    x_title = levels.axis(full).title
    above = tidy.curve(full.with_columns(series=pl.lit("throughput")), THROUGHPUT)
    below, unit = stage_curves(full, COMPUTE, "level")
    every = tuple({*above["x"], *below["x"]})
    size: dict[str, Any] = {"width": theme.WIDTH, "height": 170}
    by = Look(COMPUTE, tuple(STAGES[name][1] for name in COMPUTE))
    alone = Look(("throughput",), (theme.BLACK,))
    top = marks.curves(above, marks.axes_of(THROUGHPUT, x_title, every, bare=True), alone, **size)
    low = marks.curves(below, Axes(x_title, "Mean time, log", unit, log_y=True, x_values=every), by, **size)
    panel = alt.vconcat(top, low, spacing=12).resolve_scale(color="independent", shape="independent")
    return marks.entitled(panel, "Throughput and compute stages", full, told, *_notes(above, below))


@chart(
    "devices",
    "C24",
    "Throughput, latency and utilisation compared",
    also=("gpus",),
    points=("throughput_per_s", "service_mean_ns"),
)
def devices(points: pl.DataFrame, gpus: pl.DataFrame | None = None) -> Chart:
    """Draw throughput, mean service time and, where GPUs were seen, their mean utilisation, a line a label."""
    full = tidy.distinguished(tidy.loaded(points))
    time = seconds_or_ms("Mean service time", "service_mean_ns", full)
    extra: list[Drawn] = []
    if gpus is not None and not gpus.is_empty():
        rows = placed(full, gpus)  # under the names of the other panels
        seen = mean_of_gpus(rows, "utilisation_percent", "level")
        extra = [(seen, Quantity("", "Utilisation", "%"))] if seen["value"].is_not_null().any() else []
    title = "Throughput, latency and utilisation compared"
    return panels_below(title, full, [THROUGHPUT, time], levels.axis(full).title, extra)


@chart(
    "stage-areas", "", "Where the time goes", points=("service_mean_ns", *(column for column, _ in STAGES.values()))
)
def stage_areas(points: pl.DataFrame) -> Chart:
    """Draw the mean service time as areas of its stages, the remainder being network and client."""
    full = tidy.loaded(points)
    full, told = tidy.one_label(full)
    of, unit, clipped = stage_areas_frame(full)
    if of.is_empty():
        raise nothing("stage-areas", "no point has both service time and the server's stages")
    axes = Axes(levels.axis(full).title, "Mean service time", unit)
    names = [*STAGES, NETWORK]
    scale = alt.Scale(domain=names, range=[*(colour for _, colour in STAGES.values()), theme.SILVER])
    tooltip = marks.tips("x:Q|at", "series:N|stage", f"value:Q|{unit}|,.4~g")
    base = alt.Chart(of).encode(
        x=marks.x_axis(of["x"], axes),
        y=alt.Y("bottom:Q", title=axes.y + f" ({unit})"),
        y2="top:Q",
        color=alt.Color("series:N", scale=scale, legend=alt.Legend(columns=3, symbolType="square")),
        tooltip=tooltip,
    )
    edges = base.mark_rule(strokeWidth=3, opacity=0.9)
    one = "" if full["server_queue_ns"].null_count() == 0 else "Points without the server's statistics are left out."
    below = "A remainder below 0 (clocks, other clients) is drawn as 0." if clipped else ""
    panel = alt.layer(base.mark_area(opacity=0.8, line=False), edges)
    return marks.entitled(panel, "Where the time goes", full, told, "Means over takes.", one, below)


def stage_areas_frame(points: pl.DataFrame) -> tuple[pl.DataFrame, str, bool]:
    """Return the stacked stages (`x`, `series`, `value`, `bottom`, `top`), their unit, and whether one was below 0.

    Arithmetic means over takes, so that the stages add up; the remainder is mean service time minus the four stages.
    """
    columns = [column for column, _ in STAGES.values()]
    known = points.drop_nulls(["service_mean_ns", *columns])
    used = known.filter(pl.col("measured") | ~pl.col("measured").any().over("level"))
    means = used.group_by("level").agg(pl.col("service_mean_ns", *columns).mean()).sort("level")
    unit, unit_ns = duration_unit(means["service_mean_ns"].max())  # type: ignore[arg-type]
    named = means.select(
        x="level",
        **{name: pl.col(column) / unit_ns for name, (column, _) in STAGES.items()},
        **{NETWORK: (pl.col("service_mean_ns") - pl.sum_horizontal(columns)) / unit_ns},
    )
    long = named.unpivot(index="x", variable_name="series", value_name="value").with_columns(
        order=pl.col("series").replace_strict({name: place for place, name in enumerate((*STAGES, NETWORK))})
    )
    top = pl.col("value").clip(lower_bound=0).cum_sum().over("x", order_by="order")
    stacked = long.sort("order", "x").with_columns(top=top)
    bottom = pl.col("top") - pl.col("value").clip(lower_bound=0)
    return stacked.with_columns(bottom=bottom).drop("order"), unit, bool((long["value"] < 0).any())


def stage_curves(points: pl.DataFrame, names: tuple[str, ...], x: str) -> tuple[pl.DataFrame, str]:
    """Return the curves of the stages that were recorded, in one unit, and that unit."""
    columns = {name: STAGES[name][0] for name in names if STAGES[name][0] in points.columns}
    most: Any = points.select(pl.max_horizontal(pl.col(*columns.values()).max())).item()
    each = [
        tidy.curve(points.with_columns(series=pl.lit(name)), seconds_or_ms(name, column, points, most=most), x)
        for name, column in columns.items()
    ]
    return pl.concat(each), duration_unit(most)[0]


def ratio_to_first(points: pl.DataFrame, quantity: Quantity, title: str, x: str, x_title: str) -> Chart:
    """Draw a quantity a line a series, and below it the ratio to the first series (4:1), with its interval."""
    of = tidy.gapped(tidy.curve(points, quantity, x))
    names = points["series"].unique(maintain_order=True).to_list()
    if not of["value"].is_not_null().any():
        raise nothing(title, f"{quantity.title} was not recorded")
    (of,), told = tidy.capped(of)
    names = [name for name in names if name in set(of["series"])]
    by = Look(tuple(names), theme.CATEGORIES[: len(names)])
    ratios = ratio_curve(of, names[0])
    every = tuple(of["x"])
    main = Axes(x_title, quantity.title, quantity.unit, x_labels=False, x_values=every)
    lower = Axes(x_title, f"Ratio to {names[0]}", zero=False, x_values=every)
    panels = [marks.curves(of, main, by, width=theme.WIDTH, height=230)]
    if ratios["value"].is_not_null().any():
        low = marks.curves(ratios, lower, by, width=theme.WIDTH, height=75)
        panels.append(marks.reference(1.0) + low)
    else:
        panels = [
            marks.curves(of, Axes(x_title, quantity.title, quantity.unit, x_values=every), by, width=theme.WIDTH)
        ]
    notes = (told, *_notes(of), *tidy.gap_words(of, x_title.lower()))
    return marks.entitled(marks.stacked(*panels), title, points, *notes)


def ratio_curve(of: pl.DataFrame, first: str) -> pl.DataFrame:
    """Return each series over the first at the same place; no row where either has no value. Columns as a curve.

    The interval is that of two independent values, by their own intervals; none where one has none.
    """
    base = {row["x"]: row for row in of.filter(pl.col("series") == first).iter_rows(named=True)}
    rows = []
    for row in of.filter(pl.col("series") != first).iter_rows(named=True):
        under = base.get(row["x"])
        if under is None or not under["value"] or row["value"] is None:
            continue
        rows.append({**row, "value": row["value"] / under["value"], **_ratio_limits(under, row)})
    return pl.DataFrame(rows, schema=tidy.CURVE)


def one_set(points: pl.DataFrame, column: str) -> tuple[pl.DataFrame, str]:
    """Return the points of one label, that with the most values of `column`, where labels share places; and words."""
    known = points.filter(pl.col(column).is_not_null())
    return tidy.first_label(known, column) if tidy.contested(known, [column, "level"]) else (known, "")


def panels_below(
    title: str, points: pl.DataFrame, quantities: Sequence[Quantity], x_title: str, extra: Sequence[Drawn] = ()
) -> Chart:
    """Draw quantities below each other against the load, a line a series."""
    drawn = [*((tidy.gapped(tidy.curve(points, each)), each) for each in quantities), *extra]
    kept, told = tidy.capped(*(of for of, _ in drawn))
    by, every = marks.look(pl.concat(kept)), tuple({at for of in kept for at in of["x"]})
    height = 190 if len(drawn) == 2 else 140  # noqa: PLR2004 - two panels have more room
    panels = []
    for place, (of, (_, quantity)) in enumerate(zip(kept, drawn, strict=True)):
        top = 100 if quantity.unit == "%" else None
        axes = marks.axes_of(quantity, x_title, every, bare=place < len(drawn) - 1, top=top)
        panels.append(marks.curves(of, axes, by, width=theme.WIDTH, height=height))
    notes = (told, *_notes(*kept), *tidy.gap_words(kept[0], "load"))
    return marks.entitled(marks.stacked(*panels), title, points, *notes)


def panelled(title: str, points: pl.DataFrame, quantities: list[Quantity], x_title: str, x: str = "level") -> Chart:
    """Draw quantities side by side, three in a row; what was not recorded is named, not drawn."""
    known = [each for each in quantities if points[each.column].is_not_null().any()]
    absent = [each.title for each in quantities if each not in known]
    if not known:
        raise nothing(title, "none of its quantities was recorded")
    each, rest = tidy.capped(*(tidy.gapped(tidy.curve(points, quantity, x)) for quantity in known))
    by = marks.look(pl.concat(each))
    panels = [
        marks.curves(of, Axes(x_title, quantity.title, quantity.unit), by, width=230, height=170)
        for quantity, of in zip(known, each, strict=True)
    ]
    told = f"Not recorded: {', '.join(absent)}." if absent else ""
    return marks.entitled(marks.grid(panels, 3), title, points, told, rest, *_notes(*each))


def _one_quantity(title: str, full: pl.DataFrame, quantity: Quantity, where: tuple[str, str], words: str) -> Chart:
    (of,), told = tidy.capped(tidy.gapped(tidy.curve(full, quantity, where[0])))
    panel = marks.curves(of, Axes(where[1], quantity.title, quantity.unit), marks.look(of))
    return marks.entitled(panel, title, full, words, told, *_notes(of), *tidy.gap_words(of, "load"))


def _chosen(points: pl.DataFrame) -> tuple[pl.DataFrame, str, str, str]:
    """Return the points, the column they run along with its title, and words: the diagonal where instances vary."""
    full = tidy.loaded(points)
    x, title, words = along(full)
    if words:
        full, words = tidy.diagonal(full)
        full = tidy.distinguished(full, x)
    return full, x, title, words


def _notes(*of: pl.DataFrame) -> tuple[str, str]:
    return marks.band_words(*of), marks.hollow_words(*of)


def _scatter(of: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    empty = pl.lit(None, pl.Float64)
    return of.with_columns(series=pl.lit(name), value=100 * pl.col(column), low=empty, high=empty)


def _ratio_limits(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    ends = [(side["value"], side["low"], side["high"]) for side in (under, over)]
    if any(low is None or high is None or low <= 0 for _, low, high in ends):
        return {"low": None, "high": None}
    found = stats.ratio_of_points(*ends)
    return {"low": found.low, "high": found.high}
