"""Which charts a report has: the linked ones, and of the named ones those that its data have something for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import polars as pl

from analysis import theme
from analysis.charts import NAMED, Frames
from analysis.charts.registry import Chart
from analysis.reports import linked, panels, places
from analysis.reports.gathered import Gathered
from loadgen.errors import PlanError

OF_ALL = ("response-service", "pileup", "standalone")
OF_INPUTS = ("throughput-latency",)
"""Of all configurations with the inputs of the best place."""
OF_COUNTS = {"scaling-instances": "instances", "scaling-gpus": "gpus"}
"""The same, all as one series, where there are several counts."""
OF_BEST = ("stage-areas", "scaling", "takes-mean", "percentile-ladder", "gpu-panels", "pod-panels")
DISTRIBUTION = "latency-distribution"
FEWEST_COUNTS = 3
REPLACED = {"standalone": "pileup"}
"""A chart that says nothing more where the other one is drawn."""


def specifications(
    of: Gathered, judged: pl.DataFrame, found: pl.DataFrame
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the charts as Vega-Lite by name, and for those that cannot be drawn why."""
    drawn: dict[str, Chart] = {}
    absent: dict[str, str] = {}
    for name, draw in _all(of, judged, found):
        if REPLACED.get(name) in drawn:
            continue
        try:
            drawn[name] = draw()
        except PlanError as error:
            absent[name] = str(error).removeprefix(f"chart {name}: ")
    names = of.configurations
    known = linked.series_names(names, [f"mu {mu:g}" for mu in of.points["mu"].drop_nulls().unique()])
    by = linked.dressed(known, names)
    return {name: linked.linked(theme.specification(chart), known, by) for name, chart in drawn.items()}, absent


def _all(of: Gathered, judged: pl.DataFrame, found: pl.DataFrame) -> Iterator[tuple[str, Callable[[], Chart]]]:
    """Yield every chart's name with what draws it, in the order of the page."""
    if not found.is_empty():
        missing = of.grid.holes(found.select("configuration", "input_set", "level").iter_rows()) if of.grid else []
        for each in panels.LINKED:
            yield each.name, lambda each=each: panels.against_load(found, each, judged, missing)  # type: ignore[misc]
        for each in panels.LINKED[:2]:
            yield f"pile-up-{each.name}", lambda each=each: panels.against_pile_up(found, each, judged)  # type: ignore[misc]
    whole = _frames(of, judged)
    for name in OF_ALL:
        yield name, lambda name=name: NAMED[name](whole)  # type: ignore[misc]
    best = places.best(found) if not found.is_empty() else None
    if best is not None:
        yield from _of_best(of, judged, best)


def _of_best(of: Gathered, judged: pl.DataFrame, best: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Chart]]]:
    """Yield the charts that show one configuration, or all with the inputs of the best place."""
    alike = judged.filter(pl.col("input_set") == best["input_set"])
    own = alike.filter(pl.col("configuration") == best["configuration"])
    inputs, part = _frames(of, alike), _frames(of, own)
    joined = (
        replace(inputs, points=inputs.points.with_columns(label="input_set")) if inputs.points is not None else inputs
    )
    for name in OF_INPUTS:
        yield name, lambda name=name: NAMED[name](inputs)  # type: ignore[misc]
    for name, count in OF_COUNTS.items():
        if alike[count].drop_nulls().n_unique() >= FEWEST_COUNTS:
            yield name, lambda name=name: NAMED[name](joined)  # type: ignore[misc]
    for name in OF_BEST:
        yield name, lambda name=name: NAMED[name](part)  # type: ignore[misc]
    yield DISTRIBUTION, lambda: NAMED[DISTRIBUTION](_with_requests(of, own))


def _frames(of: Gathered, judged: pl.DataFrame) -> Frames:
    """Return the tables of some points for the named charts, a label being a configuration."""
    points = judged.with_columns(label=pl.col("configuration"), repeat=pl.col("take")).drop("measured")
    runs = points["run"].unique().to_list()
    gpus = of.loaded.gpus.filter(pl.col("run").is_in(runs))
    standalone = of.loaded.standalone
    return Frames(
        points=points,
        gpus=gpus if gpus.height else None,
        standalone=standalone if standalone.height else None,
    )


def _with_requests(of: Gathered, own: pl.DataFrame) -> Frames:
    """Read the requests of one configuration only: of a big study all would not fit."""
    frames = _frames(of, own)
    wanted = own.select("run", "point").unique().lazy()
    columns = ("run", "point", "outcome", "due_ns", "sent_ns", "done_ns", "request_bytes", "in_window")
    rows = of.loaded.requests.select(columns).filter("in_window").join(wanted, on=["run", "point"], how="semi")
    requests = rows.collect()
    return Frames(points=frames.points, requests=requests if requests.height else None)
