"""Places -> the linked charts: a panel a set of inputs, a line a configuration, against the load or the pile-up.

What was not measured is a gap. The data are the places, so a page's size does not grow with requests or takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from analysis import quantities
from analysis.charts import marks, tidy
from analysis.charts.marks import Axes, Look
from analysis.charts.registry import Chart, nothing
from analysis.readable import counted, duration_unit
from analysis.reports.words import noun

MOST_PANELS, MOST_LINES = 8, 8
SHORT = 16
"""Letters of a name of which four stand beside each other in a legend."""
AXES = {"concurrency": "Concurrency (requests in flight)", "rate": "Request rate asked (1/s)", "level": "Level"}
MU = "Average interactions per bunch crossing"
GAPS = "Places that were asked for and not measured are gaps."


@dataclass(frozen=True, slots=True)
class Drawn:
    """A quantity of places as it is drawn; `scale` divides it, times choose their unit by themselves."""

    name: str
    column: str
    title: str
    unit: str = ""
    scale: float = 1.0
    top: float | None = None


LINKED = (
    Drawn("throughput", "throughput_per_s", "Throughput", "events/s"),
    Drawn("latency", "p99_ns", "p99"),
    Drawn("median", "p50_ns", "p50"),
    Drawn("utilisation", "gpu_utilisation", "Mean GPU utilisation", "%", 0.01, 100.0),
    Drawn("power", "gpu_power_w", "Mean power of a GPU", "W"),
    Drawn("energy", "energy_per_event_j", "GPU energy", "J an event"),
    Drawn("scatter", "between", "sd between takes", "%", 0.01),
)


def against_load(
    found: pl.DataFrame, drawn: Drawn, points: pl.DataFrame, holes: Sequence[tuple[str, str, float]] = ()
) -> Chart:
    """Draw a quantity against the load; `points` say what was measured on what, `holes` are places without a point.

    Raises:
        PlanError: nobody recorded it.
    """
    load = found["load"].value_counts(sort=True)["load"][0]
    kept = found.filter(pl.col("load").eq_missing(pl.lit(load)), pl.col("level").is_not_null())
    drawn = _timed(drawn, kept)
    title, rows = _rows(kept, drawn, "level")
    gaps = [{"x": x, "series": name, "panel": panel, "measured": True} for name, panel, x in holes]
    rows = pl.concat([rows, pl.DataFrame(gaps, schema=rows.schema)])
    rows = rows.with_columns(panel_order=pl.col("panel_order").max().over("panel"))
    words = f"{drawn.title} against {noun(load)}"
    others = "Other kinds of load are left out." if kept.height < found.height else ""
    rows = rows.sort("panel_order", "x", maintain_order=True)
    return _panelled(rows, points, words, (title, AXES[noun(load)]), GAPS if holes else "", others, top=drawn.top)


def against_pile_up(found: pl.DataFrame, drawn: Drawn, points: pl.DataFrame) -> Chart:
    """Draw a quantity against pile-up, each configuration at its load of the highest throughput there.

    Raises:
        PlanError: fewer than two pile-ups.
    """
    known = found.filter(pl.col("mu").is_not_null(), pl.col("throughput_per_s").is_not_null())
    if known["mu"].n_unique() < 2:  # noqa: PLR2004 - one is no curve
        raise nothing("pile-up", "fewer than two pile-ups were measured")
    sure = pl.col("measured") | ~pl.col("measured").any().over("configuration", "mu")
    best = known.filter(sure).sort("throughput_per_s", descending=True)
    best = best.unique(["configuration", "mu"], keep="first", maintain_order=True)
    drawn = _timed(drawn, best)
    title, rows = _rows(best.sort("mu").with_columns(input_set=pl.lit("")), drawn, "mu")
    words = f"{drawn.title} against pile-up"
    return _panelled(rows, points, words, (title, MU), "At the load of the highest throughput.")


def _timed(drawn: Drawn, found: pl.DataFrame) -> Drawn:
    """Say which time a percentile is of, where all places agree."""
    kinds = found["headline"].drop_nulls().unique()
    known = drawn.column.endswith("_ns") and len(kinds) == 1
    return replace(drawn, title=f"{drawn.title} of {kinds[0]} time") if known else drawn


def _rows(found: pl.DataFrame, drawn: Drawn, x: str) -> tuple[str, pl.DataFrame]:
    if not found[drawn.column].is_not_null().any():
        raise nothing(drawn.name, f"{drawn.column} was not recorded")
    unit, scale = drawn.unit, drawn.scale
    if drawn.column.endswith("_ns"):
        unit, scale = duration_unit(found[drawn.column].max())  # type: ignore[arg-type]
    limits = {
        name: pl.col(column) / scale if column in found.columns else pl.lit(None, pl.Float64)
        for name, column in zip(("low", "high"), quantities.limits(drawn.column), strict=True)
    }
    order = pl.col("input_set").rank("dense") if x == "mu" else pl.col("mu").fill_null(-1.0)
    rows = found.select(
        x=pl.col(x).cast(pl.Float64),
        series=pl.col("configuration"),
        panel=pl.col("input_set"),
        panel_order=order.cast(pl.Float64),
        value=pl.col(drawn.column) / scale,
        **limits,
        takes=pl.col("takes"),
        measured=pl.col("measured"),
        note=pl.col("note").str.slice(0, 120),
    )
    return f"{drawn.title} ({unit})" if unit else drawn.title, rows


def _panelled(
    rows: pl.DataFrame,
    points: pl.DataFrame,
    title: str,
    titles: tuple[str, str],
    *notes: str,
    top: float | None = None,
) -> Chart:
    kept, told = _capped(rows)
    names = kept["series"].unique(maintain_order=True).to_list()
    by = Look(tuple(_natural(names)), columns=4 if max(map(len, names)) <= SHORT else 2)
    panels = kept["panel"].unique(maintain_order=True).to_list()
    shown = panels[:MOST_PANELS]
    told += f" {MOST_PANELS} of {len(panels)} input sets are shown." if len(panels) > MOST_PANELS else ""
    width, height = (440, 250) if len(shown) == 1 else (400, 230)
    axes = Axes(titles[1], *_parts(titles[0]), top=top, x_values=tuple(kept["x"]))
    each = [
        marks.curves(tidied(kept.filter(pl.col("panel") == panel)), axes, by, width=width, height=height).properties(
            **({"title": panel} if panel and len(shown) > 1 else {})
        )
        for panel in shown
    ]
    y_scale = {"y": "shared"} if len(each) > 1 else {}
    together = each[0] if len(each) == 1 else marks.grid(each, 2)
    together = together.resolve_scale(color="shared", shape="shared", **y_scale) if len(each) > 1 else together
    curve = kept.drop("panel", "panel_order")
    words = (*notes, told.strip(), marks.band_words(curve), marks.hollow_words(curve))
    return marks.entitled(together, title, points, *words)


def tidied(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a panel's rows with gaps where a series skips a place that others have."""
    return tidy.gapped(rows.drop("panel", "panel_order"))


def _capped(rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Keep the eight configurations of the largest values: a ninth would have the colour of the first."""
    most = rows.group_by("series", maintain_order=True).agg(pl.col("value").max())
    if most.height <= MOST_LINES:
        return rows, ""
    names = most.sort("value", descending=True, nulls_last=True)["series"].head(MOST_LINES).to_list()
    told = f"{MOST_LINES} of {counted(most.height, 'configuration')} are drawn, those of the largest values."
    return rows.filter(pl.col("series").is_in(names)), told


def _natural(names: list[str]) -> list[str]:
    """Return names in the order they came; numbers in front of them count as numbers."""

    def key(name: str) -> tuple[int, str]:
        digits = name[: len(name) - len(name.lstrip("0123456789"))]
        return (int(digits) if digits else -1, name)

    return sorted(names, key=key)


def _parts(title: str) -> tuple[str, str]:
    words, _, unit = title.rpartition(" (")
    return (words, unit.removesuffix(")")) if words else (title, "")
