"""Sources of any kind -> the points of a report, each with its configuration and its take; the grid of a study."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.kinds import Kind, kind_of
from analysis.levels import level_text
from analysis.reports import grid
from analysis.reports.grid import Grid
from analysis.runs import Run, open_run
from analysis.sources import load
from analysis.tidy import Loaded
from loadgen.errors import PlanError

STANDALONE = "standalone"
LABELS: dict[str, pl.DataType] = {
    "take": pl.UInt32(),
    "instances": pl.UInt32(),
    "gpus": pl.UInt32(),
    "mu": pl.Float64(),
}
"""What the plan of a run says of its place in a study, besides the names of server and inputs."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that a report is made of.

    `points` are those of `loaded` but for standalone programs, with `configuration` (the server's name in the study,
    else the source's label), `input_set` and `take`; `runs` are the run directories among the sources.
    """

    title: str
    loaded: Loaded
    points: pl.DataFrame
    runs: tuple[Run, ...]
    grid: Grid | None = None

    @property
    def configurations(self) -> list[str]:
        """Names of configurations, those measured first, by instances and GPUs; then those of a study's grid."""
        ordered = self.points.sort("instances", "gpus", "configuration", nulls_last=True)["configuration"].to_list()
        asked = [place[0] for _, place in self.grid.missing] if self.grid else []
        return list(dict.fromkeys([*ordered, *asked]))


def is_one_run(paths: Sequence[Path]) -> bool:
    """Say whether the sources are a single run directory, which has a page of its own kind."""
    return len(paths) == 1 and kind_of(paths[0]) is Kind.RUN


def gather(paths: Sequence[Path], standalone: Sequence[Path] = ()) -> Gathered:
    """Load the sources of a report, and logs of standalone programs to be shown beside them.

    Raises:
        PlanError: a source is missing, of no known kind, empty, not sealed, damaged or of another format.
    """
    loaded = load(*paths, *standalone)
    runs = tuple(
        open_run(Path(source)) for source in loaded.runs.filter(pl.col("kind") == "loadgen")["source"].to_list()
    )
    served = loaded.points.filter(pl.col("load").ne_missing(STANDALONE))
    if served.is_empty() and loaded.standalone.is_empty():
        raise PlanError(f"{', '.join(map(str, paths))}: no point was measured, so there is nothing to report")
    points = _placed(served, runs)
    studies = [path for path in paths if (path / grid.STUDY_FILE).is_file()]
    return Gathered(
        title=", ".join(dict.fromkeys(path.resolve().name for path in paths)),
        loaded=loaded,
        points=points,
        runs=runs,
        grid=grid.of_study(studies[0], points) if len(studies) == len(paths) == 1 else None,
    )


def _placed(points: pl.DataFrame, runs: Sequence[Run]) -> pl.DataFrame:
    """Add what each point is a part of: by its plan's labels, else by its source's label and its own facts."""
    labels = pl.DataFrame(
        [{"source": str(run.path), **_labels(run)} for run in runs],
        schema={"source": pl.String(), "_server": pl.String(), "_inputs": pl.String()}
        | {f"_{name}": kind for name, kind in LABELS.items()},
    )
    known = points.join(labels, on="source", how="left", maintain_order="left")
    words = pl.coalesce("inputs", pl.lit("inputs"))
    pile_up = pl.lit("mu") + pl.col("mu").map_elements(level_text, pl.String)
    known = known.with_columns(pl.coalesce(name, f"_{name}").alias(name) for name in LABELS if name != "take")
    known = known.with_columns(
        configuration=pl.coalesce("_server", "label", "run"), input_set=pl.coalesce("_inputs", pile_up, words)
    )
    place = ("configuration", "input_set", "load", "level")
    ordinal = pl.struct("run", pl.col("repeat").fill_null(1)).rank("dense").over(place).cast(pl.UInt32)
    return known.with_columns(take=pl.coalesce("_take", ordinal)).select(pl.exclude("^_.*$"))


def _labels(run: Run) -> dict[str, Any]:
    said = run.plan.get("labels") or {}
    if not {"take", "server", "inputs"} <= said.keys():
        return {}
    numbers = {f"_{name}": _number(said.get(name), kind) for name, kind in LABELS.items()}
    return {"_server": str(said["server"]), "_inputs": str(said["inputs"]), **numbers}


def _number(text: object, kind: pl.DataType) -> float | int | None:
    try:
        value = json.loads(str(text))
    except ValueError:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if kind == pl.Float64() else int(value)
