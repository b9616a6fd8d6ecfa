"""A gRPC server over the h2 library, which does to its clients what a test tells it to."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PingReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

HEAD = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0")]
OPENING = 65535


@dataclass(slots=True)
class Call:
    """One request as the server saw it."""

    stream: int
    headers: dict[str, str]
    body: bytes
    line: "Line"


@dataclass(slots=True)
class Server:
    """A server that is up, and what it has seen; `answer` is called with every whole request."""

    answer: Callable[[Call], None]
    settings: dict[SettingCodes, int] = field(default_factory=dict)
    address: str = ""
    lines: list["Line"] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    pings: int = 0
    most_open: int = 0
    listener: asyncio.Server | None = None


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.transport: Any = None
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.unsent: dict[int, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = transport
        self.server.lines.append(self)
        self.http2.local_settings = Settings(client=False, initial_values=self.server.settings)
        self.http2.max_inbound_frame_size = self.http2.local_settings.max_frame_size
        self.http2.initiate_connection()
        self.write()

    def write(self) -> None:
        """Send what h2 has to say."""
        self.transport.write(self.http2.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Take requests."""
        try:
            events = self.http2.receive_data(data)
        except ProtocolError:
            self.write()
            raise
        for event in events:
            match event:
                case RequestReceived():
                    self.headers[event.stream_id] = {str(name): str(value) for name, value in event.headers}
                    self.bodies[event.stream_id] = bytearray()
                    self.server.most_open = max(self.server.most_open, self.http2.open_inbound_streams)
                case DataReceived():
                    self.bodies[event.stream_id] += event.data
                    self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamEnded():
                    body = bytes(self.bodies.pop(event.stream_id))
                    call = Call(event.stream_id, self.headers[event.stream_id], body[5:], self)
                    self.server.calls.append(call)
                    self.server.answer(call)
                case StreamReset():
                    self.server.resets.append(event.error_code)
                case PingReceived():
                    self.server.pings += 1  # h2 answers it
        self.write()

    def reply(self, stream: int, message: bytes, trailers: list[tuple[str, str]] | None = None) -> None:
        """Answer a call with a message and trailers; small messages only."""
        self.http2.send_headers(stream, HEAD)
        self.http2.send_data(stream, struct.pack(">BI", 0, len(message)) + message)
        self.http2.send_headers(stream, trailers or OK, end_stream=True)
        self.write()


def digest(call: Call) -> None:
    """Answer with the length of the request and its first and last bytes."""
    call.line.reply(call.stream, struct.pack(">I", len(call.body)) + call.body[:4] + call.body[-4:])


def hang(call: Call) -> None:
    """Never answer."""


@asynccontextmanager
async def serving(
    answer: Callable[[Call], None] = digest,
    settings: dict[SettingCodes, int] | None = None,
    context: ssl.SSLContext | None = None,
    port: int = 0,
    unix: Path | None = None,
) -> AsyncIterator[Server]:
    """Serve until the context is left."""
    server = Server(answer, settings or {})
    loop = asyncio.get_running_loop()
    if unix is not None:
        server.listener = await loop.create_unix_server(lambda: Line(server), unix, ssl=context)
        server.address = f"unix:{unix}"
    else:
        server.listener = await loop.create_server(lambda: Line(server), "127.0.0.1", port, ssl=context)
        server.address = f"127.0.0.1:{server.listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        server.listener.close()
        for line in server.lines:
            line.transport.abort()
