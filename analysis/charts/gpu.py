"""GPU figures: each GPU and their mean, never their sum; joined to their own point; power by the real limit."""

from typing import Any

import altair as alt
import polars as pl

from analysis import levels, theme
from analysis.charts import marks, tidy
from analysis.charts.marks import Axes, Look
from analysis.charts.registry import Chart, chart, nothing
from analysis.charts.tidy import Quantity
from analysis.readable import short_names

INSTANCES = "Triton model instances"
MEAN = "mean of {} GPUs"
POINT = ("point",)
PERCENTS = {
    "utilisation_percent": Quantity("utilisation_percent", "GPU utilisation", "%"),
    "memory_percent": Quantity("memory_percent", "GPU memory used", "% of total"),
    "power_percent": Quantity("power_percent", "GPU power", "% of limit"),
    "power_w": Quantity("power_w", "GPU power", "W"),
}
MOST_PANELS = 9
COLUMNS = 3


def placed(points: pl.DataFrame, gpus: pl.DataFrame) -> pl.DataFrame:
    """Return the GPU figures with the facts of their own point, and their fractions in percent.

    Joined by run and point, never by position: rows in another order change nothing.
    """
    facts = points if {"series", "level"} <= set(points.columns) else tidy.loaded(points)
    on = ["run", "point"] if "run" in gpus.columns and "run" in points.columns else ["point"]
    own = [name for name in gpus.columns if name in on or name not in facts.columns]
    joined = gpus.select(own).join(facts, on=on, how="inner", maintain_order="left")
    gauges = [
        (pl.col(name) if name in joined.columns else pl.lit(None)).cast(pl.Float64).alias(name) for name in _GAUGES
    ]
    return joined.with_columns(gauges).with_columns(
        utilisation_percent=100 * pl.col("utilisation"),
        memory_percent=100 * pl.col("memory_used_max_bytes") / pl.col("memory_total_bytes"),
        power_percent=100 * pl.col("power_w") / pl.col("power_limit_w"),
    )


def each_and_mean(rows: pl.DataFrame, column: str, x: str) -> pl.DataFrame:
    """Return the curves of every GPU and, where there are several, of their mean at each point.

    With more than `marks.MOST_SERIES` GPUs: the lowest, the highest and the mean of each point.
    """
    quantity = PERCENTS[column]
    known = rows.filter(pl.col(column).is_not_null()).sort("gpu", maintain_order=True)
    count = known["gpu"].n_unique()
    mean = _over_gpus(known, column, x, pl.col(column).mean()).with_columns(series=pl.lit(MEAN.format(count)))
    if count <= 1:
        return tidy.curve(_by_gpu(known), quantity, x)
    if count > marks.MOST_SERIES:
        ends = [
            _over_gpus(known, column, x, figure).with_columns(series=pl.lit(name))
            for name, figure in (("lowest GPU", pl.col(column).min()), ("highest GPU", pl.col(column).max()))
        ]
        return pl.concat([tidy.curve(each, quantity, x) for each in (*ends, mean)])
    return pl.concat([tidy.curve(_by_gpu(known), quantity, x), tidy.curve(mean, quantity, x)])


def mean_of_gpus(rows: pl.DataFrame, column: str, x: str) -> pl.DataFrame:
    """Return the curve of the mean over GPUs of each point, a line a series of points."""
    known = rows.filter(pl.col(column).is_not_null())
    return tidy.curve(_over_gpus(known, column, x, pl.col(column).mean()), PERCENTS[column], x)


def power_column(rows: pl.DataFrame) -> tuple[str, str]:
    """Return the column to draw power by, and words: percent of the limit, or watts where a limit is unknown."""
    drawn = rows.filter(pl.col("power_w").is_not_null())
    if drawn["power_limit_w"].null_count():
        return "power_w", "Watts: the power limit was not recorded for every GPU."
    limits = drawn["power_limit_w"].unique().sort().to_list()
    return "power_percent", f"Limit as the server told it: {', '.join(f'{limit:g}' for limit in limits)} W."


@chart(
    "gpu-memory",
    "C1",
    "GPU memory against instances",
    points=("instances",),
    gpus=("memory_used_max_bytes", "memory_total_bytes"),
)
def gpu_memory(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw memory used in percent of each GPU's own memory against instances."""
    return _against_instances("gpu-memory", "GPU memory against instances", points, gpus, "memory_percent")


@chart("gpu-power", "C2", "GPU power against instances", points=("instances",), gpus=("power_w",))
def gpu_power(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw power in percent of the limit that the server tells, or in watts where it tells none."""
    return _against_instances("gpu-power", "GPU power against instances", points, gpus, None)


@chart(
    *("throughput-utilisation", "C3", "Throughput and GPU utilisation"),
    points=("throughput_per_s",), gpus=("utilisation",),
)  # fmt: skip
def throughput_utilisation(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw throughput above, and below it the utilisation of every GPU with their mean."""
    rows = placed(points, gpus)
    full = tidy.loaded(points)
    x, x_title, words = along(full)
    if words:
        full, words = tidy.diagonal(full)
    seen = rows.filter(pl.col("utilisation").is_not_null())
    full = tidy.distinguished(full, x)
    full, told = tidy.first_label(full.join(seen, on=["run", "point"], how="semi", nulls_equal=True))
    rows = rows.join(full, on=["run", "point"], how="semi", nulls_equal=True)
    if rows.is_empty():
        raise nothing("throughput-utilisation", "no GPU was sampled in the window of any point")
    above = tidy.curve(full.with_columns(series=pl.lit("throughput")), tidy.THROUGHPUT, x)
    below = each_and_mean(rows, "utilisation_percent", x)
    every = tuple({*above["x"], *below["x"]})
    top = marks.curves(
        above, Axes(x_title, "Throughput", "events/s", x_labels=False, x_values=every),
        Look(("throughput",), (theme.BLUE,)), width=theme.WIDTH, height=190,
    )  # fmt: skip
    use = marks.curves(
        below, Axes(x_title, "Utilisation", "%", top=100, x_values=every), marks.look(below, columns=4),
        width=theme.WIDTH, height=130,
    )  # fmt: skip
    panel = alt.vconcat(top, use, spacing=12).resolve_scale(color="independent", shape="independent")
    notes = (words, told, marks.band_words(above, below), marks.hollow_words(above))
    return marks.entitled(panel, "Throughput and GPU utilisation", full, *notes)


@chart(
    *("concurrency-gpu-memory", "C6", "GPU memory against concurrency"),
    points=POINT, gpus=("memory_used_max_bytes", "memory_total_bytes"),
)  # fmt: skip
def concurrency_gpu_memory(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw memory used, in percent of each GPU's own memory, against the load, a panel a configuration."""
    return _against_load("concurrency-gpu-memory", "GPU memory against concurrency", points, gpus, "memory_percent")


@chart("concurrency-gpu-power", "C7", "GPU power against concurrency", points=POINT, gpus=("power_w",))
def concurrency_gpu_power(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw power of each GPU against the load, in percent of its limit, or in watts where that is unknown."""
    return _against_load("concurrency-gpu-power", "GPU power against concurrency", points, gpus, None)


@chart(
    "concurrency-gpu-utilisation", "C9", "GPU utilisation against concurrency", points=POINT, gpus=("utilisation",)
)
def concurrency_gpu_utilisation(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw utilisation of each GPU against the load."""
    name, title = "concurrency-gpu-utilisation", "GPU utilisation against concurrency"
    return _against_load(name, title, points, gpus, "utilisation_percent")


@chart("gpu-panels", "", "Each GPU in a panel of its own", points=POINT, gpus=("utilisation",))
def gpu_panels(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw utilisation, power and memory of each GPU, as parts of what it can do, a panel a GPU."""
    rows, told = tidy.one_label(placed(points, gpus))
    if rows.is_empty():
        raise nothing("gpu-panels", "no GPU was sampled in the window of any point")
    x_title = levels.axis(rows).title
    names = {"utilisation_percent": "utilisation", "power_percent": "power, of its limit", "memory_percent": "memory"}
    known = {column: name for column, name in names.items() if rows[column].null_count() < rows.height}
    by = Look(tuple(known.values()), (theme.BLUE, theme.VERMILLION, theme.GREEN)[: len(known)])
    short = short_names(rows["gpu"])
    panels = []
    for gpu, title in list(short.items())[:MOST_PANELS]:
        mine = rows.filter(pl.col("gpu") == gpu)
        of = pl.concat(
            [
                tidy.curve(mine.with_columns(series=pl.lit(name)), PERCENTS[column], "level")
                for column, name in known.items()
            ]
        )
        axes = Axes(x_title, "Of its limit", "%", top=100)
        panels.append(marks.curves(of, axes, by, width=210, height=140).properties(title=_small(title)))
    absent = [name for column, name in names.items() if column not in known]
    notes = [told, f"Not recorded: {', '.join(absent)}." if absent else ""]
    if len(short) > MOST_PANELS:
        notes.append(f"{MOST_PANELS} of {len(short)} GPUs are shown.")
    return marks.entitled(marks.grid(panels, COLUMNS), "Each GPU in a panel of its own", rows, *notes)


@chart("energy", "", "Energy an event", points=("throughput_per_s",), gpus=("gpu",))
def energy(points: pl.DataFrame, gpus: pl.DataFrame) -> Chart:
    """Draw the energy of all GPUs in the window over the events completed in it; a GPU without a figure is a gap.

    Where no energy was counted it is the mean power over the throughput.
    """
    full = tidy.distinguished(tidy.loaded(points))
    rows = energy_an_event(full, gpus)
    x_title = levels.axis(full).title
    of = tidy.gapped(tidy.curve(rows, Quantity("energy_j_per_event", "GPU energy", "J an event"), "level"))
    if not of["value"].is_not_null().any():
        raise nothing("energy", "no point has both completed events and the energy, or power, of every GPU")
    panel = marks.curves(of, Axes(x_title, "GPU energy", "J an event"), marks.look(of))
    idle = "All GPUs of the server, what they draw when idle included."
    derived = "Mean power over throughput, as the energy was not counted." if rows["by_power"].any() else ""
    notes = (idle, derived, marks.band_words(of), marks.hollow_words(of), *tidy.gap_words(of, "energy"))
    return marks.entitled(panel, "Energy an event", full, *notes)


def energy_an_event(points: pl.DataFrame, gpus: pl.DataFrame) -> pl.DataFrame:
    """Return the points with `energy_j_per_event`, null unless every GPU's figure is known and events completed.

    `by_power` says that it is the mean power over the throughput: the energy was not counted.
    """
    on = ["run", "point"] if "run" in gpus.columns and "run" in points.columns else ["point"]
    known = gpus.with_columns(
        pl.lit(None, dtype=pl.Float64).alias(name) for name in ("energy_j", "power_w") if name not in gpus.columns
    )
    sums = (
        pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name)
        for name in ("energy_j", "power_w")
    )
    whole = known.group_by(on).agg(sums)
    completed = pl.col("completed") if "completed" in points.columns else pl.lit(None, pl.UInt64)
    counted = pl.when(completed > 0).then(pl.col("energy_j") / completed)
    derived = pl.when(pl.col("throughput_per_s") > 0).then(pl.col("power_w") / pl.col("throughput_per_s"))
    return points.join(whole, on=on, how="inner").with_columns(
        energy_j_per_event=pl.coalesce(counted, derived), by_power=counted.is_null() & derived.is_not_null()
    )


def along(points: pl.DataFrame) -> tuple[str, str, str]:
    """Return what the points run along: instances where there are several counts, otherwise the load."""
    if points["instances"].drop_nulls().n_unique() > 1:
        return "instances", INSTANCES, "instances"
    return "level", levels.axis(points).title, ""


_GAUGES = ("utilisation", "power_w", "power_limit_w", "memory_used_max_bytes", "memory_total_bytes", "energy_j")


def _over_gpus(rows: pl.DataFrame, column: str, x: str, figure: pl.Expr) -> pl.DataFrame:
    facts = {"run", "point", "series", "measured", "reason", x}
    return rows.group_by([*sorted(facts)], maintain_order=True).agg(figure.alias(column))


def _by_gpu(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(series=pl.col("gpu").replace_strict(short_names(rows["gpu"])))


def _against_instances(name: str, title: str, points: pl.DataFrame, gpus: pl.DataFrame, column: str | None) -> Chart:
    chosen, words = tidy.diagonal(tidy.completed(points))
    rows = placed(tidy.distinguished(chosen, "instances"), gpus)
    column, told = power_column(rows) if column is None else (column, "")
    rows, which = tidy.first_label(rows.filter(pl.col(column).is_not_null()))
    if rows.is_empty():
        raise nothing(name, "no GPU was sampled in the window of any point")
    of = tidy.gapped(each_and_mean(rows, column, "instances"))
    axes = Axes(INSTANCES, PERCENTS[column].title, PERCENTS[column].unit, top=None if column == "power_w" else 100)
    notes = (words, which, told, marks.band_words(of), marks.hollow_words(of), *tidy.gap_words(of, "instances"))
    return marks.entitled(marks.curves(of, axes, marks.look(of)), title, rows, *notes)


def _against_load(name: str, title: str, points: pl.DataFrame, gpus: pl.DataFrame, column: str | None) -> Chart:
    rows = tidy.distinguished(placed(points, gpus))
    column, told = power_column(rows) if column is None else (column, "")
    rows = rows.filter(pl.col(column).is_not_null())
    if rows.is_empty():
        raise nothing(name, "no GPU was sampled in the window of any point")
    parts = rows.partition_by("series", maintain_order=True)
    many = len(parts) > 1
    size: dict[str, Any] = {"width": 210, "height": 150} if many else {}
    each = [each_and_mean(part, column, "level") for part in parts[:MOST_PANELS]]
    by = marks.look(pl.concat(each))
    top = None if column == "power_w" else 100
    axes = Axes(levels.axis(rows).title, PERCENTS[column].title, PERCENTS[column].unit, top=top)
    panels: list[Any] = [marks.curves(of, axes, by, **size) for of in each]
    if many:
        panels = [
            panel.properties(title=_small(part["series"][0])) for panel, part in zip(panels, parts, strict=False)
        ]
    panel = marks.grid(panels, COLUMNS) if many else panels[0]
    told += f" {MOST_PANELS} of {len(parts)} configurations are shown." if len(parts) > MOST_PANELS else ""
    title = title.replace("concurrency", levels.axis(rows).noun)
    return marks.entitled(panel, title, rows, told.strip(), marks.band_words(*each), marks.hollow_words(*each))


def _small(title: str) -> alt.TitleParams:
    return alt.TitleParams(title, fontSize=11, fontWeight="normal", offset=4)
