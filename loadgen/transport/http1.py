"""The transport over HTTP/1.1, by aiohttp: a connection for each request in flight, kept for the next.

Requests are those of `loadgen.kserve_http`. Triton's HTTP endpoint answers a request once, so a decoupled model
cannot be driven here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import aiohttp
import msgspec

from loadgen import clock, kserve_http, proxies
from loadgen import endpoint as endpoints
from loadgen.endpoint import Endpoint
from loadgen.records import Outcome, Reply

UNKNOWN_NS = 1 << 62
CHUNK_BYTES = 1 << 19
STATUSES: dict[int, Outcome] = {
    HTTPStatus.BAD_REQUEST: Outcome.HTTP_BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: Outcome.HTTP_UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: Outcome.HTTP_FORBIDDEN,
    HTTPStatus.NOT_FOUND: Outcome.HTTP_NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Outcome.HTTP_CONTENT_TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS: Outcome.HTTP_TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR: Outcome.HTTP_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE: Outcome.HTTP_SERVICE_UNAVAILABLE,
}


def session(target: Endpoint) -> aiohttp.ClientSession:
    """Return a session of an endpoint: its TLS and headers, no limit of connections, no deadline.

    Raises:
        PlanError: a file of `tls` is missing or wrong.
    """
    context = endpoints.ssl_context(target.tls, http2=False) if target.tls else None
    connector = aiohttp.TCPConnector(limit=0, **({"ssl": context} if context else {}))  # type: ignore[arg-type]
    return aiohttp.ClientSession(
        connector=connector,
        headers=endpoints.opened(target.headers),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        **proxies.session_options(base_url(target)),  # type: ignore[arg-type]
    )


def base_url(target: Endpoint) -> str:
    """Return the address as a URL, without a slash at its end."""
    return f"{'https' if target.tls else 'http'}://{target.http}"


def model_path(model: str, version: str) -> str:
    """Return the path of a model, or of a version of it."""
    return f"/v2/models/{model}" + (f"/versions/{version}" if version else "")


class HttpTransport:
    """Sends every request as a POST of its own."""

    def __init__(self, target: Endpoint) -> None:
        self._target = target
        self._url = base_url(target) + model_path(target.model, target.version) + "/infer"
        self._name = target.tls.server_name if target.tls and target.tls.server_name else None
        self._open: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession

    def longest_ns(self) -> int:
        """Not know: the callbacks are aiohttp's."""
        return UNKNOWN_NS

    async def open(self) -> None:
        """Connect at the first request, as aiohttp does."""
        self._session = session(self._target)

    def send(self, body: bytes | memoryview, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        """Send `body`; see `Transport.send`."""
        task = asyncio.get_running_loop().create_task(self._one(body, deadline_ns, on_reply))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """Abandon what is in flight and close every connection."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._session.close()

    async def _one(self, body: bytes | memoryview, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        try:
            async with asyncio.timeout(deadline_ns / clock.NS_PER_S):
                reply = await self._ask(body)
        except TimeoutError:
            reply = Reply(Outcome.TIMEOUT, clock.now_ns(), details="no answer within the deadline")
        except (aiohttp.ClientError, OSError) as error:
            reply = Reply(Outcome.LOST, clock.now_ns(), details=f"the connection was lost: {error}")
        on_reply(reply)

    async def _ask(self, body: bytes | memoryview) -> Reply:
        headers = {
            kserve_http.HEAD_LENGTH: str(kserve_http.head_bytes(body)),
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(body)),
        }
        flushed: list[int] = []
        content = bytes(body) if len(body) <= CHUNK_BYTES else _pieces(body, flushed)
        async with self._session.post(self._url, data=content, headers=headers, server_hostname=self._name) as got:
            first_ns = clock.now_ns()
            answer = await got.read()
            done_ns = clock.now_ns()
        at_ns = flushed[0] if flushed else 0
        if got.status == HTTPStatus.OK:
            return Reply(Outcome.OK, done_ns, at_ns, first_ns, answer)
        outcome = STATUSES.get(got.status, Outcome.HTTP_OTHER)
        return Reply(outcome, done_ns, at_ns, first_ns, b"", refusal_words(got.status, answer))


async def _pieces(body: bytes | memoryview, flushed: list[int]) -> AsyncIterator[memoryview]:
    """Yield a large body in parts, so that replies do not wait while it is copied; then say when it was out."""
    view = memoryview(body)
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]
    flushed.append(clock.now_ns())


def refusal_words(status: int, answer: bytes) -> str:
    """Return a server's own words about a request it did not serve."""
    try:
        said = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = answer.decode(errors="replace")
    words = said.get("error", "") if isinstance(said, dict) else str(said)
    return f"HTTP {status}: {' '.join(str(words).split())}" if words else f"HTTP {status}"
