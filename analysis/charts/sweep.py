"""Tables -> charts against concurrency. Every figure drawn is a figure of the table: nothing is averaged on the way.

A function returns None where the run has nothing to draw. Points whose verdict is not `measured` are hollow.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import altair as alt
import polars as pl

from analysis import theme
from analysis.charts.marks import ticks
from analysis.charts.registry import Chart
from analysis.levels import SURE, Axis, axis, headline_of, level_text, levelled
from analysis.readable import duration_unit, short_names, wrapped

PERCENTILES = ("p99", "p95", "p90", "p50")
PERCENTILE_COLOURS = (theme.VERMILLION, theme.ORANGE, theme.GREEN, theme.BLUE)
STAGES = {
    "queue": "server_queue_ns",
    "compute input": "server_compute_input_ns",
    "compute infer": "server_compute_infer_ns",
    "compute output": "server_compute_output_ns",
    "network + client": "network_ns",
}
STAGE_COLOURS = (theme.ORANGE, theme.SKY, theme.BLUE, theme.PURPLE, theme.SILVER)
MEAN_PREFIX = "mean of "
LETTERS_A_PIXEL = 1 / 5.6
LEAST_GAP = 0.04
HOLLOW_NOTE = "Hollow: there is an objection to this point."


def throughput(points: pl.DataFrame) -> Chart | None:
    """Draw throughput against concurrency or rate."""
    if points.is_empty():
        return None
    points = levelled(points)
    columns = ("point", "level", "throughput_per_s", "completed", "failed", *_VERDICT)
    limits = {"low": pl.col("throughput_low_per_s"), "high": pl.col("throughput_high_per_s")}
    frame = _marked(points.select(*columns, **limits, series=pl.lit("throughput")))
    y = alt.Y("throughput_per_s:Q", title="Throughput (events/s)", scale=_from_zero(frame["throughput_per_s"]))
    tooltip = [*_POINT_TOOLTIP, alt.Tooltip("throughput_per_s:Q", title="events/s", format=",.4~g"), *_LIMITS_TOOLTIP]
    tooltip += [alt.Tooltip("completed:Q"), alt.Tooltip("failed:Q"), *_VERDICT_TOOLTIP]
    base = alt.Chart(frame).encode(x=_level(frame, axis(points)), y=y, tooltip=tooltip)
    title = heading(f"Throughput against {axis(points).noun}", points)
    return _lines_and_marks(base, frame, _series(["throughput"], [theme.BLUE])).properties(title=title)


def utilisation(points: pl.DataFrame, gpus: pl.DataFrame, cpu: pl.DataFrame) -> Chart | None:
    """Draw GPU utilisation against concurrency, each GPU and their mean; without GPUs, instances and CPU."""
    points = levelled(points)
    frame, title = utilisation_frame(points, gpus, cpu)
    if frame.is_empty():
        return None
    scale = _utilisation_scale(frame["series"].unique(maintain_order=True).to_list())
    y_scale = alt.Scale(domain=[0, max(100.0, *frame["percent"])])
    tooltip = [*_POINT_TOOLTIP, alt.Tooltip("of:N", title="of"), alt.Tooltip("percent:Q", title="%", format=".1f")]
    base = alt.Chart(frame).encode(
        x=_level(frame, axis(points)),
        y=alt.Y("percent:Q", title="Utilisation (%)", scale=y_scale),
        tooltip=[*tooltip, *_VERDICT_TOOLTIP],
    )
    return _lines_and_marks(base, frame, scale).properties(title=heading(title, points))


def latency(points: pl.DataFrame) -> Chart | None:
    """Draw the percentiles of service time against concurrency, or of response time against rate."""
    points = levelled(points)
    kind = headline_of(points)
    long, unit = _durations(points, {name: f"{kind}_{name}_ns" for name in PERCENTILES}, limits=True)
    if long.is_empty():
        return None
    # Bars of four percentiles at one place would hide each other.
    between = pl.col("series").is_in(["p90", "p95"])
    long = long.with_columns(pl.when(~between).then(pl.col("low", "high")))
    y = alt.Y("value:Q", title=f"{kind.capitalize()} time ({unit})", scale=_from_zero(long["value"]))
    tooltip = [*_POINT_TOOLTIP, alt.Tooltip("series:N", title="percentile")]
    tooltip += [alt.Tooltip("value:Q", title=unit, format=",.4~g"), *_LIMITS_TOOLTIP, *_VERDICT_TOOLTIP]
    base = alt.Chart(long).encode(x=_level(long, axis(points)), y=y, tooltip=tooltip)
    title = heading(f"Latency: percentiles of {kind} time", points)
    return _lines_and_marks(base, long, _series(list(PERCENTILES), PERCENTILE_COLOURS)).properties(title=title)


def stages(points: pl.DataFrame) -> Chart | None:
    """Draw the mean service time stacked by stage; a remainder below 0 (clocks, other clients) is drawn as 0."""
    points = levelled(points)
    long, unit = _durations(points.filter(pl.col("server_queue_ns").is_not_null()), STAGES)
    if long.is_empty():
        return None
    levels = points["level"]
    twice = pl.col("level").is_in(levels.filter(levels.is_duplicated()).to_list())
    name = pl.col("level").map_elements(level_text, pl.String)
    numbered = name + " (point " + pl.col("point").cast(pl.String) + ")"
    long = long.with_columns(
        bar=pl.when(twice).then(numbered).otherwise(name),
        drawn=pl.col("value").clip(lower_bound=0),
        order=pl.col("series").replace_strict({name: place for place, name in enumerate(STAGES)}),
    )
    bars = long.sort("level", "point")["bar"].unique(maintain_order=True).to_list()
    tooltip = [*_POINT_TOOLTIP, alt.Tooltip("series:N", title="stage")]
    tooltip += [alt.Tooltip("value:Q", title=f"mean, {unit}", format=",.4~g"), *_VERDICT_TOOLTIP]
    scale = _series(list(STAGES), STAGE_COLOURS)
    chart = (
        alt.Chart(long)
        .mark_bar()
        .encode(
            x=alt.X("bar:O", title=axis(points).title, sort=bars, axis=_BAR_AXIS),
            y=alt.Y("drawn:Q", title=f"Mean service time ({unit})", stack="zero"),
            color=alt.Color("series:N", scale=scale, legend=alt.Legend(columns=3)),
            order=alt.Order("order:Q"),
            opacity=alt.condition("datum.measured", alt.value(1), alt.value(0.5)),
            tooltip=tooltip,
        )
    )
    title = heading("Where the time goes: server stages", points, note="Pale: there is an objection to this point.")
    return layered(chart).properties(title=title)


def heading(title: str, points: pl.DataFrame, width: int = theme.WIDTH, note: str = HOLLOW_NOTE) -> alt.TitleParams:
    """Return a title whose subtitle says what was measured, on what, with what, and whether it was simulated."""
    first = points.row(0, named=True)
    simulated = ["SIMULATED: not a physics figure."] if points["simulated"].any() else []
    hollow = [note] if not points.select(SURE.all()).item() and note else []
    instances = f", {first['instances']} instance{'s' * (first['instances'] != 1)}" if first["instances"] else ""
    parts = [*simulated, f"{first['model']} on {first['server']}{instances}", str(first["inputs"]), *hollow]
    colour = theme.WARNING if simulated else theme.GREY
    return alt.TitleParams(title, subtitle=wrapped(parts, int(width * LETTERS_A_PIXEL)), subtitleColor=colour)


def utilisation_frame(points: pl.DataFrame, gpus: pl.DataFrame, cpu: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Return `point`, `level`, `series`, `of`, `percent` and verdict, and the title they go by."""
    per_gpu = gpus.select("point", of="gpu", percent=100 * pl.col("utilisation")).drop_nulls("percent")
    if per_gpu.is_empty():
        busy = points.select("point", of=pl.lit("server instances busy"), percent=100 * pl.col("server_busy"))
        host = cpu.select("point", of=pl.lit("CPU of the server's host"), percent=100 * pl.col("cpu_utilisation"))
        long = pl.concat([busy, host]).drop_nulls("percent").with_columns(series=pl.col("of"))
        title = "Busy instances and CPU (no GPU figures)"
    else:
        named = per_gpu.with_columns(series=pl.col("of").replace_strict(short_names(per_gpu["of"])))
        long = pl.concat([named.sort("of"), *_mean_of_gpus(per_gpu)])
        title = f"GPU utilisation against {axis(points).noun}"
    facts = levelled(points).select("point", "level", *_VERDICT)
    return _marked(long.join(facts, on="point", how="left", maintain_order="left")), title


_VERDICT = ("verdict", "reason")
_VERDICT_TOOLTIP = (alt.Tooltip("verdict:N"), alt.Tooltip("reason:N"))
_POINT_TOOLTIP = (alt.Tooltip("point:Q"), alt.Tooltip("level:Q", title="at"))
_LIMITS_TOOLTIP = (
    alt.Tooltip("low:Q", title="95 % from", format=",.4~g"),
    alt.Tooltip("high:Q", title="95 % to", format=",.4~g"),
)
_BAR_AXIS = alt.Axis(labelAngle=0, labelOverlap=True)


def _utilisation_scale(series: Sequence[str]) -> alt.Scale:
    means = [name for name in series if name.startswith(MEAN_PREFIX)]
    names = [name for name in series if name not in means]
    colours = [theme.CATEGORIES[place % len(theme.CATEGORIES)] for place in range(len(names))]
    return _series([*names, *means], [*colours, *(theme.BLACK for _ in means)])


def _mean_of_gpus(per_gpu: pl.DataFrame) -> list[pl.DataFrame]:
    count = per_gpu["of"].n_unique()
    if count == 1:
        return []
    name = pl.lit(f"{MEAN_PREFIX}{count} GPUs")
    mean = per_gpu.group_by("point").agg(pl.col("percent").mean()).sort("point")
    return [mean.select("point", of=name, percent="percent", series=name)]


def _durations(points: pl.DataFrame, columns: dict[str, str], *, limits: bool = False) -> tuple[pl.DataFrame, str]:
    longest_ns: Any = points.select(pl.max_horizontal(pl.col(*columns.values()).max())).item()
    unit, unit_ns = duration_unit(longest_ns)
    facts = points.select("point", "level", *_VERDICT, **{name: pl.col(of) for name, of in columns.items()})
    long = facts.unpivot(index=["point", "level", *_VERDICT], variable_name="series", value_name="value_ns")
    if limits:
        ends = [
            points.select("point", series=pl.lit(name), low=_limit(of, "low"), high=_limit(of, "high"))
            for name, of in columns.items()
        ]
        scaled = pl.concat(ends).with_columns(pl.col("low", "high") / unit_ns)
        long = long.join(scaled, on=["point", "series"], how="left", maintain_order="left")
    shown = long.drop_nulls("value_ns").with_columns(value=pl.col("value_ns") / unit_ns).drop("value_ns")
    return _marked(shown), unit


def _limit(column: str, limit: str) -> pl.Expr:
    return pl.col(column.replace("_ns", f"_{limit}_ns"))


def _marked(frame: pl.DataFrame) -> pl.DataFrame:
    mean = pl.col("series").str.starts_with(MEAN_PREFIX)
    return frame.with_columns(measured=SURE, mean=mean)


def _level(frame: pl.DataFrame, by: Axis) -> alt.X:
    levels = frame["level"].to_list()
    low, high = min(levels), max(levels)
    shown = ticks(levels)
    ticked = alt.Axis(values=shown, format=",.4~r", labelOverlap=True)
    crowded = any(right - left < LEAST_GAP * (high - low) for left, right in pairwise(shown))
    if crowded:
        scale = alt.Scale(type="log", base=2, domain=[low / 1.15, high * 1.15], nice=False)
        return alt.X("level:Q", title=f"{by.title}, log scale", axis=ticked, scale=scale)
    room = max(0.5, 0.04 * (high - low))
    scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    return alt.X("level:Q", title=by.title, axis=ticked, scale=scale)


def _from_zero(values: pl.Series) -> alt.Scale:
    most: Any = values.max()
    return alt.Scale(domainMin=0, nice=True) if most else alt.Scale(domain=[0, 1])


def _series(names: Sequence[str], colours: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=list(colours))


def _lines_and_marks(base: alt.Chart, frame: pl.DataFrame, scale: alt.Scale) -> alt.LayerChart:
    """Lines by `series` with a mark a point; the mean of several series thicker than they are."""
    legend = alt.Legend() if frame["series"].n_unique() > 1 else None
    coloured = base.encode(color=alt.Color("series:N", scale=scale, legend=legend))
    layers = [_through(coloured, frame)]
    layers += _error_bars(coloured, frame)
    # A layer that filters everything away makes Vega complain of an infinite extent.
    if frame["mean"].any():
        layers.append(coloured.transform_filter("datum.mean").mark_line(strokeWidth=5, opacity=0.9))
    layers.append(coloured.mark_point(size=55, filled=True, opacity=1))
    if not frame["measured"].all():
        hollow = coloured.transform_filter("!datum.measured")
        layers.append(hollow.mark_point(size=55, fill=theme.WHITE, opacity=1, strokeWidth=2))
    return layered(*layers)


def _through(coloured: Any, frame: pl.DataFrame) -> Any:  # noqa: ANN401 - altair's encodings are untyped
    """Join the points; where levels were measured several times, join their means."""
    line = coloured.transform_filter("!datum.mean")
    takes = frame.select(pl.struct("level", "series").is_duplicated().any()).item()
    if not takes:
        return line.mark_line()
    value = next(name for name in ("value", "percent", "throughput_per_s") if name in frame.columns)
    return line.encode(y=alt.Y(f"mean({value}):Q"), tooltip=alt.Tooltip(f"mean({value}):Q")).mark_line()


def _error_bars(coloured: alt.Chart, frame: pl.DataFrame) -> list[alt.Chart]:
    """Draw each point's 95 % interval, where it has one with two ends."""
    if "low" not in frame.columns or frame.drop_nulls(["low", "high"]).is_empty():
        return []
    known = coloured.transform_filter("isValid(datum.low) && isValid(datum.high)")
    return [known.encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q")).mark_rule(strokeWidth=2, opacity=0.55)]


def layered(*charts: alt.Chart) -> alt.LayerChart:
    """Lay charts over each other."""
    chart = alt.layer(*charts)
    assert isinstance(chart, alt.LayerChart)  # a facet only where a chart brings one along
    return chart
