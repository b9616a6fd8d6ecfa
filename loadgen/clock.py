"""The only reader of time: integer nanoseconds of a clock that never steps back."""

import asyncio
import time

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


def now_ns() -> int:
    """Return CLOCK_MONOTONIC in nanoseconds: comparable between processes of one host."""
    return time.monotonic_ns()


def utc_ns() -> int:
    """Return wall-clock nanoseconds since 1970, for anchors and names only, never for durations."""
    return time.time_ns()


def thread_cpu_ns() -> int:
    """Return the processor time that this thread has used."""
    return time.thread_time_ns()


async def sleep_ns(duration_ns: int) -> None:
    """Wait on the event loop for at least `duration_ns` nanoseconds."""
    await asyncio.sleep(max(0, duration_ns) / NS_PER_S)
