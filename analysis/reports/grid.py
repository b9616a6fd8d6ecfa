"""What a study asked for, what of it is missing, and which configurations failed."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from loadgen.errors import PlanError
from loadgen.plan import ClosedLoop, OpenLoop
from loadgen.study_plan import Cell, Study, cells, from_json

STUDY_FILE, FAILURES_FILE = "study.json", "failures.jsonl"
INTERRUPTED = "interrupted"
Place = tuple[str, str, float]
"""A configuration, its inputs and a load."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of a study: how many points it has, those missing by take, and failures in words."""

    asked: int
    missing: tuple[tuple[int, Place], ...]
    failures: tuple[str, ...]
    folder: str

    def holes(self, measured: Iterable[Place]) -> list[Place]:
        """Return the places that have no point of any take."""
        known = set(measured)
        return sorted({place for _, place in self.missing} - known)


def of_study(folder: Path, points: pl.DataFrame) -> Grid:
    """Hold the points of a study against its grid; a point that was cut off counts as missing.

    Raises:
        PlanError: study.json or failures.jsonl cannot be read.
    """
    study = read(folder)
    whole = points.filter(pl.col("verdict").ne_missing(INTERRUPTED))
    done = {
        (take, (configuration, inputs, level))
        for take, configuration, inputs, level in whole.select(
            "take", "configuration", "input_set", "level"
        ).iter_rows()
    }
    asked = [_place(cell) for cell in cells(study)]
    return Grid(len(asked), tuple(each for each in asked if each not in done), _failures(folder), str(folder))


def _place(cell: Cell) -> tuple[int, Place]:
    take, server, inputs, load = cell
    level = 0.0
    if isinstance(load, ClosedLoop):
        level = float(load.concurrency)
    elif isinstance(load, OpenLoop):
        level = float(load.rate_per_s)
    return take, (server, inputs, level)


def read(folder: Path) -> Study:
    """Read what a study asks for.

    Raises:
        PlanError: study.json cannot be read, or is of another version.
    """
    path = folder / STUDY_FILE
    try:
        return from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise PlanError(f"{path}: cannot read: {error.strerror}") from error


def _failures(folder: Path) -> tuple[str, ...]:
    path = folder / FAILURES_FILE
    if not path.exists():
        return ()
    try:
        told = [json.loads(line) for line in path.read_bytes().splitlines() if line]
    except (OSError, ValueError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error
    said = [f"take {one.get('take')}, {one.get('server')}, {one.get('inputs')}: {one.get('failure')}" for one in told]
    return tuple(dict.fromkeys(said))
