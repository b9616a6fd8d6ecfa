"""The named charts: what each is called, which tables and columns it needs, and how it refuses."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from loadgen.errors import PlanError

Chart: TypeAlias = alt.LayerChart | alt.VConcatChart | alt.HConcatChart | alt.ConcatChart
"""Any finished chart."""

Draw: TypeAlias = Callable[..., Chart]
FRAMES = ("points", "gpus", "pods", "requests", "standalone", "answers")


@dataclass(frozen=True, slots=True)
class Frames:
    """The tidy tables that charts are drawn from; None where there is no such table."""

    points: pl.DataFrame | None = None
    gpus: pl.DataFrame | None = None
    pods: pl.DataFrame | None = None
    requests: pl.DataFrame | None = None
    standalone: pl.DataFrame | None = None
    answers: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """A named chart: `number` is that of the studies' chart it replaces, empty for what they could not draw.

    `needs` are the tables it takes in order, with the columns that must be known; `also` those it uses if given.
    """

    name: str
    number: str
    title: str
    needs: Mapping[str, tuple[str, ...]]
    draw: Draw = field(repr=False)
    also: tuple[str, ...] = ()

    def __call__(self, frames: Frames) -> Chart:
        """Draw from the tables it needs.

        Raises:
            PlanError: a table or a column is missing, or nothing remains to draw.
        """
        missing = [table for table in self.needs if getattr(frames, table) is None]
        if missing:
            raise PlanError(
                f"chart {self.name}: needs the table of {missing[0]}, which is not there{_ASKED[missing[0]]}"
            )
        extra = {table: getattr(frames, table) for table in self.also}
        return self.draw(*(getattr(frames, table) for table in self.needs), **extra)


NAMED: dict[str, ChartSpec] = {}
"""Every named chart, by name, in the order of the studies' numbers."""


def chart(
    name: str, number: str, title: str, also: tuple[str, ...] = (), **needs: tuple[str, ...]
) -> Callable[[Draw], Draw]:
    """Register a function of tables as a named chart; fields as those of `ChartSpec`."""

    def register(draw: Draw) -> Draw:
        @functools.wraps(draw)
        def checked(*tables: pl.DataFrame, **options: Any) -> Chart:  # noqa: ANN401 - each chart's own options
            for (table, columns), frame in zip(needs.items(), tables, strict=True):
                demand(name, table, frame, (*_KEYS.get(table, ()), *columns))
            return draw(*tables, **options)

        NAMED[name] = ChartSpec(name, number, title, needs, checked, also)
        return checked

    return register


def demand(name: str, table: str, frame: pl.DataFrame, columns: tuple[str, ...]) -> None:
    """Refuse a table without rows, without a column, or with a column that nobody recorded.

    Raises:
        PlanError: which column of which table is missing, in one line.
    """
    if frame.is_empty():
        raise PlanError(f"chart {name}: the table of {table} has no rows: nothing to draw{_ASKED[table]}")
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        raise PlanError(f"chart {name}: needs the column {absent[0]} of {table}, which is missing")
    unknown = [column for column in columns if frame[column].null_count() == frame.height]
    if unknown:
        raise PlanError(f"chart {name}: {unknown[0]} of {table} was not recorded (it is null in every row)")


def nothing(name: str, why: str) -> PlanError:
    """Return the error of a chart for which nothing remains to draw."""
    return PlanError(f"chart {name}: nothing to draw: {why}")


_KEYS = {"points": ("point",), "gpus": ("point", "gpu"), "pods": ("point", "pod"), "requests": ("point",)}
"""Columns without which a row of a table has no place."""

_ASKED = {
    "points": "; name a run that measured something",
    "gpus": "; the run saw no GPU metrics (point --metrics-url at the server's metrics page)",
    "pods": "; give --metrics-url the page of every pod",
    "requests": "; only runs of loadgen keep every request",
    "standalone": "; name a table with columns mu, device, threads, throughput_per_s",
    "answers": "; name a table with columns label, quantity, value",
}
