"""What frames that carry no response do: settings, windows, resets, pings and farewells; no I/O."""

from loadgen.transport.http2_answers import Answerer
from loadgen.transport.http2_fields import BlockReader
from loadgen.transport.http2_frames import (
    ACK,
    ENABLE_PUSH,
    GOODBYE,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    INTERNAL,
    LARGEST_MAX_FRAME,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PING,
    SETTING,
    SETTINGS,
    SMALLEST_MAX_FRAME,
    UNAVAILABLE,
    WORD,
    Answer,
    ErrorCode,
    Http2Error,
    code_name,
    frame,
    status_of_reset,
)
from loadgen.transport.http2_send import HEADERS_DUE

OWED = 1000
"""Acknowledgements that may wait to be pulled: no server in its senses asks for so many at once."""
PING_BYTES = 8
PRIORITY_BYTES = 5
FAREWELL_CHARACTERS = 200


class Controller(Answerer):
    """Obeys the frames that steer the connection and its streams."""

    going_away: bool
    settled: bool
    _farewell: str
    _reader: BlockReader
    _strict: bool

    def _check_begun(self, stream_id: int) -> None:
        """Allow a frame on a stream that is open or closed; Http2Error on one that never was."""
        if stream_id > self._begun or not stream_id & 1:
            words = f"a frame on stream {stream_id}, which nobody opened"
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, words)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check_frame("SETTINGS", stream_id, sound=len(payload) % SETTING.size == 0)
        if flags & ACK:
            _check_frame("SETTINGS", stream_id, sound=not payload)
            self._reader.forbid_table()
            return
        if not self.settled:
            self.settled = True
            self._strict = False
        # The last of equal names counts: what stands between cannot make us walk through the streams.
        values = dict(SETTING.iter_unpack(payload))
        if values.get(ENABLE_PUSH):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH from a server")
        if HEADER_TABLE_SIZE in values:
            # We use no table, whatever its size; after a change the peer may wait to be told so.
            self._table_to_zero = True
        self._most_streams = values.get(MAX_CONCURRENT_STREAMS, self._most_streams)
        self._largest_frame = values.get(MAX_FRAME_SIZE, self._largest_frame)
        if not SMALLEST_MAX_FRAME <= self._largest_frame <= LARGEST_MAX_FRAME:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {self._largest_frame}")
        if INITIAL_WINDOW_SIZE in values:
            self._move_windows(values[INITIAL_WINDOW_SIZE])
        self._owe(frame(SETTINGS, ACK, 0))

    def _move_windows(self, initial: int) -> None:
        """Give every stream the difference between the old and the new first window."""
        if initial > MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {initial}")
        change = initial - self._initial_window
        self._initial_window = initial
        for stream in self._streams.values():
            stream.window += change
            if stream.window > MAX_WINDOW:
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"window of stream {stream.id} over 2^31-1")
            self._requeue(stream)

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != WORD.size:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"WINDOW_UPDATE of {len(payload)} bytes")
        increment = int.from_bytes(payload) & MAX_WINDOW
        if stream_id:
            self._widen(stream_id, increment)
            return
        if not increment:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self._window += increment
        if self._window > MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "window of the connection over 2^31-1")

    def _widen(self, stream_id: int, increment: int) -> None:
        self._check_begun(stream_id)
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.window += increment
        if not increment:
            self._fail(stream, ErrorCode.PROTOCOL_ERROR, INTERNAL, "WINDOW_UPDATE of 0")
        elif stream.window > MAX_WINDOW:
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR, INTERNAL, "window of the stream over 2^31-1")
        else:
            self._requeue(stream)

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check_frame("RST_STREAM", 0, sound=len(payload) == WORD.size)
        self._check_begun(stream_id)
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        code = int.from_bytes(payload)
        retriable = code == ErrorCode.REFUSED_STREAM and stream.state == HEADERS_DUE
        words = f"the server reset the stream: {code_name(code)}"
        self._answers.append(Answer(stream_id, status_of_reset(code), words, b"", stream.first_byte, retriable))
        self._retire(stream, None)

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check_frame("GOAWAY", stream_id, sound=len(payload) >= GOODBYE.size)
        last, code = GOODBYE.unpack_from(payload)
        said = payload[GOODBYE.size :][:FAREWELL_CHARACTERS].decode(errors="replace")
        self._farewell = f"; the server said GOAWAY, {code_name(code)} {said}".rstrip()
        self.going_away = self._shut = True
        # The server did not and will not look at what lies above its last stream, nor may we begin another.
        last = min(last & MAX_STREAM_ID, self._begun)
        for stream in [stream for stream in self._streams.values() if stream.id > last]:
            words = f"not processed{self._farewell}"
            self._answers.append(Answer(stream.id, UNAVAILABLE, words, b"", stream.first_byte, retriable=True))
            self._retire(stream, None)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check_frame("PING", stream_id, sound=len(payload) == PING_BYTES)
        if not flags & ACK:
            self._owe(frame(PING, ACK, 0, payload))

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        stream = self._streams.get(stream_id)
        if len(payload) != PRIORITY_BYTES and stream is not None:
            self._fail(stream, ErrorCode.FRAME_SIZE_ERROR, INTERNAL, f"PRIORITY of {len(payload)} bytes")

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which our SETTINGS forbid")

    def _owe(self, acknowledgement: bytes) -> None:
        self._owed += 1
        if self._owed > OWED:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, f"over {OWED} pings and settings at once")
        self._control.append(acknowledgement)


def _check_frame(name: str, stream_id: int, *, sound: bool) -> None:
    """Raise Http2Error if a frame of the connection is on a stream, or is not of a sound length."""
    if stream_id:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"{name} on stream {stream_id}")
    if not sound:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"{name} of a wrong length")
