"""Headers that come from files or commands, read again while a run lasts, so that a token may expire in its midst."""

import asyncio
from collections.abc import Callable

from loadgen import clock, endpoint
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError

Metadata = tuple[tuple[str, str], ...]


class Renewal:
    """Tells of other headers until it is stopped; of nothing where no header can change."""

    def __init__(self, target: Endpoint, on_metadata: Callable[[Metadata], None]) -> None:
        self._target = target
        self._on_metadata = on_metadata
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a running event loop."""
        if endpoint.changing(self._target):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        known: Metadata | None = None
        while True:
            await clock.sleep_ns(round(self._target.header_refresh_s * clock.NS_PER_S))
            try:
                found = await asyncio.to_thread(endpoint.metadata, self._target)
            except PlanError:
                continue  # what was last known may still be good; if not, the server's refusals are in the rows
            if found != known:
                known = found
                self._on_metadata(found)
