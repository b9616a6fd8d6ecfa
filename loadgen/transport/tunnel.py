"""A TCP connection through an HTTP proxy: CONNECT (RFC 9110, section 9.3.6)."""

import asyncio
import socket

from loadgen.proxies import Proxy

HEAD_LIMIT_BYTES = 16 << 10


async def opened(proxy: Proxy, host: str, port: int) -> socket.socket:
    """Return a connected socket whose other end is HOST:PORT, as far as the proxy is to be believed.

    Raises:
        OSError: the proxy cannot be reached, or refuses; its words are in the message.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    connection = socket.socket(family, kind, protocol)
    connection.setblocking(False)  # noqa: FBT003 - its only argument
    try:
        await loop.sock_connect(connection, address)
        await loop.sock_sendall(connection, _request(proxy, host, port))
        _check(proxy, await _head(loop, connection))
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError) and proxy.address not in str(error):
            raise OSError(f"the proxy {proxy.address}: {error.strerror or error}") from error
        raise
    return connection


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    known = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{known}\r\n".encode()


async def _head(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    """Read to the empty line and not a byte further: what follows is the server's."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n") and len(head) < HEAD_LIMIT_BYTES:
        byte = await loop.sock_recv(connection, 1)
        if not byte:
            break
        head += byte
    return bytes(head)


def _check(proxy: Proxy, head: bytes) -> None:
    line = head.partition(b"\r\n")[0].decode(errors="replace")
    version, _, status = line.partition(" ")
    if not (version.startswith("HTTP/1.") and status.startswith("2") and head.endswith(b"\r\n\r\n")):
        raise OSError(f"the proxy {proxy.address} does not connect: {line or 'it hung up'}")
