"""How much CPU does the HTTP/2 of one small request cost?

Opens streams, pulls their frames and feeds a canned answer to each (HEADERS, DATA, trailers), as a server sends it
that has no dynamic table: one request at a time, and in batches as a busy connection sees them. No socket, no loop.
The answers of a batch come in one piece. Best of some repeats, in microseconds a request.
"""

import gc
import time

from loadgen.transport.http2 import Connection
from loadgen.transport.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame, settings_frame

REQUESTS = 20_000
REPEATS = 5
SIZES = (1_000, 100_000)
BATCHES = (1, 16)
HEAD = b"\x88\x5f\x10application/grpc"
TRAILERS = b"\x40\x0bgrpc-status\x010\x40\x0cgrpc-message\x00"
SETTINGS_ACK = frame(4, 1, 0)


def canned(stream_id: int, body: bytes) -> bytes:
    """Return a whole response."""
    message = b"\x00" + len(body).to_bytes(4) + body
    return (
        frame(HEADERS, END_HEADERS, stream_id, HEAD)
        + frame(DATA, 0, stream_id, message)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream_id, TRAILERS)
    )


def cost_us(size: int, batch: int, requests: int) -> float:
    """Return the CPU of a request and an answer of `size` and 200 bytes, when `batch` of them go together."""
    connection = Connection("host:1", "/service/Method")
    connection.pull()
    connection.receive(settings_frame({5: 2**20, 4: 2**31 - 1}) + SETTINGS_ACK, 1)
    # The connection's window is not what is timed here.
    connection._window = 2**50  # noqa: SLF001
    answers = [
        b"".join(canned(1 + 2 * number, b"a" * 200) for number in range(first, first + batch))
        for first in range(0, requests, batch)
    ]
    message = b"r" * size
    begun = time.process_time_ns()
    for answer in answers:
        for _ in range(batch):
            connection.open_stream(message, b"300S")
        connection.pull(1 << 30)
        assert len(connection.receive(answer, 1)) == batch
    return (time.process_time_ns() - begun) / requests / 1000


def main() -> None:
    """Print one line for each size and batch."""
    gc.freeze()
    for size in SIZES:
        for batch in BATCHES:
            best = min(cost_us(size, batch, REQUESTS) for _ in range(REPEATS))
            print(f"request of {size:>7} bytes, {batch:>2} together: {best:.2f} us of CPU")


if __name__ == "__main__":
    main()
