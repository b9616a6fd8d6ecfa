"""Single requests -> distribution, tail, latency against event size, and latency over time; a few hundred marks each."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
import polars as pl

from analysis import levels, theme
from analysis.charts import marks, tidy
from analysis.charts.marks import Axes, Look
from analysis.charts.registry import Chart, chart, nothing
from analysis.readable import duration_unit
from loadgen.clock import NS_PER_S
from loadgen.estimate import student_t

Floats = npt.NDArray[np.float64]

MOST_CURVES = 5
CURVE_POINTS, TAIL_POINTS = 80, 60
BATCHES, FEWEST = 20, 80
LADDER = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
TIME_BINS, LATENCY_BINS = 70, 36
STEPS = ("sent_ns", "done_ns", "point")
BAND = "Bands: 95 % interval from 20 batches in time; ladder: percentiles with their interval."


@chart("latency-distribution", "", "Distribution of latency, with its tail", points=("completed",), requests=STEPS)
def latency_distribution(points: pl.DataFrame, requests: pl.DataFrame) -> Chart:
    """Draw the cumulative distribution, and beside it the share of slower requests on a logarithmic axis."""
    full, told = tidy.one_label(levels.levelled(tidy.completed(points)))
    kind = levels.headline_of(full)
    few = _few(sorted(full["level"].drop_nulls().unique()))
    told += f" {len(few)} of {full['level'].n_unique()} loads are shown." * (len(few) < full["level"].n_unique())
    full = _named(full.filter(pl.col("level").is_in(few)), full)
    rows = answered(full, requests, kind).sort("level", "done_ns")
    if rows.is_empty():
        raise nothing("latency-distribution", "no request was answered in the window of any point")
    unit, unit_ns = duration_unit(rows["latency_ns"].quantile(0.999))
    names = rows["series"].unique(maintain_order=True).to_list()
    by = Look(tuple(names), columns=MOST_CURVES)
    parts = {name: rows.filter(pl.col("series") == name)["latency_ns"].to_numpy() / unit_ns for name in names}
    whole = pl.concat([distribution(parts[name], CURVE_POINTS, name, tail=False) for name in names])
    tail = pl.concat([distribution(parts[name], TAIL_POINTS, name, tail=True) for name in names])
    title = f"{kind.capitalize()} time ({unit})"
    left = _cumulative(whole, by, title)
    right = _tail(tail, ladder(full, kind, unit_ns, names), by, title)
    panel = alt.hconcat(left, right, spacing=24).resolve_scale(color="shared")
    return marks.entitled(panel, f"Distribution of {kind} time, with its tail", full, told.strip(), BAND)


@chart("percentile-ladder", "", "Percentile ladder", points=("completed", "service_p99_ns"))
def percentile_ladder(points: pl.DataFrame) -> Chart:
    """Draw percentiles from p50 up to the largest against how rare they are, a line a load, with their intervals."""
    full, told = tidy.one_label(levels.levelled(tidy.completed(points)))
    kind = levels.headline_of(full)
    shown = _few(sorted(full["level"].drop_nulls().unique()))
    full = _named(full.filter(pl.col("level").is_in(shown)), full)
    names = full.sort("level")["series"].unique(maintain_order=True).to_list()[: marks.MOST_SERIES]
    unit, unit_ns = duration_unit(full[f"{kind}_p99_ns"].max())  # type: ignore[arg-type]
    of = ladder(full, kind, unit_ns, names)
    if not of["value"].is_not_null().any():
        raise nothing("percentile-ladder", "no point completed a request")
    label = "{" + ", ".join(f"'{q:g}': '{name.replace('_', '.')}'" for name, q in LADDER.items()) + "}"
    rank = alt.Axis(values=[1 / (1 - q) for q in LADDER.values()], labelExpr=f"({label})[format(1 - 1 / datum.value, '~r')]")  # fmt: skip
    x = alt.X("rarity:Q", title="Percentile", scale=alt.Scale(type="log", nice=False, padding=18), axis=rank)
    axes = Axes("Percentile", f"{kind.capitalize()} time", unit)
    drawn = of.with_columns(rarity=1 / (1 - pl.col("x")))
    panel = marks.curves(drawn, axes, Look(tuple(names), columns=4), x=x)
    return marks.entitled(
        panel, f"Percentile ladder of {kind} time", full, told, marks.band_words(of), marks.hollow_words(of)
    )


@chart("latency-size", "", "Latency against event size", points=("completed",), requests=(*STEPS, "request_bytes"))
def latency_size(points: pl.DataFrame, requests: pl.DataFrame) -> Chart:
    """Draw the median latency of each event against its size with a straight line, and below it what the line leaves.

    The load is the lowest that was measured, where waiting in the queue hides least.
    """
    full = levels.levelled(tidy.completed(points))
    lowest: Any = full["level"].min()
    full = full.filter(pl.col("level") == lowest)
    rows = answered(full, requests, "service")
    unit, unit_ns = duration_unit(rows["latency_ns"].max() if rows.height else None)  # type: ignore[arg-type]
    of = sizes(rows, unit_ns)
    fit = straight_line(of["x"].to_numpy(), of["value"].to_numpy()) if of["x"].n_unique() > 2 else None  # noqa: PLR2004
    if fit is None:
        raise nothing("latency-size", f"the events have {of['x'].n_unique()} sizes, a line needs 3")
    of, line = of.with_columns(residual=pl.col("value") - fit[0] - fit[1] * pl.col("x")), fitted_line(of, fit)
    noun = levels.axis(points).noun
    words = (
        f"Lowest load ({noun} {lowest:g}). Bars: p10 to p90. Line: {fit[0]:.3g} {unit} + {fit[1]:.3g} {unit}/MB "
        f"(+-{fit[3]:.1g}), R2 = {fit[4]:.3f}; band: 95 % of the line."
    )
    panel = alt.vconcat(_sizes_panel(of, line, unit), _residual_panel(of, unit), spacing=12)
    return marks.entitled(panel, "Latency against event size", full, words)


@chart("latency-heatmap", "", "Latency over time", points=("completed",), requests=STEPS)
def latency_heatmap(points: pl.DataFrame, requests: pl.DataFrame) -> Chart:
    """Draw how many requests took how long, when: a colour a cell, times on a logarithmic axis."""
    full = levels.levelled(tidy.completed(points))
    runs = full["run"].unique(maintain_order=True).to_list()
    full = full.filter(pl.col("run").eq_missing(pl.lit(runs[0], pl.String)))
    kind = levels.headline_of(full)
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
    tooltip = [
        alt.Tooltip("start_s:Q", title="from, s", format=".3~f"), alt.Tooltip("low:Q", title=f"from, {unit}", format=",.4~g"),
        alt.Tooltip("high:Q", title=f"to, {unit}", format=",.4~g"), alt.Tooltip("requests:Q"),
    ]  # fmt: skip
    panel = (
        alt.Chart(cells)
        .mark_rect(stroke=None)
        .encode(
            x=x, x2="end_s:Q", y=y, y2="high:Q", tooltip=tooltip,
            color=alt.Color("requests:Q", scale=scale, legend=alt.Legend(title="Requests", orient="right", direction="vertical", format="~s")),
        )
    )  # fmt: skip
    panel = marks.sized(alt.layer(panel), theme.WIDTH + 60, theme.HEIGHT)
    return marks.entitled(panel, f"{kind.capitalize()} time over time", full, told + "Empty: no request ended there.")


@chart(
    "response-service",
    "",
    "Response against service time",
    points=("rate_per_s", "response_p99_ns", "service_p99_ns"),
)
def response_service(points: pl.DataFrame) -> Chart:
    """Draw p50 and p99 of response time (from due) and service time (from sent) of an open loop against its rate."""
    full = tidy.completed(points).filter(pl.col("rate_per_s").is_not_null())
    most = max(float(full[f"{kind}_p99_ns"].max() or 0) for kind in ("response", "service"))  # type: ignore[arg-type]
    unit, _ = duration_unit(most)
    names = {f"{q} {kind}": (kind, q) for q in ("p99", "p50") for kind in ("response", "service")}
    of = pl.concat(
        [
            tidy.curve(
                full.with_columns(series=pl.lit(name)),
                tidy.seconds_or_ms(name, f"{kind}_{q}_ns", full, most=most), "rate_per_s",
            )
            for name, (kind, q) in names.items()
        ]
    )  # fmt: skip
    by = Look(tuple(names), (theme.VERMILLION, theme.BLUE, theme.ORANGE, theme.SKY), columns=4)
    log_y = _spans_decades(of["value"].drop_nulls().to_numpy())
    axes = Axes(levels.RATE.title, "Time, log scale" if log_y else "Time", unit, log_y=log_y)
    apart = "Where response time leaves service time, requests waited for the client to send them."
    notes = (apart, marks.band_words(of), marks.hollow_words(of))
    return marks.entitled(marks.curves(of, axes, by), "Response against service time", full, *notes)


def answered(points: pl.DataFrame, requests: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return the requests that were answered well, with `latency_ns` and their point's `series` and `level`."""
    start = "sent_ns" if kind == "service" else "due_ns"
    on = ["run", "point"] if "run" in requests.columns and "run" in points.columns else ["point"]
    good = requests.filter(pl.col("outcome") == "ok") if "outcome" in requests.columns else requests
    good = good.filter("in_window") if "in_window" in good.columns else good
    known = good.drop_nulls([start, "done_ns"]).with_columns(latency_ns=pl.col("done_ns") - pl.col(start))
    own = [name for name in known.columns if name in on or name not in points.columns]
    return known.select(own).join(points, on=on, how="inner", maintain_order="left")


def distribution(values: Floats, count: int, series: str, *, tail: bool) -> pl.DataFrame:
    """Return `x` (latency), `share` of requests at most (`tail`: more than) `x`, its `low` and `high`, and `series`.

    Values in the order of time: the band comes from 20 batches of them; none below 80 values.
    """
    ordered, n = np.sort(values), len(values)
    if tail:
        slower = np.unique(np.geomspace(1, n, count).astype(int))
        x = ordered[np.clip(n - slower - 1, 0, None)]
        share = (n - np.searchsorted(ordered, x, side="right")) / n
    else:
        x = ordered[np.unique(np.linspace(0, n - 1, count).round().astype(int))]
        share = np.searchsorted(ordered, x, side="right") / n
    low, high = _band(values, x, share, tail=tail)
    frame = pl.DataFrame({"x": x, "share": share, "low": low, "high": high}, nan_to_null=True)
    return frame.unique("x", maintain_order=True).sort("x").with_columns(series=pl.lit(series))


def ladder(points: pl.DataFrame, kind: str, unit_ns: float, names: Sequence[str]) -> pl.DataFrame:
    """Return the percentiles of each series, mean over takes with their interval; `x` is the fraction below."""
    rows = []
    for name, q in LADDER.items():
        column = f"{kind}_{name}_ns"
        if column not in points.columns:
            continue
        stem = column.removesuffix("_ns")
        quantity = tidy.Quantity(column, name, "", unit_ns, f"{stem}_low_ns", f"{stem}_high_ns")
        at = points.filter(pl.col("series").is_in(names)).with_columns(q=pl.lit(q))
        rows.append(tidy.curve(at, quantity, "q"))
    return pl.concat(rows).drop_nulls("value").sort("series", "x")


def sizes(rows: pl.DataFrame, unit_ns: float) -> pl.DataFrame:
    """Return the median (`value`), p10 and p90 of latency at each size (`x`, MB); at most 300 sizes, binned above."""
    if rows.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(("x", "value", "low", "high", "requests"), pl.Float64()))
    size = pl.col("request_bytes").cast(pl.Float64)
    if rows["request_bytes"].n_unique() > 300:  # noqa: PLR2004 - said above
        step: Any = rows.select((size.max() - size.min()) / 300).item()
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
    at = np.linspace(x.min(), x.max(), 40)
    spread = float(((x - x.mean()) ** 2).sum())
    half = student_t(max(len(x) - 2, 1)) * fit[2] * np.sqrt(1 / len(x) + (at - x.mean()) ** 2 / spread)
    y = fit[0] + fit[1] * at
    return pl.DataFrame({"x": at, "value": y, "low": y - half, "high": y + half})


def heat(rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Return the cells that hold requests (`start_s`, `end_s`, `low`, `high`, `requests`), and the unit of latency."""
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


def _band(values: Floats, x: Floats, share: Floats, *, tail: bool) -> tuple[Floats, Floats]:
    if len(values) < FEWEST:
        return np.full(len(x), np.nan), np.full(len(x), np.nan)
    parts = [np.sort(part) for part in np.array_split(values, BATCHES)]
    shares = np.array([np.searchsorted(part, x, side="right") / len(part) for part in parts])
    half = student_t(BATCHES - 1) * shares.std(axis=0, ddof=1) / math.sqrt(BATCHES)
    low, high = np.clip(share - half, 0, 1), np.clip(share + half, 0, 1)
    return (np.where(low > 0, low, np.nan), high) if tail else (low, high)


def _named(rows: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    noun = levels.axis(points).noun
    name = pl.lit(f"{noun} ") + pl.col("level").map_elements(levels.level_text, pl.String)
    label = [pl.col("series")] if rows["series"].n_unique() > 1 else []
    return rows.with_columns(series=pl.concat_str(*label, name, separator=", "))


def _few(every: Sequence[float], most: int = MOST_CURVES) -> list[float]:
    if len(every) <= most:
        return [*every]
    return [every[round(place)] for place in np.linspace(0, len(every) - 1, most)]


def _spans_decades(values: Floats) -> bool:
    return len(values) > 0 and values.min() > 0 and values.max() / values.min() > 30  # noqa: PLR2004 - 1.5 decades


def _cumulative(of: pl.DataFrame, by: Look, title: str) -> Any:  # noqa: ANN401 - altair's types
    upper: Any = of.filter(pl.col("share") <= 0.99)["x"].max() or of["x"].max()  # noqa: PLR2004 - the tail is beside it
    shown = of.filter(pl.col("x") <= upper)
    tooltip = [alt.Tooltip("series:N"), alt.Tooltip("x:Q", title=title, format=",.4~g"), alt.Tooltip("share:Q", title="share at most", format=".3%")]  # fmt: skip
    base = alt.Chart(shown).encode(x=alt.X("x:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)), color=by.colour(), tooltip=tooltip)  # fmt: skip
    y = alt.Y("share:Q", title="Requests at most so slow", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    layers = [base.mark_line(interpolate="step-after").encode(y=y)]
    if shown["low"].is_not_null().any():
        layers.insert(
            0, base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title="Requests at most so slow"), y2="high:Q")
        )
    return marks.sized(alt.layer(*layers), 320, 230)


def _tail(of: pl.DataFrame, steps: pl.DataFrame, by: Look, title: str) -> Any:  # noqa: ANN401 - altair's types
    shown = of.filter(pl.col("share") > 0)
    tooltip = [alt.Tooltip("series:N"), alt.Tooltip("x:Q", title=title, format=",.4~g"), alt.Tooltip("share:Q", title="share slower", format=".3%")]  # fmt: skip
    ranks = [1 - q for q in LADDER.values()]
    words = {f"{1 - q:.3f}": name.replace("_", ".") for name, q in LADDER.items()}
    names = "{" + ", ".join(f"'{rank}': '{name}'" for rank, name in words.items()) + "}"
    axis = alt.Axis(values=ranks, labelExpr=f"({names})[format(datum.value, '.3f')]")
    y_title = "Share slower, log scale"
    base = alt.Chart(shown).encode(x=alt.X("x:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)), color=by.colour(), tooltip=tooltip)  # fmt: skip
    least: Any = shown["share"].min() or 0.0
    shown = shown.with_columns(pl.col("low").clip(0.7 * least, 1.0))
    scale = alt.Scale(type="log", nice=False, domain=[0.7 * least, 1.0])
    y = alt.Y("share:Q", title=y_title, axis=axis, scale=scale)
    base = alt.Chart(shown).encode(x=alt.X("x:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)), color=by.colour(), tooltip=tooltip)  # fmt: skip
    layers: list[Any] = []
    if shown["low"].is_not_null().any():
        layers.append(base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q"))
    layers.append(base.mark_line(interpolate="step-after").encode(y=y))
    seen = steps.with_columns(share=1 - pl.col("x")).filter(pl.col("share") >= least)
    if seen.height:
        rungs = alt.Chart(seen).encode(y=alt.Y("share:Q", title=y_title), color=by.colour())
        if seen["low"].is_not_null().any():
            known = rungs.transform_filter("isValid(datum.low) && isValid(datum.high)")
            layers.append(known.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q"))
        layers.append(rungs.mark_point(size=35, filled=True, opacity=1).encode(x=alt.X("value:Q", title=title)))
    return marks.sized(alt.layer(*layers), 320, 230)


def _sizes_panel(of: pl.DataFrame, line: pl.DataFrame, unit: str) -> Any:  # noqa: ANN401 - altair's types
    tooltip = [alt.Tooltip("x:Q", title="MB", format=".3f"), alt.Tooltip("value:Q", title=f"median, {unit}", format=",.4~g"), alt.Tooltip("requests:Q")]  # fmt: skip
    title = f"Service time ({unit})"
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    x = alt.X("x:Q", scale=alt.Scale(zero=False), axis=alt.Axis(labels=False, ticks=False, title=None))
    base, fit = alt.Chart(of).encode(x=x, tooltip=tooltip), alt.Chart(line).encode(x=x)
    layers = [
        fit.mark_area(opacity=0.2, color=theme.VERMILLION).encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        fit.mark_line(color=theme.VERMILLION).encode(y=y),
        base.mark_rule(color=theme.BLUE, opacity=0.45).encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        base.mark_point(color=theme.BLUE, filled=True, size=40, opacity=1).encode(y=y),
    ]
    return marks.sized(alt.layer(*layers), theme.WIDTH, 210)


def _residual_panel(of: pl.DataFrame, unit: str) -> Any:  # noqa: ANN401 - altair's types
    x = alt.X("x:Q", title="Request (MB)", scale=alt.Scale(zero=False))
    tooltip = [alt.Tooltip("x:Q", title="MB", format=".3f"), alt.Tooltip("residual:Q", title=unit, format=".3~g")]
    points = alt.Chart(of).mark_point(color=theme.BLUE, filled=True, size=40, opacity=1)
    zero = alt.Chart(pl.DataFrame({"y": [0.0]})).mark_rule(strokeDash=[5, 4], color=theme.GREY).encode(y="y:Q")
    y = alt.Y("residual:Q", title=f"Residual ({unit})", axis=alt.Axis(tickCount=4))
    return marks.sized(alt.layer(zero, points.encode(x=x, y=y, tooltip=tooltip)), theme.WIDTH, 80)
