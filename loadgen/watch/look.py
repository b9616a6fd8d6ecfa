"""Looking at servers: each source is asked on its own, so that one that hangs delays no other."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar

import aiohttp  # noqa: TC002 - for its name alone
import grpc

from loadgen import clock, kserve
from loadgen.endpoint import Endpoint
from loadgen.errors import TargetError
from loadgen.server import metrics
from loadgen.server.metrics import Page
from loadgen.server.triton import Triton
from loadgen.watch.reading import Key, Reading, of_page, of_statistics
from loadgen.watch.view import Facts

CONFIGS = 20
"""So many models' configurations are asked for at a time, where a server has hundreds."""

FAILURES = (TargetError, grpc.aio.AioRpcError, OSError, ValueError)


class Source(Protocol):
    """What can be read."""

    calls: int

    async def read(self) -> Reading:
        """Return what is there; a fault is a reading, too."""

    async def renew(self) -> None:
        """Connect afresh, after an answer that did not come."""

    async def close(self) -> None:
        """Let go of connections."""


class PageSource:
    """One metrics page."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session: aiohttp.ClientSession | None = None
        self.calls = 0

    async def read(self) -> Reading:
        """Read the page."""
        self._session = self._session or metrics.session_of(self._page)
        self.calls += 1
        begun_ns = clock.now_ns()
        try:
            samples = await metrics.read(self._session, self._page)
        except FAILURES as error:
            return Reading(clock.now_ns(), str(error))
        # The page was most likely written half-way between asking and its end.
        return of_page(samples, (begun_ns + clock.now_ns()) // 2)

    async def renew(self) -> None:
        """Do nothing: the connection of a request that was given up is closed."""

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()


class GrpcSource:
    """A server's gRPC service: whether it is ready, and the statistics of all its models."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._triton = Triton(endpoint)
        self.calls = 0

    async def read(self) -> Reading:
        """Read readiness and statistics."""
        self.calls += 2
        refusal, found = await asyncio.gather(
            self._triton.refusal(), self._triton.all_statistics(), return_exceptions=True
        )
        at_ns = clock.now_ns()
        for result in (refusal, found):
            if isinstance(result, BaseException) and not isinstance(result, FAILURES):
                raise result
        where = f"{self._endpoint.grpc}: "
        if isinstance(refusal, BaseException) or (refusal is not None and not refusal.answers):
            words = str(refusal) if isinstance(refusal, BaseException) else refusal.text
            await self.renew()
            return Reading(at_ns, words.removeprefix(where))
        if isinstance(found, BaseException):
            words = f"it answers, but gives no statistics ({str(found).removeprefix(where)})"
            return Reading(at_ns, words, ready=refusal is None)
        return of_statistics(found, at_ns, ready=refusal is None)

    async def facts(self, keys: set[Key], known: Facts) -> Facts:
        """Return what changes seldom; what cannot be asked is as it was."""
        self.calls += 2
        was: dict[str, object] = {"name": known.name, "version": known.version}
        server = await _or(self._triton.server_metadata(), was)
        models = await _or(self._triton.models(), [])
        instances: dict[Key, int | None] = dict(known.instances)
        for key in sorted(keys - set(instances))[:CONFIGS]:
            self.calls += 1
            instances[key] = kserve.instances(await _or(self._triton.config_of(*key), {}))
        states = {(name, version): state for name, version, state in models}
        return Facts(str(server.get("name", "")), str(server.get("version", "")), states, instances)

    async def renew(self) -> None:
        """Connect afresh next time: gRPC waits longer and longer before it tries a lost server again."""
        await self._triton.close()
        self._triton = Triton(self._endpoint)

    async def close(self) -> None:
        """Close the channel."""
        await self._triton.close()


Answer = TypeVar("Answer")


async def _or(asked: Awaitable[Answer], otherwise: Answer) -> Answer:
    try:
        return await asked
    except FAILURES:
        return otherwise
