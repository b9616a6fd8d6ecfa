"""Tracks of a standalone traccc run, in the files that the studies wrote: chi2/ndf a track, and tracks an event.

Known names: `chi2.npy` with `ndf.npy`, `chi2_ndf.npy`, `num_tracks.npy`, `chi2_ndf_values*.csv` (columns chi2 and
ndf, or chi2_ndf) and `num_tracks*.csv` (num_tracks).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from loadgen.errors import PlanError

Floats = npt.NDArray[np.float64]
CHI2, NDF, RATIO, TRACKS = "chi2.npy", "ndf.npy", "chi2_ndf.npy", "num_tracks.npy"
RATIO_CSV, TRACKS_CSV = "chi2_ndf_values", "num_tracks"
KNOWN = f"{CHI2} with {NDF}, {RATIO}, {TRACKS}, {RATIO_CSV}*.csv, {TRACKS_CSV}*.csv"


@dataclass(frozen=True, slots=True)
class Tracks:
    """chi2/ndf a track and tracks an event, None where not known; `left_out` tracks have no finite ratio."""

    name: str
    chi2_ndf: Floats | None = None
    tracks: Floats | None = None
    left_out: int = 0


def read(paths: Sequence[Path]) -> Tracks:
    """Read a standalone run's files, or the known ones of a folder.

    Raises:
        PlanError: a file is missing, damaged or of no known name; or there are several of a kind.
    """
    files = _one_of_a_kind([file for path in paths for file in _files(path)])
    ratio, left_out = _ratio(files)
    tracks = next((_column(files[kind], "num_tracks") for kind in (TRACKS, TRACKS_CSV) if kind in files), None)
    if ratio is None and tracks is None:
        raise PlanError(f"{_listed(paths)}: {CHI2} needs {NDF} beside it, and the other way round")
    return Tracks("standalone", ratio, tracks, left_out)


def ratios(chi2: Floats, ndf: Floats) -> tuple[Floats, int]:
    """Return chi2/ndf of the tracks where it is a finite number, and how many there are of the others."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = chi2 / ndf
    good = np.isfinite(values)
    return values[good], int(np.count_nonzero(~good))


def _ratio(files: dict[str, Path]) -> tuple[Floats | None, int]:
    if CHI2 in files and NDF in files:
        chi2, ndf = _column(files[CHI2], "chi2"), _column(files[NDF], "ndf")
        if chi2.size != ndf.size:
            raise PlanError(f"{files[NDF]}: has {ndf.size} entries, {files[CHI2]} {chi2.size}")
        return ratios(chi2, ndf)
    if RATIO in files:
        values = _column(files[RATIO], "chi2_ndf")
        return ratios(values, np.ones_like(values))
    if RATIO_CSV in files:
        return _ratio_csv(files[RATIO_CSV])
    return None, 0


def _ratio_csv(path: Path) -> tuple[Floats, int]:
    names = _csv(path).columns
    if {"chi2", "ndf"} <= set(names):
        return ratios(_column(path, "chi2"), _column(path, "ndf"))
    values = _column(path, "chi2_ndf")
    return ratios(values, np.ones_like(values))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = [each for each in sorted(path.iterdir()) if _kind(each)]
        if not found:
            raise PlanError(f"{path}: holds none of {KNOWN}")
        return found
    if not path.exists():
        raise PlanError(f"{path}: no such file; name {KNOWN}, or their folder")
    if not _kind(path):
        raise PlanError(f"{path}: is of no known name; known are {KNOWN}")
    return [path]


def _kind(path: Path) -> str:
    if path.suffix == ".csv":
        return next((kind for kind in (RATIO_CSV, TRACKS_CSV) if path.name.startswith(kind)), "")
    return path.name if path.name in {CHI2, NDF, RATIO, TRACKS} else ""


def _one_of_a_kind(found: Iterable[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in found:
        kind = _kind(path)
        if kind in files:
            raise PlanError(f"{files[kind]} and {path} are of one kind; name the one to compare with")
        files[kind] = path
    return files


def _column(path: Path, name: str) -> Floats:
    """Read the numbers of a file, of the named column where it has columns."""
    try:
        if path.suffix == ".csv":
            table = _csv(path)
            return table[name].cast(pl.Float64).drop_nulls().to_numpy()
        values: Floats = np.load(path, allow_pickle=False).astype(np.float64).ravel()
    except (OSError, ValueError, EOFError, TypeError, pl.exceptions.PolarsError) as error:
        raise PlanError(f"{path}: cannot read {name}: {' '.join(str(error).split())}") from error
    return values


def _csv(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PlanError(f"{path}: cannot read: {' '.join(str(error).split())}") from error


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))
