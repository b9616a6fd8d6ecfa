"""Single requests -> latency against the size of their event, and over time; a few hundred marks each."""

import math
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
import polars as pl

from analysis import levels, theme
from analysis.charts import marks, tidy
from analysis.charts.distribution import STEPS, answered
from analysis.charts.registry import Chart, chart, nothing
from analysis.readable import duration_unit
from loadgen.clock import NS_PER_S
from loadgen.estimate import student_t

Floats = npt.NDArray[np.float64]

TIME_BINS, LATENCY_BINS = 70, 36
FEWEST_SIZES, MOST_SIZES = 3, 300
LINE_POINTS = 40


@chart("latency-size", "", "Latency against event size", points=("completed",), requests=(*STEPS, "request_bytes"))
def latency_size(points: pl.DataFrame, requests: pl.DataFrame) -> Chart:
    """Draw the median latency of each event against its size with a straight line, and below it what the line leaves.

    The load is the lowest that was measured, where waiting in the queue hides least.
    """
    full = tidy.loaded(points)
    lowest: Any = full["level"].min()
    full = full.filter(pl.col("level") == lowest)
    rows = answered(full, requests, "service")
    unit, unit_ns = duration_unit(rows["latency_ns"].max() if rows.height else None)  # type: ignore[arg-type]
    of = sizes(rows, unit_ns)
    fit = straight_line(of["x"].to_numpy(), of["value"].to_numpy()) if of["x"].n_unique() >= FEWEST_SIZES else None
    if fit is None:
        raise nothing("latency-size", f"the events have {of['x'].n_unique()} sizes, a line needs {FEWEST_SIZES}")
    of, line = of.with_columns(residual=pl.col("value") - fit[0] - fit[1] * pl.col("x")), fitted_line(of, fit)
    noun = levels.axis(full).noun
    words = (
        f"Lowest load ({noun} {lowest:g}). Bars: p10 to p90. Line: {fit[0]:.3g} {unit} + {fit[1]:.3g} {unit}/MB "
        f"(+-{fit[3]:.1g}), R2 = {fit[4]:.3f}; band: 95 % of the line."
    )
    panel = alt.vconcat(_sizes_panel(of, line, unit), _residual_panel(of, unit), spacing=12)
    return marks.entitled(panel, "Latency against event size", full, words)


@chart("latency-heatmap", "", "Latency over time", points=("completed",), requests=STEPS)
def latency_heatmap(points: pl.DataFrame, requests: pl.DataFrame) -> Chart:
    """Draw how many requests took how long, when: a colour a cell, times on a logarithmic axis."""
    full = tidy.loaded(points)
    runs = full["run"].unique(maintain_order=True).to_list()
    full = full.filter(pl.col("run").eq_missing(pl.lit(runs[0], pl.String)))
    kind = tidy.headline(full)
    rows = answered(full, requests, kind)
    if rows.is_empty():
        raise nothing("latency-heatmap", "no request was answered in the window of any point")
    cells, unit = heat(rows)
    told = f"The first of {len(runs)} runs. " if len(runs) > 1 else ""
    x = alt.X(
        "start_s:Q", title="Time since the first request (s)", scale=alt.Scale(nice=False), axis=alt.Axis(grid=False)
    )
    y = alt.Y(
        "low:Q",
        title=f"{kind.capitalize()} time ({unit}), log scale",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(grid=False, tickCount=6),
    )
    scale = alt.Scale(type="log", scheme="cividis")
    tooltip = marks.tips(
        "start_s:Q|from, s|.3~f", f"low:Q|from, {unit}|,.4~g", f"high:Q|to, {unit}|,.4~g", "requests:Q"
    )
    legend = alt.Legend(title="Requests", orient="right", direction="vertical", format="~s", gradientLength=190)
    panel = (
        alt.Chart(cells)
        .mark_rect(stroke=None)
        .encode(
            x=x, x2="end_s:Q", y=y, y2="high:Q", tooltip=tooltip,
            color=alt.Color("requests:Q", scale=scale, legend=legend),
        )
    )  # fmt: skip
    panel = marks.sized(alt.layer(panel), theme.WIDTH + 60, theme.HEIGHT)
    return marks.entitled(panel, f"{kind.capitalize()} time over time", full, told + "Empty: no request ended there.")


def sizes(rows: pl.DataFrame, unit_ns: float) -> pl.DataFrame:
    """Return the median (`value`), p10 and p90 of latency at each size (`x`, MB); at most 300 sizes, binned above."""
    if rows.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(("x", "value", "low", "high", "requests"), pl.Float64()))
    size = pl.col("request_bytes").cast(pl.Float64)
    if rows["request_bytes"].n_unique() > MOST_SIZES:
        step: Any = rows.select((size.max() - size.min()) / MOST_SIZES).item()
        size = (size / step).floor() * step + step / 2
    latency = pl.col("latency_ns") / unit_ns
    return (
        rows.group_by(x=size / 1e6)
        .agg(
            value=latency.median(), low=latency.quantile(0.1), high=latency.quantile(0.9), requests=pl.len(),
        )
        .sort("x")
    )  # fmt: skip


def straight_line(x: Floats, y: Floats) -> tuple[float, float, float, float, float]:
    """Return intercept, slope, the residuals' sd, half of the slope's 95 % interval, and R squared."""
    slope, intercept = (float(each) for each in np.polyfit(x, y, 1))
    left = y - intercept - slope * x
    sd = math.sqrt(float(left @ left) / max(len(x) - 2, 1))
    spread = float(((x - x.mean()) ** 2).sum())
    total = float(((y - y.mean()) ** 2).sum())
    half = student_t(max(len(x) - 2, 1)) * sd / math.sqrt(spread)
    return intercept, slope, sd, half, 1 - float(left @ left) / total if total else 0.0


def fitted_line(of: pl.DataFrame, fit: tuple[float, float, float, float, float]) -> pl.DataFrame:
    """Return the line inside the measured sizes, with the 95 % interval of its mean."""
    x = of["x"].to_numpy()
    at = np.linspace(x.min(), x.max(), LINE_POINTS)
    spread = float(((x - x.mean()) ** 2).sum())
    half = student_t(max(len(x) - 2, 1)) * fit[2] * np.sqrt(1 / len(x) + (at - x.mean()) ** 2 / spread)
    y = fit[0] + fit[1] * at
    return pl.DataFrame({"x": at, "value": y, "low": y - half, "high": y + half})


def heat(rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Return the cells that hold requests (`start_s`, `end_s`, `low`, `high`, `requests`), and latency's unit."""
    unit, unit_ns = duration_unit(rows["latency_ns"].max())  # type: ignore[arg-type]
    first: Any = rows["sent_ns"].min()
    latency = (rows["latency_ns"].to_numpy() / unit_ns).clip(min=1e-6)
    at_s = (rows["done_ns"].to_numpy() - first) / NS_PER_S
    time = np.linspace(0, max(float(at_s.max()), 1e-9), TIME_BINS + 1)
    low, high = math.log10(latency.min() * 0.98), math.log10(latency.max() * 1.02)
    edges = np.logspace(low, high, LATENCY_BINS + 1)
    counts, _, _ = np.histogram2d(at_s, latency, bins=(time, edges))
    i, j = np.nonzero(counts)
    cells = {
        "start_s": time[i],
        "end_s": time[i + 1],
        "low": edges[j],
        "high": edges[j + 1],
        "requests": counts[i, j],
    }
    return pl.DataFrame(cells).with_columns(pl.col("requests").cast(pl.Int64)), unit


def _sizes_panel(of: pl.DataFrame, line: pl.DataFrame, unit: str) -> Any:  # noqa: ANN401 - altair's types
    tooltip = marks.tips("x:Q|MB|.3f", f"value:Q|median, {unit}|,.4~g", "requests:Q")
    title = f"Service time ({unit})"
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    x = alt.X("x:Q", scale=alt.Scale(zero=False, padding=8), axis=alt.Axis(labels=False, ticks=False, title=None))
    base, fit = alt.Chart(of).encode(x=x, tooltip=tooltip), alt.Chart(line).encode(x=x)
    layers = [
        fit.mark_area(opacity=0.2, color=theme.VERMILLION).encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        fit.mark_line(color=theme.VERMILLION).encode(y=y),
        base.mark_rule(color=theme.BLUE, opacity=0.45).encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        base.mark_point(color=theme.BLUE, filled=True, size=40, opacity=1).encode(y=y),
    ]
    return marks.sized(alt.layer(*layers), theme.WIDTH, 210)


def _residual_panel(of: pl.DataFrame, unit: str) -> Any:  # noqa: ANN401 - altair's types
    x = alt.X("x:Q", title="Request (MB)", scale=alt.Scale(zero=False, padding=8))
    tooltip = marks.tips("x:Q|MB|.3f", f"residual:Q|{unit}|.3~g")
    points = alt.Chart(of).mark_point(color=theme.BLUE, filled=True, size=40, opacity=1)
    zero = alt.Chart(pl.DataFrame({"y": [0.0]})).mark_rule(strokeDash=[5, 4], color=theme.GREY).encode(y="y:Q")
    y = alt.Y("residual:Q", title=f"Residual ({unit})", axis=alt.Axis(tickCount=4))
    return marks.sized(alt.layer(zero, points.encode(x=x, y=y, tooltip=tooltip)), theme.WIDTH, 80)
