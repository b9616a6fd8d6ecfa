"""Paths -> tidy tables: run directories, folders of them, perf_analyzer's files and traccc's logs."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from analysis import facts, perf_analyzer, quantities, standalone
from analysis.hardware import GPU_SCHEMA, gpu_figures
from analysis.kinds import Kind, below, kind_of
from analysis.runs import Run, open_run
from analysis.tidy import FACTS, GPUS, POINTS, REQUESTS, RUNS, SAMPLES, Loaded, stacked
from loadgen.errors import PlanError
from loadgen.progress import headline

OF_SOURCE = ("run", "label", "source", "kind")
"""Facts that are ours to say, whatever a file's own columns are called."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one source brings, its tables not yet stacked; `facts` is its row of `RUNS`."""

    facts: dict[str, Any]
    points: pl.DataFrame
    gpus: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=GPU_SCHEMA))
    requests: pl.LazyFrame | None = None
    samples: pl.LazyFrame | None = None
    standalone: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()


class Suspicion(Protocol):
    """Something in another tool's file to mistrust; `level` is empty where it concerns all of it."""

    @property
    def file(self) -> str:
        """Which file."""

    @property
    def level(self) -> str:
        """Which level of load in it."""

    @property
    def reason(self) -> str:
        """What it is, in words."""


class Imported(Protocol):
    """What was read from another tool's file."""

    @property
    def points(self) -> pl.DataFrame:
        """One row a point in the columns of a native points table; those that it does not have may be absent."""

    @property
    def gpus(self) -> pl.DataFrame:
        """One row a point and GPU, columns as `GPU_SCHEMA`."""

    @property
    def warnings(self) -> Sequence[Suspicion]:
        """What is suspicious about it."""


def load(*paths: str | Path, labels: Sequence[str] = ()) -> Loaded:
    """Load sources of any known kind into one set of tidy tables.

    A folder that is no run directory stands for all the runs below it, else for all files of a known kind in it;
    runs in it that are not sealed are left out, and noted. `labels` name the paths, one each, else folders' names do.

    Raises:
        PlanError: a path is missing, of no known kind, empty, not sealed, damaged, or of another format.
    """
    if not paths:
        raise PlanError("nothing to load; name run directories, perf_analyzer files or traccc logs")
    if labels and len(labels) != len(paths):
        raise PlanError(f"{len(labels)} labels for {len(paths)} paths; give one each, or none")
    given: Sequence[str | None] = labels or [None] * len(paths)
    named = zip(map(Path, paths), given, strict=True)
    return _joined(_distinct([part for path, label in named for part in _parts(path, label)]))


def imported(of: Imported, source: str, *, label: str | None = None, kind: str = "perf_analyzer") -> Part:
    """Return another tool's points as a part; model, inputs and server come from its points where they say so."""
    points = of.points
    if "point" not in points.columns:
        points = points.with_row_index("point", offset=1)
    said = points.row(0, named=True) if points.height else {}
    known = {name: said.get(name) for name in ("model", "server", "inputs", "instances", "gpus", "mu")}
    name = Path(source).stem
    simulated = bool(points["simulated"].any()) if "simulated" in points.columns else None
    if known["mu"] is None:
        known["mu"] = facts.named_pile_up(f"{known['inputs'] or ''} {name}")
    row = {"run": name, "label": label or name, "source": source, "kind": kind, **known, "simulated": simulated}
    notes = [f"{one.file}{f', {one.level}' if one.level else ''}: {one.reason}" for one in of.warnings]
    return Part(row, points, of.gpus, notes=tuple(notes))


def _parts(path: Path, label: str | None) -> list[Part]:
    kind = kind_of(path)
    if kind is not Kind.FOLDER:
        return [READERS[kind](path, label)]
    runs, files, notes = below(path)
    if runs:
        parts = [_of_run(run, label if label or len(runs) == 1 else _inner_name(run, path)) for run in runs]
        return [replace(parts[0], notes=tuple(notes)), *parts[1:]]
    logs = [file for file, of in files if of is Kind.TRACCC]
    parts = [READERS[of](file, label) for file, of in files if of is not Kind.TRACCC]
    parts += [_of_logs(logs, path, label)] if logs else []
    if not parts:
        left_out = f": {notes[0]}" if notes else ""
        raise PlanError(
            f"{path}: holds neither a sealed run directory, nor a perf_analyzer file, nor a traccc log{left_out}"
        )
    return [replace(parts[0], notes=(*parts[0].notes, *notes)), *parts[1:]]


def _inner_name(run: Path, study: Path) -> str:
    return re.sub(r"\d{8}T\d{6}Z-", "", str(run.relative_to(study)))


def _of_run(path: Path, label: str | None) -> Part:
    run = open_run(path)
    points = run.points()
    samples = run.samples()
    return Part(
        facts=_told_by_points(facts.of_run(run, path.name, label), points),
        points=points,
        gpus=gpu_figures(points, samples),
        requests=_requests(run, points),
        samples=samples.lazy(),
    )


def _told_by_points(row: dict[str, Any], points: pl.DataFrame) -> dict[str, Any]:
    """Complete a run's facts by its first point: the log of an older or rescued run may not have them."""
    said = points.row(0, named=True) if points.height else {}
    return row | {name: said.get(name) for name in FACTS if row.get(name) is None and name in said}


def _requests(run: Run, points: pl.DataFrame) -> pl.LazyFrame:
    windows = points.lazy().select("point", "window_start_ns", "window_end_ns")
    since_sent, since_due = (pl.col("done_ns") - pl.col(start) for start in ("sent_ns", "due_ns"))
    inside = pl.col("done_ns").is_between("window_start_ns", "window_end_ns", closed="left")
    return (
        run.records()
        .join(windows, on="point", how="left")
        .with_columns(
            service_ns=since_sent,
            response_ns=since_due,
            send_lag_ns=pl.col("sent_ns") - pl.col("due_ns"),
            in_window=inside.fill_null(value=False),
        )
        .drop("window_start_ns", "window_end_ns")
    )


def _of_perf_analyzer(path: Path, label: str | None) -> Part:
    read: Callable[[Path], Imported] | None = getattr(perf_analyzer, "read", None)
    if read is None:
        raise PlanError(f"{path}: is a file of perf_analyzer, which this version cannot read")
    return imported(read(path), str(path), label=label)


def _of_log(path: Path, label: str | None) -> Part:
    return _of_logs([path], path, label)


def _of_logs(files: Iterable[Path], source: Path, label: str | None) -> Part:
    found = standalone.read(files)
    row = {
        "run": source.stem,
        "label": label or source.stem,
        "source": str(source),
        "kind": "traccc",
        "model": "traccc",
        "simulated": False,
    }
    return Part(row, standalone.as_points(found.rows), standalone=found.rows, notes=found.warnings)


READERS: dict[Kind, Callable[[Path, str | None], Part]] = {
    Kind.RUN: _of_run,
    Kind.PERF_ANALYZER: _of_perf_analyzer,
    Kind.TRACCC: _of_log,
}


def _distinct(parts: Sequence[Part]) -> list[Part]:
    """Give sources of the same name a number, so that `run` is a key."""
    found: list[Part] = []
    taken: set[str] = set()
    for part in parts:
        name, number = part.facts["run"], 1
        while part.facts["run"] in taken:
            number += 1
            part = replace(part, facts=part.facts | {"run": f"{name} ({number})"})  # noqa: PLW2901
        taken.add(part.facts["run"])
        found.append(part)
    return found


def _joined(parts: Sequence[Part]) -> Loaded:
    runs = stacked([pl.DataFrame([part.facts], infer_schema_length=None) for part in parts], RUNS)
    points = stacked([_tidy_points(part) for part in parts], POINTS)
    gpus = stacked([_named(part, part.gpus, "run", "label") for part in parts], GPUS)
    return Loaded(
        runs=runs,
        points=points,
        quantities=quantities.long(points, gpus),
        gpus=gpus,
        standalone=stacked([part.standalone for part in parts if part.standalone is not None], standalone.SCHEMA),
        requests=_lazily([(part, part.requests) for part in parts], REQUESTS),
        samples=_lazily([(part, part.samples) for part in parts], SAMPLES),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _named(part: Part, frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    return frame.with_columns(pl.lit(part.facts[name]).alias(name) for name in names)


def _tidy_points(part: Part) -> pl.DataFrame:
    """Add the run's facts, each point's own where it has them, and what the point is compared by."""
    own = part.points
    if own.is_empty():
        return own.clear()
    level = pl.coalesce(
        *(pl.col(name).cast(pl.Float64) for name in ("level", "concurrency", "rate_per_s") if name in own.columns),
        pl.lit(None, pl.Float64),
    )
    added = {
        name: pl.coalesce(pl.col(name), pl.lit(part.facts.get(name)))
        if name in own.columns and name not in OF_SOURCE
        else pl.lit(part.facts.get(name))
        for name in FACTS
    }
    times = [_time(row) for row in own.iter_rows(named=True)]
    return own.with_columns(level=level, headline=pl.Series(times, dtype=pl.String), **added)


def _time(row: dict[str, Any]) -> str:
    """Return the headline time of a point, where it is known: other tools know service time only."""
    wanted = headline({"load": None, **row})
    return wanted if row.get(f"{wanted}_mean_ns") is not None else "service"


def _lazily(frames: Sequence[tuple[Part, pl.LazyFrame | None]], schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    found = [
        frame.with_columns(run=pl.lit(part.facts["run"])).select(list(schema))
        for part, frame in frames
        if frame is not None
    ]
    return pl.concat(found) if found else pl.LazyFrame(schema=schema)
