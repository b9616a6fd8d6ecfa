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


async def sleep_until_ns(at_ns: int, spin_ns: int = 0) -> None:
    """Wait on the event loop until `at_ns`; the last `spin_ns` turn the loop without waiting."""
    await sleep_ns(at_ns - spin_ns - now_ns())
    while now_ns() < at_ns:  # noqa: ASYNC110 - a timer would wake too late
        await asyncio.sleep(0)
