"""Places, points and standalone results -> the tables of the page, whose cells keep the value that they show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis import readable
from analysis.levels import level_text
from analysis.reports.gathered import Gathered
from loadgen.clock import NS_PER_MS


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table, and the figure it is sorted by and exported as; None where there is none."""

    text: str
    value: float | str | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """A column: its name, its unit, and whether it is words."""

    name: str
    unit: str = ""
    words: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table by name; `picks` are what a row picks in the charts, empty where rows pick nothing."""

    name: str
    title: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    picks: Sequence[str] = ()

    def frame(self) -> pl.DataFrame:
        """Return the values as a frame; units are in the columns' names."""
        names = [f"{each.name}, {each.unit}" if each.unit else each.name for each in self.headings]
        columns = list(zip(*self.rows, strict=True)) if self.rows else [()] * len(names)
        return pl.DataFrame(
            {name: [cell.value for cell in cells] for name, cells in zip(names, columns, strict=True)}
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """A column of a frame as it is shown: divided by `scale`; `words` stands as it is."""

    heading: Heading
    column: str
    scale: float = 1.0
    write: Callable[[float | None], str] = readable.number


def _words(name: str, column: str) -> Figure:
    return Figure(Heading(name, words=True), column)


def _count(value: float | None) -> str:
    return readable.MISSING if value is None else f"{value:,.0f}"


def _level(value: float | None) -> str:
    return readable.MISSING if value is None else level_text(value)


def _three(value: float | None) -> str:
    return readable.MISSING if value is None else f"{value:.3g}"


WHERE = (
    _words("Configuration", "configuration"),
    _words("Inputs", "input_set"),
    Figure(Heading("Instances"), "instances", write=_count),
    Figure(Heading("GPUs"), "gpus", write=_count),
    Figure(Heading("Load"), "level", write=_level),
)
OF_PLACES = (
    *WHERE,
    Figure(Heading("Takes"), "takes", write=_count),
    Figure(Heading("Throughput", "events/s"), "throughput_per_s"),
    Figure(Heading("from", "95 %"), "throughput_low_per_s"),
    Figure(Heading("to", "95 %"), "throughput_high_per_s"),
    Figure(Heading("Takes, sd", "%"), "between", 0.01, _three),
    Figure(Heading("p50", "ms"), "p50_ns", NS_PER_MS),
    Figure(Heading("p99", "ms"), "p99_ns", NS_PER_MS),
    Figure(Heading("GPU", "%"), "gpu_utilisation", 0.01, _three),
    Figure(Heading("Power", "W a GPU"), "gpu_power_w", write=_three),
    Figure(Heading("Energy", "J/event"), "energy_per_event_j"),
    Figure(Heading("Failed"), "failed", write=_count),
    _words("Verdicts", "verdicts"),
)
OF_POINTS = (
    *WHERE,
    Figure(Heading("Take"), "take", write=_count),
    Figure(Heading("Completed"), "completed", write=_count),
    Figure(Heading("Failed"), "failed", write=_count),
    Figure(Heading("Throughput", "events/s"), "throughput_per_s"),
    Figure(Heading("p50", "ms"), "p50_ns", NS_PER_MS),
    Figure(Heading("p99", "ms"), "p99_ns", NS_PER_MS),
    Figure(Heading("Queue", "ms"), "server_queue_ns", NS_PER_MS),
    Figure(Heading("Infer", "ms"), "server_compute_infer_ns", NS_PER_MS),
    Figure(Heading("Network", "ms"), "network_ns", NS_PER_MS),
    Figure(Heading("Sending", "ms"), "client_send_ns", NS_PER_MS),
    Figure(Heading("GPU", "%"), "gpu_utilisation", 0.01, _three),
    _words("Verdict", "verdict"),
    _words("Because", "reason"),
)
OF_STANDALONE = (
    _words("Device", "device"),
    _words("Name", "device_name"),
    Figure(Heading("Threads"), "threads", write=_count),
    Figure(Heading("mu"), "mu", write=_level),
    Figure(Heading("Throughput", "events/s"), "throughput_per_s"),
    Figure(Heading("Time an event", "ms"), "event_time_ns", NS_PER_MS),
    Figure(Heading("Events"), "processed", write=_count),
    _words("Version", "traccc_version"),
    _words("File", "file"),
)
ALWAYS = frozenset({"configuration", "input_set", "level", "throughput_per_s", "p99_ns", "gpu_utilisation"})
"""Columns that stay where nobody recorded them, with a word that says so."""


def tables(of: Gathered, judged: pl.DataFrame, found: pl.DataFrame) -> list[Grid]:
    """Return the tables that have rows."""
    order = ("mu", "input_set", "configuration", "level", "take")
    points = judged.sort(*order, nulls_last=True)
    each = [
        _grid("places", "Configurations and loads, takes together", OF_PLACES, found, picked=True),
        _grid("points", "Every point", OF_POINTS, points, picked=True),
        _grid("standalone", "Standalone programs", OF_STANDALONE, of.loaded.standalone),
        missing(of, found),
    ]
    return [grid for grid in each if grid.rows]


def missing(of: Gathered, found: pl.DataFrame) -> Grid:
    """Return the points that were asked for and not measured; no rows where there are none."""
    headings = [Heading("Configuration", words=True), Heading("Inputs", words=True), Heading("Load"), Heading("Take")]
    headings.append(Heading("Other takes", words=True))
    known = set(found.select("configuration", "input_set", "level").iter_rows())
    rows = [
        [
            *(Cell(text, text) for text in place[:2]),
            Cell(level_text(place[2]), place[2]),
            Cell(str(take), take),
            Cell(*["measured" if place in known else "none: a gap in the charts"] * 2),
        ]
        for take, place in sorted(of.grid.missing if of.grid else (), key=lambda each: (each[1], each[0]))
    ]
    return Grid("missing", "Missing points", headings, rows)


def _grid(name: str, title: str, figures: Sequence[Figure], frame: pl.DataFrame, *, picked: bool = False) -> Grid:
    known = [each for each in figures if each.column in ALWAYS or _recorded(frame, each.column)]
    rows = [[_cell(each, row, frame) for each in known] for row in frame.iter_rows(named=True)]
    picks = [str(name) for name in frame["configuration"]] if picked and rows else []
    return Grid(name, title, [each.heading for each in known], rows, picks)


def _recorded(frame: pl.DataFrame, column: str) -> bool:
    return bool(frame[column].is_not_null().any())


def _cell(figure: Figure, row: dict[str, Any], frame: pl.DataFrame) -> Cell:
    value = row[figure.column]
    if value is None:
        return Cell(readable.MISSING if _recorded(frame, figure.column) else "not recorded")
    if figure.heading.words:
        return Cell(str(value), str(value))
    if figure.column == "level" and row["load"] == "open_loop":
        return Cell(f"{level_text(value)}/s", value)
    scaled = value / figure.scale if figure.scale != 1.0 else value
    return Cell(figure.write(scaled), scaled)
