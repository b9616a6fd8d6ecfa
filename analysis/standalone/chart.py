"""Throughput of the standalone programs against pile-up, a line a device."""

from typing import TypeAlias

import altair as alt
import polars as pl

from analysis import theme
from analysis.readable import listed, wrapped

DEVICES = {"cpu": theme.BLUE, "cuda": theme.VERMILLION, "sycl": theme.GREEN, "alpaka": theme.PURPLE}
SHAPES = ("circle", "square", "diamond", "triangle-up")
SUBTITLE_WIDTH = 76
Layers: TypeAlias = alt.LayerChart | alt.FacetChart
TITLE = "Standalone traccc: throughput against pile-up"


def pile_up(rows: pl.DataFrame) -> Layers | None:
    """Draw events a second (log) against mu; columns as `analysis.standalone.SCHEMA`, None with nothing to draw.

    Several results of one thing are a mark each, and the line goes through their geometric mean. Throughput of
    `--log-file` and text of one run is drawn twice if both are given.
    """
    drawn = rows.filter(pl.col("mu").is_not_null(), pl.col("device").is_not_null(), pl.col("throughput_per_s") > 0)
    if drawn.is_empty():
        return None
    drawn = drawn.with_columns(series=_series())
    order = drawn.sort("device", "threads").get_column("series").unique(maintain_order=True).to_list()
    means = drawn.group_by("series", "mu").agg(throughput_per_s=pl.col("throughput_per_s").log().mean().exp())
    colours = [_colour(name, place) for place, name in enumerate(order)]
    colour = alt.Color("series:N", scale=alt.Scale(domain=order, range=colours), legend=alt.Legend(columns=2))
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(order))]
    shape = alt.Shape("series:N", scale=alt.Scale(domain=order, range=shapes))
    x = alt.X("mu:Q", title="Average interactions per bunch crossing (mu)", scale=alt.Scale(zero=False, padding=16))
    logarithmic = alt.Scale(type="log", padding=12, nice=False)
    y = alt.Y("throughput_per_s:Q", title="Throughput (events/s)", scale=logarithmic, axis=alt.Axis(format="~g"))
    tooltip = [alt.Tooltip(name) for name in ("file:N", "series:N", "mu:Q", "processed:Q")]
    tooltip.append(alt.Tooltip("throughput_per_s:Q", title="events/s", format=".4~g"))
    lines = alt.Chart(means.sort("series", "mu")).mark_line().encode(x=x, y=y, color=colour)
    marks = alt.Chart(drawn).mark_point(size=70, filled=True, opacity=1)
    marks = marks.encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip)
    title = alt.Title(TITLE, subtitle=wrapped(_subtitle(drawn), SUBTITLE_WIDTH))
    return alt.layer(lines, marks).properties(title=title, width=theme.WIDTH, height=theme.HEIGHT)


def _series() -> pl.Expr:
    """Name a series: the device, its name where the log tells it, and the threads."""
    name = pl.when(pl.col("device_name").is_not_null()).then(pl.format("{} ({})", "device", "device_name"))
    noun = pl.when(pl.col("threads") == 1).then(pl.lit("thread")).otherwise(pl.lit("threads"))
    threads = pl.when(pl.col("threads").is_not_null()).then(pl.format(", {} {}", "threads", noun))
    return pl.concat_str(name.otherwise(pl.col("device")), threads.otherwise(pl.lit("")))


def _colour(series: str, place: int) -> str:
    device = series.replace(",", " ").split(" ")[0]
    return DEVICES.get(device, theme.CATEGORIES[place % len(theme.CATEGORIES)])


def _subtitle(drawn: pl.DataFrame) -> list[str]:
    """Say version and kinds of log; where logs differ, that they do."""
    versions, styles = (sorted(set(drawn[name].drop_nulls())) for name in ("traccc_version", "log_style"))
    said = "traccc, version not recorded"
    if versions or styles:
        said = f"traccc {listed(versions)}" if versions else f"traccc {listed(styles)} (by the style of its logs)"
    return [said, "Wall time over all threads; file reading left out"]
