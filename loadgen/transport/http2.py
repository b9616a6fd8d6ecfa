"""The client half of HTTP/2 (RFC 9113) for unary gRPC calls: bytes in, answers out; no I/O.

What the server may do wrong to one stream ends that stream as an Answer; what it does wrong to the connection is
an Http2Error. Memory is bounded: by the messages on their way, the largest response, one frame and one header block.
"""

from collections.abc import Callable, Sequence

from loadgen.transport.http2_control import PRIORITY_BYTES, Controller
from loadgen.transport.http2_fields import BlockReader
from loadgen.transport.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FRAME,
    GOAWAY,
    GOODBYE,
    HEADER_BYTES,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    TYPE,
    UNAVAILABLE,
    WINDOW_UPDATE,
    Answer,
    ErrorCode,
    Http2Error,
    frame,
    settings_frame,
    window_frame,
)
from loadgen.transport.http2_send import CLOSED, Stream

__all__ = ["Answer", "Connection", "ErrorCode", "Http2Error"]

RESPONSE_BYTES = 2**31
HEADER_BLOCK_BYTES = 64 * 1024
FRAME_SIZE = 1024 * 1024
KEEPALIVE_PING = frame(PING, 0, 0, b"loadgen.")


class Connection(Controller):
    """One connection to `authority`, every request a call of `path`.

    `window` is what the server may send before we confirm, per stream and in all; `frame_size` the largest frame it
    may send; `response_bytes` the largest message, `header_bytes` the largest header block we take.
    """

    def __init__(  # noqa: PLR0913 - each is one fact of the target or one bound
        self,
        authority: str,
        path: str,
        *,
        scheme: str = "http",
        user_agent: str = "loadgen",
        metadata: Sequence[tuple[str, str]] = (),
        window: int = MAX_WINDOW,
        frame_size: int = FRAME_SIZE,
        response_bytes: int = RESPONSE_BYTES,
        header_bytes: int = HEADER_BLOCK_BYTES,
    ) -> None:
        super().__init__(authority, path, scheme=scheme, user_agent=user_agent, metadata=metadata, room=window)
        self.going_away = False
        self.settled = False
        """Whether the server's SETTINGS came: until then its limits are guesses."""
        self._farewell = ""
        self._frame_size = frame_size
        self._response_bytes = response_bytes
        self._header_bytes = header_bytes
        self._stream_low = max(1, window // 2)
        self._all_room = self._room = max(window, DEFAULT_WINDOW)
        self._low = self._all_room // 2
        self._reader = BlockReader(header_bytes)
        self._known = self._reader.cache.get
        self._error: Http2Error | None = None
        self._answers: list[Answer] = []
        self._at = 0
        # The start of a frame that is not here in full: when it came, and how many bytes make the next step.
        self._partial = bytearray()
        self._partial_at = 0
        self._need = 0
        # The DATA frame in the middle of which the input ended: payload and padding to come, stream, its end or not.
        self._rest = 0
        self._padding = 0
        self._rest_stream: Stream | None = None
        self._rest_ends = 0
        # A header block that CONTINUATION frames go on with, 0 for none.
        self._block_stream = 0
        self._block_ends = 0
        self._block_so_far = bytearray()
        self._strict = True  # only certain frames may come: the first SETTINGS, or a CONTINUATION
        self._handlers = self._takers()
        self._greet(window)

    def _takers(self) -> dict[int, Callable[[int, int, bytes], None]]:
        """Return what takes each type of frame but DATA; a type not named is ignored."""
        return {
            HEADERS: self._on_headers,
            PRIORITY: self._on_priority,
            RST_STREAM: self._on_reset,
            SETTINGS: self._on_settings,
            PUSH_PROMISE: self._on_push_promise,
            PING: self._on_ping,
            GOAWAY: self._on_goaway,
            WINDOW_UPDATE: self._on_window_update,
            CONTINUATION: self._on_continuation,
        }

    def _greet(self, window: int) -> None:
        """Queue our SETTINGS, and open the connection's window."""
        ours = {
            HEADER_TABLE_SIZE: 0,  # so that equal responses have equal header bytes
            ENABLE_PUSH: 0,
            INITIAL_WINDOW_SIZE: window,
            MAX_FRAME_SIZE: self._frame_size,
            MAX_HEADER_LIST_SIZE: self._header_bytes,
        }
        self._control.append(settings_frame(ours))
        if self._room > DEFAULT_WINDOW:
            self._control.append(window_frame(0, self._room - DEFAULT_WINDOW))

    def receive(self, data: bytes, at: int) -> list[Answer]:
        """Take what the server sent, seen at the time `at` (any integer but 0); return the answers now complete.

        Whatever must be said in return is queued for `pull`. Http2Error, with the answers that came before the
        fault, where the server broke the protocol; then the connection only has a GOAWAY to pull.
        """
        if self._error is not None:
            raise self._error
        answers = self._answers = []
        self._at = at
        pos = 0
        try:
            if self._partial:
                self._at = self._partial_at
                pos = self._complete(data)
                self._at = at
            if self._rest or self._padding:
                pos = self._go_on(data, pos)
            if pos < len(data):
                self._frames(data, pos)
        except Http2Error as error:
            error.answers = answers
            self._die(error)
            raise
        return answers

    def close(self, words: str = "the connection was lost") -> list[Answer]:
        """Give the connection up: every open stream as an UNAVAILABLE answer, retriable where it never left."""
        self._shut = True
        words += self._farewell
        left = [
            Answer(stream.id, UNAVAILABLE, words, b"", stream.first_byte, stream.id > self._begun)
            for stream in self._streams.values()
        ]
        self._forget()
        return left

    def ping(self) -> None:
        """Queue a PING, which a server that lives answers at once."""
        self._control.append(KEEPALIVE_PING)

    def _forget(self) -> None:
        for stream in self._streams.values():
            stream.state = CLOSED
        self._streams.clear()
        self._fresh.clear()
        self._ready.clear()

    def _die(self, error: Http2Error) -> None:
        """Leave nothing to pull but a GOAWAY; the streams wait for `close`."""
        self._shut = True
        self._window = 0
        self._error = Http2Error(error.code, "the connection is dead")
        self._control = [frame(GOAWAY, 0, 0, GOODBYE.pack(0, error.code))]
        self._partial.clear()
        self._block_so_far.clear()

    # Frames out of bytes.

    def _frames(self, data: bytes, pos: int) -> None:
        """Take every frame of `data` from `pos` on; keep what is not whole."""
        end = len(data)
        while end - pos >= HEADER_BYTES:
            word, flags, stream_id = FRAME.unpack_from(data, pos)
            stream_id &= MAX_STREAM_ID
            start = pos + HEADER_BYTES
            stop = start + (word >> 8)
            kind = word & 0xFF
            if self._strict:
                self._check_order(kind, flags, stream_id)
            if stop - start > self._frame_size:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {stop - start} bytes")
            if kind == DATA:
                if flags & PADDED and start == end < stop:
                    break
                pos = self._data(data, start, stop, flags, stream_id)
                continue
            if stop > end:
                break
            # Where DATA follows this may be a whole response; a busy server may put other streams' heads there.
            if (
                (kind == HEADERS and flags == END_HEADERS)
                and (stop + TYPE < end and data[stop + TYPE] == DATA)
                and (after := self._whole(data, start, stop, stream_id))
            ):
                pos = after
                continue
            take = self._handlers.get(kind)
            if take is not None:
                take(flags, stream_id, data[start:stop])
            pos = stop
        if pos < end:
            self._keep(data, pos)

    def _keep(self, data: bytes, pos: int) -> None:
        """Keep the start of a frame until `_need` bytes are there: its header first, then all of it."""
        self._partial += memoryview(data)[pos:]
        self._partial_at = self._at
        if len(self._partial) < HEADER_BYTES:
            self._need = HEADER_BYTES
        else:
            word, _, _ = FRAME.unpack_from(self._partial)
            # Of a frame of DATA only the length of its padding is waited for.
            self._need = HEADER_BYTES + (1 if word & 0xFF == DATA else word >> 8)

    def _complete(self, data: bytes) -> int:
        """Complete the frame of which a start was kept; return how much of `data` that took."""
        pos = 0
        while self._partial and pos < len(data):
            stop = pos + self._need - len(self._partial)
            self._partial += memoryview(data)[pos:stop]
            if stop > len(data):
                return len(data)
            pos = stop
            whole = bytes(self._partial)
            self._partial.clear()
            self._frames(whole, 0)
        return pos

    def _check_order(self, kind: int, flags: int, stream_id: int) -> None:
        if not self.settled:
            if kind != SETTINGS or flags & ACK:
                raise Http2Error(
                    ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS: is this an HTTP/2 server?"
                )
        elif kind != CONTINUATION or stream_id != self._block_stream:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a frame in the middle of a header block")

    # DATA, which is taken as it comes.

    def _data(self, data: bytes, start: int, stop: int, flags: int, stream_id: int) -> int:
        """Take a DATA frame of payload `data[start:stop]`, or the part that is here; return what follows it."""
        size = stop - start
        self._room -= size
        if self._room < self._low:
            self._refund()
        stream = self._streams.get(stream_id)
        if stream is None or stream_id > self._begun:
            self._check_begun(stream_id)
        else:
            stream.room -= size
            if stream.room < self._stream_low:
                self._refund_stream(stream, flags)
        padding = 0
        if flags & PADDED:
            padding = _padding(data, start, stop)
            start += 1
        if stop > len(data):
            self._rest, self._padding = stop - start - padding, padding
            self._rest_stream, self._rest_ends = stream, flags & END_STREAM
            return self._go_on(data, start)
        if stream is not None:
            if start < stop - padding:
                self._body(stream, data, start, stop - padding)
            if flags & END_STREAM:
                self._data_ends(stream)
        return stop

    def _go_on(self, data: bytes, start: int) -> int:
        """Take what `data` has from `start` on of the DATA frame that is under way; return what follows it."""
        stop = min(start + self._rest, len(data))
        stream = self._rest_stream
        if stop > start:
            self._rest -= stop - start
            if stream is not None:
                self._body(stream, data, start, stop)
        after = min(stop + self._padding, len(data)) if not self._rest else stop
        self._padding -= after - stop
        if not (self._rest or self._padding):
            self._rest_stream = None
            if self._rest_ends and stream is not None:
                self._data_ends(stream)
        return after

    def _refund(self) -> None:
        if self._room < 0:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._control.append(window_frame(0, self._all_room - self._room))
        self._room = self._all_room

    def _refund_stream(self, stream: Stream, flags: int) -> None:
        if stream.room < 0:
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR, INTERNAL, "more data than the stream's window")
        elif not flags & END_STREAM:
            self._control.append(window_frame(stream.id, self._stream_room - stream.room))
            stream.room = self._stream_room

    # Header blocks.

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & (PADDED | PRIORITISED):
            start, stop = 0, len(payload)
            if flags & PADDED:
                stop -= _padding(payload, 0, stop)
                start = 1
            if flags & PRIORITISED:
                start += PRIORITY_BYTES
            if start > stop:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its padding and priority")
            payload = payload[start:stop]
        if flags & END_HEADERS:
            self._on_block(stream_id, payload, flags & END_STREAM)
            return
        self._check_begun(stream_id)
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.first_byte:
            stream.first_byte = self._at
        self._block_stream, self._block_ends, self._strict = stream_id, flags & END_STREAM, True
        self._continued(payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != self._block_stream or not stream_id:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of no header block")
        self._continued(payload)
        if flags & END_HEADERS:
            block = bytes(self._block_so_far)
            self._block_so_far.clear()
            self._block_stream, self._strict = 0, False
            self._on_block(stream_id, block, self._block_ends)

    def _continued(self, payload: bytes) -> None:
        self._block_so_far += payload
        self._check_block(len(self._block_so_far))

    def _check_block(self, size: int) -> None:
        if size > self._header_bytes:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, f"a header block of over {self._header_bytes} bytes")

    def _on_block(self, stream_id: int, block: bytes, ends: int) -> None:
        fields = self._known(block)
        if fields is None:
            self._check_block(len(block))
            fields = self._reader.read(block)
        stream = self._streams.get(stream_id)
        if stream is None or stream_id > self._begun:
            self._check_begun(stream_id)
        else:
            self._headers(stream, fields, ends)


def _padding(data: bytes, start: int, stop: int) -> int:
    """Return how many bytes of padding end the payload `data[start:stop]`, whose first byte says so."""
    if start == stop:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    padding = data[start]
    if padding >= stop - start:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return padding
