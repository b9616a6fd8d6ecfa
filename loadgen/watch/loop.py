"""Rounds: every source is asked once an interval, and what is known by then is shown, whoever has not answered."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from loadgen import clock
from loadgen.endpoint import Endpoint
from loadgen.server import metrics
from loadgen.watch.look import GrpcSource, PageSource
from loadgen.watch.look import Source as Asked
from loadgen.watch.page import Round
from loadgen.watch.reading import Reading
from loadgen.watch.view import Facts, Moment, Source, Watched, asked, heard, seen

LEAST_LIMIT_NS = 2 * clock.NS_PER_S
FACTS_NS = 10 * clock.NS_PER_S
GRACE = 0.8
"""The share of an interval that a round waits for answers before it shows what it has."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look, and for how long (None: until stopped); `once`: for one interval, its end is shown."""

    interval_ns: int = clock.NS_PER_S
    for_ns: int | None = None
    once: bool = False


class Board:
    """What is known of every endpoint, and who is being asked."""

    def __init__(self, targets: Sequence[Endpoint], models: Sequence[str], interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._limit_ns = max(LEAST_LIMIT_NS, interval_ns)
        self._grpc = [GrpcSource(target) for target in targets]
        pages = [[PageSource(page) for page in metrics.pages(target)] for target in targets]
        self._asked: list[list[Asked]] = [[one, *more] for one, more in zip(self._grpc, pages, strict=True)]
        self._watched = [_watched(target, tuple(models)) for target in targets]
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._facts: dict[int, asyncio.Task[None]] = {}
        self._facts_ns = [-FACTS_NS for _ in targets]
        self._took_ns = 0

    async def round(self) -> Round:
        """Ask everybody who does not owe an answer, wait for most of the interval, and say what is known."""
        before, self._took_ns = sum(each.calls for row in self._asked for each in row), 0
        for endpoint, row in enumerate(self._asked):
            for index in range(len(row)):
                self._ask(endpoint, index)
        done, _ = await asyncio.wait(self._tasks.values(), timeout=GRACE * self._interval_ns / clock.NS_PER_S)
        for task in done:
            task.result()
        moment = Moment(clock.now_ns(), clock.utc_ns())
        views = tuple(seen(each, moment, self._interval_ns) for each in self._watched)
        calls = sum(each.calls for row in self._asked for each in row) - before
        return Round(moment, self._interval_ns, views, calls, self._took_ns / clock.NS_PER_MS)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [*self._tasks.values(), *self._facts.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for row in self._asked:
            for each in row:
                await each.close()

    def _ask(self, endpoint: int, index: int) -> None:
        place = endpoint, index
        if place in self._tasks:
            return
        self._watched[endpoint] = asked(self._watched[endpoint], index, clock.now_ns())
        self._tasks[place] = asyncio.create_task(self._listen(endpoint, index))

    async def _listen(self, endpoint: int, index: int) -> None:
        begun_ns = clock.now_ns()
        try:
            reading = await self._reading(self._asked[endpoint][index])
        finally:
            del self._tasks[endpoint, index]
        self._took_ns = max(self._took_ns, clock.now_ns() - begun_ns)
        self._watched[endpoint] = heard(self._watched[endpoint], index, reading)
        if index == 0:
            self._ask_facts(endpoint, reading)

    async def _reading(self, source: Asked) -> Reading:
        asked_ns = clock.now_ns()
        try:
            async with asyncio.timeout(self._limit_ns / clock.NS_PER_S):
                return await source.read()
        except TimeoutError:
            await source.renew()
            return Reading(asked_ns, f"no answer within {self._limit_ns / clock.NS_PER_S:g} s")

    def _ask_facts(self, endpoint: int, reading: Reading) -> None:
        if reading.fault:
            self._facts_ns[endpoint] = -FACTS_NS
        elif reading.at_ns - self._facts_ns[endpoint] >= FACTS_NS and endpoint not in self._facts:
            # What was said before an outage may be another server's.
            known = self._watched[endpoint].facts if self._facts_ns[endpoint] > 0 else Facts()
            self._facts_ns[endpoint] = reading.at_ns
            self._facts[endpoint] = asyncio.create_task(self._learn(endpoint, set(reading.counters), known))

    async def _learn(self, endpoint: int, keys: set[tuple[str, str]], known: Facts) -> None:
        try:
            async with asyncio.timeout(FACTS_NS / clock.NS_PER_S):
                facts = await self._grpc[endpoint].facts(keys, known)
                self._watched[endpoint] = replace(self._watched[endpoint], facts=facts)
        except TimeoutError:
            self._facts_ns[endpoint] = clock.now_ns()
        finally:
            del self._facts[endpoint]


def _watched(target: Endpoint, models: tuple[str, ...]) -> Watched:
    pages = (Source("page", url, urlsplit(url).netloc) for url in target.metrics_urls)
    return Watched(target.grpc, (Source("grpc", target.grpc), *pages), models, begun_ns=clock.now_ns())


async def watch(
    targets: Sequence[Endpoint],
    models: Sequence[str],
    pace: Pace,
    show: Callable[[Round], None],
    stopped: asyncio.Event,
) -> None:
    """Show a round an interval until enough were shown or `stopped` is set; late rounds are not made up for.

    Raises:
        PlanError: an address, a header or a file of TLS is wrong.
    """
    board = Board(targets, models, pace.interval_ns)
    try:
        begun_ns = due_ns = clock.now_ns()
        for_ns = pace.interval_ns if pace.once else pace.for_ns
        while not stopped.is_set():
            found = await board.round()
            over = for_ns is not None and clock.now_ns() - begun_ns >= for_ns
            if over or not pace.once:
                show(found)
            if over:
                return
            due_ns += pace.interval_ns * max(1, -(-(clock.now_ns() - due_ns) // pace.interval_ns))
            await _wait(stopped, due_ns)
    finally:
        await board.close()


async def _wait(stopped: asyncio.Event, until_ns: int) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0, until_ns - clock.now_ns()) / clock.NS_PER_S):
            await stopped.wait()
