"""Paths -> tidy tables: run directories, studies, folders, perf_analyzer's files, traccc's logs, and tables."""

import glob
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from analysis import configurations, facts, kinds, perf_parts, standalone, tables_in
from analysis.hardware import gpu_figures
from analysis.kinds import Kind
from analysis.parts import Part, joined, timed
from analysis.pods import pod_figures
from analysis.runs import open_run
from analysis.tidy import FACTS, Loaded
from loadgen.errors import PlanError

STUDY_FILE = "study.json"


def load(*paths: str | Path, labels: Sequence[str] = ()) -> Loaded:
    """Load sources of any known kind into one set of tidy tables.

    A folder that is no run directory stands for all the runs and files of known kinds below it; what in it is not
    sealed or cannot be read is left out, and noted. A path with `*`, `?` or `[` that is no file's stands for all that
    it matches. `labels` name the paths, one each; else a path may be written `LABEL=PATH`, else folders and files
    name themselves.

    Raises:
        PlanError: a path is missing, of no known kind, empty, not sealed, damaged, or of another format.
    """
    if not paths:
        raise PlanError("nothing to load; name run directories, studies, perf_analyzer files or traccc logs")
    if labels and len(labels) != len(paths):
        raise PlanError(f"{len(labels)} labels for {len(paths)} paths; give one each, or none")
    split = list(zip(labels, map(Path, paths), strict=True)) if labels else [labelled(path) for path in paths]
    return joined(configurations.settled([part for label, path in split for part in _parts(path, label)]))


def labelled(text: str | Path) -> tuple[str | None, Path]:
    """Split `LABEL=PATH`; without a label, and where a file is called so, the text is the path."""
    label, sign, path = str(text).partition("=")
    if sign and label and "/" not in label and not Path(text).exists():
        return label, Path(path)
    return None, Path(text)


def _parts(path: Path, label: str | None) -> list[Part]:
    if glob.has_magic(str(path)) and not path.exists():
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - a pattern may be absolute
        if not found:
            raise PlanError(f"{path}: matches no file or folder")
        return [part for one in found for part in _parts(Path(one), label)]
    kind = kinds.kind_of(path)
    if kind is not Kind.FOLDER:
        return READERS[kind](path, label)
    runs, files, notes = kinds.below(path)
    parts = [_of_run(run, label if label or len(runs) == 1 else _inner_name(run, path))[0] for run in runs]
    parts = [replace(part, labelled=label is not None) for part in parts]
    failures: list[PlanError] = []
    logs = [file for file, of in files if of is Kind.TRACCC]
    readers = [partial(perf_parts.read, file, label) for file, of in files if of is Kind.PERF_ANALYZER]
    for read in [*readers, *([partial(_of_logs, logs, path, label)] if logs else [])]:
        try:
            parts += read()
        except PlanError as error:
            failures.append(error)
    if not parts:
        raise failures[0] if failures else PlanError(_nothing(path, notes))
    notes += [f"left out: {error}" for error in failures]
    return [replace(parts[0], notes=(*parts[0].notes, *notes)), *parts[1:]]


def _nothing(path: Path, notes: Sequence[str]) -> str:
    left_out = f": {notes[0]}" if notes else ""
    return f"{path}: holds neither a sealed run directory, nor a perf_analyzer file, nor a traccc log{left_out}"


def _inner_name(run: Path, folder: Path) -> str:
    return re.sub(r"\d{8}T\d{6}Z-", "", str(run.relative_to(folder)))


def _of_run(path: Path, label: str | None) -> list[Part]:
    run = open_run(path)
    points = run.points()
    samples = run.samples()
    part = Part(
        facts=_told_by_points(facts.of_run(run, path.name, label), points),
        points=points,
        gpus=gpu_figures(points, samples),
        pods=pod_figures(points, samples),
        requests=timed(run.records(), points),
        samples=samples.lazy(),
        labelled=label is not None,
    )
    study = path.absolute().parent.parent
    said = run.plan.get("labels") or {}
    return [configurations.numbered(part, said, str(study)) if (study / STUDY_FILE).exists() and said else part]


def _told_by_points(row: dict[str, Any], points: pl.DataFrame) -> dict[str, Any]:
    """Complete a run's facts by its first point: the log of an older or rescued run may not have them."""
    said = points.row(0, named=True) if points.height else {}
    return row | {name: said.get(name) for name in FACTS if row.get(name) is None and name in said}


def _of_log(path: Path, label: str | None) -> list[Part]:
    return _of_logs([path], path, label)


def _of_logs(files: Iterable[Path], source: Path, label: str | None) -> list[Part]:
    found = standalone.read(files)
    row = {
        "run": source.stem,
        "label": label or source.stem,
        "source": str(source),
        "kind": "traccc",
        "model": "traccc",
        "simulated": False,
    }
    return [Part(row, standalone.as_points(found.rows), standalone=found.rows, notes=found.warnings)]


READERS: dict[Kind, Callable[[Path, str | None], list[Part]]] = {
    Kind.RUN: _of_run,
    Kind.PERF_ANALYZER: perf_parts.read,
    Kind.TRACCC: _of_log,
    Kind.TABLE: tables_in.read,
}
