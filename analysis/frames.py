"""Run directories and tables on disk -> the tidy frames that the named charts are drawn from."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.charts import Frames
from analysis.hardware import gpu_figures
from analysis.pods import pod_figures
from analysis.runs import Run, open_run
from loadgen.errors import PlanError

FACTS = ("run", "label", "source", "instances", "gpus", "mu", "repeat")
"""Columns that say of every row of every frame where it is from."""

TABLES = (".csv", ".parquet")
KINDS = {
    "standalone": ("mu", "device", "throughput_per_s"),
    "answers": ("label", "quantity", "value"),
    "gpus": ("point", "gpu"),
    "points": ("point", "throughput_per_s"),
}
"""What a table on disk is taken for, by the columns that it has."""


def frames_of(paths: Sequence[Path], *, requests: bool = True) -> Frames:
    """Read sealed runs, and tables (CSV, Parquet) of points, gpus, standalone or answers; all of a kind become one.

    Raises:
        PlanError: a path is neither, or cannot be read.
    """
    if not paths:
        raise PlanError("name at least one run directory or table")
    found: dict[str, list[pl.DataFrame]] = {}
    for path in paths:
        read = _table(path) if path.suffix in TABLES else _run(open_run(path), requests=requests)
        for kind, frame in read.items():
            found.setdefault(kind, []).append(frame)
    return Frames(**{kind: pl.concat(parts, how="diagonal_relaxed") for kind, parts in found.items()})


def label_of(name: str) -> str:
    """Return a run's name without the time it was made at: `20260921T134640Z-sweep` is `sweep`."""
    return re.sub(r"^\d{8}T\d{6}Z-", "", name)


def mu_of(run: Run) -> float | None:
    """Return the pile-up of a run's inputs, where its plan or its inputs' words tell it."""
    mu = run.plan.get("inputs", {}).get("mu")
    if mu is not None:
        return float(mu)
    told = re.search(r"\bmu[ =_]?(\d+(?:\.\d+)?)", str(run.corpus.get("source", "")))
    return float(told[1]) if told else None


def _run(run: Run, *, requests: bool) -> dict[str, pl.DataFrame]:
    points, samples = run.points(), run.samples()
    gpus, pods = gpu_figures(points, samples), pod_figures(points, samples)
    facts = _facts(run, points, gpus)
    frames = {"points": facts, "gpus": _with_facts(gpus, facts), "pods": _with_facts(pods, facts)}
    if requests:
        frames["requests"] = _with_facts(_inside(run, points), facts)
    return {kind: frame for kind, frame in frames.items() if not frame.is_empty()}


def _facts(run: Run, points: pl.DataFrame, gpus: pl.DataFrame) -> pl.DataFrame:
    name = str(run.manifest["name"])
    counts = gpus.group_by("point").agg(gpus=pl.col("gpu").n_unique())
    return points.join(counts, on="point", how="left", maintain_order="left").with_columns(
        run=pl.lit(name),
        label=pl.lit(label_of(name)),
        source=pl.lit(str(run.path)),
        kind=pl.lit("loadgen"),
        mu=pl.lit(mu_of(run), pl.Float64),
    )


def _with_facts(frame: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    return frame.join(points.select("point", *FACTS), on="point", how="inner", maintain_order="left")


def _inside(run: Run, points: pl.DataFrame) -> pl.DataFrame:
    """Return the requests that ended inside the window of their point."""
    columns = ("point", "body", "outcome", "due_ns", "sent_ns", "done_ns", "request_bytes", "response_bytes")
    windows = points.select("point", "window_start_ns", "window_end_ns").lazy()
    ended = pl.col("done_ns").is_between("window_start_ns", "window_end_ns", closed="left")
    rows = run.records().select(columns).join(windows, on="point", how="inner").filter(ended)
    return rows.drop("window_start_ns", "window_end_ns").collect()


def _table(path: Path) -> dict[str, pl.DataFrame]:
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PlanError(f"{path}: cannot read: {' '.join(str(error).split())}") from error
    for kind, columns in KINDS.items():
        if set(columns) <= set(frame.columns):
            return {kind: _typed(frame)}
    known = "; ".join(f"{kind}: {', '.join(columns)}" for kind, columns in KINDS.items())
    raise PlanError(f"{path}: is no table that a chart knows (it has {', '.join(frame.columns)}); known are {known}")


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Give the columns of a CSV their types: a column without any value has none of its own."""
    casts: dict[str, Any] = {"point": pl.UInt32, "repeat": pl.UInt32, "run": pl.String, "label": pl.String}
    empty = {
        name: pl.Float64
        for name in frame.columns
        if frame[name].null_count() == frame.height
        and name.endswith(("_ns", "_s", "_w", "_bytes", "_j", "completed"))
    }
    casts = empty | {name: kind for name, kind in casts.items() if name in frame.columns}
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in casts.items())
