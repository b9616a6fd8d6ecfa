"""HTTP/2's numbers (RFC 9113): frames, flags, settings, errors, and how its failures read as gRPC statuses."""

import struct
from enum import IntEnum

import msgspec

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frame types and flags are plain integers: they are compared for every frame, and an enum's member costs a look-up.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = range(1, 5)
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6

HEADER_BYTES = 9
TYPE = 3
"""Where a frame's header has its type."""

MAX_STREAM_ID = 2**31 - 1
MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
SMALLEST_MAX_FRAME = 2**14
LARGEST_MAX_FRAME = 2**24 - 1

FRAME = struct.Struct(">IBI")
"""A frame's header: its length shifted by eight over its type, flags, stream."""
WORD = struct.Struct(">I")
SETTING = struct.Struct(">HI")
GOODBYE = struct.Struct(">II")
PREFIX = struct.Struct(">BI")
"""What stands before a gRPC message: whether it is compressed, its length."""
FRAME_AND_PREFIX = struct.Struct(">IBIBI")

OK, CANCELLED, UNKNOWN = 0, 1, 2
PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 7, 8, 12, 13, 14
UNAUTHENTICATED = 16


class ErrorCode(IntEnum):
    """Why a stream or a connection ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Answer(msgspec.Struct, frozen=True, gc=False):
    """How one request ended.

    `status` is a gRPC status (0 is OK) and `message` its words; `body` the message, empty unless `status` is OK;
    `first_byte` the time given to the `receive` in which the response began, 0 where it never did. `retriable` is
    true only where the server cannot have worked on the request.
    """

    stream: int
    status: int
    message: str
    body: bytes
    first_byte: int
    retriable: bool


class Http2Error(Exception):
    """The server broke the protocol: the connection is dead.

    `answers` were complete before the fault; the streams still open are told by `Connection.close`.
    """

    def __init__(self, code: ErrorCode, words: str) -> None:
        super().__init__(f"{words} ({code.name})")
        self.code = code
        self.answers: list[Answer] = []


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return FRAME.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings_frame(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*item) for item in values.items()))


def reset_frame(stream_id: int, code: int) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, WORD.pack(code))


def window_frame(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, WORD.pack(increment))


def code_name(code: int) -> str:
    """Return an error code in words, also one that no standard names."""
    return ErrorCode(code).name if code <= max(ErrorCode) else f"error {code}"


def status_of_reset(code: int) -> int:
    """Return the gRPC status that a RST_STREAM stands for, after gRPC's PROTOCOL-HTTP2."""
    return RESET_STATUSES.get(code, INTERNAL if code < ErrorCode.STREAM_CLOSED else UNKNOWN)


RESET_STATUSES: dict[int, int] = {
    ErrorCode.FRAME_SIZE_ERROR: INTERNAL,
    ErrorCode.REFUSED_STREAM: UNAVAILABLE,
    ErrorCode.CANCEL: CANCELLED,
    ErrorCode.COMPRESSION_ERROR: INTERNAL,
    ErrorCode.CONNECT_ERROR: INTERNAL,
    ErrorCode.ENHANCE_YOUR_CALM: RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: PERMISSION_DENIED,
}


def status_of_http(http: int) -> int:
    """Return the gRPC status of an answer without one, after gRPC's http-grpc-status-mapping."""
    return HTTP_STATUSES.get(http, UNKNOWN)


HTTP_STATUSES = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
