"""Sources of any kind -> the points of a report, each with its configuration and its take; the grid of a study."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.kinds import Kind, kind_of
from analysis.levels import level_text
from analysis.readable import counted
from analysis.reports import grid
from analysis.reports.grid import Grid
from analysis.runs import Run, open_run
from analysis.sources import load
from analysis.tidy import Loaded
from loadgen.errors import PlanError

STANDALONE = "standalone"
MOST_NAMED = 3
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
    for path in paths:
        _begun(path)
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
        title=_title(list(dict.fromkeys(path.resolve().name for path in paths))),
        loaded=loaded,
        points=points,
        runs=runs,
        grid=grid.of_study(studies[0], points) if len(studies) == len(paths) == 1 else None,
    )


def _title(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _begun(path: Path) -> None:
    """Refuse a study of which no run is sealed, with the command that goes on with it."""
    if not (path / grid.STUDY_FILE).is_file():
        return
    grid.read(path)
    runs = list((path / "runs").glob("*/plan.json"))
    if any((run.parent / "manifest.json").exists() for run in runs):
        return
    cut_off = f" and {counted(len(runs), 'run')} not sealed" if runs else ""
    raise PlanError(
        f"{path}: is a study with no sealed run{cut_off}; go on with it by `python -m loadgen study {path}`"
        + (f", or seal by `python -m loadgen seal {runs[0].parent}`" if runs else "")
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
        configuration=pl.coalesce("_server", _imported(points)), input_set=pl.coalesce("_inputs", pile_up, words)
    )
    place = ("configuration", "input_set", "load", "level")
    ordinal = pl.struct("run", pl.col("repeat").fill_null(1)).rank("dense").over(place).cast(pl.UInt32)
    own = [pl.col("take")] if "take" in points.columns else []
    return known.with_columns(take=pl.coalesce("_take", *own, ordinal).cast(pl.UInt32)).select(pl.exclude("^_.*$"))


def _imported(points: pl.DataFrame) -> pl.Expr:
    """Name a configuration that no study names: its label; of files of others also what tells its parts apart."""
    label = pl.coalesce("label", "run")
    if not {"group", "take", "labels"} <= set(points.columns):
        return label
    takes_of = pl.when(pl.col("take").is_not_null()).then(pl.col("group").str.split("/").list.last())
    words = _apart(points["labels"].drop_nulls().unique().to_list())
    several = pl.col("labels").n_unique().over("run") > 1
    told = pl.when(several).then(pl.col("labels").replace_strict(words, default=None, return_dtype=pl.String))
    name = pl.coalesce(takes_of, label)
    if points["run"].n_unique() == 1:
        return pl.coalesce(told, name)
    return pl.concat_str(name, told, separator=", ", ignore_nulls=True)


def _apart(texts: Sequence[str]) -> dict[str, str]:
    """Return for each label, a JSON object, the values that not all of them share: `batch_size=8, model=a`."""
    objects = {text: json.loads(text) for text in texts}
    varying = [
        key
        for key in dict.fromkeys(key for each in objects.values() for key in each)
        if len({str(each.get(key)) for each in objects.values()}) > 1
    ]
    return {
        text: ", ".join(f"{key}={each[key]}" for key in varying if key in each) or text
        for text, each in objects.items()
    }


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
