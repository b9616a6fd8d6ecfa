"""The transport of our own: unary gRPC by callbacks alone, no coroutine and no future a request.

A `Line` is one TCP connection, a `DirectTransport` keeps as many as it was told to. A line stamps what it sees where
it sees it: the answers in a piece of input end when that piece was handed to us. What the answers set off (the
next requests of a closed loop) leaves in one write at the end of the same turn.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

from loadgen import clock, endpoint, environment
from loadgen.endpoint import UNIX, Endpoint
from loadgen.errors import PlanError
from loadgen.kserve import SERVICE
from loadgen.records import GRPC_OUTCOME_BASE, Outcome, Reply
from loadgen.transport.http2 import Answer, Connection, Http2Error

CHUNK_BYTES = 1 << 20
"""Of bodies handed to the kernel at once; what it does not take waits, and so does the rest."""

CONNECT_TIMEOUT_S = 10.0
BACK_OFF_MIN_S, BACK_OFF_MAX_S = 0.05, 2.0
OUTCOMES = (Outcome.OK, *(Outcome(GRPC_OUTCOME_BASE + status) for status in range(1, 17)))
DEADLINE_EXCEEDED = 4


class Call:
    """A request on its way."""

    __slots__ = ("flushed_ns", "give_up_ns", "message", "on_reply", "timeout")

    def __init__(
        self, message: bytes | memoryview, give_up_ns: int, timeout: bytes, on_reply: Callable[[Reply], None]
    ) -> None:
        self.message = message
        self.give_up_ns = give_up_ns
        self.timeout = timeout
        self.on_reply = on_reply
        self.flushed_ns = 0


class Line(asyncio.Protocol):
    """One connection: hands bytes to the HTTP/2 half and back, and tells replies where their last byte is seen."""

    def __init__(self, owner: "DirectTransport", number: int, http2: Connection) -> None:
        self.number = number
        self.calls: dict[int, Call] = {}
        self.usable = False
        self._owner = owner
        self._http2 = http2
        self._now_ns = owner.now_ns
        self._transport: asyncio.Transport
        self._unflushed: list[Call] = []
        self._greeted = False
        self._receiving = False
        self._paused = False
        self._why = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello; requests wait until the server has told its limits."""
        self._transport = transport = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object")
        # The lowest high water there is: the event loop tells when the kernel has taken everything, which is when it
        # was flushed. (TLS pauses at the mark, a plain transport above it.)
        transport.set_write_buffer_limits(high=1 if tls else 0)
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family in {socket.AF_INET, socket.AF_INET6}:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._give_up("the server does not offer HTTP/2 over TLS (ALPN h2)")
            return
        self.flush()

    @property
    def free(self) -> bool:
        """Whether a request may begin here now."""
        return self.usable and self._http2.available

    def begin(self, call: Call) -> None:
        """Send a request."""
        self.calls[self._http2.open_stream(call.message, call.timeout)] = call
        if not self._receiving:
            self.flush()

    def flush(self) -> None:
        """Hand the kernel what may be sent, until it takes no more."""
        http2, transport = self._http2, self._transport
        while not self._paused:
            buffers, done = http2.pull(CHUNK_BYTES)
            if len(buffers) == 1:
                transport.write(buffers[0])
            elif buffers:
                transport.writelines(buffers)
            else:
                return
            if done:
                self._mark_flushed(done)
            if not http2.pending:
                return

    def _mark_flushed(self, streams: list[int]) -> None:
        """Stamp requests of which the last byte was handed to the event loop; later, if the kernel has not got it."""
        calls, waits = self.calls, self._transport.get_write_buffer_size() > 0
        now_ns = self._now_ns()
        for stream in streams:
            call = calls.get(stream)
            if call is not None and waits:
                self._unflushed.append(call)
            elif call is not None:
                call.flushed_ns = now_ns

    def pause_writing(self) -> None:
        """Wait: the kernel has not taken everything."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on: it has."""
        self._paused = False
        now_ns = self._now_ns()
        for call in self._unflushed:
            call.flushed_ns = now_ns
        self._unflushed.clear()
        if not self._receiving:
            self.flush()

    def data_received(self, data: bytes) -> None:
        """Tell the replies that are complete, then send what they set off."""
        now_ns = self._now_ns()
        http2 = self._http2
        fault: Http2Error | None = None
        self._receiving = True
        try:
            answers = http2.receive(data, now_ns)
        except Http2Error as error:
            fault, answers = error, error.answers
        for answer in answers:
            self._tell(answer, now_ns)
        if not self._greeted and http2.settled:
            self._greeted = self.usable = True
            self._owner.connected(self)
        if self._owner.waiting:
            self._owner.begin_waiting()
        self._receiving = False
        self.flush()
        if fault is not None:
            self._give_up(f"the server broke HTTP/2: {fault}")
        elif http2.going_away or http2.exhausted:
            self._owner.drain(self)

    def _tell(self, answer: Answer, now_ns: int) -> None:
        stream, status, message, body, first_byte_ns, retriable = answer
        call = self.calls.pop(stream, None)
        if call is None:
            return
        outcome = OUTCOMES[status]
        if status:
            if retriable:
                outcome = Outcome.NOT_PROCESSED
            elif status == DEADLINE_EXCEEDED and now_ns >= call.give_up_ns:
                outcome = Outcome.TIMEOUT
        call.on_reply(Reply(outcome, now_ns, call.flushed_ns, first_byte_ns, body, message, self.number))

    def expire(self, now_ns: int) -> None:
        """End the requests that have waited for as long as they may."""
        late = [stream for stream, call in self.calls.items() if call.give_up_ns <= now_ns]
        for stream in late:
            self._http2.cancel(stream)
        self.flush()
        for stream in late:
            _time_out(self.calls.pop(stream), now_ns, self.number)

    def close_if_empty(self) -> None:
        """Close a line that takes no further request, once its last has ended."""
        if not self.calls:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection and everything on it, without a word."""
        self.calls.clear()
        self._transport.abort()

    def _give_up(self, why: str) -> None:
        self._why = why
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Turn every open request into a row that says so."""
        self.usable = False
        self._paused = True
        now_ns = self._now_ns()
        words = self._why or (f"the connection was lost: {error}" if error else "the server closed the connection")
        self._owner.lost(self, words)
        for answer in self._http2.close(words):
            call = self.calls.pop(answer.stream, None)
            if call is not None:
                outcome = Outcome.NOT_PROCESSED if answer.retriable else Outcome.LOST
                call.on_reply(
                    Reply(outcome, now_ns, call.flushed_ns, answer.first_byte, b"", answer.message, self.number)
                )


class DirectTransport:
    """Unary calls of ModelInfer on `connections` lines, each request on the free line with the fewest.

    A request that finds no free line waits for one (while connecting, and at the server's limit of streams); while
    the server cannot be reached it fails at once.
    """

    def __init__(self, target: Endpoint, connections: int = 1, now_ns: Callable[[], int] = clock.now_ns) -> None:
        self.now_ns = now_ns
        self.waiting: deque[Call] = deque()
        self._target = target
        self._metadata = endpoint.metadata(target)
        self._tls = endpoint.ssl_context(target.tls) if target.tls else None
        self._unix = target.grpc.removeprefix(UNIX) if target.grpc.startswith(UNIX) else ""
        self._where = ("", 0) if self._unix else endpoint.host_and_port(target.grpc)
        self._lines: list[Line | None] = [None] * connections
        self._draining: set[Line] = set()
        self._failures = [0] * connections
        self._why = ["not connected yet"] * connections
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._tried = asyncio.Event()
        self._timeouts: dict[int, bytes] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = 0
        self._closed = False

    async def open(self) -> None:
        """Connect every line; return once each is usable or has failed once."""
        for number in range(len(self._lines)):
            self._reconnect(number)
        await self._tried.wait()

    def send(self, body: bytes | memoryview, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        """Send `body`; see `Transport.send`."""
        timeout = self._timeouts.get(deadline_ns)
        if timeout is None:
            timeout = self._timeouts[deadline_ns] = _timeout_text(deadline_ns)
        give_up_ns = self.now_ns() + deadline_ns
        call = Call(body, give_up_ns, timeout, on_reply)
        if self._alarm is None or give_up_ns < self._alarm_ns:
            self._set_alarm(give_up_ns)
        line = self._best()
        if line is not None:
            line.begin(call)
        elif self._hopeful():
            self.waiting.append(call)
        else:
            asyncio.get_running_loop().call_soon(self._refuse, call)

    def begin_waiting(self) -> None:
        """Send what waits, oldest first, as far as lines are free."""
        while self.waiting and (line := self._best()) is not None:
            line.begin(self.waiting.popleft())

    async def close(self) -> None:
        """Abandon what is in flight and close every line."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.waiting.clear()
        for line in (*filter(None, self._lines), *self._draining):
            line.abort()

    def connected(self, line: Line) -> None:
        """Hear that a line may be used."""
        self._failures[line.number] = 0
        self._mark_tried()

    def drain(self, line: Line) -> None:
        """Take no further request on a line whose server says goodbye, and connect another in its place."""
        if self._lines[line.number] is line:
            line.usable = False
            self._draining.add(line)
            self._reconnect(line.number)
        line.close_if_empty()

    def lost(self, line: Line, words: str) -> None:
        """Hear that a line is gone."""
        self._draining.discard(line)
        if self._lines[line.number] is line:
            self._lines[line.number] = None
            self._fail(line.number, words)

    def _best(self) -> Line | None:
        if len(self._lines) == 1:
            line = self._lines[0]
            return line if line is not None and line.free else None
        best: Line | None = None
        for line in self._lines:
            if line is not None and line.free and (best is None or len(line.calls) < len(best.calls)):
                best = line
        return best

    def _hopeful(self) -> bool:
        """Say whether a request may be sent later: a line is busy, or connecting for the first time."""
        return any(line is not None for line in self._lines) or 0 in self._failures

    def _refuse(self, call: Call) -> None:
        call.on_reply(Reply(Outcome.GRPC_UNAVAILABLE, self.now_ns(), details=self._why[0]))

    def _fail(self, number: int, words: str) -> None:
        """Try again, at once after a connection that worked, later after each that did not."""
        if self._closed:
            return
        tried = self._failures[number] > 0
        self._failures[number] += 1
        self._why[number] = f"{self._target.grpc}: {words}"
        self._mark_tried()
        delay_s = min(BACK_OFF_MAX_S, BACK_OFF_MIN_S * 2.0 ** (self._failures[number] - 2)) if tried else 0.0
        self._reconnect(number, delay_s)
        if not self._hopeful():
            while self.waiting:
                self._refuse(self.waiting.popleft())

    def _mark_tried(self) -> None:
        if all(
            failures or (line and line.usable) for failures, line in zip(self._failures, self._lines, strict=True)
        ):
            self._tried.set()

    def _reconnect(self, number: int, delay_s: float = 0.0) -> None:
        if self._closed:
            return
        # Without a delay the new line stands there at once, so that requests wait for it.
        self._lines[number] = None if delay_s else Line(self, number, self._http2())
        self._tasks[number] = asyncio.get_running_loop().create_task(self._connect(number, delay_s))

    async def _connect(self, number: int, delay_s: float) -> None:
        if delay_s:
            await clock.sleep_ns(round(delay_s * clock.NS_PER_S))
            self._lines[number] = Line(self, number, self._http2())
        line = self._lines[number]
        assert line is not None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._dial(line)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            if self._lines[number] is line:
                self._lines[number] = None
            self._fail(number, f"cannot connect: {_words(error)}")

    async def _dial(self, line: Line) -> None:
        loop, tls = asyncio.get_running_loop(), self._target.tls
        name = (tls.server_name or self._where[0]) if tls else None
        if self._unix:
            await loop.create_unix_connection(lambda: line, self._unix, ssl=self._tls, server_hostname=name)
        else:
            await loop.create_connection(lambda: line, *self._where, ssl=self._tls, server_hostname=name)

    def _http2(self) -> Connection:
        tls = self._target.tls
        authority = (tls.server_name if tls else "") or ("localhost" if self._unix else self._target.grpc)
        try:
            return Connection(
                authority,
                SERVICE + "ModelInfer",
                scheme="https" if tls else "http",
                user_agent=f"loadgen/{environment.version()}",
                metadata=self._metadata,
            )
        except ValueError as error:
            raise PlanError(f"headers: {error}") from error

    def _set_alarm(self, at_ns: int) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        wait_s = max(0, at_ns - self.now_ns()) / clock.NS_PER_S
        self._alarm_ns = at_ns
        self._alarm = asyncio.get_running_loop().call_later(wait_s, self._expire)

    def _expire(self) -> None:
        """End what has waited too long; look again when the next will have."""
        self._alarm = None
        now_ns = self.now_ns()
        lines = [*filter(None, self._lines), *self._draining]
        for line in lines:
            line.expire(now_ns)
        for call in [call for call in self.waiting if call.give_up_ns <= now_ns]:
            self.waiting.remove(call)
            _time_out(call, now_ns, 0)
        self.begin_waiting()
        for line in list(self._draining):
            line.close_if_empty()
        left = [call.give_up_ns for line in lines for call in line.calls.values()]
        left += [call.give_up_ns for call in self.waiting]
        if left and (self._alarm is None or min(left) < self._alarm_ns):
            self._set_alarm(min(left))


def _time_out(call: Call, now_ns: int, connection: int) -> None:
    words = "no answer within the deadline"
    call.on_reply(Reply(Outcome.TIMEOUT, now_ns, call.flushed_ns, 0, b"", words, connection))


def _timeout_text(deadline_ns: int) -> bytes:
    """Return a value of grpc-timeout, rounded up, in the finest unit in which it has at most eight digits."""
    for unit, length_ns in ((b"n", 1), (b"u", 1000), (b"m", clock.NS_PER_MS), (b"S", clock.NS_PER_S)):
        count = -(-deadline_ns // length_ns)
        if count < 10**8:
            return b"%d%s" % (count, unit)
    return b"99999999S"


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {CONNECT_TIMEOUT_S:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
