"""One TCP connection of the direct transport: bytes to and from its HTTP/2 half, by callbacks alone.

A line stamps what it sees where it sees it: the answers in a piece of input end when that piece was handed to us.
What they set off (the next requests of a closed loop) leaves in one write at the end of the same turn.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence, Sized
from typing import Protocol, cast

import msgspec

from loadgen.clock import NS_PER_S
from loadgen.records import GRPC_OUTCOME_BASE, Outcome, Reply
from loadgen.transport.http2 import Answer, Connection, Http2Error

CHUNK_BYTES = 1 << 19
"""Of bodies handed to the kernel in one turn of the event loop: replies do not wait while megabytes are copied."""

OUTCOMES = (Outcome.OK, *(Outcome(GRPC_OUTCOME_BASE + status) for status in range(1, 17)))
DEADLINE_EXCEEDED = 4


class Call(msgspec.Struct, eq=False):
    """A request on its way."""

    message: bytes | memoryview
    give_up_ns: int
    timeout: bytes
    on_reply: Callable[[Reply], None]
    flushed_ns: int = 0


class Owner(Protocol):
    """What a line tells of itself, and where requests wait that no line could take."""

    @property
    def waiting(self) -> Sized:
        """Requests that wait for a free line."""

    def now_ns(self) -> int:
        """Read the clock."""

    def begin_waiting(self) -> None:
        """Send what waits, as far as lines are free."""

    def connected(self, line: "Line") -> None:
        """Hear that a line may be used."""

    def drain(self, line: "Line") -> None:
        """Hear that a line takes no further request."""

    def lost(self, line: "Line", words: str) -> None:
        """Hear that a line is gone, and why."""

    def note(self, took_ns: int) -> None:
        """Hear how long a callback took."""


class Line(asyncio.Protocol):
    """One connection: hands bytes to the HTTP/2 half and back, and tells replies where their last byte is seen."""

    def __init__(self, owner: Owner, number: int, http2: Connection) -> None:
        self.number = number
        self.calls: dict[int, Call] = {}
        self.usable = False
        self.answered = False
        self._owner = owner
        self._http2 = http2
        self._now_ns = owner.now_ns
        self._transport: asyncio.Transport
        self._connected = False
        self._unflushed: list[Call] = []
        self._greeted = False
        self._receiving = False
        self._paused = False
        self._turn: asyncio.Handle | None = None
        self._why = ""
        self._heard_ns = 0
        self._pinged_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello; requests wait until the server has told its limits."""
        self._transport = transport = cast("asyncio.Transport", transport)
        self._connected = True
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

    def renew(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Use other metadata from the next request on."""
        self._http2.renew(metadata)

    def begin(self, call: Call) -> None:
        """Send a request."""
        self.calls[self._http2.open_stream(call.message, call.timeout)] = call
        if not self._receiving:
            self._flush_alone()

    def _flush_alone(self) -> None:
        begun_ns = self._now_ns()
        self.flush()
        self._owner.note(self._now_ns() - begun_ns)

    def flush(self) -> None:
        """Hand the kernel a turn's worth of what may be sent; the rest follows in the next turns."""
        if self._paused:
            return
        buffers, done = self._http2.pull(CHUNK_BYTES)
        if len(buffers) == 1:
            self._transport.write(buffers[0])
        elif buffers:
            self._transport.writelines(buffers)
        else:
            return
        if done:
            self._mark_flushed(done)
        if self._http2.pending and not self._paused and self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if not self._transport.is_closing():
            self._flush_alone()

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
            self._flush_alone()

    def data_received(self, data: bytes) -> None:
        """Tell the replies that are complete, then send what they set off."""
        self._heard_ns = now_ns = self._now_ns()
        http2 = self._http2
        fault: Http2Error | None = None
        self._receiving = True
        try:
            answers = http2.receive(data, now_ns)
        except Http2Error as error:
            fault, answers = error, error.answers
        if answers:
            self.answered = True
        for answer in answers:
            self._tell(answer, now_ns)
        if not self._greeted and http2.settled:
            self._greeted = self.usable = True
            self._owner.connected(self)
        if self._owner.waiting:
            self._owner.begin_waiting()
        self.flush()
        self._receiving = False
        self._owner.note(self._now_ns() - now_ns)
        if fault is not None:
            self._give_up(f"the server broke HTTP/2: {fault}")
        elif http2.going_away or http2.exhausted:
            self._owner.drain(self)

    def _tell(self, answer: Answer, now_ns: int) -> None:
        call = self.calls.pop(answer.stream, None)
        if call is None:
            return
        outcome = OUTCOMES[answer.status]
        if answer.status:
            if answer.retriable:
                outcome = Outcome.NOT_PROCESSED
            elif answer.status == DEADLINE_EXCEEDED and now_ns >= call.give_up_ns:
                outcome = Outcome.TIMEOUT
        first_byte_ns, message = answer.first_byte, answer.message
        call.on_reply(Reply(outcome, now_ns, call.flushed_ns, first_byte_ns, answer.body, message, self.number))

    def expire(self, now_ns: int) -> None:
        """End the requests that have waited for as long as they may."""
        late = [stream for stream, call in self.calls.items() if call.give_up_ns <= now_ns]
        for stream in late:
            self._http2.cancel(stream)
        self.flush()
        for stream in late:
            time_out(self.calls.pop(stream), now_ns, self.number)

    def keep_alive(self, silent_ns: int, timeout_ns: int) -> None:
        """Ping a server that was silent for `silent_ns`; give it up when nothing comes in `timeout_ns` after."""
        now_ns = self._now_ns()
        if self._pinged_ns > self._heard_ns:
            if now_ns - self._pinged_ns >= timeout_ns:
                self._give_up(f"nothing came in {timeout_ns / NS_PER_S:g} s after a keep-alive ping")
        elif self.usable and now_ns - self._heard_ns >= silent_ns:
            self._pinged_ns = now_ns
            self._http2.ping()
            self.flush()

    def close_if_empty(self) -> None:
        """Close a line that takes no further request, once its last has ended."""
        if not self.calls:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection, if there is one yet, and everything on it, without a word."""
        self.calls.clear()
        if self._connected:
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


def time_out(call: Call, now_ns: int, connection: int) -> None:
    """Tell a request that it has waited for too long."""
    words = "no answer within the deadline"
    call.on_reply(Reply(Outcome.TIMEOUT, now_ns, call.flushed_ns, 0, b"", words, connection))
