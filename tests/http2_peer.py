"""What a server says to `loadgen.transport.http2`, frame by frame, and what it hears."""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from loadgen.transport.http2 import Answer, Connection
from loadgen.transport.http2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    GOAWAY,
    HEADER_BYTES,
    HEADERS,
    PREFACE,
    PREFIX,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings_frame,
)

HEAD = b"\x88\x5f\x10application/grpc"
"""Block of :status 200 and the content type, both without the dynamic table."""
AT = 77
SETTINGS_ACK = frame(SETTINGS, ACK, 0)


class Heard(NamedTuple):
    """A frame that the client sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def word(self) -> int:
        """The payload's last four bytes as a number: an error code, an increment."""
        return int.from_bytes(self.payload[-4:])


def literal(name: bytes, value: bytes) -> bytes:
    """Return a field of a header block, neither indexed nor compressed."""
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def trailers(status: int = 0, message: bytes = b"") -> bytes:
    """Return the block of grpc-status and, where there is one, grpc-message."""
    block = literal(b"grpc-status", b"%d" % status)
    return block + literal(b"grpc-message", message) if message else block


def message(body: bytes) -> bytes:
    """Return `body` as a gRPC message."""
    return PREFIX.pack(0, len(body)) + body


def head(stream: int, block: bytes = HEAD) -> bytes:
    """Return HEADERS that open a response."""
    return frame(HEADERS, END_HEADERS, stream, block)


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """Return a DATA frame."""
    return frame(DATA, flags, stream, payload)


def tail(stream: int, status: int = 0, words: bytes = b"") -> bytes:
    """Return HEADERS that end a response."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers(status, words))


def refusal(stream: int, status: int, words: bytes = b"") -> bytes:
    """Return the one HEADERS of a response that is trailers only."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD + trailers(status, words))


def response(stream: int, body: bytes) -> bytes:
    """Return a whole response of status OK."""
    return head(stream) + data(stream, message(body)) + tail(stream)


def reset(stream: int, code: int) -> bytes:
    """Return RST_STREAM."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window(stream: int, increment: int) -> bytes:
    """Return WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def goaway(last: int, code: int = 0, words: bytes = b"") -> bytes:
    """Return GOAWAY."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + words)


def heard(sent: bytes) -> list[Heard]:
    """Return the frames of what the client sent, without the preface."""
    sent = sent.removeprefix(PREFACE)
    frames, pos = [], 0
    while pos < len(sent):
        word, flags, stream = FRAME.unpack_from(sent, pos)
        pos += HEADER_BYTES
        frames.append(Heard(word & 0xFF, flags, stream, sent[pos : pos + (word >> 8)]))
        assert pos + (word >> 8) <= len(sent), "a frame is cut off"
        pos += word >> 8
    return frames


def pulled(client: Connection, limit: int = 1 << 30) -> list[Heard]:
    """Return the frames of one pull."""
    return heard(b"".join(client.pull(limit)[0]))


def greeted(settings: dict[int, int] | None = None, bodies: Sequence[bytes] = (), **options: Any) -> Connection:
    """Return a client whose settings are acknowledged, which knows the server's, with requests that were pulled."""
    client = Connection("host:8001", "/s/M", **options)
    assert client.receive(settings_frame(settings or {}) + SETTINGS_ACK, AT) == []
    for body in bodies:
        client.open_stream(body)
    client.pull(1 << 30)
    return client


def only(answers: list[Answer]) -> Answer:
    """Return the one answer there is."""
    assert len(answers) == 1
    return answers[0]


def sent_body(frames: list[Heard], stream: int) -> bytes:
    """Return what DATA a stream has carried."""
    return b"".join(each.payload for each in frames if each.kind == DATA and each.stream == stream)
