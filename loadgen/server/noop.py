"""A gRPC server that answers every unary call at once with the same bytes: the ceiling that calibration runs against.

It knows no method and no message and reads no header: a stream that ends is answered. Bytes of requests are skipped,
not kept. Real clients of HTTP/2 may call it; it sends so little that it minds no window of theirs.
"""

import argparse
import asyncio
import importlib
import json
import signal
import struct
from typing import cast

HOST = "127.0.0.1"
PREFACE_BYTES = 24
HEADER = struct.Struct(">IBI")
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK = END_STREAM = 1
END_HEADERS = 4
WINDOW = 2**31 - 1
WINDOW_LOW = 2**30
DEFAULT_WINDOW = 65535
HEAD = b"\x88" + b"\x0f\x10\x10application/grpc"
TRAILERS = b"\x00\x0bgrpc-status\x010"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


GREETING = frame(SETTINGS, 0, 0, struct.pack(">HIHI", 4, WINDOW, 5, 1 << 20)) + frame(
    WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW - DEFAULT_WINDOW)
)


class Noop(asyncio.Protocol):
    """One connection."""

    def __init__(self, response: bytes) -> None:
        body = b"\0" + struct.pack(">I", len(response)) + response
        # Only the stream's number, in three places, differs from answer to answer.
        self._before = HEADER.pack(len(HEAD) << 8 | HEADERS, END_HEADERS, 0)[:5]
        self._middle = HEAD + HEADER.pack(len(body) << 8 | DATA, 0, 0)[:5]
        self._after = body + HEADER.pack(len(TRAILERS) << 8 | HEADERS, END_HEADERS | END_STREAM, 0)[:5]
        self._transport: asyncio.Transport
        self._rest = b""
        self._skip = PREFACE_BYTES
        self._ends = 0
        self._room = WINDOW

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Skip what is sent; answer each stream that ends."""
        out: list[bytes] = []
        self._rest, data = b"", self._rest + data if self._rest else data
        at, end = 0, len(data)
        while True:
            step = min(self._skip, end - at)
            self._skip -= step
            at += step
            if self._skip == 0 and self._ends:
                self._answer(out)
            if self._skip or end - at < HEADER.size:
                break
            word, flags, stream = HEADER.unpack_from(data, at)
            kind, size = word & 0xFF, word >> 8
            if kind in {SETTINGS, PING}:
                if end - at - HEADER.size < size:
                    break
                if not flags & ACK:
                    payload = data[at + HEADER.size : at + HEADER.size + size] if kind == PING else b""
                    out.append(frame(kind, ACK, 0, payload))
            at += HEADER.size
            self._skip = size
            self._begin(kind, flags, stream, out)
        self._rest = data[at:]
        if out:
            self._transport.write(b"".join(out))

    def _begin(self, kind: int, flags: int, stream: int, out: list[bytes]) -> None:
        """Note what the frame whose payload comes next will do; its size is what is to be skipped."""
        self._ends = stream if kind in {DATA, HEADERS} and flags & END_STREAM else 0
        if kind == DATA:
            self._room -= self._skip
        if self._room < WINDOW_LOW:
            out.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW - self._room)))
            self._room = WINDOW

    def _answer(self, out: list[bytes]) -> None:
        stream = self._ends.to_bytes(4)
        out += (self._before, stream, self._middle, stream, self._after, stream, TRAILERS)
        self._ends = 0


async def serve(response_bytes: int) -> None:
    """Serve on a free port until SIGTERM; print the address as one JSON line once ready."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: Noop(bytes(response_bytes)), HOST, 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"grpc": f"{HOST}:{port}", "http": "", "metrics_url": None}), flush=True)  # noqa: T201
    await stopped.wait()
    server.close()


def main() -> None:
    """Run the server as a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--response-bytes", type=int, default=64)
    given = parser.parse_args()
    try:
        factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(given.response_bytes))


if __name__ == "__main__":
    main()
