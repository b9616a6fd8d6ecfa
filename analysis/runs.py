"""Sealed run directories -> plain facts and tables; nothing here knows how they were made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis import physics
from analysis.hardware import gpu_figures
from loadgen.errors import PlanError
from loadgen.points import SCHEMA

FORMAT = 1

RECORDS_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "worker": pl.UInt16(),
    "connection": pl.UInt16(),
    "seq": pl.UInt64(),
    "body": pl.UInt32(),
    "outcome": pl.String(),
    "responses": pl.UInt16(),
    "due_ns": pl.Int64(),
    "sent_ns": pl.Int64(),
    "flushed_ns": pl.Int64(),
    "first_byte_ns": pl.Int64(),
    "done_ns": pl.Int64(),
    "request_bytes": pl.UInt64(),
    "response_bytes": pl.UInt64(),
}
"""Columns of `Run.records`, one row a request."""

REPLICAS_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "replica": pl.String(),
    "source": pl.String(),
    "requests": pl.Float64(),
    "share": pl.Float64(),
}
PROMETHEUS_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "query": pl.String(),
    "labels": pl.String(),
    "value": pl.Float64(),
    "reason": pl.String(),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One sealed run: its facts as read, its tables on demand."""

    path: Path
    plan: dict[str, Any]
    manifest: dict[str, Any]
    environment: dict[str, Any]
    corpus: dict[str, Any]
    log: tuple[dict[str, Any], ...]

    def points(self) -> pl.DataFrame:
        """Return the measured points, one row each, in the order measured.

        Columns that an older version did not record are there, and null.

        Raises:
            PlanError: the file is missing or damaged.
        """
        return _migrated(_read_parquet(self.path / "points.parquet")).sort("point")

    def unrecorded(self) -> tuple[str, ...]:
        """Return the columns of the points that the version which made the run did not have yet.

        Raises:
            PlanError: the file is missing or damaged.
        """
        known = set(_read_parquet(self.path / "points.parquet").columns)
        return tuple(name for name in SCHEMA if name not in known)

    def models(self) -> pl.DataFrame:
        """Return each model's part of every point, where several share the load; columns as `points`, else no rows.

        Raises:
            PlanError: the file is damaged.
        """
        path = self.path / "models.parquet"
        return _migrated(_read_parquet(path)).sort("point") if path.exists() else self.points().clear()

    def composing(self) -> pl.DataFrame:
        """Return what each model that the served one calls did in every window; no columns where it calls none.

        Raises:
            PlanError: the file is damaged.
        """
        path = self.path / "composing.parquet"
        return _read_parquet(path).sort("point") if path.exists() else pl.DataFrame()

    def replicas(self) -> pl.DataFrame:
        """Return each replica's requests and share in every window; no rows where none are known.

        Raises:
            PlanError: the file is damaged.
        """
        path = self.path / "replicas.parquet"
        return _read_parquet(path) if path.exists() else pl.DataFrame(schema=REPLICAS_SCHEMA)

    def prometheus(self) -> pl.DataFrame:
        """Return what a Prometheus server says of every window; no rows where none was asked.

        Raises:
            PlanError: the file is damaged.
        """
        path = self.path / "prometheus.parquet"
        return _read_parquet(path) if path.exists() else pl.DataFrame(schema=PROMETHEUS_SCHEMA)

    def records(self) -> pl.LazyFrame:
        """Return the requests, one row each, unread until collected; columns as `RECORDS_SCHEMA`."""
        files = sorted((self.path / "records").glob("*.parquet"))
        if not files:
            return pl.LazyFrame(schema=RECORDS_SCHEMA)
        rows = pl.scan_parquet(files, glob=False)
        known = set(rows.collect_schema().names())
        absent = [pl.lit(None, kind).alias(name) for name, kind in RECORDS_SCHEMA.items() if name not in known]
        return rows.with_columns(absent) if absent else rows

    def samples(self) -> pl.DataFrame:
        """Return the metric samples, one row a figure.

        Raises:
            PlanError: the file is missing or damaged.
        """
        return _read_parquet(self.path / "samples.parquet")

    def physics(self) -> pl.DataFrame:
        """Return each point in terms of physics: events, cells, energy and GPU time (`physics.PHYSICS_SCHEMA`).

        Raises:
            PlanError: a file is missing or damaged.
        """
        points = self.points()
        cells = physics.completed_cells(points, self.records(), self.corpus)
        return physics.physics(points, gpu_figures(points, self.samples()), cells, self.batch)

    @property
    def batch(self) -> int:
        """Events a request."""
        return int(self.plan.get("batch", 1))

    def answer(self) -> dict[str, Any] | None:
        """Return the answer of a search (`loadgen.search.Answer`); None if the run was none, or did not end."""
        return next(iter(self.events("search_answer")), None)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of the log that have this name."""
        return [event for event in self.log if event.get("event") == name]


def open_run(path: Path) -> Run:
    """Open a sealed run directory.

    Raises:
        PlanError: no run directory, one that is not sealed, one of another format, or a damaged file in it.
    """
    if not path.is_dir():
        raise PlanError(f"{path}: is not a run directory (no such folder); name a folder below runs/")
    if not (path / "plan.json").exists():
        raise PlanError(f"{path}: is not a run directory (it has no plan.json); name a folder below runs/")
    if not (path / "manifest.json").exists():
        raise PlanError(f"{path}: is not sealed; `python -m loadgen seal {path}` seals it")
    manifest = _read_json(path / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise PlanError(f"{path}: has format {manifest.get('format')}, this version reads {FORMAT}")
    return Run(
        path=path,
        plan=_read_json(path / "plan.json"),
        manifest=manifest,
        environment=_read_json(path / "environment.json"),
        corpus=_read_json(path / "corpus.json") if (path / "corpus.json").exists() else {},
        log=_read_log(path / "log.jsonl"),
    )


def _migrated(points: pl.DataFrame) -> pl.DataFrame:
    absent = [pl.lit(None, kind).alias(name) for name, kind in SCHEMA.items() if name not in points.columns]
    return points.with_columns(absent) if absent else points


def _read_json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error
    if not isinstance(facts, dict):
        raise PlanError(f"{path}: is not a JSON object")
    return facts


def _read_log(path: Path) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(json.loads(line) for line in path.read_bytes().split(b"\n") if line)
    except (OSError, ValueError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        words = " ".join(str(error).split())
        raise PlanError(f"{path}: cannot read: {words}") from error
