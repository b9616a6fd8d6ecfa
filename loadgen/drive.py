"""The closed loop: exactly N requests in flight, by callbacks alone.

A reply frees a slot and the slot's next request leaves in the same turn of the event loop, so that no task has to
wake between the two. A slot whose request failed rests before it is due again: a dead server is asked a few
times a second, not thousands.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from loadgen import clock
from loadgen.errors import FleetError
from loadgen.journal import Journal
from loadgen.records import Outcome, Reply
from loadgen.transport import Transport
from loadgen.walk import Take, Walk

REST_MIN_NS = 10 * clock.NS_PER_MS
REST_MAX_NS = 1000 * clock.NS_PER_MS
ANSWERED = (Outcome.OK, Outcome.WRONG_ANSWER)


@dataclass(slots=True)
class Counts:
    """What a drive has done in its current point."""

    completed: int = 0
    failed: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class ClosedLoopDrive:
    """Drives one point after another through `transport`, writing every request into `journal`.

    `on_failure` hears of every reply that is not ok; `broken` holds the error that stopped the loop, if one did.
    """

    transport: Transport
    journal: Journal
    walk: Walk
    deadline_ns: int
    on_failure: Callable[[Reply], None]
    fault: Callable[[int, bytes], str | None] = lambda _body, _response: None
    """Says what is wrong with the response to a body, where that is known beforehand."""

    now_ns: Callable[[], int] = clock.now_ns
    counts: Counts = field(default_factory=Counts)
    broken: FleetError | None = None
    _point: int = 0
    _failures_in_a_row: int = 0
    _sending: bool = False
    _resting: set[asyncio.TimerHandle] = field(default_factory=set)
    _drained: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, point: int, concurrency: int) -> None:
        """Begin a point: fill `concurrency` slots now and keep them full until `stop`."""
        self._point, self._failures_in_a_row, self.counts = point, 0, Counts()
        self._sending = True
        self._drained.clear()
        for _ in range(concurrency):
            self._send_next(self.now_ns())

    def stop(self) -> None:
        """Send nothing more in this point; what is in flight goes on."""
        self._sending = False
        for timer in self._resting:
            timer.cancel()
        self._resting.clear()
        self._close_sequences()
        self._mark_drained()

    async def drained(self) -> None:
        """Wait until the point is stopped and nothing is in flight."""
        await self._drained.wait()

    def _send_next(self, due_ns: int) -> None:
        self._send(self.walk.take(), due_ns)

    def _send(self, take: Take, due_ns: int) -> None:
        body, message, _ = take
        try:
            row = self.journal.born(self._point, body, due_ns, self.now_ns(), len(message))
        except FleetError as error:
            self.broken = error
            self.stop()
            return
        self.counts.in_flight += 1
        self.transport.send(message, self.deadline_ns, lambda reply: self._on_reply(row, take, reply))

    def _on_reply(self, row: int, take: Take, reply: Reply) -> None:
        reply = self._judged(take.body, reply)
        self.journal.ended(row, reply)
        self.counts.in_flight -= 1
        self.walk.done(take.sequence, answered=reply.outcome in ANSWERED)
        if reply.outcome is Outcome.OK:
            self.counts.completed += 1
            self._failures_in_a_row = 0
            if self._sending:
                self._send_next(reply.done_ns)
        else:
            self._failed(reply)
        if not self._sending:
            self._close_sequences()
        self._mark_drained()

    def _close_sequences(self) -> None:
        if self.broken is None:
            for take in self.walk.closing():
                self._send(take, self.now_ns())

    def _judged(self, body: int, reply: Reply) -> Reply:
        details = self.fault(body, reply.response) if reply.outcome is Outcome.OK else None
        return replace(reply, outcome=Outcome.WRONG_ANSWER, details=details) if details else reply

    def _failed(self, reply: Reply) -> None:
        self.counts.failed += 1
        self.on_failure(reply)
        if reply.outcome is Outcome.WRONG_ANSWER:  # the server works: there is nothing to give it time for
            self._failures_in_a_row = 0
            if self._sending:
                self._send_next(reply.done_ns)
            return
        if self._sending:
            self._rest(reply.done_ns)
        self._failures_in_a_row += 1

    def _rest(self, freed_ns: int) -> None:
        rest_ns = min(REST_MAX_NS, REST_MIN_NS << min(self._failures_in_a_row, 10))

        def wake() -> None:
            self._resting.discard(timer)
            self._send_next(freed_ns + rest_ns)

        timer = asyncio.get_running_loop().call_later(rest_ns / clock.NS_PER_S, wake)
        self._resting.add(timer)

    def _mark_drained(self) -> None:
        if not self._sending and self.counts.in_flight == 0:
            self._drained.set()
