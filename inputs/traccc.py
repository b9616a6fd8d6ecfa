"""traccc cells CSVs: `event%09d-cells.csv`, one row a cell."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from inputs.event import CELLS_SCHEMA, Event
from loadgen import atomic
from loadgen.errors import PlanError

FILE_PATTERN = "event*-cells.csv"
SYNONYMS = {"hit_id": "measurement_id", "cannel0": "channel0"}
"""Older files call the measurement a hit; one writer has a typo."""


def cells_files(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files meant by paths: a folder stands for its `event*-cells.csv`, in order of name.

    Raises:
        PlanError: a path does not exist, or a folder holds no such file.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(path.glob(FILE_PATTERN))
            if not found:
                raise PlanError(f"{path}: holds no {FILE_PATTERN}")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise PlanError(f"{path}: no such file or folder; check --input-data")
    return files


def read_events(paths: Iterable[str | Path]) -> Iterator[Event]:
    """Yield the event of each file; see `cells_files` for what a path may be.

    Raises:
        PlanError: a file cannot be read, lacks a column, holds no cell, or has a value that is not of its type.
    """
    for path in cells_files(paths):
        yield Event(path.name.removesuffix(".csv").removesuffix("-cells"), read_cells(path))


def read_cells(path: Path) -> pl.DataFrame:
    """Return the cells of one file, columns found by name, rows as they stand.

    Raises:
        PlanError: as `read_events`.
    """
    names = _header(path)
    missing = [name for name in CELLS_SCHEMA if name not in names]
    if missing:
        raise PlanError(f"{path}: has no column {', '.join(missing)}; its header is {','.join(names) or 'empty'}")
    # Types are given, not inferred: an identifier above 2^63 does not fit the Int64 that inference would choose.
    types = {name: CELLS_SCHEMA.get(name, pl.String()) for name in names}
    kinds = list(types.values())
    try:
        cells = pl.read_csv(path, has_header=True, quote_char=None, new_columns=names, schema_overrides=kinds)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise PlanError(f"{path}: {_first_line(error)}") from error
    cells = cells.select(list(CELLS_SCHEMA))
    if cells.is_empty():
        raise PlanError(f"{path}: holds no cell")
    for name in CELLS_SCHEMA:
        gaps = cells[name].is_null()
        if gaps.any():
            raise PlanError(f"{path}: row {int(gaps.arg_max() or 0) + 2}: {name} is empty")
    return cells


def write_cells(event: Event, path: Path) -> None:
    """Write an event as a cells CSV that traccc reads.

    Raises:
        PlanError, FleetError: the file cannot be written.
    """
    atomic.write(path, event.cells.write_csv().encode())


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            names = [name.strip() for name in file.readline().strip().split(",")]
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error
    return [SYNONYMS.get(name, name) for name in names if name]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
