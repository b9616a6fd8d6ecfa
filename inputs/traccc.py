"""traccc cells CSVs: `event%09d-cells.csv`, one row a cell."""

import re
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

import polars as pl

from inputs.event import CELLS_SCHEMA, Event
from loadgen import atomic
from loadgen.errors import PlanError

FILE_PATTERN = "event*-cells.csv"
SYNONYMS = {"hit_id": "measurement_id", "cannel0": "channel0"}
"""Older files call the measurement a hit; one writer has a typo."""

NUMBERED = re.compile(r"event(\d+)-cells\.csv")


def cells_files(paths: Iterable[str | Path], numbers: tuple[int, int] | None = None) -> list[Path]:
    """Return the files meant by paths: a pattern for what it matches, a folder for its `event*-cells.csv`, by name.

    `numbers` are the first and the last event to take, as their names count them.

    Raises:
        PlanError: a path does not exist, a folder or a pattern has no such file, or no file is in the range.
    """
    files = [file for path in paths for file in _files_of(Path(path))]
    if numbers is None:
        return files
    kept = [file for file in files if numbers[0] <= _number(file) <= numbers[1]]
    if not kept:
        present = sorted(map(_number, files))
        there = f"the files are {present[0]} to {present[-1]}"
        raise PlanError(f"--event-range {numbers[0]}:{numbers[1]}: there is no such event; {there}")
    return kept


def read_events(paths: Iterable[str | Path], numbers: tuple[int, int] | None = None) -> Iterator[Event]:
    """Yield the event of each file, without cells of geometry id 0; see `cells_files` for what is meant.

    Raises:
        PlanError: a file cannot be read, lacks a column, holds no cell, or has a value that is not of its type.
    """
    for path in cells_files(paths, numbers):
        cells = read_cells(path)
        known = cells.filter(pl.col("geometry_id") != 0)
        if known.is_empty():
            raise PlanError(f"{path}: every cell has geometry id 0, which is no module")
        label = path.name.removesuffix(".csv").removesuffix("-cells")
        yield Event(label, known, cells.height - known.height)


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
        cells = pl.read_csv(
            path, has_header=True, quote_char=None, new_columns=names, schema_overrides=kinds, glob=False
        )
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


def _files_of(path: Path) -> list[Path]:
    if path.exists():
        found = sorted(path.glob(FILE_PATTERN)) if path.is_dir() else [path]
        if not found:
            raise PlanError(f"{path}: holds no {FILE_PATTERN}")
        return found
    if not has_magic(str(path)):
        raise PlanError(f"{path}: no such file or folder; check --input-data")
    matched = sorted(map(Path, glob(str(path), recursive=True)))  # noqa: PTH207 - the pattern may be absolute
    if not matched:
        raise PlanError(f"{path}: matches no file; check --input-data")
    return matched


def _number(path: Path) -> int:
    named = NUMBERED.fullmatch(path.name)
    if named is None:
        raise PlanError(f"{path}: --event-range takes files named eventNUMBER-cells.csv")
    return int(named[1])


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            names = [name.strip() for name in file.readline().strip().split(",")]
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error
    return [SYNONYMS.get(name, name) for name in names if name]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
