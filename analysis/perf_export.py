"""A sealed run -> what perf_analyzer would have written of it: its CSV in every form, and the levels behind them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from analysis.perf_csv import Form, composing_texts, csv_text
from analysis.perf_level import Asked, Level, level_of
from analysis.runs import Run
from loadgen import atomic
from loadgen.errors import PlanError
from loadgen.kserve import Statistics
from loadgen.plan import Load
from loadgen.progress import Edge
from loadgen.records import ROW, TIMES, Outcome, Rows
from loadgen.rundir import Sample
from loadgen.windows import MET

OUTCOMES = {outcome.label: int(outcome) for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Told:
    """One point as the log tells it: `edges` of all its windows, `counted` those of the windows that count."""

    point: int
    load: Load
    edges: tuple[Edge, ...]
    counted: tuple[Edge, Edge]
    settled: bool
    """Whether windows agreed; true where none had to."""


def write_csv(
    run: Run, path: Path, form: Form, *, percentile: int | None = None, unstable: bool = False
) -> list[Path]:
    """Write a run's points as perf_analyzer's CSV, and one for each model that the model calls; return the files.

    Points whose windows did not agree are left out, as there, unless `unstable`. `form` need not say what follows
    from the model.

    Raises:
        PlanError: the run's tables cannot be read, or a file cannot be written.
    """
    levels = levels_of(run, percentile, unstable=unstable)
    form = form_of(run, form)
    written = [atomic.write(path, csv_text(levels, form).encode())]
    for name, text in composing_texts(levels, form).items():
        written.append(atomic.write(path.with_name(f"{name}.{path.name}"), text.encode()))
    return written


def levels_of(run: Run, percentile: int | None = None, *, unstable: bool = False) -> list[Level]:
    """Return the levels of a run, in the order measured; those in which nothing completed are left out."""
    asked, samples = asked_of(run, percentile), gpu_samples(run)
    levels = [
        level_of(told.load, rows_of(run, told.point), told.counted, asked, samples)
        for told in told_points(run)
        if told.settled or unstable
    ]
    return [level for level in levels if level is not None]


def asked_of(run: Run, percentile: int | None) -> Asked:
    """Return how levels of a run are summed up; the percentile is that of its windows if none is given."""
    plan, model = run.plan, described(run)
    own = plan["stopping"].get("percentile") if plan["stopping"].get("kind") == "windows" else None
    keeps_state = bool(model.get("metadata", {}).get("sequence"))
    return Asked(
        percentile=percentile or own,
        batch=plan.get("batch", 1),
        http=bool(plan["endpoint"].get("http")),
        model=plan["endpoint"]["model"],
        last_steps=_last_steps(run.corpus) if keeps_state else None,
        sequence_length=plan.get("sequence_length", 0),
    )


def form_of(run: Run, form: Form) -> Form:
    """Return a form with what follows from the model."""
    model = described(run)
    cache = model.get("config", {}).get("response_cache", {}).get("enable", False)
    decoupled = bool(model.get("metadata", {}).get("decoupled"))
    return Form(form.verbose, form.metrics, decoupled, bool(cache))


def described(run: Run) -> Mapping[str, Any]:
    """Return what the log says of the model under load; empty if nothing."""
    return next(iter(run.events("server")), {})


def _last_steps(corpus: Mapping[str, Any]) -> frozenset[int]:
    last: dict[int, int] = {}
    for number, body in enumerate(corpus.get("bodies", ())):
        last[body.get("stream", 0)] = number
    return frozenset(last.values())


def told_points(run: Run) -> Iterator[Told]:
    """Yield every point that has a window."""
    closed = {event["point"]: event for event in run.events("window_closed")}
    opened = {event["point"]: event for event in run.events("window_opened")}
    ended = {event["point"]: event["status"] for event in run.events("level_ended")}
    for event in run.events("point_started"):
        point = event["point"]
        if point not in closed or point not in opened:
            continue
        counted = (_edge(opened[point]), _edge(closed[point]))
        edges = tuple(_edge(each) for each in run.events("edge") if each["point"] == point)
        within = edges and edges[-1].at_ns == counted[1].at_ns
        yield Told(
            point,
            msgspec.convert(event["load"], Load),
            edges if within else counted,
            counted,
            ended.get(point, MET[0]) in MET,
        )


def _edge(event: Mapping[str, Any]) -> Edge:
    facts = event.get("statistics")
    return Edge(event["at_ns"], msgspec.convert(facts, Statistics) if facts else None)


def rows_of(run: Run, point: int) -> Rows:
    """Return a point's requests as the journal had them.

    Raises:
        PlanError: the records cannot be read.
    """
    try:
        table = run.records().filter(pl.col("point") == point).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PlanError(f"{run.path}: cannot read its records: {' '.join(str(error).split())}") from error
    rows = np.zeros(table.height, ROW)
    for name in table.columns:
        column = table[name]
        if name == "outcome":
            column = column.replace_strict(OUTCOMES, return_dtype=pl.UInt8)
        rows[name] = (column.fill_null(0) if name in TIMES else column).to_numpy()
    return rows


def gpu_samples(run: Run) -> list[Sample]:
    """Return the samples of GPUs."""
    found = run.samples().filter(pl.col("metric").str.starts_with("nv_gpu_"))
    return [Sample(**row) for row in found.iter_rows(named=True)]
