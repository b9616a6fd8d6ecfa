"""One request, one row: 80 bytes of little-endian integers, in the journal and in Parquet.

A row is born when the request is due, with outcome `open_at_end`, and completed when its reply is seen; so a
process that is killed leaves what was in flight as exactly that. All times are monotonic nanoseconds; 0 stands
for "never happened" in the journal and becomes null in Parquet.
"""

from enum import IntEnum

import msgspec
import numpy as np
import numpy.typing as npt


class Outcome(IntEnum):
    """How a request ended; `NOT_BORN` is what an unused journal slot reads as."""

    NOT_BORN = 0
    OPEN_AT_END = 1
    OK = 2
    TIMEOUT = 3
    LOST = 4
    UNSENT = 5
    WRONG_ANSWER = 6
    NOT_PROCESSED = 7
    """Refused before the server looked at it: safe to send again."""

    GRPC_CANCELLED = 33
    GRPC_UNKNOWN = 34
    GRPC_INVALID_ARGUMENT = 35
    GRPC_DEADLINE_EXCEEDED = 36
    GRPC_NOT_FOUND = 37
    GRPC_ALREADY_EXISTS = 38
    GRPC_PERMISSION_DENIED = 39
    GRPC_RESOURCE_EXHAUSTED = 40
    GRPC_FAILED_PRECONDITION = 41
    GRPC_ABORTED = 42
    GRPC_OUT_OF_RANGE = 43
    GRPC_UNIMPLEMENTED = 44
    GRPC_INTERNAL = 45
    GRPC_UNAVAILABLE = 46
    GRPC_DATA_LOSS = 47
    GRPC_UNAUTHENTICATED = 48
    HTTP_BAD_REQUEST = 64
    HTTP_UNAUTHORIZED = 65
    HTTP_FORBIDDEN = 66
    HTTP_NOT_FOUND = 67
    HTTP_CONTENT_TOO_LARGE = 68
    HTTP_TOO_MANY_REQUESTS = 69
    HTTP_SERVER_ERROR = 70
    HTTP_SERVICE_UNAVAILABLE = 71
    HTTP_OTHER = 72

    @property
    def label(self) -> str:
        """Return the name used in tables: lower case, as `ok` or `grpc_unavailable`."""
        return self.name.lower()


GRPC_OUTCOME_BASE = 32
PROBE_POINT = 0
"""Point number of the one request sent before the sweep; measured points count from 1."""

ROW_FORMAT = "<IHHQIBBHqqqqqQQ"
"""`struct` format of a row, field for field as `ROW`."""

ROW = np.dtype(
    [
        ("point", "<u4"),
        ("worker", "<u2"),
        ("connection", "<u2"),
        ("seq", "<u8"),
        ("body", "<u4"),
        ("outcome", "u1"),
        ("reserved", "u1"),
        ("responses", "<u2"),
        ("due_ns", "<i8"),
        ("sent_ns", "<i8"),
        ("flushed_ns", "<i8"),
        ("first_byte_ns", "<i8"),
        ("done_ns", "<i8"),
        ("request_bytes", "<u8"),
        ("response_bytes", "<u8"),
    ]
)
Rows = npt.NDArray[np.void]
"""Structured array of dtype `ROW`."""

OUTCOME_OFFSET = 20
TIMES = ("due_ns", "sent_ns", "flushed_ns", "first_byte_ns", "done_ns")


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What became of one request; a time is 0 where it never happened or the transport cannot see it."""

    outcome: Outcome
    done_ns: int
    flushed_ns: int = 0
    first_byte_ns: int = 0
    response: bytes = b""
    details: str = ""
    connection: int = 0
    responses: int = 1
    """How many answers there were; `response` is the first."""

    response_bytes: int = 0
    """Size of all of them, where there was more than one."""
