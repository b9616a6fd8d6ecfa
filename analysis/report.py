"""A run -> one HTML page that needs nothing but itself: no address in it is ever fetched."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import vl_convert
from markupsafe import Markup

from analysis import prometheus, readable, replicas, takes
from analysis.figures import Tables, specifications, tables
from analysis.levels import USABLE, axis, headline_of, level_text, levelled
from analysis.runs import Run, open_run
from analysis.server_tables import client_table, gpu_table, physics_table
from analysis.summary import sentences, started_utc, warning_text
from analysis.tabular import Column, Table
from loadgen import atomic
from loadgen.clock import NS_PER_MS, NS_PER_S

VEGA_GLOBALS = "window.vegaEmbed = vegaEmbed;"
LEVELS = ("concurrency", "rate_per_s")
LOG_KEYS = frozenset({"at_ns", "event"})


def write_report(run_path: Path, out: Path) -> Path:
    """Write the report of a sealed run; return its path.

    Raises:
        PlanError: no sealed run directory, or the file cannot be written.
    """
    return atomic.write(out, page(open_run(run_path)).encode())


def page(run: Run) -> str:
    """Return a run's report as HTML; every word that came with the run is escaped."""
    of = tables(run)
    loader = jinja2.PackageLoader("analysis", ".")
    engine = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True)
    specs = specifications(of)
    engine.globals["usable"] = USABLE
    return engine.get_template("report.html.j2").render(
        name=run.manifest["name"],
        started=started_utc(run),
        simulated=bool(of.points["simulated"].any()),
        sentences=sentences(run, of),
        charts=[(name, _width(spec)) for name, spec in specs.items()],
        specs=Markup(script_json(specs)),  # noqa: S704 - `<`, `>` and `&` are escaped in it
        library=Markup(vl_convert.javascript_bundle(VEGA_GLOBALS)) if specs else "",  # noqa: S704 - a fixed library
        points=point_table(of),
        takes=takes_table(of.points),
        models=model_table(run.models()),
        composing=composing_table(of.points, run.composing()),
        physics=physics_table(of),
        replicas=replica_table(of.points, run.replicas()),
        prometheus=prometheus_table(of.points, run.prometheus()),
        gpus=gpu_table(of),
        client=client_table(of),
        checks=check_table(of.points),
        sections=provenance(run),
    )


def script_json(value: object) -> str:
    """Return JSON that is safe inside a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def point_table(of: Tables) -> Table:
    """Return the points with readable units; columns the run has nothing for are left out."""
    of = replace(of, points=of.points.sort(*LEVELS, "point", nulls_last=True))
    points = of.points
    unit, unit_ns = readable.duration_unit(_largest(points[f"{headline_of(points)}_p99_ns"]))
    levels = list(map(level_text, levelled(points)["level"]))
    columns = {Column(axis(points).heading): levels}
    columns |= {Column(name): _counts(points[name.lower()]) for name in ("Completed", "Failed")}
    columns |= {
        column: _figures(column, values)
        for column, values in (_rates(of) | _times(points, unit, unit_ns) | _shares(of)).items()
        if values.is_not_null().any()
    }
    columns[Column("Verdict", words=True)] = points["verdict"].to_list()
    plain = zip(points["verdict"], points["reason"], strict=True)
    notes = ["" if verdict == "converged" else reason for verdict, reason in plain]
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], notes)


def takes_table(points: pl.DataFrame) -> Table:
    """Return each level's takes together; no rows where nothing was repeated."""
    found = takes.takes(points).filter(pl.col("takes") > 1)
    unit, unit_ns = readable.duration_unit(_largest(found.filter(pl.col("quantity") == "p99_ns")["value"]))
    names = {
        "throughput_per_s": ("throughput, events/s", 1),
        "p50_ns": (f"p50, {unit}", unit_ns),
        "p99_ns": (f"p99, {unit}", unit_ns),
    }
    columns = [Column(axis(points).heading if points.height else "Level"), Column("Takes"), Column("Of", words=True)]
    columns += [Column("Mean", "of takes"), Column("From", "95 %"), Column("To", "95 %")]
    columns += [Column("Between takes", "sd, %"), Column("Within a take", "sd, %")]
    rows = []
    for row in found.iter_rows(named=True):
        name, scale = names[row["quantity"]]
        figures = [readable.number(row[end] / scale) for end in ("value", "low", "high")]
        spreads = [_percent(row[kind]) for kind in ("between", "within")]
        rows.append([level_text(row["level"]), str(row["takes"]), name, *figures, *spreads])
    return Table(columns, rows)


def model_table(models: pl.DataFrame) -> Table:
    """Return each model's part of every point; no rows where one model has the whole load."""
    kind = headline_of(models)
    unit, unit_ns = readable.duration_unit(_largest(models[f"{kind}_p99_ns"]))
    level = axis(models).heading if models.height else "Level"
    columns = [Column(level), Column("Model", words=True), Column("Completed"), Column("Failed")]
    columns += [Column("Throughput", "events/s"), Column("Share", "%"), Column("p50", unit), Column("p99", unit)]
    shares = models.select(of=100 * pl.col("completed") / pl.col("completed").sum().over("point"))["of"]
    rows = []
    for share, row in zip(shares, levelled(models).iter_rows(named=True), strict=True):
        times = [readable.number(_scaled(row[f"{kind}_{name}_ns"], unit_ns)) for name in ("p50", "p99")]
        counts = [f"{row[name]:,}" for name in ("completed", "failed")]
        rates = [readable.number(row["throughput_per_s"]), readable.number(share)]
        rows.append([level_text(row["level"]), row["model"], *counts, *rates, *times])
    return Table(columns, rows)


def composing_table(points: pl.DataFrame, composing: pl.DataFrame) -> Table:
    """Return the stages of the models that the served one calls; no rows where it calls none."""
    level = axis(points).heading if points.height else "Level"
    names = ("request", "queue", "compute_input", "compute_infer", "compute_output")
    columns = [Column(level), Column("Model", words=True), Column("Requests"), Column("Mean batch")]
    columns += [Column(name.replace("_", " ").capitalize(), "ms") for name in names]
    if composing.is_empty():
        return Table(columns, [])
    levels = dict(levelled(points).select("point", "level").iter_rows())
    rows = []
    for row in composing.iter_rows(named=True):
        times = [readable.number(row[f"{name}_ns"] / NS_PER_MS) for name in names]
        figures = [f"{row['success']:,}", readable.number(row["mean_batch"])]
        rows.append([level_text(levels[row["point"]]), row["model"], *figures, *times])
    return Table(columns, rows)


def replica_table(points: pl.DataFrame, shares: pl.DataFrame) -> Table:
    """Return each replica's part of every point; no rows where there is one."""
    columns = [Column(axis(points).heading if points.height else "Level")]
    columns += [Column(name, words=of_words) for name, of_words in replicas.HEADINGS]
    return Table(columns, replicas.rows(points, shares))


def prometheus_table(points: pl.DataFrame, figures: pl.DataFrame) -> Table:
    """Return what a Prometheus says of every point, a column a point; no rows where none was asked."""
    columns = [Column("Query", words=True), Column("Labels", words=True)]
    columns += [Column(level, axis(points).noun) for level in prometheus.headings(points)]
    return Table([*columns, Column("Missing because", words=True)], prometheus.rows(points, figures))


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _percent(share: float | None) -> str:
    return readable.MISSING if share is None else f"{100 * share:.2g}"


def check_table(points: pl.DataFrame) -> Table:
    """Return the counts of every point, ours beside the server's."""
    names = {
        "Requests": "point_requests",
        "Succeeded, client": "point_ok",
        "Succeeded, server": "point_server_success",
        "In window, client": "completed",
        "In window, server": "server_success",
        "Failed in window, server": "server_fail",
    }
    words = points["checks"].fill_null("").to_list() if "checks" in points.columns else [""] * points.height
    counts = [
        list(map(level_text, levelled(points)["level"])),
        *(_counts(points[column]) for column in names.values()),
        words,
    ]
    columns = [Column(axis(points).heading), *map(Column, names), Column("In words", words=True)]
    return Table(columns, [list(row) for row in zip(*counts, strict=True)])


def provenance(run: Run) -> list[tuple[str, str]]:
    """Return what the run was made with: headings and their text."""
    told = [f"{_seconds(run, event)} s  {warning_text(event)}" for event in run.events("warning")]
    told += [f"{_seconds(run, event)} s  {_failure(event)}" for event in run.events("failure")]
    server = [*run.events("target"), *run.events("server")]
    sections = {
        "Plan (run it again with these values)": _json(run.plan),
        "Where it ran from": _json(run.environment),
        "Server and model, as they described themselves": "\n".join(_json(_described(event)) for event in server),
        "Inputs": _json(run.corpus) if run.corpus else "",
        "Warnings and failures of the log": "\n".join(told),
        "Manifest": _json(run.manifest),
    }
    return [(heading, text) for heading, text in sections.items() if text]


def _json(facts: object) -> str:
    return json.dumps(facts, indent=2, ensure_ascii=False)


def _described(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in LOG_KEYS}


def _failure(event: Mapping[str, Any]) -> str:
    return f"point {event.get('point')}: {event.get('outcome')}: {event.get('details')}"


def _seconds(run: Run, event: Mapping[str, Any]) -> str:
    return f"{(event['at_ns'] - run.manifest['started_at_ns']) / NS_PER_S:8.3f}"


def _largest(values: pl.Series) -> float | None:
    return float(most) if isinstance(most := values.max(), int | float) else None


def _counts(values: pl.Series) -> list[str]:
    return [readable.MISSING if value is None else f"{value:,}" for value in values]


def _rates(of: Tables) -> dict[Column, pl.Series]:
    half = _relative(of.points, "throughput_{}per_s")
    goodput = of.points["goodput_per_s"] if "goodput_per_s" in of.points.columns else pl.Series([None])
    rates = {Column("Throughput", "events/s"): of.points["throughput_per_s"], Column("± X", "%"): half}
    return rates | ({Column("Goodput", "events/s"): goodput} if goodput.is_not_null().any() else {})


def _times(points: pl.DataFrame, unit: str, unit_ns: int) -> dict[Column, pl.Series]:
    kind = headline_of(points)
    columns = {name: points[f"{kind}_{name.lower()}_ns"] / unit_ns for name in ("p50", "p99")}
    times = {Column(name, unit): values for name, values in columns.items()}
    stages = {"Queue": "server_queue_ns", "Infer": "server_compute_infer_ns"}
    return {
        **times,
        Column("± p99", "%"): _relative(points, f"{kind}_p99_{{}}ns"),
        **{Column(name, unit): points[column] / unit_ns for name, column in stages.items()},
    }


def _figures(column: Column, values: pl.Series) -> list[str]:
    if not column.name.startswith("±"):
        return readable.column(values.to_list())
    return [readable.MISSING if value is None else f"{value:.1f}" for value in values]


def _relative(points: pl.DataFrame, form: str) -> pl.Series:
    """Return the larger side of the 95 % intervals of a column, in percent of its values."""
    value, low, high = (pl.col(form.format(limit)) for limit in ("", "low_", "high_"))
    larger = pl.when(low.is_not_null() & high.is_not_null() & (value > 0)).then(
        pl.max_horizontal(high - value, value - low)
    )
    return points.select(of=(100 * larger / value).round(1))["of"]


def _shares(of: Tables) -> dict[Column, pl.Series]:
    means = of.gpus.group_by("point").agg(pl.col("utilisation").mean())
    gpu = of.points.select("point").join(means, on="point", how="left", maintain_order="left")["utilisation"]
    return {
        Column("In flight", "mean"): of.points["in_flight_mean"],
        Column("Instances", "% busy"): 100 * of.points["server_busy"],
        Column("GPU", "%, mean"): 100 * gpu,
    }


def _width(spec: Mapping[str, Any]) -> str:
    return "wide" if "vconcat" in spec else "half"
