"""Service and standalone against pile-up, with ratios. A ratio exists only inside the pile-ups that both measured."""

import math

import altair as alt
import numpy as np
import polars as pl

from analysis import theme
from analysis.charts import marks, tidy
from analysis.charts.marks import Axes, Look
from analysis.charts.registry import Chart, chart, nothing
from analysis.charts.service import ratio_curve
from analysis.charts.tidy import THROUGHPUT, Quantity
from analysis.readable import counted

MU = "Average interactions per bunch crossing"
SERVICE, SERVICE_SHORT = "as a service", "service"
STANDALONE = Quantity("throughput_per_s", "Throughput", "events/s", low="low_per_s", high="high_per_s")
BETWEEN = "standalone interpolated"
INTERPOLATED = "Hollow ratios: the standalone figure is interpolated (log-log) between the pile-ups measured."


@chart("standalone", "C10", "Standalone throughput against pile-up", standalone=("mu", "throughput_per_s"))
def standalone(standalone: pl.DataFrame) -> Chart:
    """Draw the standalone throughput of each device against pile-up, logarithmic."""
    of = standalone_curves(standalone)
    axes = Axes(MU, "Throughput", "events/s", log_y=True)
    return marks.entitled(
        marks.curves(of, axes, _look(of)), "Standalone throughput against pile-up", standalone, marks.band_words(of)
    )


@chart(
    "pileup",
    "C11",
    "Service against standalone, with ratios",
    points=("mu", "throughput_per_s"),
    standalone=("mu", "throughput_per_s"),
)
def pileup(points: pl.DataFrame, standalone: pl.DataFrame) -> Chart:
    """Draw throughput against pile-up, and below it the service over standalone CPU and over CUDA (3:1:1)."""
    return _against_pileup("Service against standalone, with ratios", points, standalone, 2)


@chart(
    "pileup-plain",
    "C12",
    "Service against standalone",
    points=("mu", "throughput_per_s"),
    standalone=("mu", "throughput_per_s"),
)
def pileup_plain(points: pl.DataFrame, standalone: pl.DataFrame) -> Chart:
    """Draw throughput of service and standalone against pile-up, without ratios."""
    return _against_pileup("Service against standalone", points, standalone, 0)


@chart(
    "pileup-ratio",
    "C12",
    "Service against standalone, with one ratio",
    points=("mu", "throughput_per_s"),
    standalone=("mu", "throughput_per_s"),
)
def pileup_ratio(points: pl.DataFrame, standalone: pl.DataFrame) -> Chart:
    """Draw throughput against pile-up, and below it the service over the first standalone device."""
    return _against_pileup("Service against standalone, with one ratio", points, standalone, 1)


def standalone_curves(standalone: pl.DataFrame) -> pl.DataFrame:
    """Return the curve of each device, named with its threads where they are known; columns as `tidy.CURVE`."""
    optional = {"device": pl.String(), "threads": pl.Int64(), "low_per_s": pl.Float64(), "high_per_s": pl.Float64()}
    full = standalone.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in optional.items() if name not in standalone.columns
    )
    named = full.with_columns(
        series=pl.struct("device", "threads").map_elements(_device, pl.String),
        measured=pl.lit(True),  # noqa: FBT003 - a column
        reason=pl.lit(None, pl.String),
    )
    return tidy.curve(named.sort("device", maintain_order=True), STANDALONE, "mu")


def service_curve(points: pl.DataFrame) -> pl.DataFrame:
    """Return the highest throughput of the service at each pile-up: of all loads, the one of the highest mean."""
    full = tidy.completed(points).filter(pl.col("mu").is_not_null(), pl.col("throughput_per_s").is_not_null())
    full = full.with_columns(series=pl.coalesce("label", "run", pl.lit(SERVICE)))
    # Logs of traccc come as points too, where everything is loaded into one table.
    full = full.filter(pl.col("kind").ne_missing(pl.lit("traccc"))) if "kind" in full.columns else full
    place = [
        name for name in ("mu", "series", "instances", "gpus", "concurrency", "rate_per_s") if name in full.columns
    ]
    means = full.group_by(place, maintain_order=True).agg(mean=pl.col("throughput_per_s").mean())
    best = means.sort("mean", descending=True).unique(["series", "mu"], keep="first")
    chosen = full.join(best.select(place), on=place, how="semi", nulls_equal=True, maintain_order="left")
    return tidy.curve(tidy.one_series(chosen, "mu", SERVICE), THROUGHPUT, "mu")


def interpolated(of: pl.DataFrame, places: list[float]) -> pl.DataFrame:
    """Return a standalone curve at those pile-ups that lie inside its range, linear in log mu and log throughput.

    `measured` is false where the figure is interpolated; it then has no interval. Outside the range there is no row.
    """
    known = of.drop_nulls("value").filter(pl.col("value") > 0).sort("x")
    if known.is_empty():
        return of.clear()
    own = {row["x"]: row for row in known.iter_rows(named=True)}
    low, high = known["x"][0], known["x"][-1]
    log_x, log_y = known["x"].log().to_numpy(), known["value"].log().to_numpy()
    rows = [
        own.get(at) or {"x": at, "series": known["series"][0], "measured": False,
                        "value": math.exp(float(np.interp(math.log(at), log_x, log_y))),
                        "note": BETWEEN}
        for at in places if low <= at <= high
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=tidy.CURVE)


def pileup_ratios(service: pl.DataFrame, alone: pl.DataFrame) -> pl.DataFrame:
    """Return the service over one standalone device; hollow (`measured` false) where the latter is interpolated."""
    base = interpolated(alone, service["x"].unique().sort().to_list()).with_columns(series=pl.lit("\0standalone"))
    between = dict(base.select("x", "measured").iter_rows())
    ratios = ratio_curve(pl.concat([base, service]), "\0standalone")
    return ratios.with_columns(
        measured=pl.col("x").replace_strict(between, default=True, return_dtype=pl.Boolean) & pl.col("measured"),
        note=pl.when(~pl.col("x").replace_strict(between, default=True, return_dtype=pl.Boolean))
        .then(pl.lit(BETWEEN))
        .otherwise("note"),
    )  # fmt: skip


def _against_pileup(title: str, points: pl.DataFrame, standalone: pl.DataFrame, ratios: int) -> Chart:
    service, alone = service_curve(points), standalone_curves(standalone)
    if service.is_empty():
        raise nothing(title, "no point has both a pile-up and a throughput")
    devices = alone["series"].unique(maintain_order=True).to_list()[:ratios]
    of = pl.concat([alone, service])
    by, every = _look(of), tuple(set(of["x"]))
    main = Axes(MU, "Throughput", "events/s", log_y=True, x_labels=not devices, x_values=every)
    panels = [marks.curves(of, main, by, width=theme.WIDTH, height=240)]
    below = [pileup_ratios(service, alone.filter(pl.col("series") == device)) for device in devices]
    for place, (device, ratio) in enumerate(zip(devices, below, strict=True)):
        axes = Axes(
            MU,
            f"Ratio to {device.split(',')[0].removeprefix('standalone ')}",
            zero=False,
            x_labels=place == len(devices) - 1,
            x_values=every,
        )
        panels.append(_ratio_panel(ratio, axes, by))
    told = INTERPOLATED if any((ratio["note"] == BETWEEN).any() for ratio in below) else ""
    most = "Service: the highest throughput of all loads at each pile-up."
    told_of = [standalone.select("kind")] if "kind" in standalone.columns else []
    whole = pl.concat([points, *told_of], how="diagonal_relaxed")
    panel = marks.stacked(*panels) if devices else panels[0]
    return marks.entitled(panel, title, whole, most, marks.band_words(of), marks.hollow_words(of), told)


def _ratio_panel(ratio: pl.DataFrame, axes: Axes, by: Look) -> alt.LayerChart:
    if ratio.is_empty():
        words = alt.Chart(
            pl.DataFrame({"x": [float(np.mean(axes.x_values))], "words": ["no pile-up that both measured"]})
        )
        text = words.mark_text(color=theme.GREY).encode(
            x=marks.x_axis(pl.Series(axes.x_values), axes), text="words:N"
        )
        empty: alt.LayerChart = marks.sized(alt.layer(text), theme.WIDTH, 80)
        return empty
    line: alt.LayerChart = marks.reference(1.0) + marks.curves(ratio, axes, by, width=theme.WIDTH, height=80)
    return line


def _look(of: pl.DataFrame) -> Look:
    names = of["series"].unique(maintain_order=True).to_list()
    colours = {"cpu": theme.BLUE, "cuda": theme.VERMILLION, "gpu": theme.VERMILLION}
    spare = iter([theme.GREEN, theme.PURPLE, theme.ORANGE, theme.SKY, theme.BROWN, theme.NAVY] * 3)
    taken: list[str] = []
    for name in names:
        own = colours.get(name.split(",")[0].split(" ")[-1].lower())
        taken.append(own if own and own not in taken else next(spare))
    return Look(tuple(names), tuple(taken))


def _device(row: dict[str, object]) -> str:
    device, threads = row["device"] or "device unknown", row["threads"]
    known = {"cpu": "standalone CPU", "cuda": "standalone CUDA"}
    name = known.get(str(device).lower(), str(device))
    return f"{name}, {counted(int(threads), 'thread')}" if isinstance(threads, int) else name
