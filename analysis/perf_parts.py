"""perf_analyzer's points as parts of tidy tables: a part a sweep, named by what it measured, not by how."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from analysis import facts, perf_analyzer
from analysis.parts import Part, timed
from analysis.perf_analyzer import field_names
from analysis.runs import RECORDS_SCHEMA

KIND = "perf_analyzer"
FACTS = ("model", "server", "inputs", "instances", "gpus", "mu")
SWEEP: dict[str, pl.DataType] = {"file": pl.String(), "run": pl.UInt32(), "labels": pl.String()}
"""What tells sweeps apart: the file, which sweep in it, and what those who joined files wrote beside the figures."""

SERVER = tuple(f"server_{stage}_ns" for stage in ("queue", "compute_input", "compute_infer", "compute_output"))
PARTS = ("client_send_ns", "network_ns", *SERVER, "client_recv_ns")
"""Into what perf_analyzer splits the mean latency."""


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
    def requests(self) -> pl.LazyFrame:
        """One row a request, columns as `RECORDS_SCHEMA`; of formats that keep none no rows."""

    @property
    def warnings(self) -> Sequence[Suspicion]:
        """What is suspicious about it."""


def read(path: Path, label: str | None = None) -> list[Part]:
    """Read a file of perf_analyzer's.

    Raises:
        PlanError: it cannot be read, or is none.
    """
    return imported(perf_analyzer.read(path), str(path), label=label)


def imported(of: Imported, source: str, *, label: str | None = None) -> list[Part]:
    """Return another tool's points, a part a sweep; facts come from its points where they say so.

    What is suspicious is in the notes, and of a level by itself also in the `reason` of its point, whose verdict
    stays null: nobody has judged it.
    """
    points = _with_reasons(of)
    absent = [pl.lit(None, kind).alias(name) for name, kind in SWEEP.items() if name not in points.columns]
    points = _with_means(points.with_columns(absent))
    groups = points.partition_by(list(SWEEP), maintain_order=True)
    parts = [_sweep(of, group, source, label, alone=len(groups) == 1) for group in groups]
    notes = tuple(f"{one.file}{f', {one.level}' if one.level else ''}: {one.reason}" for one in of.warnings)
    return [replace(parts[0], notes=notes), *parts[1:]]


def label_of(path: Path, known: dict[str, Any]) -> str:
    """Return what a file is of: its name without take, GPUs, instances and pile-up; columns say these.

    Where nothing is left of it, the nearest folder's name counts, treated the same.
    """
    patterns = [field_names.FACTS[name] for name in ("take", *field_names.FACTS) if known.get(name) is not None]
    for name in (path.stem, *(folder.name for folder in list(path.parents)[: field_names.FOLDERS])):
        left = name
        for pattern in patterns:
            left = pattern.sub("", left)
        left = left if left == name else re.sub(r"([_\W])[_\W]*", r"\1", left).strip("_-. ")
        if left:
            return left
    return field_names.TAKE.sub("", path.stem) or path.stem


def _with_reasons(of: Imported) -> pl.DataFrame:
    points = of.points
    if "point" not in points.columns:
        points = points.with_row_index("point", offset=1)
    if "load_words" not in points.columns:
        return points
    reasons: dict[str, list[str]] = {}
    for one in of.warnings:
        reasons.setdefault(one.level, []).append(one.reason)
    said = ["; ".join(reasons.get(_level_words(row), [])) or None for row in points.iter_rows(named=True)]
    own = [pl.col("reason")] if "reason" in points.columns else []
    return points.with_columns(reason=pl.coalesce(*own, pl.Series(said, dtype=pl.String)))


def _with_means(points: pl.DataFrame) -> pl.DataFrame:
    """Add the mean service time where the file has only what perf_analyzer split it into.

    Network is what the other parts leave of it, so all of them add up to it; but not where it was cut off at 0.
    """
    if not set(PARTS) <= set(points.columns):
        return points
    parts = pl.sum_horizontal(PARTS)
    known = pl.all_horizontal(pl.col(PARTS).is_not_null()) & (pl.col("network_ns") > 0)
    own = [pl.col("service_mean_ns")] if "service_mean_ns" in points.columns else []
    return points.with_columns(service_mean_ns=pl.coalesce(*own, pl.when(known).then(parts)))


def _level_words(row: dict[str, Any]) -> str:
    """Return where a level stands, as `perf_analyzer.tables.level_words` does for one that is being read."""
    run = f"run {row['run']}" if (row.get("run") or 1) > 1 else ""
    return ", ".join(filter(None, [run, _words(row.get("labels")), row["load_words"] or "an unnamed level"]))


def _words(labels: str | None) -> str:
    return " ".join(f"{name}={text}" for name, text in json.loads(labels).items()) if labels else ""


def _sweep(of: Imported, points: pl.DataFrame, source: str, label: str | None, *, alone: bool) -> Part:
    said = points.row(0, named=True)
    path = Path(said["file"] or source)
    known = {name: said.get(name) for name in FACTS}
    if known["mu"] is None:
        known["mu"] = facts.named_pile_up(f"{known['inputs'] or ''} {path.stem}")
    run = f"run {said['run']}" if not alone and (said["run"] or 1) > 1 else ""
    which = ", ".join(filter(None, (run, _words(said["labels"]))))
    simulated = bool(points["simulated"].any()) if "simulated" in points.columns else None
    row = {
        "run": ", ".join(filter(None, (path.stem, which))),
        "source": str(path),
        "kind": KIND,
        "label": label or ", ".join(filter(None, (label_of(path, said), which))),
        **known,
        "simulated": simulated,
    }
    ours = pl.col("point").is_in(points["point"].implode())
    return Part(
        facts=row,
        points=points.drop(list(SWEEP)),
        gpus=of.gpus.filter(ours),
        requests=_requests(of, points),
        take=said.get("take"),
        group=f"{said.get('group') or path.with_suffix('')} {which}",
        settings={"format": said.get("kind") or ""},
        labelled=label is not None,
    )


def _requests(of: Imported, points: pl.DataFrame) -> pl.LazyFrame | None:
    known = of.requests.collect_schema()
    if not known or not {"window_start_ns", "window_end_ns"} <= set(points.columns):
        return None
    typed = [
        (pl.col(name) if name in known else pl.lit(None)).cast(kind).alias(name)
        for name, kind in RECORDS_SCHEMA.items()
    ]
    ours = pl.col("point").is_in(points["point"].implode())
    return timed(of.requests.select(typed).filter(ours), points)
