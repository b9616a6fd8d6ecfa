"""Simulated instances behind one first-in-first-out queue: how long the stub's answers take, and its counters."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import grpc
import numpy as np

from loadgen import clock
from loadgen.server.repository import MODEL

SHORT_SHARE, SHORT, LONG = 0.9, 1 / 3, 7.0
"""Nine in ten bimodal services take a third of the mean, the tenth seven times as much: together the mean."""


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """The status that a call is answered with."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


@dataclass(frozen=True, slots=True)
class StubConfig:
    """How the stub behaves; every k-th request (counted from 1) fails or hangs where `fail_every` etc. say so.

    `companions` are further models of the same signature, served by the same instances. Service times of mean
    `service_ns` are `constant`, `exponential`, or `bimodal` (nine in ten a third of the mean, the tenth the rest),
    drawn from `seed`. Nothing is served from `stall_at_ns` after the first request on, for `stall_for_ns`. Timers are
    late by a millisecond or so; the last `spin_ns` of a service are spun, where it must be exact. Once `change_after`
    requests are served, events of `changed_cells` cells get another answer.
    """

    model: str = MODEL
    companions: tuple[str, ...] = ()
    signature: str = "odd"
    instances: int = 2
    base_ns: int = 5_000_000
    per_cell_ns: int = 500
    grpc_port: int = 0
    metrics_port: int | None = 0
    fail_every: int = 0
    hang_every: int = 0
    late_statistics_ns: int = 0
    ready: bool = True
    law: str = "constant"
    seed: int = 0
    stall_at_ns: int = 0
    stall_for_ns: int = 0
    spin_ns: int = 0
    change_after: int = 0
    changed_cells: int = 0

    def service_ns(self, cells: int) -> int:
        """Return how long an instance takes for an event of so many cells."""
        return self.base_ns + self.per_cell_ns * cells


@dataclass(slots=True)
class Counters:
    """Triton's cumulative counters of one model."""

    success: int = 0
    success_ns: int = 0
    fail: int = 0
    fail_ns: int = 0
    queue_ns: int = 0
    compute_infer_ns: int = 0
    pending: int = 0


@dataclass(slots=True)
class RunningStub:
    """A stub that is up, and what it has seen."""

    config: StubConfig
    grpc: str = ""
    metrics_url: str | None = None
    models: dict[str, Counters] = field(init=False)
    served: int = 0
    arrived: int = 0
    in_service: int = 0
    in_service_max: int = 0
    order: list[int] = field(default_factory=list)
    first_ns: int = 0
    random: np.random.Generator = field(init=False)
    _waiting: deque[asyncio.Future[int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Seed the service times."""
        self.models = {model: Counters() for model in (self.config.model, *self.config.companions)}
        self.random = np.random.default_rng(self.config.seed)

    @property
    def counters(self) -> Counters:
        """The counters of the first model."""
        return self.models[self.config.model]

    def filling(self, cells: int) -> int:
        """Return what the answer to an event of so many cells is filled with."""
        after = self.config.change_after
        return int(0 < after < self.served and cells == self.config.changed_cells)

    def draw_ns(self, cells: int) -> int:
        """Draw the next service time."""
        mean_ns = self.config.service_ns(cells)
        match self.config.law:
            case "exponential":
                return round(self.random.exponential(mean_ns))
            case "bimodal":
                return round(mean_ns * (SHORT if self.random.random() < SHORT_SHARE else LONG))
        return mean_ns

    async def infer(self, model: str, cells: int) -> None:
        """Queue for an instance and hold it for the service time; raise `Refused` for a request that is to fail."""
        arrived_ns = clock.now_ns()
        self.arrived += 1
        self.first_ns = self.first_ns or arrived_ns
        number = self.arrived
        if self.config.hang_every and number % self.config.hang_every == 0:
            await asyncio.Event().wait()
        started_ns = await self._take_instance()
        self.order.append(number)
        try:
            await clock.sleep_until_ns(self.end_ns(started_ns, cells), self.config.spin_ns)
        finally:
            self._free_instance()
        if self.config.fail_every and number % self.config.fail_every == 0:
            self.models[model].fail += 1
            self.models[model].fail_ns += clock.now_ns() - arrived_ns
            raise Refused(grpc.StatusCode.UNAVAILABLE, f"request {number} is to fail")
        self.served += 1
        self._count(model, arrived_ns, started_ns, clock.now_ns())

    def end_ns(self, started_ns: int, cells: int) -> int:
        """Return when a request ends that an instance takes now; a stall in its way delays it."""
        end_ns = started_ns + self.draw_ns(cells)
        config = self.config
        stall_ns = self.first_ns + config.stall_at_ns
        over_ns = stall_ns + config.stall_for_ns
        if stall_ns <= started_ns < over_ns:
            return end_ns + over_ns - started_ns
        return end_ns + config.stall_for_ns if started_ns < stall_ns < end_ns else end_ns

    async def _take_instance(self) -> int:
        """Wait for an instance; return when it was ours, which is before this task woke to see it."""
        if self.in_service < self.config.instances:
            self.in_service += 1
            self.in_service_max = max(self.in_service_max, self.in_service)
            return clock.now_ns()
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self.counters.pending += 1
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free_instance()
            raise
        finally:
            self.counters.pending -= 1

    def _free_instance(self) -> None:
        """Hand the instance to the first that waits, so that nobody overtakes."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(clock.now_ns())
                return
        self.in_service -= 1

    def _count(self, model: str, arrived_ns: int, started_ns: int, done_ns: int) -> None:
        counters = self.models[model]

        def add() -> None:
            counters.success += 1
            counters.success_ns += done_ns - arrived_ns
            counters.queue_ns += started_ns - arrived_ns
            counters.compute_infer_ns += done_ns - started_ns

        if self.config.late_statistics_ns:
            asyncio.get_running_loop().call_later(self.config.late_statistics_ns / clock.NS_PER_S, add)
        else:
            add()
