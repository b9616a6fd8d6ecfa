"""Readings of this machine on a clock of their own, beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from loadgen import clock
from loadgen.rundir import Sample

Read = Callable[[int], list[Sample]]
"""Reads figures at a time; it may take its time, and is called by one thread only."""


class Sampler:
    """Reads again and again in a thread of its own, so that the event loop is not held."""

    def __init__(self, read: Read, interval_ms: int, on_samples: Callable[[list[Sample]], None]) -> None:
        self._read = read
        self._interval_ns = interval_ms * clock.NS_PER_MS
        self._on_samples = on_samples
        self._thread = ThreadPoolExecutor(1, "sampler")
        self.has_read = False
        """Whether there was ever a reading."""

    async def run(self) -> None:
        """Read until cancelled, once an interval from the start; late readings are not made up for."""
        due_ns = clock.now_ns()
        while True:
            await self.once()
            due_ns += self._interval_ns * max(1, -(-(clock.now_ns() - due_ns) // self._interval_ns))
            await clock.sleep_ns(due_ns - clock.now_ns())

    async def once(self) -> None:
        """Read now."""
        loop = asyncio.get_running_loop()
        samples = await loop.run_in_executor(self._thread, lambda: self._read(clock.now_ns()))
        self.has_read = True
        self._on_samples(samples)

    def close(self) -> None:
        """End the thread, once the reading it may be at is over."""
        self._thread.shutdown()
