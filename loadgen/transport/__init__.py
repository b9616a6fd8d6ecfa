"""What carries a request: a Protocol, so that the loop that drives the load knows no network."""

from collections.abc import Callable
from typing import Protocol

from loadgen.records import Reply


class Transport(Protocol):
    """Sends serialised requests over connections it keeps."""

    def longest_ns(self) -> int:
        """Return the longest time that a callback kept the event loop since this was last asked; huge if unknown."""

    async def open(self) -> None:
        """Connect, as far as that can be done before the first request; a failure shows in the replies."""

    def send(self, body: bytes | memoryview, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        """Send `body` at once; call `on_reply` where the reply is seen, never before `send` returns.

        `deadline_ns` is how long to wait for the answer, from now. A failure is a Reply, never an exception.
        """

    async def close(self) -> None:
        """Abandon what is in flight, without a reply, and close every connection."""
