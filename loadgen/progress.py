"""What a run shows while it runs: a live table, plain lines, JSON lines, or nothing."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadgen.clock import NS_PER_MS
from loadgen.commands import Progress
from loadgen.kserve import ModelMetadata, Statistics
from loadgen.plan import Load
from loadgen.records import Rows
from loadgen.rundir import Sample
from loadgen.windows import Status

COLUMNS = (
    "load",
    "events/s",
    "+-",
    "p50 ms",
    "p99 ms",
    "+-",
    "queue ms",
    "compute ms",
    "network ms",
    "in flight",
    "failed",
    "verdict",
)
WIDTH = 11
SURE = "converged"
"""The one verdict that needs no words beside it."""

USABLE = (SURE, "unconfirmed", "imprecise", "varying")
CLOSED = ("closed_loop", "concurrency_steps")
COMPUTE = ("server_compute_input_ns", "server_compute_infer_ns", "server_compute_output_ns")


@dataclass(frozen=True, slots=True)
class Described:
    """What a run knows of its model and its requests before any load."""

    metadata: ModelMetadata
    config: dict[str, object]
    streams: int
    requests: int
    last_steps: frozenset[int] = frozenset()
    """Requests that are the last of their streams."""

    sequence_length: int = 0
    """Steps of a sequence, if that is not how many its stream has."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The end of a window, which is the start of the next; no counters where the server keeps none."""

    at_ns: int
    statistics: Statistics | None


@dataclass(frozen=True, slots=True)
class Trial:
    """A level after its latest window: every request so far, and the windows' edges; `status` once it has ended.

    Without an edge it is about to begin.
    """

    load: Load
    rows: Rows
    edges: tuple[Edge, ...]
    status: Status | None = None
    samples: tuple[Sample, ...] = ()


class Observer(Protocol):
    """Hears what happens in a run, in order."""

    def announce(self, text: str) -> None:
        """Hear a fact about the run, on one line."""

    def warn(self, text: str) -> None:
        """Hear of something that is missing or wrong while the run goes on."""

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Hear how many requests are encoded so far."""

    def described(self, news: Described) -> None:
        """Hear what is under load."""

    def tried(self, news: Trial) -> None:
        """Hear how a level stands after a window, where windows decide when it ends."""

    def point_started(self, load: str) -> None:
        """Hear that a point begins."""

    def progress(self, phase: str, progress: Progress) -> None:
        """Hear how the current point goes; several times a second."""

    def point_measured(self, row: dict[str, Any]) -> None:
        """Hear the row of a measured point, keys as in the points table."""

    def close(self) -> None:
        """Hear that nothing more comes."""


class Quiet:
    """Shows warnings, on stderr, and nothing else."""

    def announce(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Print it on stderr."""
        print(f"warning: {text}", file=sys.stderr)  # noqa: T201

    def described(self, news: Described) -> None:
        """Say nothing."""

    def tried(self, news: Trial) -> None:
        """Say nothing."""

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Say nothing."""

    def point_started(self, load: str) -> None:
        """Say nothing."""

    def progress(self, phase: str, progress: Progress) -> None:
        """Say nothing."""

    def point_measured(self, row: dict[str, Any]) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Say nothing."""


class JsonLines:
    """Prints each measured point as one JSON object on stdout; everything else goes to stderr."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def announce(self, text: str) -> None:
        """Print it on stderr."""
        print(text, file=sys.stderr)  # noqa: T201

    def warn(self, text: str) -> None:
        """Print it on stderr."""
        print(f"warning: {text}", file=sys.stderr)  # noqa: T201

    def described(self, news: Described) -> None:
        """Say nothing."""

    def tried(self, news: Trial) -> None:
        """Say nothing."""

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Say nothing."""

    def point_started(self, load: str) -> None:
        """Say nothing."""

    def progress(self, phase: str, progress: Progress) -> None:
        """Say nothing."""

    def point_measured(self, row: dict[str, Any]) -> None:
        """Print the row."""
        print(json.dumps(row), file=self._out, flush=True)

    def close(self) -> None:
        """Say nothing."""


class PlainLines:
    """Prints a heading, then a line a measured point: for log files and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._headed = False

    def announce(self, text: str) -> None:
        """Print it."""
        self._line(text)

    def warn(self, text: str) -> None:
        """Print it."""
        self._line(f"warning: {text}")

    def described(self, news: Described) -> None:
        """Say nothing."""

    def tried(self, news: Trial) -> None:
        """Say nothing."""

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Say nothing."""

    def point_started(self, load: str) -> None:
        """Print the heading before the first point."""
        if not self._headed:
            self._headed = True
            self._line(aligned(COLUMNS))

    def progress(self, phase: str, progress: Progress) -> None:
        """Say nothing."""

    def point_measured(self, row: dict[str, Any]) -> None:
        """Print the row, and why if anything is wrong with it."""
        self._line(aligned(cells(row)))
        if row["verdict"] != SURE:
            self._line(f"{'':>{WIDTH}}{row['verdict']}: {row['reason']}")

    def close(self) -> None:
        """Say nothing."""

    def _line(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class LiveTable:
    """Redraws a table in the terminal: a row a measured point, and the point that is running below."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: list[dict[str, Any]] = []
        self._running: tuple[str, ...] = ()
        self._load = ""
        self._live: Live | None = None
        self._status: Any = None

    def announce(self, text: str) -> None:
        """Print it above the table."""
        self._end_status()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print it above the table, marked."""
        self._console.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def described(self, news: Described) -> None:
        """Say nothing."""

    def tried(self, news: Trial) -> None:
        """Say nothing."""

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Show it while it lasts."""
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(f"encoding inputs: {requests} requests, {size_bytes / 1e6:.0f} MB")

    def point_started(self, load: str) -> None:
        """Show the table from the first point on."""
        self._load = load
        if self._live is None:
            self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=4)
            self._live.start()

    def progress(self, phase: str, progress: Progress) -> None:
        """Keep what the last line shows."""
        count = f"{progress.completed} done"
        blank = [""] * (len(COLUMNS) - 5)
        failed = str(progress.failed)
        self._running = (self._load, count, *blank, str(progress.in_flight), failed, phase)

    def point_measured(self, row: dict[str, Any]) -> None:
        """Add the row."""
        self._rows.append(row)
        self._running = ()
        if row["verdict"] not in USABLE:
            self.warn(f"{row['load_words']}: {row['verdict']}: {row['reason']}")

    def close(self) -> None:
        """Leave the finished table on the screen."""
        self._end_status()
        self._running = ()
        if self._live is not None:
            self._live.stop()

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in COLUMNS:
            table.add_column(name, justify="right", no_wrap=True)
        for row in self._rows:
            table.add_row(*cells(row), style=None if row["verdict"] in USABLE else "yellow")
        if self._running:
            table.add_row(*self._running, style="dim")
        return table


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a points row as the texts of `COLUMNS`; what is missing is a dash."""
    stages = [row[name] for name in COMPUTE]
    compute_ns = None if None in stages else sum(stages)
    kind = headline(row)
    return (
        load_label(row),
        f"{row['throughput_per_s']:.4g}",
        _share(row["throughput_per_s"], row["throughput_low_per_s"], row["throughput_high_per_s"]),
        *(_ms(row[f"{kind}_{name}_ns"]) for name in ("p50", "p99")),
        _share(row[f"{kind}_p99_ns"], row[f"{kind}_p99_low_ns"], row[f"{kind}_p99_high_ns"]),
        _ms(row["server_queue_ns"]),
        _ms(compute_ns),
        _ms(row["network_ns"]),
        f"{row['in_flight_mean']:.2f}",
        str(row["failed"] + row["unsent"]),
        row["verdict"],
    )


def aligned(texts: Sequence[str]) -> str:
    """Return texts as one line of columns, the last set off."""
    return "".join(f"{text:>{WIDTH}}" for text in texts[:-1]) + f"  {texts[-1]}"


def headline(row: dict[str, Any]) -> str:
    """Return which time a load is judged by: service time in a closed loop, response time in an open one."""
    return "service" if row["load"] in CLOSED else "response"


def load_label(row: dict[str, Any]) -> str:
    """Return a load in one short word: `4`, `50/s`, or its kind."""
    if row["concurrency"] is not None:
        return str(row["concurrency"])
    return f"{row['rate_per_s']:g}/s" if row["rate_per_s"] is not None else str(row["load"])


def _share(value: float | None, low: float | None, high: float | None) -> str:
    """Return the larger side of an interval relative to its value."""
    if not value or low is None or high is None:
        return "-"
    return f"{max(high - value, value - low) / value:.1%}"


def _ms(duration_ns: float | None) -> str:
    return "-" if duration_ns is None else f"{duration_ns / NS_PER_MS:.3g}"


def observer(*, quiet: bool, json: bool) -> Observer:
    """Choose how to show a run: JSON lines, nothing, a live table in a terminal, plain lines elsewhere."""
    if json:
        return JsonLines(sys.stdout)
    if quiet:
        return Quiet()
    return LiveTable(Console()) if sys.stdout.isatty() else PlainLines(sys.stdout)
