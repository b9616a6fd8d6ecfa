"""What one source brings, and how several of them become one set of tidy tables. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from analysis import quantities, standalone
from analysis.hardware import GPU_SCHEMA
from analysis.pods import POD_SCHEMA
from analysis.tidy import ANSWERS, FACTS, GPUS, PODS, POINTS, REQUESTS, RUNS, SAMPLES, Loaded, stacked
from loadgen.progress import headline

OF_SOURCE = ("run", "label", "source", "kind")
"""Facts that are ours to say, whatever a file's own columns are called."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one source brings, its tables not yet stacked; `facts` is its row of `RUNS`, None for a table alone.

    `take` is the number of its take and `group` what takes of one thing have in common; `settings` are a study's
    words for server and inputs, by which runs of it are told apart where nothing else does. `labelled`: by the user.
    """

    facts: dict[str, Any] | None
    points: pl.DataFrame = field(default_factory=pl.DataFrame)
    gpus: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=GPU_SCHEMA))
    pods: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=POD_SCHEMA))
    requests: pl.LazyFrame | None = None
    samples: pl.LazyFrame | None = None
    standalone: pl.DataFrame | None = None
    answers: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
    take: int | None = None
    group: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    labelled: bool = False


def told(part: Part, **facts: Any) -> Part:  # noqa: ANN401 - facts of any type
    """Return a part with other facts."""
    return replace(part, facts={**(part.facts or {}), **facts})


def timed(records: pl.LazyFrame, points: pl.DataFrame) -> pl.LazyFrame:
    """Return requests with their times, and whether they ended in the window of their point."""
    windows = points.lazy().select("point", "window_start_ns", "window_end_ns")
    since_sent, since_due = (pl.col("done_ns") - pl.col(start) for start in ("sent_ns", "due_ns"))
    inside = pl.col("done_ns").is_between("window_start_ns", "window_end_ns", closed="left")
    return (
        records.join(windows, on="point", how="left")
        .with_columns(
            service_ns=since_sent,
            response_ns=since_due,
            send_lag_ns=pl.col("sent_ns") - pl.col("due_ns"),
            in_window=inside.fill_null(value=False),
        )
        .drop("window_start_ns", "window_end_ns")
    )


def joined(parts: Sequence[Part]) -> Loaded:
    """Return the tables of all parts below each other; sources of one name get a number, so that `run` is a key."""
    parts = _distinct(parts)
    named = [part for part in parts if part.facts is not None]
    runs = stacked([pl.DataFrame([part.facts], infer_schema_length=None) for part in named], RUNS)
    points = stacked([_tidy_points(part) for part in named], POINTS)
    gpus = stacked([_named(part, part.gpus) for part in parts], GPUS)
    return Loaded(
        runs=runs,
        points=points,
        quantities=quantities.long(points, gpus),
        gpus=gpus,
        pods=stacked([_named(part, part.pods) for part in parts], PODS),
        standalone=stacked([part.standalone for part in parts if part.standalone is not None], standalone.SCHEMA),
        answers=stacked([part.answers for part in parts if part.answers is not None], ANSWERS),
        requests=_lazily([(part, part.requests) for part in named], REQUESTS),
        samples=_lazily([(part, part.samples) for part in named], SAMPLES),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _distinct(parts: Sequence[Part]) -> list[Part]:
    found: list[Part] = []
    taken: set[str] = set()
    for part in parts:
        if part.facts is None:
            found.append(part)
            continue
        name, number = part.facts["run"], 1
        while (own := name if number == 1 else f"{name} ({number})") in taken:
            number += 1
        taken.add(own)
        found.append(told(part, run=own))
    return found


def _named(part: Part, frame: pl.DataFrame) -> pl.DataFrame:
    """Say of which run the rows are; a table alone says so itself."""
    if part.facts is None:
        return frame
    return frame.with_columns(pl.lit(part.facts[name], pl.String).alias(name) for name in ("run", "label"))


def _tidy_points(part: Part) -> pl.DataFrame:
    """Add the run's facts, each point's own where it has them, and what the point is compared by."""
    own, facts = part.points, part.facts or {}
    if own.is_empty():
        return own.clear()
    level = pl.coalesce(
        *(pl.col(name).cast(pl.Float64) for name in ("level", "concurrency", "rate_per_s") if name in own.columns),
        pl.lit(None, pl.Float64),
    )
    added = {
        name: pl.coalesce(pl.col(name).cast(kind), pl.lit(facts.get(name), kind))
        if name in own.columns and name not in OF_SOURCE
        else pl.lit(facts.get(name), kind)
        for name, kind in FACTS.items()
    }
    if part.take is not None:
        added["repeat"] = pl.lit(part.take, pl.UInt32)
    times = [_time(row) for row in own.iter_rows(named=True)]
    return own.with_columns(level=level, headline=pl.Series(times, dtype=pl.String), **added)


def _time(row: dict[str, Any]) -> str:
    """Return the headline time of a point, where it is known: other tools know service time only."""
    wanted = headline({"load": None, **row})
    return wanted if row.get(f"{wanted}_mean_ns") is not None else "service"


def _lazily(frames: Sequence[tuple[Part, pl.LazyFrame | None]], schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    found = [
        frame.with_columns(run=pl.lit((part.facts or {})["run"])).select(
            pl.col(name).cast(kind) for name, kind in schema.items()
        )
        for part, frame in frames
        if frame is not None
    ]
    return pl.concat(found) if found else pl.LazyFrame(schema=schema)
