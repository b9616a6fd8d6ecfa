"""What the model answered: histograms of chi2/ndf and of tracks an event, one data set against another."""

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from analysis import theme
from analysis.charts import marks
from analysis.charts.marks import Look
from analysis.charts.registry import Chart, chart, nothing

TOPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
"""Upper ends of the axis of chi2/ndf; what is beyond the last is counted, not drawn."""

LEAST = 0.7
"""Lower end of a logarithmic axis of counts: below one entry."""


@chart("answers-chi2", "C23", "chi2/ndf of the tracks", answers=("label", "quantity", "value"))
def answers_chi2(answers: pl.DataFrame) -> Chart:
    """Draw chi2/ndf in 40 bins, logarithmic, with the ratio to the first data set below.

    The bins go from 0 to 200, or to less where every value is less: to 100, 50, 20, ...
    """
    values = answers.filter(pl.col("quantity") == "chi2_ndf")["value"]
    most = float(values.max() or TOPS[0])  # type: ignore[arg-type]
    top = next((each for each in TOPS if each >= most), TOPS[-1])
    return _histograms(
        "answers-chi2", "chi2_ndf", "chi2/ndf of the tracks", answers, np.linspace(0, top, 41), log_y=True
    )


@chart("answers-tracks", "C23", "Tracks an event", answers=("label", "quantity", "value"))
def answers_tracks(answers: pl.DataFrame) -> Chart:
    """Draw the number of tracks an event in 25 bins, with the ratio to the first data set below."""
    counts = answers.filter(pl.col("quantity") == "tracks")["value"]
    most = float(counts.max() or 1) * 1.0001  # type: ignore[arg-type]
    return _histograms("answers-tracks", "tracks", "Tracks an event", answers, np.linspace(0, most, 26), log_y=False)


def histogram(values: np.ndarray, edges: np.ndarray, series: str) -> pl.DataFrame:
    """Return `start`, `end`, `middle`, `count`, `low`, `high` (Poisson: sqrt) and `series`; none outside."""
    counts, _ = np.histogram(values, edges)
    error = np.sqrt(counts)
    return pl.DataFrame(
        {
            "start": edges[:-1], "end": edges[1:], "middle": (edges[:-1] + edges[1:]) / 2,
            "count": counts.astype(float), "low": np.maximum(counts - error, 0.0), "high": counts + error,
        }
    ).with_columns(series=pl.lit(series))  # fmt: skip


def ratio(over: pl.DataFrame, under: pl.DataFrame) -> pl.DataFrame:
    """Return `over` / `under` bin by bin with its error; no row where either bin is empty."""
    both = over.join(under.select("start", base="count"), on="start", maintain_order="left")
    known = both.filter((pl.col("base") > 0) & (pl.col("count") > 0))
    value = pl.col("count") / pl.col("base")
    error = value * (1 / pl.col("count") + 1 / pl.col("base")).sqrt()
    return known.with_columns(value=value, low=value - error, high=value + error)


def _histograms(  # noqa: PLR0913 - what a histogram is
    name: str, quantity: str, title: str, answers: pl.DataFrame, edges: np.ndarray, *, log_y: bool
) -> Chart:
    rows = answers.filter(pl.col("quantity") == quantity).drop_nulls("value")
    if rows.is_empty():
        raise nothing(name, f"no row of quantity {quantity}")
    labels = rows["label"].unique(maintain_order=True).to_list()
    each = [histogram(rows.filter(pl.col("label") == label)["value"].to_numpy(), edges, label) for label in labels]
    by = Look(tuple(labels), theme.CATEGORIES[: len(labels)])
    of = pl.concat(each)
    if not of["count"].sum():
        raise nothing(name, f"every value of {quantity} lies outside {edges[0]:g} to {edges[-1]:g}")
    scale_x = alt.Scale(domain=[float(edges[0]), float(edges[-1])], nice=False)
    panels = [_steps(of, by, (title, scale_x), log_y=log_y, last=len(labels) == 1)]
    outside = int(((rows["value"] < edges[0]) | (rows["value"] > edges[-1])).sum())
    totals = ", ".join(f"{label}: {rows.filter(pl.col('label') == label).height:,}" for label in labels)
    notes = [
        f"Entries: {totals}.",
        f"{outside:,} lie outside." if outside else "",
        "Errors: square root of the count.",
    ]
    if len(labels) > 1:
        below = pl.concat([ratio(other, each[0]) for other in each[1:]])
        panels.append(_ratio_panel(below, by, (title, scale_x), labels[0]))
    return marks.entitled(marks.stacked(*panels), title, rows, *notes)


def _steps(of: pl.DataFrame, by: Look, along: tuple[str, alt.Scale], *, log_y: bool, last: bool) -> alt.LayerChart:
    title, scale_x = along
    # On a logarithmic axis an empty bin is a gap, not a line to nowhere; the error of one entry ends at the axis.
    seen = pl.when(pl.col("count") > 0)
    shown = of.with_columns(count=seen.then("count"), low=seen.then(pl.col("low").clip(LEAST))) if log_y else of
    most: Any = of["high"].max()
    scale = alt.Scale(type="log", domain=[LEAST, 1.5 * most], nice=False) if log_y else alt.Scale(domainMin=0)
    axis = alt.Axis(values=marks.log_ticks(LEAST, most), format=",~r") if log_y else alt.Axis()
    bare = alt.Axis(labels=False, ticks=False, title=None)
    x = alt.X("middle:Q", title=title, scale=scale_x) if last else alt.X("middle:Q", scale=scale_x, axis=bare)
    tooltip = [alt.Tooltip("series:N"), alt.Tooltip("start:Q"), alt.Tooltip("end:Q"), alt.Tooltip("count:Q")]
    base = alt.Chart(shown).encode(color=by.colour(), tooltip=tooltip)
    y_title = "Entries a bin" + ", log scale" * log_y
    y = alt.Y("count:Q", title=y_title, scale=scale, axis=axis)
    known = base.transform_filter("isValid(datum.low)")
    rule = known.mark_rule(opacity=0.6).encode(x=x, y=alt.Y("low:Q", title=y_title), y2="high:Q")
    line = base.mark_line(interpolate="step").encode(x=x, y=y)
    # A bin between empty ones has no line to its neighbours: its top is drawn for itself.
    top = base.mark_rule(strokeWidth=2).encode(x=alt.X("start:Q", scale=scale_x), x2="end:Q", y=y)
    layered: alt.LayerChart = marks.sized(alt.layer(line, top, rule), theme.WIDTH, 230)
    return layered


def _ratio_panel(of: pl.DataFrame, by: Look, along: tuple[str, alt.Scale], first: str) -> alt.LayerChart:
    tooltip = [alt.Tooltip("series:N"), alt.Tooltip("value:Q", title="ratio", format=".3f")]
    x = alt.X("middle:Q", title=along[0], scale=along[1], axis=alt.Axis(tickCount=6, labelOverlap=True))
    base = alt.Chart(of).encode(x=x, color=by.colour(), tooltip=tooltip)
    title = f"Ratio to {first}"
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    one = alt.Chart(pl.DataFrame({"y": [1.0]})).mark_rule(strokeDash=[5, 4], color=theme.GREY).encode(y="y:Q")
    rule = base.mark_rule(opacity=0.6).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    point = base.mark_point(size=30, filled=True, opacity=1).encode(y=y)
    layered: alt.LayerChart = marks.sized(alt.layer(one, rule, point), theme.WIDTH, 80)
    return layered
