"""What the frames of one stream mean: headers, a gRPC message in pieces, trailers, an answer; no I/O."""

from collections.abc import Callable

from loadgen.transport.http2_fields import Fields, Role
from loadgen.transport.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    FRAME_AND_PREFIX,
    HEADER_BYTES,
    HEADERS,
    INTERNAL,
    OK,
    PREFIX,
    RESOURCE_EXHAUSTED,
    Answer,
    ErrorCode,
    status_of_http,
)
from loadgen.transport.http2_send import CLOSED, FOREIGN, HEADERS_DUE, READING, Sender, Stream

VIEW_BYTES = 4096
"""From here, and when it is most of what was received, a piece of a message is kept as a view."""

GRPC = Role.GRPC

LAST_HEADERS = END_HEADERS | END_STREAM


class Answerer(Sender):
    """Turns the headers, data and ends of streams into answers, in `_answers`."""

    _answers: list[Answer]
    _at: int
    _response_bytes: int
    _frame_size: int
    _known: Callable[[bytes], Fields | None]
    _room: int
    _low: int
    _stream_low: int

    def _whole(self, data: bytes, start: int, stop: int, stream_id: int) -> int:
        """Take the response that begins with the header block `data[start:stop]` at one go; return what follows it.

        Only where it is as nearly all are: head, message and trailers a frame each and all here. Otherwise nothing is
        taken and 0 returned: whatever this takes, the methods below would take alike, in three times the time.
        """
        message, end = stop + FRAME_AND_PREFIX.size, len(data)
        if message > end:
            return 0
        word, flags, data_id, compressed, wanted = FRAME_AND_PREFIX.unpack_from(data, stop)
        size, trailer = wanted + PREFIX.size, message + wanted
        block = trailer + HEADER_BYTES
        if word != size << 8 | DATA or flags or compressed or data_id != stream_id or block > end:
            return 0
        word, flags, trailer_id = FRAME.unpack_from(data, trailer)
        after: int = block + (word >> 8)
        if word & 0xFF != HEADERS or flags != LAST_HEADERS or trailer_id != stream_id or after > end:
            return 0
        stream, last = self._streams.get(stream_id), self._known(data[block:after])
        if stream is None or last is None or not self._plain(stream, self._known(data[start:stop]), last, size):
            return 0
        self._room -= size
        stream.first_byte = self._at
        self._finish(stream, OK, last.message, data[message:trailer])
        return after

    def _plain(self, stream: Stream, head: Fields | None, last: Fields, size: int) -> bool:
        """Say whether a whole response, `size` bytes of data, needs no more than to be handed on."""
        if head is None or head.role is not GRPC or last.grpc != OK or not last.trailers:
            return False
        if stream.first_byte or stream.message is not None:
            return False
        return (
            size <= self._response_bytes
            and size <= self._frame_size
            and size <= self._room - self._low
            and size <= stream.room - self._stream_low
        )

    def _headers(self, stream: Stream, fields: Fields, ends: int) -> None:
        """Take a whole header block."""
        if stream.state == HEADERS_DUE:
            if not stream.first_byte:
                stream.first_byte = self._at
            if fields.role is GRPC and not ends:
                stream.state = READING
            else:
                self._odd_headers(stream, fields, ends)
        elif ends and fields.trailers:
            self._trailers(stream, fields)
        else:
            self._malformed(stream, "header fields where trailers are due")

    def _odd_headers(self, stream: Stream, fields: Fields, ends: int) -> None:
        """Take a first header block that is not simply the head of a gRPC response."""
        if fields.role is Role.MALFORMED:
            self._malformed(stream, "no :status" if fields.trailers else fields.message)
        elif fields.role is Role.INFORMATIONAL:
            if ends:
                self._malformed(stream, f"HTTP status {fields.http} ends the response")
        elif not ends:
            # Its body is no gRPC message. The end may still bring a grpc-status.
            stream.state = FOREIGN
            stream.foreign = fields.http
        elif fields.grpc >= 0:
            self._trailers(stream, fields)
        else:
            self._without_status(stream, fields.http)

    def _trailers(self, stream: Stream, fields: Fields) -> None:
        status = fields.grpc
        if status < 0:
            self._without_status(stream, stream.foreign)
        elif status != OK:
            self._finish(stream, status, fields.message)
        elif stream.got != stream.wanted:
            words = "no message" if stream.wanted < 0 else f"{stream.got} of {stream.wanted} bytes of the message"
            self._finish(stream, INTERNAL, f"status OK after {words}")
        else:
            parts = stream.parts
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._finish(stream, OK, fields.message, body if type(body) is bytes else bytes(body))

    def _without_status(self, stream: Stream, http: int) -> None:
        words = f"the response ended without grpc-status, HTTP status {http or 200}"
        self._finish(stream, status_of_http(http), words)

    def _data_ends(self, stream: Stream) -> None:
        """Take END_STREAM on a DATA frame."""
        if stream.state == HEADERS_DUE:
            self._malformed(stream, "data before headers")
        elif stream.state != CLOSED:
            self._without_status(stream, stream.foreign)

    def _body(self, stream: Stream, data: bytes, start: int, stop: int) -> None:
        """Take the piece `data[start:stop]`, not empty, of a stream's data."""
        if stream.state != READING:
            if stream.state == HEADERS_DUE:
                stream.first_byte = self._at
                self._malformed(stream, "data before headers")
            return
        if stream.wanted < 0:
            start = self._prefix(stream, data, start, stop)
            if start < 0:
                return
        size = stop - start
        stream.got += size
        if stream.got > stream.wanted:
            self._fail(stream, ErrorCode.CANCEL, INTERNAL, "more than one message")
        elif size == stream.wanted:
            stream.parts.append(data[start:stop])
        elif size:
            self._keep_piece(stream.parts, data, start, stop)

    def _prefix(self, stream: Stream, data: bytes, start: int, stop: int) -> int:
        """Read the five bytes before the message; return where it begins, -1 if it does not begin here."""
        if stream.head or stop - start < PREFIX.size:
            missing = PREFIX.size - len(stream.head)
            stream.head += data[start : min(stop, start + missing)]
            if len(stream.head) < PREFIX.size:
                return -1
            compressed, wanted = PREFIX.unpack(stream.head)
            start += missing
        else:
            compressed, wanted = PREFIX.unpack_from(data, start)
            start += PREFIX.size
        if compressed:
            self._fail(stream, ErrorCode.CANCEL, INTERNAL, "the message is compressed: we asked for none of that")
            return -1
        if wanted > self._response_bytes:
            words = f"a message of {wanted} bytes, more than the {self._response_bytes} we take"
            self._fail(stream, ErrorCode.CANCEL, RESOURCE_EXHAUSTED, words)
            return -1
        stream.wanted = wanted
        return start

    def _keep_piece(self, parts: list[bytes | bytearray | memoryview], data: bytes, start: int, stop: int) -> None:
        size = stop - start
        if size >= VIEW_BYTES and 2 * size >= len(data):
            parts.append(memoryview(data)[start:stop])
        elif parts and type(parts[-1]) is bytearray:
            # Many small pieces in one buffer: an object for each could take many times their size.
            parts[-1] += data[start:stop]
        else:
            parts.append(bytearray(data[start:stop]))

    def _malformed(self, stream: Stream, words: str) -> None:
        self._fail(stream, ErrorCode.PROTOCOL_ERROR, INTERNAL, f"malformed response: {words}")

    def _fail(self, stream: Stream, code: int, status: int, words: str) -> None:
        """End a stream for the server's fault, or a limit of ours, and tell the server."""
        self._answers.append(Answer(stream.id, status, words, b"", stream.first_byte, retriable=False))
        self._retire(stream, code)

    def _finish(self, stream: Stream, status: int, message: str, body: bytes = b"") -> None:
        """End a stream whose response is whole; a request that is not all sent is broken off."""
        self._answers.append(Answer(stream.id, status, message, body, stream.first_byte, retriable=False))
        if stream.message is None:
            del self._streams[stream.id]
            stream.state = CLOSED
        else:
            self._retire(stream, ErrorCode.NO_ERROR)
