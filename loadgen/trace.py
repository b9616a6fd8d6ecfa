"""Recorded arrivals, to be replayed: a file of intervals, or the due times of an earlier run."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from loadgen.errors import PlanError
from loadgen.plan import Replay

NS_PER_US = 1000


def intervals_ns(load: Replay) -> npt.NDArray[np.int64]:
    """Return the nanoseconds between arrivals, the first from the start of the load.

    A file holds whole microseconds, one a line, as perf_analyzer's `--request-intervals`; a run directory gives the
    due times of one of its points.

    Raises:
        PlanError: it cannot be read, holds nothing, or goes back in time.
    """
    path = Path(load.path)
    found = _of_run(path, load.point) if path.is_dir() else _of_file(path)
    if len(found) == 0:
        raise PlanError(f"{path}: holds no arrival to replay")
    if (found < 0).any():
        raise PlanError(f"{path}: line {int((found < 0).argmax()) + 1}: goes back in time; intervals are 0 or more")
    if not found.any():
        raise PlanError(f"{path}: every interval is 0: there is no rate to replay")
    return found


def _of_file(path: Path) -> npt.NDArray[np.int64]:
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.lstrip("-").isascii() or not line.lstrip("-").isdigit():
            raise PlanError(f"{path}: line {number}: {line[:40]!r} is no whole number of microseconds")
    return np.array([int(line) * NS_PER_US for line in lines], np.int64)


def _of_run(path: Path, point: int) -> npt.NDArray[np.int64]:
    try:
        rows = pl.scan_parquet(path / "records", glob=False).filter(pl.col("point") == point)
        due_ns = rows.select("due_ns").sort("due_ns").collect()["due_ns"].to_numpy()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PlanError(f"{path}: is no sealed run directory: {error}") from error
    return np.diff(due_ns, prepend=due_ns[:1])
