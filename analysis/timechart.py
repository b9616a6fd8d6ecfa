"""One run against time: throughput, service time, requests in flight and utilisation, measured windows shaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from analysis import theme, timeline
from analysis.charts import Chart, heading, layered
from analysis.hardware import CPU_METRIC, gpu_samples
from analysis.levels import level_text
from analysis.readable import duration_unit, short_names

AXIS_WIDTH = 44
MOST_LABELS = 40
HEADROOM = 1.08
FAILED_NOTE = " Red: failed requests."


def over_time(points: pl.DataFrame, bins: pl.DataFrame, samples: pl.DataFrame, origin_ns: int) -> Chart | None:
    """Draw the run against time from `timeline.request_bins` and the samples; None if no request was answered."""
    if bins.is_empty() or points.is_empty():
        return None
    windows = _labelled(timeline.windows(points, origin_ns))
    page = _Page(windows, bins["start_s"][0], bins["end_s"][-1])
    used = timeline.sample_bins(usage(samples), origin_ns)
    known = [_throughput(page, bins), _service_time(page, bins), _in_flight(page, bins), _utilisation(page, used)]
    drawn = [panel for panel in known if panel is not None]
    note = f"Shaded: measured windows, labelled with their load. Bins of {_width(bins)}."
    title = heading("The run against time", points, theme.WIDE, note="")
    title.subtitle = [*title.subtitle, note + FAILED_NOTE * bool(bins["failed_per_s"].sum())]
    last = drawn.pop()
    panels = [*(panel(None) for panel in drawn), last(_X_AXIS)]
    chart: Chart = alt.VConcatChart(vconcat=panels, spacing=14, title=title)
    return chart


def usage(samples: pl.DataFrame) -> pl.DataFrame:
    """Return `series`, `at_ns`, `value` (%): utilisation of every GPU, or of the host's CPU where there is none."""
    gpus = gpu_samples(samples).filter(pl.col("column") == "utilisation")
    gpus = gpus.filter(pl.col("order") == pl.col("order").min().over("gpu"))
    if gpus.is_empty():
        cpu = samples.filter(pl.col("metric") == CPU_METRIC)
        return cpu.select("at_ns", series=pl.lit("CPU of the server's host"), value=100 * pl.col("value"))
    names = short_names(gpus["gpu"])
    return gpus.select("at_ns", series=pl.col("gpu").replace_strict(names), value=100 * pl.col("value"))


Panel: TypeAlias = Callable[[alt.Axis | None], alt.LayerChart]
"""A panel that is drawn once it is known whether it carries the time axis."""


@dataclass(frozen=True, slots=True)
class _Page:
    windows: pl.DataFrame
    start_s: float
    end_s: float

    def x(self, column: str, axis: alt.Axis | None) -> alt.X:
        scale = alt.Scale(domain=[self.start_s, self.end_s], nice=False, zero=False)
        shown = axis or alt.Axis(labels=False, ticks=False, title=None)
        return alt.X(
            f"{column}:Q", title="Time since the start of the run (s)" if axis else None, scale=scale, axis=shown
        )

    def panel(self, axis: alt.Axis | None, *layers: alt.Chart) -> alt.LayerChart:
        shade = (
            alt.Chart(self.windows)
            .mark_rect(opacity=0.16)
            .encode(
                x=self.x("start_s", axis),
                x2="end_s:Q",
                color=alt.condition(
                    "indexof(['converged', 'unconfirmed', 'imprecise'], datum.verdict) >= 0",
                    alt.value(theme.SKY),
                    alt.value(theme.VERMILLION),
                ),
                tooltip=[alt.Tooltip("point:Q"), alt.Tooltip("level:Q", title="at"), alt.Tooltip("verdict:N")],
            )
        )
        return layered(shade, *layers).properties(width=theme.WIDE, height=theme.PANEL_HEIGHT)

    def labels(self) -> alt.Chart:
        text: alt.Chart = (
            alt.Chart(self.windows)
            .mark_text(dy=-7, baseline="bottom", fontSize=10, color=theme.BLACK)
            .encode(x=self.x("middle_s", None), y=alt.value(0), text="label:N")
        )
        return text


_X_AXIS = alt.Axis(grid=False)
_SPAN_TOOLTIP = [
    alt.Tooltip("start_s:Q", title="from, s", format=".4~f"),
    alt.Tooltip("end_s:Q", title="to, s", format=".4~f"),
]


def _throughput(page: _Page, bins: pl.DataFrame) -> Panel | None:
    frame = bins.select("start_s", "end_s", "throughput_per_s", "failed_per_s").with_columns(
        ended_per_s=pl.col("throughput_per_s") + pl.col("failed_per_s")
    )
    tooltip = [
        *_SPAN_TOOLTIP,
        alt.Tooltip("throughput_per_s:Q", title="completed, 1/s", format=",.4~g"),
        alt.Tooltip("failed_per_s:Q", title="failed, 1/s", format=",.4~g"),
    ]
    failures = frame.filter(pl.col("failed_per_s") > 0)

    def draw(axis: alt.Axis | None) -> alt.LayerChart:
        base = alt.Chart(frame).encode(x=page.x("start_s", axis), x2="end_s:Q", tooltip=tooltip)
        subject = "Completed" if failures.is_empty() else "Completed, failed"
        y = _y("throughput_per_s", subject, "(events/s)", frame["ended_per_s"])
        layers = [base.mark_rect(color=theme.BLUE, opacity=0.85).encode(y=y, y2=alt.datum(0)), page.labels()]
        if not failures.is_empty():
            failed = base.mark_rect(color=theme.VERMILLION).encode(y=y, y2="ended_per_s:Q")
            failed.data = failures
            layers.append(failed)
        return page.panel(axis, *layers)

    return draw


def _service_time(page: _Page, bins: pl.DataFrame) -> Panel | None:
    seen = bins.drop_nulls("service_p50_ns")
    if seen.is_empty():
        return None
    unit, unit_ns = duration_unit(seen["service_p95_ns"].max())  # type: ignore[arg-type]
    columns = {name: pl.col(f"service_{name}_ns") / unit_ns for name in ("p05", "p50", "p95")}
    frame = seen.select("start_s", "end_s", **columns)
    tooltip = [*_SPAN_TOOLTIP, *(alt.Tooltip(f"{q}:Q", title=f"{q}, {unit}", format=",.4~g") for q in columns)]

    def draw(axis: alt.Axis | None) -> alt.LayerChart:
        base = alt.Chart(frame).encode(x=page.x("start_s", axis), x2="end_s:Q", tooltip=tooltip)
        y = _y("p95", "Service time: p50,", f"p5 to p95 ({unit})", frame["p95"])
        band = base.mark_rect(color=theme.GREEN, opacity=0.35).encode(y=y, y2="p05:Q")
        median = base.mark_rule(color=theme.DARK_GREEN, strokeWidth=2).encode(y="p50:Q")
        return page.panel(axis, band, median)

    return draw


def _in_flight(page: _Page, bins: pl.DataFrame) -> Panel | None:
    frame = bins.select("start_s", "end_s", "in_flight_mean")
    tooltip = [*_SPAN_TOOLTIP, alt.Tooltip("in_flight_mean:Q", title="in flight, mean", format=",.4~g")]

    def draw(axis: alt.Axis | None) -> alt.LayerChart:
        base = alt.Chart(frame).encode(x=page.x("start_s", axis), x2="end_s:Q", tooltip=tooltip)
        y = _y("in_flight_mean", "In flight", "(requests)", frame["in_flight_mean"])
        return page.panel(axis, base.mark_rect(color=theme.PURPLE, opacity=0.85).encode(y=y, y2=alt.datum(0)))

    return draw


def _utilisation(page: _Page, frame: pl.DataFrame) -> Panel | None:
    inside = frame.filter(pl.col("at_s").is_between(page.start_s, page.end_s))
    if inside.is_empty():
        return None
    subject = "CPU" if inside["series"][0].startswith("CPU") else "GPU"
    tooltip = [alt.Tooltip("series:N", title="of"), alt.Tooltip("at_s:Q", title="at, s", format=".4~f")]
    tooltip += [alt.Tooltip("value:Q", title="%", format=".1f")]

    def draw(axis: alt.Axis | None) -> alt.LayerChart:
        legend = alt.Legend(orient="bottom", columns=8)
        names = inside["series"].unique(maintain_order=True).to_list()
        scale = alt.Scale(domain=names, range=list(theme.CATEGORIES))
        base = alt.Chart(inside).encode(
            x=page.x("at_s", axis),
            y=_y(
                "value", f"{subject} utilisation", "(%)", pl.Series([100.0 / HEADROOM, *inside["value"] / HEADROOM])
            ),
            color=alt.Color("series:N", legend=legend, scale=scale),
            tooltip=tooltip,
        )
        return page.panel(axis, base.mark_line(strokeWidth=1.5), base.mark_point(size=14, filled=True, opacity=1))

    return draw


def _y(column: str, first: str, second: str, values: pl.Series) -> alt.Y:
    most: Any = values.max()
    scale = alt.Scale(domain=[0, HEADROOM * most if most else 1], nice=False)
    axis = alt.Axis(tickCount=4, minExtent=AXIS_WIDTH)
    return alt.Y(f"{column}:Q", title=[first, second], axis=axis, scale=scale)


def _labelled(windows: pl.DataFrame) -> pl.DataFrame:
    every = -(-windows.height // MOST_LABELS)
    shown = pl.int_range(pl.len()) % every == 0
    return windows.with_columns(
        label=pl.when(shown).then(pl.col("level").map_elements(level_text, pl.String)).otherwise(pl.lit(""))
    )


def _width(bins: pl.DataFrame) -> str:
    width_s = bins["end_s"][0] - bins["start_s"][0]
    return f"{width_s:.3g} s" if width_s >= 1 else f"{1000 * width_s:.3g} ms"
