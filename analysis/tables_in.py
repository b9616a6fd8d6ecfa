"""Tables on disk (CSV, Parquet) with the columns of ours -> parts: points, GPUs, standalone results, answers."""

from pathlib import Path
from typing import Any

import polars as pl

from analysis import perf_parts, standalone
from analysis.hardware import GPU_SCHEMA
from analysis.parts import Part
from analysis.tidy import ANSWERS, FACTS, POINTS
from loadgen.errors import PlanError

SUFFIXES = (".csv", ".parquet")
KIND = "table"
KNOWN = {
    "points": ("point", "throughput_per_s"),
    "GPUs": ("run", "point", "gpu"),
    "standalone": ("mu", "device", "throughput_per_s"),
    "answers": ("label", "quantity", "value"),
}
"""What a table is taken for, by the columns that it has."""

OF_PERF_ANALYZER = {"file", "group", "load_words"}
"""Columns of the points that `import -o` writes."""


def kind_of(columns: list[str]) -> str | None:
    """Return what a table with these columns is of; None for no table of ours."""
    return next((kind for kind, wanted in KNOWN.items() if set(wanted) <= set(columns)), None)


def columns_of(path: Path) -> list[str]:
    """Return the names of a table's columns, none where it cannot be read as one."""
    try:
        if path.suffix == ".parquet":
            return pl.scan_parquet(path, glob=False).collect_schema().names()
        return pl.scan_csv(path, infer_schema_length=1, glob=False).collect_schema().names()
    except (OSError, pl.exceptions.PolarsError):
        return []


def _frame(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path, glob=False)
    return pl.read_csv(path, infer_schema_length=None, glob=False)


def read(path: Path, label: str | None = None) -> list[Part]:
    """Read a table; of points a part a run.

    Raises:
        PlanError: it cannot be read, or its columns are of other types.
    """
    try:
        return _parts(_frame(path), path, label)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PlanError(f"{path}: cannot read: {' '.join(str(error).split())}") from error


def _parts(frame: pl.DataFrame, path: Path, label: str | None) -> list[Part]:
    kind = kind_of(frame.columns)
    if kind == "standalone":
        return [Part(None, standalone=_typed(frame, standalone.SCHEMA))]
    if kind == "answers":
        return [Part(None, answers=_typed(frame, ANSWERS))]
    if kind == "GPUs":
        return [Part(None, gpus=_typed(frame, {"run": pl.String(), **GPU_SCHEMA}))]
    if set(frame.columns) >= OF_PERF_ANALYZER:
        return perf_parts.imported(_Written(_typed(frame, {**POINTS, "run": pl.UInt32()})), str(path), label=label)
    points = _typed(frame, POINTS)
    named = points if "run" in points.columns else points.with_columns(run=pl.lit(path.stem))
    return [_run(of, path, label) for of in named.partition_by("run", maintain_order=True)]


def _run(points: pl.DataFrame, path: Path, label: str | None) -> Part:
    said: dict[str, Any] = {name: value for name, value in points.row(0, named=True).items() if name in FACTS}
    known = {"label": said["run"], "source": str(path), "kind": KIND}
    own = {name: value for name, value in said.items() if value is not None}
    facts = known | own | ({"label": label} if label else {})
    return Part(facts, points, labelled=label is not None)


def _typed(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Give known columns their types: a CSV does not tell them."""
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in schema.items() if name in frame.columns)


class _Written:
    """Points that an import wrote into a file: nothing else of it is known."""

    def __init__(self, points: pl.DataFrame) -> None:
        self.points = points
        self.gpus = pl.DataFrame(schema=GPU_SCHEMA)
        self.requests = pl.LazyFrame()
        self.warnings: tuple[perf_parts.Suspicion, ...] = ()
