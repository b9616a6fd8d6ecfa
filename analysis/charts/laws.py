"""Scaling: the fitted laws over the points, parallel efficiency, and throughput against latency with the knee."""

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from analysis import levels, scaling, theme
from analysis.charts import marks, tidy
from analysis.charts.gpu import INSTANCES
from analysis.charts.marks import Axes, Look
from analysis.charts.registry import Chart, chart, nothing
from analysis.charts.tidy import THROUGHPUT, seconds_or_ms
from analysis.scaling import Level, Scaling

LAW_POINTS = 80
MOST_KNEES = 4
USL_LEVELS = 5
GPUS = "GPUs"
MEASURED, BOUND, USL = "measured", "bound: min(N / R0, C)", "universal scalability law"


@chart("scaling", "", "Scaling with concurrency", points=("concurrency", "throughput_per_s"))
def scaling_chart(points: pl.DataFrame) -> Chart:
    """Draw throughput against concurrency with the fitted laws and the knee, and below it parallel efficiency."""
    full, told = tidy.one_label(tidy.loaded(points))
    full = full.filter(pl.col("concurrency").is_not_null()).with_columns(count=pl.col("concurrency").cast(pl.Float64))
    return _scaled("Scaling with concurrency", full, levels.CONCURRENCY.title, told)


@chart("scaling-instances", "", "Scaling with instances", points=("instances", "throughput_per_s"))
def scaling_instances(points: pl.DataFrame) -> Chart:
    """Draw the best throughput against instances with the fitted laws, and below it parallel efficiency."""
    full, words = tidy.diagonal(tidy.completed(points))
    full, told = tidy.first_label(tidy.distinguished(full, "instances").with_columns(count="instances"), "count")
    return _scaled("Scaling with instances", full, INSTANCES, f"{words} {told}".strip())


@chart("scaling-gpus", "", "Scaling with GPUs", points=("gpus", "throughput_per_s"))
def scaling_gpus(points: pl.DataFrame) -> Chart:
    """Draw the best throughput against GPUs with the fitted laws, and below it parallel efficiency."""
    full, words = tidy.diagonal(tidy.completed(points), "gpus")
    full, told = tidy.first_label(tidy.distinguished(full, "gpus").with_columns(count="gpus"), "count")
    return _scaled("Scaling with GPUs", full, GPUS, f"{words} {told}".strip())


@chart(
    "throughput-latency",
    "",
    "Throughput against latency, with the knee",
    points=("throughput_per_s", "service_p99_ns"),
)
def throughput_latency(points: pl.DataFrame) -> Chart:
    """Draw p99 against throughput, joined in order of load and labelled with it; the knee where one was found."""
    full = tidy.distinguished(tidy.loaded(points))
    kind = tidy.headline(full)
    time = seconds_or_ms(f"p99 of {kind} time", f"{kind}_p99_ns", full)
    of = pairs(full, time)
    if of.is_empty():
        raise nothing("throughput-latency", "no point has both a throughput and a p99")
    (of,), rest = tidy.capped(of)
    by = marks.look(of)
    x = alt.X("throughput:Q", title="Throughput (events/s)", scale=alt.Scale(zero=True, nice=True))
    low, high = marks.limits(of, Axes("", ""))
    most: Any = of["throughput"].max()
    of = of.with_columns(pl.col("low", "high").clip(low, high), pl.col("throughput_high").clip(0, marks.REACH * most))
    y = alt.Y("value:Q", title=time.axis_title, scale=alt.Scale(domainMin=0, nice=True))
    noun = levels.axis(full).noun
    figures = ("throughput:Q|events/s|,.4~g", f"value:Q|p99, {time.unit}|,.4~g", "note:N|objection")
    tooltip = marks.tips("series:N", f"x:Q|{noun}", *figures)
    base = alt.Chart(of).encode(x=x, y=y, color=by.colour(), tooltip=tooltip)
    layers: list[Any] = [*_boxes(of, by, time), base.mark_line(opacity=0.7).encode(order="x:Q")]
    layers.append(base.mark_point(size=55, filled=True, opacity=1).encode(shape=by.shape()))
    if not of["measured"].all():
        hollow = base.transform_filter("!datum.measured").encode(shape=by.shape())
        layers.append(hollow.mark_point(size=55, fill=theme.WHITE, opacity=1, strokeWidth=2))
    layers.append(alt.Chart(of).mark_text(dx=6, dy=-8, align="left").encode(x=x, y=y, text="level:N"))
    knees = knee_frame(full.filter(pl.col("series").is_in(by.names)))
    layers += _knee_marks(knees, by)
    title = "Throughput against latency, with the knee" if knees.height else "Throughput against latency"
    note = f"Numbers: {noun}." + ("" if knees.height else " No knee: fewer than 5 loads, or no flat part.")
    return marks.entitled(alt.layer(*layers), title, full, rest, note, marks.hollow_words(of))


def pairs(points: pl.DataFrame, time: tidy.Quantity) -> pl.DataFrame:
    """Return the curve of p99 with the mean `throughput` of the same place beside it, and its limits."""
    latency = tidy.curve(points, time).drop_nulls("value")
    rate = tidy.curve(points, THROUGHPUT).select(
        "x", "series", throughput="value", throughput_low="low", throughput_high="high"
    )
    joined = latency.join(rate, on=["x", "series"], how="inner", maintain_order="left").drop_nulls("throughput")
    return joined.with_columns(level=pl.col("x").map_elements(levels.level_text, pl.String))


def sweep_levels(of: pl.DataFrame) -> list[Level]:
    """Return a curve of throughput as the levels that `analysis.scaling` fits; points with objections left out."""
    sure = of.filter("measured").drop_nulls("value").filter(pl.col("value") > 0)
    return [Level(row["x"], row["value"], row["low"], row["high"]) for row in sure.iter_rows(named=True)]


def knee_frame(points: pl.DataFrame) -> pl.DataFrame:
    """Return capacity and knee of every series that has one: `series`, `capacity`, `words`."""
    rows = []
    known = points.filter(pl.col("concurrency").is_not_null())
    for (series,), group in known.group_by("series", maintain_order=True):
        found = scaling.scaling(sweep_levels(tidy.curve(group, THROUGHPUT)))
        if found is not None:
            words = f"capacity {found.capacity_per_s.value:.3g}/s, knee at {found.knee.value:.3g}"
            rows.append({"series": series, "capacity": found.capacity_per_s.value, "words": words})
    return pl.DataFrame(rows, schema={"series": pl.String(), "capacity": pl.Float64(), "words": pl.String()})


def law_lines(of: pl.DataFrame, found: Scaling | None) -> tuple[pl.DataFrame, str]:
    """Return the fitted laws inside the measured range (`x`, `series`, `value`), and what they say in words."""
    sweep = sweep_levels(of)
    n = np.array([each.concurrency for each in sweep])
    if len(n) == 0 or len(np.unique(n)) < USL_LEVELS:
        return of.select("x", "series", "value").clear(), f"No law is fitted: fewer than {USL_LEVELS} counts."
    at = np.unique(np.concatenate([np.linspace(n.min(), n.max(), LAW_POINTS), n]))
    rate, a, b = scaling.curve(n, np.log([each.throughput_per_s for each in sweep]), coherency=True)
    lines = {USL: rate * at / (1 + a * (at - 1) + b * at * (at - 1))}
    words = f"Universal scalability law: contention {a:.3g}, coherency {b:.2g}"
    other = found is not None and found.law != "usl"
    words += f"; AICc prefers {_LAWS[found.law]}: a description only." if found is not None and other else "."
    if found is not None:
        alone, capacity, knee = found.alone_s.value, found.capacity_per_s.value, found.knee
        lines[BOUND] = np.minimum(at / alone, capacity)
        words += f" Knee at {knee.value:.3g} ({knee.low:.3g} to {knee.high:.3g}), capacity {capacity:.4g}/s."
    frames = [pl.DataFrame({"x": at, "series": [name] * len(at), "value": y}) for name, y in lines.items()]
    return pl.concat(frames), words


def efficiency(of: pl.DataFrame) -> pl.DataFrame:
    """Return parallel efficiency in percent, X(N) N0 / (X(N0) N), N0 the least count measured; columns as a curve."""
    known = of.drop_nulls("value").sort("x")
    if known.is_empty() or not known["value"][0]:
        return known.clear()
    first, least = known["value"][0], known["x"][0]
    factor = 100 * least / first / pl.col("x")
    return known.with_columns(pl.col("value", "low", "high") * factor)


_LAWS = {"bound": "the bound", "amdahl": "Amdahl's law", "usl": "the universal scalability law"}


def _scaled(title: str, points: pl.DataFrame, x_title: str, told: str) -> Chart:
    of = tidy.curve(points.with_columns(series=pl.lit(MEASURED)), THROUGHPUT, "count")
    if not of["value"].is_not_null().any():
        raise nothing(title, "no throughput was measured")
    if of["x"].n_unique() == 1:
        raise nothing(title, f"only one value of {x_title.lower()} was measured")
    found = scaling.scaling(sweep_levels(of))
    lines, words = law_lines(of, found)
    every = tuple(of["x"])
    axes = Axes(x_title, "Throughput", "events/s", x_labels=False, x_values=every)
    names = (MEASURED, *lines["series"].unique(maintain_order=True).to_list())
    by = Look(names, (theme.BLUE, theme.VERMILLION, theme.GREEN)[: len(names)])
    layers = [marks.curves(of, axes, by)]
    if lines.height:
        fit = alt.Chart(lines).encode(
            x=marks.x_axis(of["x"], axes), y=alt.Y("value:Q", title=None), color=by.colour()
        )
        layers.insert(0, fit.mark_line(strokeWidth=2, strokeDash=[6, 3]))
    if found is not None:
        at = pl.DataFrame({"x": [found.knee.value]}).filter(pl.col("x") <= max(every))
        layers.append(alt.Chart(at).mark_rule(color=theme.GREY, strokeDash=[2, 3]).encode(x="x:Q"))
    share = efficiency(of).with_columns(series=pl.lit(MEASURED))
    lower = Axes(x_title, "Efficiency", "%", top=100, x_values=every)
    panels = [marks.sized(alt.layer(*layers), theme.WIDTH, 220)]
    panels.append(
        marks.reference(100.0)
        + marks.curves(share, lower, Look((MEASURED,), (theme.BLUE,)), width=theme.WIDTH, height=85)
    )
    panel = alt.vconcat(*panels, spacing=12).resolve_scale(color="independent", shape="independent")
    return marks.entitled(panel, title, points, told, words, marks.band_words(of), marks.hollow_words(of))


def _knee_marks(knees: pl.DataFrame, by: Look) -> list[Any]:
    if knees.is_empty():
        return []
    layers: list[Any] = [alt.Chart(knees).mark_rule(strokeDash=[5, 4]).encode(x="capacity:Q", color=by.colour())]
    for place in range(min(knees.height, MOST_KNEES)):
        text = alt.Chart(knees[place : place + 1]).mark_text(align="right", dx=-4, dy=13 * place, baseline="top")
        layers.append(text.encode(x="capacity:Q", y=alt.value(0), text="words:N", color=by.colour()))
    return layers


def _boxes(of: pl.DataFrame, by: Look, time: tidy.Quantity) -> list[Any]:
    """Draw the intervals of both coordinates as crosses."""
    base = alt.Chart(of).encode(color=by.colour())
    known = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    wide = base.transform_filter("isValid(datum.throughput_low) && isValid(datum.throughput_high)")
    layers: list[Any] = []
    if of.drop_nulls(["low", "high"]).height:
        layers.append(
            known.mark_rule(opacity=0.5).encode(
                x="throughput:Q", y=alt.Y("low:Q", title=time.axis_title), y2="high:Q"
            )
        )
    if of.drop_nulls(["throughput_low", "throughput_high"]).height:
        x = alt.X("throughput_low:Q", title="Throughput (events/s)")
        layers.append(wide.mark_rule(opacity=0.5).encode(x=x, x2="throughput_high:Q", y="value:Q"))
    return layers
