"""An HTTP proxy of the tests: it really connects, always to this host whatever the name; or refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Asked:
    """Where the proxy is, and the first lines and headers of what it was asked."""

    port: int = 0
    heads: list[str] = field(default_factory=list)


@asynccontextmanager
async def connect_proxy(status: str = "200 Connection established") -> AsyncIterator[Asked]:
    """Serve it on a free port of this host; any status but 2xx is a refusal."""
    asked, going = Asked(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        going.add(task)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_closed, writer)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.heads.append(head)
            method, target, _ = head.split("\r\n", 1)[0].split()
            if method == "CONNECT" or not status.startswith("2"):
                writer.write(f"HTTP/1.1 {status}\r\nVia: test\r\n\r\n".encode())
            if not status.startswith("2"):
                return
            port = int(target.rpartition(":")[2] if method == "CONNECT" else urlsplit(target).port or 80)
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            stack.push_async_callback(_closed, server_writer)
            if method != "CONNECT":
                server_writer.write(head.replace(target, urlsplit(target).path, 1).encode())
            await asyncio.gather(_pipe(reader, server_writer), _pipe(server_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        asked.port = server.sockets[0].getsockname()[1]
        try:
            yield asked
        finally:
            for task in going:
                task.cancel()
            await asyncio.gather(*going, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
