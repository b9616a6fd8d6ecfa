"""The transport of our own: unary gRPC by callbacks alone, no coroutine and no future a request.

A `DirectTransport` keeps as many connections (`line.Line`) as it was told to, makes lost ones again, and shares the
requests among them.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

from loadgen import clock, endpoint, environment, proxies
from loadgen.endpoint import UNIX, Endpoint
from loadgen.errors import PlanError
from loadgen.kserve import SERVICE
from loadgen.records import Outcome, Reply
from loadgen.transport import tunnel
from loadgen.transport.http2 import Connection
from loadgen.transport.line import Call, Line, time_out
from loadgen.transport.renewal import Metadata, Renewal

CONNECT_TIMEOUT_S = 10.0
BACK_OFF_MIN_S, BACK_OFF_MAX_S = 0.05, 2.0


class DirectTransport:
    """Unary calls of ModelInfer on `connections` lines, each request on the free line with the fewest.

    A request that finds no free line waits for one (while connecting, and at the server's limit of streams); while
    the server cannot be reached it fails at once.
    """

    def __init__(self, target: Endpoint, connections: int = 1, now_ns: Callable[[], int] = clock.now_ns) -> None:
        self.now_ns = now_ns
        self.waiting: deque[Call] = deque()
        self._longest_ns = 0
        self._target = target
        self._metadata = endpoint.metadata(target)
        self._renewal = Renewal(target, self._renew)
        self._keeping: asyncio.TimerHandle | None = None
        self._tls = endpoint.ssl_context(target.tls) if target.tls else None
        self._unix = target.grpc.removeprefix(UNIX) if target.grpc.startswith(UNIX) else ""
        self._where = ("", 0) if self._unix else endpoint.host_and_port(target.grpc)
        self._proxy = proxies.of_grpc(target.grpc)
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
        self._renewal.start()
        self._keep_alive()
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
        await self._renewal.stop()
        for timer in filter(None, (self._alarm, self._keeping)):
            timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.waiting.clear()
        for line in (*filter(None, self._lines), *self._draining):
            line.abort()

    def note(self, took_ns: int) -> None:
        """Keep the longest time that a callback took."""
        self._longest_ns = max(self._longest_ns, took_ns)

    def longest_ns(self) -> int:
        """Return the longest time that a line's callback took since this was last asked."""
        longest_ns, self._longest_ns = self._longest_ns, 0
        return longest_ns

    def connected(self, line: Line) -> None:
        """Hear that a line may be used."""
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
            if line.answered:  # a server that only greets and hangs up is not one that worked
                self._failures[line.number] = 0
            self._fail(line.number, words)

    def _renew(self, metadata: Metadata) -> None:
        self._metadata = metadata
        for line in filter(None, self._lines):
            line.renew(metadata)

    def _keep_alive(self) -> None:
        """Look at every line four times in the time that one may be silent."""
        every_s, timeout_s = self._target.keepalive_s, endpoint.KEEPALIVE_TIMEOUT_S
        if not every_s:
            return
        for line in (*filter(None, self._lines), *self._draining):
            line.keep_alive(round(every_s * clock.NS_PER_S), round(timeout_s * clock.NS_PER_S))
        self._keeping = asyncio.get_running_loop().call_later(every_s / 4, self._keep_alive)

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
        doublings = min(self._failures[number] - 2, 10)
        delay_s = min(BACK_OFF_MAX_S, BACK_OFF_MIN_S * 2.0**doublings) if tried else 0.0
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
        elif self._proxy is not None:
            through = await tunnel.opened(self._proxy, *self._where)
            await loop.create_connection(lambda: line, sock=through, ssl=self._tls, server_hostname=name)
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
            time_out(call, now_ns, 0)
        self.begin_waiting()
        for line in list(self._draining):
            line.close_if_empty()
        left = [call.give_up_ns for line in lines for call in line.calls.values()]
        left += [call.give_up_ns for call in self.waiting]
        if left and (self._alarm is None or min(left) < self._alarm_ns):
            self._set_alarm(min(left))


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
