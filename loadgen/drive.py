"""What keeps a load up, by callbacks alone: requests in flight in a closed loop, due times in an open one.

A `Drive` sends requests and hears replies; its pace says when. In a closed loop a reply frees a slot, and the slot's
next request leaves in the same turn of the event loop, so that no task has to wake between the two. A slot whose
request failed rests before it is due again: a dead server is asked a few times a second, not thousands. In an open
loop a request is due when the schedule says so, whatever the server does; one that is late goes at once, and its
response time counts from when it was due.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from loadgen import clock
from loadgen.errors import FleetError
from loadgen.journal import Journal
from loadgen.records import Outcome, Reply
from loadgen.transport import Transport
from loadgen.walk import Take, Walk

REST_MIN_NS = 10 * clock.NS_PER_MS
REST_MAX_NS = 1000 * clock.NS_PER_MS
OK = Outcome.OK  # a member costs a look-up each time it is named through its class
ANSWERED = (OK, Outcome.WRONG_ANSWER)
BURST = 64
"""Requests that leave before the loop looks at replies again, when many are late."""


@dataclass(slots=True)
class Counts:
    """What a drive has done in its current point.

    `in_flight_ns` is the integral of requests in flight over time, kept as the sum of ends less the sum of sends of
    what has ended: when nothing is in flight, Little's identity says that it is the sum of all service times.
    """

    completed: int = 0
    failed: int = 0
    unsent: int = 0
    in_flight: int = 0
    in_flight_ns: int = 0


class Pace(Protocol):
    """Decides when requests are sent."""

    def start(self) -> None:
        """Begin to send."""

    def freed(self, reply: Reply) -> None:
        """Hear that a request has ended."""

    def stop(self) -> None:
        """Send nothing more."""


@dataclass(slots=True)
class Drive:
    """Sends requests through `transport` and writes every one of them into `journal`, one point after another.

    `on_failure` hears of every reply that is not ok; `fault` says what is wrong with the response to a body (None
    where every answer is right); `witness` is given every answer with its row and body, once the next request is on
    its way; `broken` holds the error that stopped the drive, if one did.
    """

    transport: Transport
    journal: Journal
    walk: Walk
    deadline_ns: int
    on_failure: Callable[[Reply], None]
    fault: Callable[[int, bytes], str | None] | None = None
    witness: Callable[[int, int, bytes], None] | None = None
    now_ns: Callable[[], int] = clock.now_ns
    counts: Counts = field(default_factory=Counts)
    broken: FleetError | None = None
    sending: bool = False
    _pace: Pace | None = None
    _point: int = 0
    _left: int = 0
    _drained: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, point: int, pace: Pace, requests: int = 0) -> None:
        """Begin a point: send as `pace` says until `stop`, or until so many `requests` are sent (0: no limit)."""
        self._point, self._pace, self.counts, self._left = point, pace, Counts(), requests
        self.sending = True
        self._drained.clear()
        pace.start()

    def stop(self) -> None:
        """Send nothing more in this point; what is in flight goes on."""
        self.sending = False
        if self._pace is not None:
            self._pace.stop()
        self._close_sequences()
        self._mark_drained()

    async def drained(self) -> None:
        """Wait until the point is stopped and nothing is in flight."""
        await self._drained.wait()

    def send(self, due_ns: int) -> None:
        """Send the next request now; it was due at `due_ns`."""
        self._send(self.walk.take(), due_ns)
        if self._left:
            self._left -= 1
            if not self._left:
                self.stop()

    def skip(self, due_ns: int) -> None:
        """Record the next request as one that was due and not sent."""
        take = self.walk.take()
        try:
            self.journal.born(self._point, take.body, due_ns, len(take.message), None, Outcome.UNSENT)
            self.counts.unsent += 1
        except FleetError as error:
            self._break(error)
        self.walk.done(take.sequence, answered=False)

    def _send(self, take: Take, due_ns: int) -> None:
        message = take.message
        try:
            row, sent_ns = self.journal.born(self._point, take.body, due_ns, len(message), self.now_ns)
        except FleetError as error:
            self._break(error)
            return
        self.counts.in_flight += 1
        self.transport.send(message, self.deadline_ns, lambda reply: self._on_reply(row, take, sent_ns, reply))

    def _break(self, error: FleetError) -> None:
        self.broken = error
        self.stop()

    def _on_reply(self, row: int, take: Take, sent_ns: int, reply: Reply) -> None:
        if self.fault is not None and reply.outcome is OK:
            details = self.fault(take.body, reply.response)
            if details:
                reply = replace(reply, outcome=Outcome.WRONG_ANSWER, details=details)
        self.journal.ended(row, reply)
        counts = self.counts
        counts.in_flight -= 1
        counts.in_flight_ns += reply.done_ns - sent_ns
        self.walk.done(take.sequence, answered=reply.outcome in ANSWERED)
        if reply.outcome is OK:
            counts.completed += 1
        else:
            counts.failed += 1
            self.on_failure(reply)
        if not self.sending:
            self._close_sequences()
            self._mark_drained()
        elif self._pace is not None:
            self._pace.freed(reply)
        if self.witness is not None and reply.outcome in ANSWERED:
            self.witness(row, take.body, reply.response)

    def _close_sequences(self) -> None:
        if self.broken is None:
            for take in self.walk.closing():
                self._send(take, self.now_ns())

    def _mark_drained(self) -> None:
        if not self.sending and self.counts.in_flight == 0:
            self._drained.set()


@dataclass(slots=True)
class Slots:
    """The closed loop's pace: `levels` are (slots, nanoseconds), one after another and over again.

    With a single level the time does not matter. To go down, slots that fall free are not filled.
    """

    drive: Drive
    levels: Sequence[tuple[int, int]]
    at_ns: int = 0
    _wanted: int = 0
    _level: int = -1
    _resting: set[asyncio.TimerHandle] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None
    _failures_in_a_row: int = 0

    def start(self) -> None:
        """Fill the first level's slots, at `at_ns` or now."""
        wait_ns = self.at_ns - self.drive.now_ns()
        if wait_ns <= 0:
            self._next_level(self.at_ns or self.drive.now_ns())
            return
        delay_s = wait_ns / clock.NS_PER_S
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._next_level, self.at_ns)

    def freed(self, reply: Reply) -> None:
        """Fill the slot again, at once or after a rest."""
        if reply.outcome in ANSWERED:  # a wrong answer comes from a server that works: there is nothing to wait for
            self._failures_in_a_row = 0
            self._fill(reply.done_ns)
        else:
            self._rest(reply.done_ns)
            self._failures_in_a_row += 1

    def stop(self) -> None:
        """Fill no slot any more."""
        for timer in [*self._resting, *([self._timer] if self._timer else [])]:
            timer.cancel()
        self._resting.clear()

    def _next_level(self, at_ns: int) -> None:
        self._level = (self._level + 1) % len(self.levels)
        self._wanted, length_ns = self.levels[self._level]
        if len(self.levels) > 1:
            until_ns = at_ns + length_ns
            delay_s = (until_ns - self.drive.now_ns()) / clock.NS_PER_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._next_level, until_ns)
        self._fill(at_ns)

    def _fill(self, due_ns: int) -> None:
        while self.drive.sending and self.drive.counts.in_flight + len(self._resting) < self._wanted:
            self.drive.send(due_ns)

    def _rest(self, freed_ns: int) -> None:
        rest_ns = min(REST_MAX_NS, REST_MIN_NS << min(self._failures_in_a_row, 10))

        def wake() -> None:
            self._resting.discard(timer)
            self._fill(freed_ns + rest_ns)

        timer = asyncio.get_running_loop().call_later(rest_ns / clock.NS_PER_S, wake)
        self._resting.add(timer)


@dataclass(slots=True)
class Due:
    """The open loop's pace: sends at `offsets` (nanoseconds) from its start.

    The event loop's timers are late by up to a millisecond or two, so the last `spin_ns` before a due time are
    spent turning the loop without waiting. With `max_in_flight` requests in flight, what falls due is not sent, and
    recorded.
    """

    drive: Drive
    offsets: Iterator[int]
    max_in_flight: int
    spin_ns: int = 0
    at_ns: int = 0
    _start_ns: int = 0
    _next_ns: int | None = None
    _timer: asyncio.Handle | None = None

    def start(self) -> None:
        """Set the common start to `at_ns`, or to now."""
        self._start_ns = self.at_ns or self.drive.now_ns()
        self._advance()
        self._pump()

    def freed(self, reply: Reply) -> None:
        """Change nothing: an open loop does not wait for answers."""

    def stop(self) -> None:
        """Let nothing more fall due."""
        if self._timer is not None:
            self._timer.cancel()

    def _pump(self) -> None:
        drive = self.drive
        for _ in range(BURST):
            if self._next_ns is None or not drive.sending or self._next_ns > drive.now_ns():
                break
            due_ns = self._next_ns
            self._advance()
            (drive.skip if drive.counts.in_flight >= self.max_in_flight else drive.send)(due_ns)
        self._arm()

    def _arm(self) -> None:
        if self._next_ns is None or not self.drive.sending:
            return
        loop, wait_ns = asyncio.get_running_loop(), self._next_ns - self.drive.now_ns() - self.spin_ns
        timed = wait_ns > 0
        self._timer = loop.call_later(wait_ns / clock.NS_PER_S, self._pump) if timed else loop.call_soon(self._pump)

    def _advance(self) -> None:
        offset = next(self.offsets, None)
        self._next_ns = None if offset is None else self._start_ns + offset
