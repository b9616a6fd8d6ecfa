"""The sending half of an HTTP/2 connection: streams, flow control and what to write next; no I/O."""

from collections import deque
from collections.abc import Sequence

import msgspec

from loadgen.transport.http2_fields import TABLE_TO_ZERO, request_block, timeout_field
from loadgen.transport.http2_frames import (
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME,
    FRAME_AND_PREFIX,
    HEADERS,
    MAX_STREAM_ID,
    PREFACE,
    PREFIX,
    SMALLEST_MAX_FRAME,
    ErrorCode,
    reset_frame,
)

Buffer = bytes | memoryview

PULL_BYTES = 256 * 1024
SMALL_BYTES = 8192
"""Up to here a copy into one buffer costs less than a buffer of its own. Below every peer's largest frame."""
TIMEOUT_BYTES = 32
"""More than a grpc-timeout field and a change of table take in a header block."""
LARGEST_MESSAGE = 2**32 - 1

HEADERS_DUE, READING, FOREIGN, CLOSED = range(4)
"""What a stream's response awaits: headers, the message, the end of something that is not gRPC, nothing."""


class Stream(msgspec.Struct, eq=False, gc=False):
    """One request and its response; it knows no frames."""

    id: int
    block: bytes  # of the request's header
    message: Buffer | None  # None once all is sent
    size: int  # bytes of DATA to send, `sent` of them gone
    window: int  # how many more we may send, below 0 after the server shrank it
    room: int  # how many bytes more the server may send
    sent: int = 0
    queued: bool = False  # among those with bytes to send and a window to do so
    state: int = HEADERS_DUE
    first_byte: int = 0
    foreign: int = 0  # HTTP status of what is not gRPC
    head: bytes = b""  # a gRPC prefix of which not all five bytes are here
    wanted: int = -1  # length of the response's message, `got` bytes of it in `parts`
    got: int = 0
    parts: list[bytes | bytearray | memoryview] = []


class Sender:
    """Queues requests and control frames, and cuts them into frames as the server's windows allow."""

    def __init__(  # noqa: PLR0913 - each is one fact of the target
        self,
        authority: str,
        path: str,
        *,
        scheme: str = "http",
        user_agent: str = "loadgen",
        metadata: Sequence[tuple[str, str]] = (),
        room: int,
    ) -> None:
        self._target = (scheme, authority, path, user_agent)
        self._timeout = b""
        self._fields = self._block = b""  # the second with the timeout of the last request
        self.renew(metadata)
        self._table_to_zero = False
        self._stream_room = room
        self._streams: dict[int, Stream] = {}
        self._fresh: deque[Stream] = deque()  # no frame sent yet, in order of their ids
        self._ready: deque[Stream] = deque()  # bytes to send and a window above 0
        self._fresh_turn = True
        self._next_id = 1
        self._begun = 0  # highest stream whose HEADERS were pulled
        self._shut = False
        self._window = DEFAULT_WINDOW
        self._initial_window = DEFAULT_WINDOW
        self._largest_frame = SMALLEST_MAX_FRAME
        self._most_streams = MAX_STREAM_ID
        self._control: list[Buffer] = [PREFACE]
        self._owed = 0  # acknowledgements among `_control`

    def renew(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Use other metadata from the next request on.

        Raises:
            ValueError: a name or a value is not allowed, or all of it does not fit one frame.
        """
        fields = request_block(*self._target, metadata)
        if len(fields) > SMALLEST_MAX_FRAME - TIMEOUT_BYTES:
            raise ValueError(f"metadata of {len(fields)} bytes do not fit one frame")
        self._timeout, self._fields, self._block = b"", fields, fields

    @property
    def available(self) -> bool:
        """Whether `open_stream` may be called now."""
        return not self._shut and len(self._streams) < self._most_streams

    @property
    def exhausted(self) -> bool:
        """Whether every stream id was used: only a new connection can carry more."""
        return self._next_id > MAX_STREAM_ID

    @property
    def in_flight(self) -> int:
        """How many streams are open, begun or not."""
        return len(self._streams)

    @property
    def pending(self) -> bool:
        """Whether `pull` has something to write now."""
        if self._control:
            return True
        return self._window > 0 and (bool(self._ready) or (bool(self._fresh) and self._may_begin()))

    def open_stream(self, message: Buffer, timeout: bytes = b"") -> int:
        """Queue a request of one gRPC message (bytes, or a memoryview of bytes) and return its stream.

        `timeout` is a value of grpc-timeout, such as b"300S". RuntimeError unless `available`.
        """
        if self._shut or len(self._streams) >= self._most_streams:
            raise RuntimeError("this connection takes no further stream")
        if len(message) > LARGEST_MESSAGE:
            raise ValueError(f"a gRPC message has at most {LARGEST_MESSAGE} bytes, not {len(message)}")
        if timeout != self._timeout:
            self._block = self._fields + timeout_field(timeout)
            self._timeout = timeout
        stream_id = self._next_id
        self._next_id = stream_id + 2
        if stream_id + 2 > MAX_STREAM_ID:
            self._shut = True
        size = len(message) + PREFIX.size
        stream = Stream(stream_id, self._block, message, size, self._initial_window, self._stream_room)
        self._streams[stream_id] = stream
        self._fresh.append(stream)
        return stream_id

    def cancel(self, stream_id: int, code: int = ErrorCode.CANCEL) -> None:
        """Forget a stream: no answer will be told, and what comes for it is ignored. Unknown ids are ignored too."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._retire(stream, code)

    def pull(self, limit: int = PULL_BYTES) -> tuple[list[Buffer], list[int]]:
        """Return what to write now, in order, and the streams whose last byte is in it.

        Control frames come first, then about `limit` bytes of requests at most: those that begin and those that go
        on take turns, each a frame. Long bodies are views of the message, everything else is joined.
        """
        small, self._control, self._owed = self._control, [], 0
        out: list[Buffer] = []
        done: list[int] = []
        fresh, ready = self._fresh, self._ready
        while limit > 0 and self._window > 0:
            if fresh and (self._fresh_turn or not ready) and self._may_begin():
                self._fresh_turn = False
                stream = fresh.popleft()
                self._begin(stream, small)
            elif ready:
                self._fresh_turn = True
                stream = ready.popleft()
            else:
                break
            limit -= self._cut(stream, limit, small, out)
            if stream.message is None:
                done.append(stream.id)
        if small:
            out.append(b"".join(small))
        return out, done

    def _may_begin(self) -> bool:
        return len(self._streams) - len(self._fresh) < self._most_streams

    def _begin(self, stream: Stream, small: list[Buffer]) -> None:
        """Put a stream's HEADERS into `small`."""
        self._begun = stream.id
        block = stream.block
        if self._table_to_zero:
            self._table_to_zero = False
            block = TABLE_TO_ZERO + block
        small += (FRAME.pack(len(block) << 8 | HEADERS, END_HEADERS, stream.id), block)

    def _cut(self, stream: Stream, limit: int, small: list[Buffer], out: list[Buffer]) -> int:
        """Put a stream's next frame behind `out` and `small`; return how many bytes of DATA it has."""
        left = stream.size - stream.sent
        message = stream.message
        assert message is not None
        if left > SMALL_BYTES or stream.sent or left > stream.window or left > self._window:
            return self._slice(stream, message, limit, small, out)
        small += (FRAME_AND_PREFIX.pack(left << 8 | DATA, END_STREAM, stream.id, 0, left - PREFIX.size), message)
        stream.message = None
        self._window -= left
        return left

    def _slice(self, stream: Stream, message: Buffer, limit: int, small: list[Buffer], out: list[Buffer]) -> int:
        """Do it for a message that does not fit one small frame; a stream that may go on queues again."""
        # A frame is not cut to fewer than 16 KiB for the limit's sake: the limit is about, and frames cost.
        most = min(stream.window, self._window, self._largest_frame, max(limit, SMALLEST_MAX_FRAME))
        start, left = stream.sent, stream.size - stream.sent
        size = min(left, most)
        stream.queued = False
        if size <= 0:
            return 0
        small.append(FRAME.pack(size << 8 | DATA, END_STREAM if size == left else 0, stream.id))
        if start < PREFIX.size:
            small.append(PREFIX.pack(0, stream.size - PREFIX.size)[start : start + size])
        view = memoryview(message)
        piece = view[max(start - PREFIX.size, 0) : max(start - PREFIX.size + size, 0)]
        if len(piece) > SMALL_BYTES:
            out += (b"".join(small), piece)
            small.clear()
        else:
            small.append(piece)
        stream.sent = start + size
        stream.window -= size
        self._window -= size
        stream.message = None if size == left else view
        self._requeue(stream)
        return size

    def _requeue(self, stream: Stream) -> None:
        """Let a stream that has begun, has bytes to send and a window wait for its turn."""
        if stream.message is not None and not stream.queued and stream.window > 0 and stream.id <= self._begun:
            stream.queued = True
            self._ready.append(stream)

    def _retire(self, stream: Stream, code: int | None) -> None:
        """Close a stream; with RST_STREAM where `code` says why and the server knows the stream."""
        del self._streams[stream.id]
        stream.state = CLOSED
        stream.parts = []
        if stream.message is not None:
            stream.message = None
            if stream.id > self._begun:
                self._fresh.remove(stream)
            elif stream.queued:
                self._ready.remove(stream)
        if code is not None and stream.id <= self._begun:
            self._control.append(reset_frame(stream.id, code))
