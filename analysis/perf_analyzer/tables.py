"""What an import makes of perf_analyzer's files: the tables of a native run, and what was suspicious.

`points` has the columns of a native `points.parquet`, null where perf_analyzer says nothing, and those of `EXTRA`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from analysis.hardware import GPU_SCHEMA
from analysis.runs import RECORDS_SCHEMA
from loadgen import points

NS_PER_US = 1000
SOURCE = "perf_analyzer"
CLOSED, OPEN = "closed_loop", "open_loop"
U32_MAX = 2**32 - 1

Row = dict[str, Any]

EXTRA: dict[str, pl.DataType] = {
    "source": pl.String(),
    "file": pl.String(),
    "kind": pl.String(),
    "run": pl.UInt32(),
    "group": pl.String(),
    "take": pl.UInt32(),
    "labels": pl.String(),
    "device": pl.String(),
    "gpus": pl.UInt32(),
    "instances_per_gpu": pl.UInt32(),
    "mu": pl.UInt32(),
    "events": pl.UInt32(),
    "batch_size": pl.UInt32(),
    "protocol": pl.String(),
    "request_count": pl.UInt64(),
    "resolution_ns": pl.Float64(),
    "client_marshal_ns": pl.Float64(),
    "client_request_ns": pl.Float64(),
    "response_wait_ns": pl.Float64(),
    "client_overhead": pl.Float64(),
    "send_rate_per_s": pl.Float64(),
    "delayed": pl.Float64(),
    "sequences_per_s": pl.Float64(),
    "response_throughput_per_s": pl.Float64(),
    "server_inferences": pl.UInt64(),
    "server_executions": pl.UInt64(),
    "server_cache_misses": pl.UInt64(),
    "server_compute_ns": pl.Float64(),
    "server_cache_hit_ns": pl.Float64(),
    "server_cache_miss_ns": pl.Float64(),
}
"""Columns that native points lack. Times are rounded down to `resolution_ns`: the true one is up to that longer."""

POINTS_SCHEMA = {**points.SCHEMA, **EXTRA}
COMPOSING_SCHEMA = {
    **points.COMPOSING_SCHEMA,
    "version": pl.String(),
    "throughput_per_s": pl.Float64(),
    "compute_ns": pl.Float64(),
    "cache_hit_ns": pl.Float64(),
    "cache_miss_ns": pl.Float64(),
}
WINDOWS_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "window": pl.UInt32(),
    "completed": pl.UInt64(),
    "throughput_per_s": pl.Float64(),
    "statistic": pl.String(),
    "service_ns": pl.Float64(),
    "service_std_ns": pl.Float64(),
}
"""Every window of a level, where the file tells of them; `statistic` says what `service_ns` is: `mean`, `p95`."""

REQUESTS_SCHEMA = {**RECORDS_SCHEMA, "sequence": pl.UInt64()}


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Something in a file to mistrust; `level` is empty where it concerns all of it."""

    file: str
    level: str
    reason: str


@dataclass(frozen=True, slots=True)
class Level:
    """One level as a file tells it: columns of `points`, rows of the other tables, remarks made while reading."""

    figures: Row
    gpus: list[Row] = field(default_factory=list)
    composing: list[Row] = field(default_factory=list)
    windows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Parsed:
    """All levels of a file in the order of its table; `requests` numbers its points in that order from 1."""

    kind: str
    levels: list[Level]
    notes: list[str] = field(default_factory=list)
    requests: pl.LazyFrame = field(default_factory=lambda: pl.LazyFrame(schema=REQUESTS_SCHEMA))


@dataclass(frozen=True, slots=True)
class Imported:
    """One file of perf_analyzer's, or several together, as tables; `warnings` says what to mistrust in them.

    Columns: `points` as `POINTS_SCHEMA` (further percentiles add theirs), `gpus` as `hardware.GPU_SCHEMA`,
    `composing` as `COMPOSING_SCHEMA`, `windows` as `WINDOWS_SCHEMA`, `requests` as `REQUESTS_SCHEMA`.
    Times of requests are nanoseconds since 1970 by the clock of the machine that ran perf_analyzer.
    """

    files: tuple[Path, ...]
    kinds: tuple[str, ...]
    points: pl.DataFrame
    gpus: pl.DataFrame
    composing: pl.DataFrame
    windows: pl.DataFrame
    requests: pl.LazyFrame
    warnings: tuple[Suspicion, ...]


def tabulated(path: Path, parsed: Parsed, common: Row, warnings: Iterable[Suspicion]) -> Imported:
    """Number the levels of a file from 1 and make its tables; `common` are columns that all its points share."""
    numbered = list(enumerate(parsed.levels, start=1))
    common = {"source": SOURCE, "file": str(path), "kind": parsed.kind} | common
    rows = [common | _known(level.figures) | {"point": number} for number, level in numbered]
    asked = {name: pl.Float64() for row in rows for name in row if name not in POINTS_SCHEMA}
    return Imported(
        files=(path,),
        kinds=(parsed.kind,),
        points=pl.DataFrame(rows, schema={**POINTS_SCHEMA, **asked}),
        gpus=_frame([{"point": n} | row for n, level in numbered for row in level.gpus], GPU_SCHEMA),
        composing=_frame([{"point": n} | row for n, level in numbered for row in level.composing], COMPOSING_SCHEMA),
        windows=_frame([{"point": n} | row for n, level in numbered for row in level.windows], WINDOWS_SCHEMA),
        requests=parsed.requests,
        warnings=tuple(warnings),
    )


def level_columns(*, concurrency: int | None = None, rate_per_s: float | None = None) -> Row:
    """Return the columns that say what load was asked for; both None where the file's word cannot be read."""
    if concurrency is not None:
        return {"load": CLOSED, "load_words": f"concurrency {concurrency}", "concurrency": concurrency}
    if rate_per_s is not None:
        return {"load": OPEN, "load_words": f"{rate_per_s:g}/s", "rate_per_s": rate_per_s}
    return {}


def level_words(row: Row) -> str:
    """Return where in a file a level stands: `run 2, concurrency 4`, `model=gemma3 batch_size=4, concurrency 1`."""
    return ", ".join(filter(None, [sweep_words(row), row.get("load_words") or "an unnamed level"]))


def sweep_words(row: Row) -> str:
    """Return to which sweep of a file a level belongs; empty where the file holds one."""
    run = f"run {row['run']}" if (row.get("run") or 1) > 1 else ""
    return ", ".join(filter(None, [run, row.get("label_words")]))


def _known(figures: Row) -> Row:
    return {name: value for name, value in figures.items() if value is not None and name != "label_words"}


def _frame(rows: list[Row], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=schema)
