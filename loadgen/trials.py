"""Windows that follow each other until perf_analyzer's rule says that a level is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from loadgen import clock, journal
from loadgen.bench import Bench, Point, read_statistics, wait, write_log
from loadgen.estimate import nearest_rank
from loadgen.measure import Window, ended_in
from loadgen.progress import Edge, Trial
from loadgen.records import Outcome, Rows
from loadgen.windows import AGREEING, MET, STRETCH, ByWindows, Figures, Status, judge, reaches_limit

POLL_NS = 50 * clock.NS_PER_MS


@dataclass(frozen=True, slots=True)
class Tried:
    """The edges of the windows that count, the last three, and how the level ended."""

    edges: tuple[Edge, ...]
    status: Status
    interrupted: bool = False


async def until_agreed(bench: Bench, point: Point, asked: ByWindows) -> Tried | None:
    """Measure windows until they agree or there are enough of them; None if it was interrupted before the first."""
    bench.status = None
    _tell(bench, point, ())
    interrupted = await _warmed_up(bench, point, asked)
    edges = [await _edge(bench, point)]
    if asked.total_requests:
        interrupted = interrupted or await _ended(bench, point, asked.total_requests)
        edges = await _around_all(bench, point, edges[0])
    while bench.status is None and not interrupted:
        if not asked.total_requests:
            interrupted = await _window(bench, point, asked)
            edges += [] if interrupted else [await _edge(bench, point)]
        if not interrupted:
            bench.status = _judged(bench, point, edges, asked)
            _tell(bench, point, edges)
    return _tried(bench, point, edges, interrupted=interrupted)


async def _warmed_up(bench: Bench, point: Point, asked: ByWindows) -> bool:
    """Wait for the requests that go before the first window; without any, until the load is there to be measured.

    A server that answers nothing does not keep the first window from opening.
    """
    bench.phase = "warm-up"
    if asked.warmup_requests or asked.total_requests:
        return await _ended(bench, point, asked.warmup_requests)
    give_up_ns = clock.now_ns() + asked.interval_ms * clock.NS_PER_MS
    while not _count(bench, point) and clock.now_ns() < give_up_ns:
        if await wait(bench, POLL_NS):
            return True
    return False


async def _window(bench: Bench, point: Point, asked: ByWindows) -> bool:
    bench.phase = "window"
    if asked.window_requests:
        return await _ended(bench, point, _count(bench, point) + asked.window_requests)
    return await wait(bench, round(STRETCH * asked.interval_ms * clock.NS_PER_MS))


async def _ended(bench: Bench, point: Point, requests: int) -> bool:
    """Wait until so many requests of the point have ended; say whether that was interrupted."""
    while _count(bench, point) < requests:
        if await wait(bench, POLL_NS):
            return True
    return False


def _count(bench: Bench, point: Point) -> int:
    """Return how many requests of the point have ended, as the workers last said."""
    progress = bench.progress
    return progress.completed + progress.failed if progress and progress.point == point.number else 0


async def _edge(bench: Bench, point: Point) -> Edge:
    at_ns = clock.now_ns()
    edge = Edge(at_ns, await read_statistics(bench))
    write_log(bench, "edge", point.number, edge.statistics, at_ns)
    return edge


async def _around_all(bench: Bench, point: Point, opened: Edge) -> list[Edge]:
    """Return edges around every request of the point: from the first sent until the last answer."""
    rows = _rows(bench, point)
    last = await _edge(bench, point)
    sent_ns = rows["sent_ns"][rows["sent_ns"] > 0]
    start_ns = int(sent_ns.min(initial=last.at_ns))
    return [Edge(start_ns, opened.statistics), Edge(int(rows["done_ns"].max(initial=start_ns)) + 1, last.statistics)]


def _rows(bench: Bench, point: Point) -> Rows:
    return journal.read_point(bench.directory.journal, point.number)


def _judged(bench: Bench, point: Point, edges: Sequence[Edge], asked: ByWindows) -> Status | None:
    rows = _rows(bench, point)
    found = [_figures(rows, Window(a.at_ns, b.at_ns), asked) for a, b in pairwise(edges)]
    status = judge(found, asked)
    return _limited(rows, edges, asked, status) if status in MET else status


def _limited(rows: Rows, edges: Sequence[Edge], asked: ByWindows, status: Status | None) -> Status | None:
    """Hold a level that has settled against the latency limit, its last windows taken together."""
    last = edges[-AGREEING - 1 :]
    pooled = _figures(rows, Window(last[0].at_ns, last[-1].at_ns), asked)
    return "over_limit" if reaches_limit(pooled.latency_ns, asked) else status


def _figures(rows: Rows, window: Window, asked: ByWindows) -> Figures:
    ended = ended_in(rows, window)
    good = ended[ended["outcome"] == Outcome.OK]
    rate = len(good) / (window.length_ns / clock.NS_PER_S)
    if len(good) == 0:
        return Figures(rate, None)
    took_ns = np.sort(good["done_ns"] - good["sent_ns"])
    percentile = asked.percentile
    return Figures(rate, float(took_ns.mean()) if percentile is None else nearest_rank(took_ns, percentile))


def _tell(bench: Bench, point: Point, edges: Sequence[Edge]) -> None:
    start_ns, end_ns = (edges[0].at_ns, edges[-1].at_ns) if edges else (0, 0)
    gauges = tuple(each for each in bench.gauges if start_ns <= each.at_ns < end_ns)
    news = Trial(point.load, _rows(bench, point), tuple(edges), bench.status, gauges)
    bench.observer.tried(news)


def _tried(bench: Bench, point: Point, edges: Sequence[Edge], *, interrupted: bool) -> Tried | None:
    if len(edges) < 2:  # noqa: PLR2004 - a window has two
        bench.log.event("level_ended", point=point.number, status="unstable", interrupted=interrupted)
        return None
    status: Status = bench.status or "unstable"
    bench.log.event("level_ended", point=point.number, status=status, interrupted=interrupted)
    return Tried(tuple(edges[-AGREEING - 1 :]), status, interrupted)
