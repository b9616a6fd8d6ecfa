"""Single requests and percentiles -> distribution with its tail, percentile ladder, response against service time."""

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
from loadgen.estimate import student_t

Floats = npt.NDArray[np.float64]

MOST_CURVES = 5
CURVE_POINTS, TAIL_POINTS = 80, 60
BATCHES, FEWEST = 20, 80
LADDER_REACH = 1.1
LADDER = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
TIME_BINS, LATENCY_BINS = 70, 36
STEPS = ("sent_ns", "done_ns", "point")
TIMES = ("response_p99_ns", "service_p99_ns", "response_p50_ns", "service_p50_ns")
BAND = "Bands: 95 % interval from 20 batches in time; ladder: percentiles with their interval."


@chart("latency-distribution", "", "Distribution of latency, with its tail", points=("completed",), requests=STEPS)
def latency_distribution(points: pl.DataFrame, requests: pl.DataFrame) -> Chart:
    """Draw the cumulative distribution, and beside it the share of slower requests on a logarithmic axis."""
    full, told = tidy.one_label(tidy.loaded(points))
    kind = tidy.headline(full)
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
    """Draw percentiles from p50 to p99.9 against how rare they are, a line a load, with their intervals."""
    full, told = tidy.one_label(tidy.loaded(points))
    kind = tidy.headline(full)
    shown = _few(sorted(full["level"].drop_nulls().unique()))
    full = _named(full.filter(pl.col("level").is_in(shown)), full)
    names = full.sort("level")["series"].unique(maintain_order=True).to_list()[: marks.MOST_SERIES]
    unit, unit_ns = duration_unit(full[f"{kind}_p99_ns"].max())  # type: ignore[arg-type]
    of = ladder(full, kind, unit_ns, names)
    if not of["value"].is_not_null().any():
        raise nothing("percentile-ladder", "no point completed a request")
    label = "{" + ", ".join(f"'{q:g}': '{name.replace('_', '.')}'" for name, q in LADDER.items()) + "}"
    written = f"({label})[format(1 - 1 / datum.value, '~r')]"
    rank = alt.Axis(values=[1 / (1 - q) for q in LADDER.values()], labelExpr=written)
    x = alt.X("rarity:Q", title="Percentile", scale=alt.Scale(type="log", nice=False, padding=18), axis=rank)
    axes = Axes("Percentile", f"{kind.capitalize()} time", unit)
    drawn = of.with_columns(rarity=1 / (1 - pl.col("x")))
    panel = marks.curves(drawn, axes, Look(tuple(names), columns=4), x=x)
    return marks.entitled(
        panel, f"Percentile ladder of {kind} time", full, told, marks.band_words(of), marks.hollow_words(of)
    )


@chart("response-service", "", "Response against service time", points=("rate_per_s", *TIMES))
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
    return pl.concat([pl.DataFrame(schema=tidy.CURVE), *rows]).drop_nulls("value").sort("series", "x")


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
    upper: Any = of.filter(pl.col("share") <= LADDER["p99"])["x"].max() or of["x"].max()
    shown = of.filter(pl.col("x") <= upper)
    tooltip = marks.tips("series:N", f"x:Q|{title}|,.4~g", "share:Q|share at most|.3%")
    x = alt.X("x:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    base = alt.Chart(shown).encode(x=x, color=by.colour(), tooltip=tooltip)
    y = alt.Y("share:Q", title="Requests at most so slow", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    layers = [base.mark_line(interpolate="step-after").encode(y=y)]
    if shown["low"].is_not_null().any():
        layers.insert(
            0, base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title="Requests at most so slow"), y2="high:Q")
        )
    return marks.sized(alt.layer(*layers), 320, 230)


def _tail(of: pl.DataFrame, steps: pl.DataFrame, by: Look, title: str) -> Any:  # noqa: ANN401 - altair's types
    shown = of.filter(pl.col("share") > 0)
    tooltip = marks.tips("series:N", f"x:Q|{title}|,.4~g", "share:Q|share slower|.3%")
    ranks = [1 - q for q in LADDER.values()]
    words = {f"{1 - q:.3f}": name.replace("_", ".") for name, q in LADDER.items()}
    names = "{" + ", ".join(f"'{rank}': '{name}'" for rank, name in words.items()) + "}"
    axis = alt.Axis(values=ranks, labelExpr=f"({names})[format(datum.value, '.3f')]")
    y_title = "Share slower, log scale"
    x = alt.X("x:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    least: Any = shown["share"].min() or 0.0
    shown = shown.with_columns(pl.col("low", "high").clip(0.7 * least, 1.0))
    base = alt.Chart(shown).encode(x=x, color=by.colour(), tooltip=tooltip)
    scale = alt.Scale(type="log", nice=False, domain=[0.7 * least, 1.0])
    y = alt.Y("share:Q", title=y_title, axis=axis, scale=scale)
    layers: list[Any] = []
    if shown["low"].is_not_null().any():
        layers.append(base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q"))
    layers.append(base.mark_line(interpolate="step-after").encode(y=y))
    seen = steps.with_columns(share=1 - pl.col("x")).filter(pl.col("share") >= least)
    if seen.height:
        most: Any = max(shown["x"].max(), seen["value"].max())  # type: ignore[type-var]
        seen = seen.with_columns(pl.col("low", "high").clip(0.0, LADDER_REACH * most))
        rungs = alt.Chart(seen).encode(y=alt.Y("share:Q", title=y_title), color=by.colour())
        if seen["low"].is_not_null().any():
            known = rungs.transform_filter("isValid(datum.low) && isValid(datum.high)")
            layers.append(known.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q"))
        layers.append(rungs.mark_point(size=35, filled=True, opacity=1).encode(x=alt.X("value:Q", title=title)))
    return marks.sized(alt.layer(*layers), 320, 230)
