"""What a Prometheus server knows of a run, asked once it is over: series over its span, and a figure for each window.

Nothing here ends a run: what cannot be had is missing, with its reason in the table and in one warning.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from loadgen import clock, plan, pointlog, promql, seal
from loadgen.measure import Window
from loadgen.plan import Plan
from loadgen.promql import Query, Scope
from loadgen.rundir import EventLog, RunDirectory, Sample, canonical_labels, read_log
from loadgen.server.prometheus import Client, QueryError, Series, UnusableError, client

SOURCE = "prometheus"
AT_ONCE = 4
PATIENCE_S = 90.0
AHEAD_S = 0.5
"""A clock that differs by less is taken for ours."""

SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "query": pl.String(),
    "labels": pl.String(),
    "value": pl.Float64(),
    "reason": pl.String(),
}
"""Columns of `prometheus.parquet`: a row a point, query and series; a null value has its reason."""

NO_SERIES = "no such series"
NO_DATA = "no data: there is no such series, or a window holds fewer than two scrapes of it"
NOT_A_NUMBER = "not a number: nothing was counted in the window (0/0)"


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where our monotonic clock stands against the Prometheus server's calendar."""

    at_ns: int
    utc_ns: int
    ahead_s: float = 0.0

    def seconds(self, at_ns: int) -> float:
        """Return the server's time, in seconds since 1970, of one of our moments."""
        return (self.utc_ns + at_ns - self.at_ns) / clock.NS_PER_S + self.ahead_s

    def nanoseconds(self, seconds: float) -> int:
        """Return our moment of one of the server's times."""
        return self.at_ns + round((seconds - self.ahead_s) * clock.NS_PER_S) - self.utc_ns


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table."""

    point: int
    query: str
    labels: str
    value: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked, about which span and windows."""

    queries: Sequence[Query]
    scope: Scope
    anchor: Anchor
    span: Window
    windows: Mapping[int, Window]

    @property
    def bases(self) -> list[str]:
        """What the queries' figures are computed from, each once."""
        return list(dict.fromkeys(query.basis for query in self.queries if query.basis))


class Asking:
    """Asks a few queries at once, none after the first that finds the server unusable, none when patience is over."""

    def __init__(self, server: Client) -> None:
        self.server = server
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._give_up_ns = clock.now_ns() + round(PATIENCE_S * clock.NS_PER_S)
        self._unusable = ""

    async def answer(self, ask: Callable[[], Awaitable[list[Series]]]) -> list[Series] | str:
        """Return an answer, or why there is none."""
        async with self._gate:
            if self._unusable:
                return self._unusable
            if clock.now_ns() > self._give_up_ns:
                return f"was not asked: the answers before it took {PATIENCE_S:g} s"
            try:
                return await ask()
            except UnusableError as error:
                self._unusable = str(error)
                return self._unusable
            except QueryError as error:
                return str(error)


async def collect(of: Plan, run: RunDirectory, log: EventLog, warn: Callable[[str], None]) -> None:
    """Ask the plan's Prometheus server, if it has one; write `prometheus.parquet`, log samples and warnings.

    Raises:
        FleetError: the disk refuses them.
    """
    if of.endpoint.prometheus is None:
        return
    events = read_log(run.log)
    started = next(event for event in events if event["event"] == "run_started")
    models = [(alone.endpoint.model, alone.endpoint.version) for alone in plan.alone(of)]
    task = Task(
        promql.queries(of.endpoint.prometheus),
        promql.scope(of.endpoint.prometheus, models),
        Anchor(started["at_ns"], started["utc_ns"]),
        Window(started["at_ns"], clock.now_ns()),
        {each.point: each.window for each in pointlog.point_logs(events)},
    )
    async with client(of.endpoint, of.endpoint.prometheus) as server:
        samples, figures, remarks = await gather(server, task)
    log.samples(samples)
    seal.write_parquet(table(figures), run.prometheus)
    for text in (*remarks, *missing_words(figures, len(task.windows))):
        words = f"Prometheus {server.url}: {text}"
        log.event("warning", text=words)
        warn(words)


def table(figures: Iterable[Figure]) -> pl.DataFrame:
    """Return figures as the typed table."""
    columns = [[getattr(figure, name) for figure in figures] for name in SCHEMA] if (figures := list(figures)) else []
    return pl.DataFrame(dict(zip(SCHEMA, columns, strict=False)), schema=SCHEMA)


async def gather(server: Client, task: Task) -> tuple[list[Sample], list[Figure], list[str]]:
    """Return samples over the run's span, a figure or its reason for each window, and remarks."""
    try:
        ahead_s = await server.ahead_s()
    except UnusableError as error:
        points = task.windows or [0]
        return [], [Figure(point, each.name, "{}", None, str(error)) for point in points for each in task.queries], []
    remarks = []
    if abs(ahead_s) >= AHEAD_S:
        task = _shifted(task, ahead_s)
        remarks = [f"its clock is {ahead_s:+.1f} s from ours; every query was shifted by that"]
    asking = Asking(server)
    counts = await _scrapes(asking, task, task.span)
    samples, failed = await _series(asking, task, _interval_s(task.span, counts))
    figures = [Figure(0, name, "{}", None, reason) for name, reason in failed.items()]
    for number, window in task.windows.items():
        figures += await _figures(asking, task, number, window, counts or {})
    return samples, figures, remarks


def _shifted(task: Task, ahead_s: float) -> Task:
    anchor = Anchor(task.anchor.at_ns, task.anchor.utc_ns, ahead_s)
    return Task(task.queries, task.scope, anchor, task.span, task.windows)


async def _scrapes(asking: Asking, task: Task, window: Window) -> dict[str, int] | None:
    """Return how often each basis was sampled in a window; None if that cannot be had."""
    found = await _at(asking, task, promql.scrapes(task.bases), window)
    if isinstance(found, str):
        return None
    counts = {each.labels.get("basis"): each.values[0][1] for each in found if each.values}
    known = (counts.get(str(number), 0.0) for number in range(len(task.bases)))
    return {basis: int(count) if math.isfinite(count) else 0 for basis, count in zip(task.bases, known, strict=True)}


def _interval_s(window: Window, counts: Mapping[str, int] | None) -> float | None:
    most = max(counts.values(), default=0) if counts else 0
    return window.length_ns / clock.NS_PER_S / most if most else None


async def _at(asking: Asking, task: Task, expression: str, window: Window) -> list[Series] | str:
    """Evaluate a query over a window, at its end."""
    filled = task.scope.filled(expression, window_ms(window))
    return await asking.answer(lambda: asking.server.instant(filled, task.anchor.seconds(window.end_ns)))


def window_ms(window: Window) -> int:
    """Return the length of a window as PromQL can say it."""
    return max(1, round(window.length_ns / clock.NS_PER_MS))


async def _series(asking: Asking, task: Task, scrape_s: float | None) -> tuple[list[Sample], dict[str, str]]:
    """Return the samples of every query over the run's span, and why some queries have no answer at all."""
    # In whole milliseconds, as times are written in a query, and none of them outside the run.
    start_s = math.ceil(1000 * task.anchor.seconds(task.span.start_ns)) / 1000
    end_s = math.floor(1000 * task.anchor.seconds(task.span.end_ns)) / 1000
    step_s = promql.step_s(end_s - start_s, scrape_s)
    rates_ms = promql.rate_window_ms(step_s, scrape_s)

    async def one(query: Query) -> list[Series] | str:
        filled = task.scope.filled(query.over_run, rates_ms)
        return await asking.answer(lambda: asking.server.over(filled, start_s, end_s, step_s))

    answers = dict(zip(task.queries, await asyncio.gather(*map(one, task.queries)), strict=True))
    samples = [
        Sample(task.anchor.nanoseconds(at_s), SOURCE, query.name, labels_text(series), value)
        for query, answer in answers.items()
        if not isinstance(answer, str)
        for series in answer
        for at_s, value in series.values
        if math.isfinite(value)
    ]
    return samples, {query.name: answer for query, answer in answers.items() if isinstance(answer, str)}


async def _figures(asking: Asking, task: Task, point: int, window: Window, in_run: Mapping[str, int]) -> list[Figure]:
    """Return the figures of one window: of each query every series, or why there is none."""
    counts = await _scrapes(asking, task, window)
    answers = await asyncio.gather(*(_at(asking, task, each.at_point, window) for each in task.queries))
    found: list[Figure] = []
    for query, answer in zip(task.queries, answers, strict=True):
        count = None if counts is None or not query.basis else counts[query.basis]
        reason = answer if isinstance(answer, str) else _reason(task, query, count, in_run.get(query.basis, 0))
        found += _of_query(point, query, [] if reason or isinstance(answer, str) else answer, reason)
    return found


def _reason(task: Task, query: Query, count: int | None, in_run: int) -> str | None:
    """Say why a query's answer is not to be trusted, or None: how often its basis was sampled in the window."""
    if count is None or count >= promql.SAMPLES_MIN:
        return None
    if in_run == 0:
        matchers = task.scope.filled(query.basis.partition("{")[2].removesuffix("}"), 0)
        return f"{NO_SERIES} ({{{matchers}}})" if matchers else NO_SERIES
    every_s = task.span.length_ns / clock.NS_PER_S / in_run
    return f"a window holds fewer than {promql.SAMPLES_MIN} scrapes (one every {every_s:.2g} s): make it longer (-p)"


def _of_query(point: int, query: Query, answer: Sequence[Series], reason: str | None) -> list[Figure]:
    if not answer:
        return [Figure(point, query.name, "{}", None, reason or NO_DATA)]
    figures = []
    for series in answer:
        value = series.values[0][1] if series.values else math.nan
        known = math.isfinite(value)
        reason = None if known else NOT_A_NUMBER
        figures.append(Figure(point, query.name, labels_text(series), value if known else None, reason))
    return figures


def labels_text(series: Series) -> str:
    """Return a series' labels as they stand in tables; the metric's name is not one of them."""
    return canonical_labels({name: value for name, value in series.labels.items() if name != "__name__"})


def missing_words(figures: Iterable[Figure], points: int) -> list[str]:
    """Return a line for each reason, with the queries that it left without a figure."""
    told: dict[str, dict[str, set[int]]] = {}
    figures = list(figures)
    at_points = {figure.query for figure in figures if figure.reason is not None and figure.point}
    for figure in figures:
        if figure.reason is not None and (figure.point or figure.query not in at_points):
            told.setdefault(figure.reason, {}).setdefault(figure.query, set()).add(figure.point)
    asked = {figure.query for figure in figures}
    return [
        f"{_names(of_queries, points, asked)}: {reason}; missing from this run" for reason, of_queries in told.items()
    ]


def _names(of_queries: Mapping[str, set[int]], points: int, asked: set[str]) -> str:
    if of_queries.keys() == asked and all(len(at - {0}) in {0, points} for at in of_queries.values()):
        return "every figure"
    names = [
        name if len(at - {0}) in {0, points} else f"{name} (at {len(at - {0})} of {points} points)"
        for name, at in of_queries.items()
    ]
    return ", ".join(names)
