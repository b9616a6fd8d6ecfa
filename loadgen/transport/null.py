"""The transport without a network: answers every request after a set time of the event loop's clock."""

import asyncio
from collections.abc import Callable

from loadgen import clock
from loadgen.records import Outcome, Reply


class NullTransport:
    """Answers each request `service_ns(k)` nanoseconds after the k-th send with `outcome(k)`."""

    def __init__(
        self,
        now_ns: Callable[[], int],
        service_ns: Callable[[int], int],
        outcome: Callable[[int], Outcome] = lambda _: Outcome.OK,
    ) -> None:
        self._now_ns = now_ns
        self._service_ns = service_ns
        self._outcome = outcome
        self._timers: set[asyncio.TimerHandle] = set()
        self.sent = 0
        self.in_flight = 0

    def longest_ns(self) -> int:
        """Have no callback worth the name."""
        return 0

    async def open(self) -> None:
        """Have nothing to connect."""

    def send(self, body: bytes | memoryview, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        """Arrange the reply; see `Transport.send`."""
        number, self.sent, self.in_flight = self.sent, self.sent + 1, self.in_flight + 1

        def answer() -> None:
            self.in_flight -= 1
            self._timers.discard(timer)
            on_reply(Reply(self._outcome(number), self._now_ns(), response=b"null"))

        delay_s = self._service_ns(number) / clock.NS_PER_S
        timer = asyncio.get_running_loop().call_later(delay_s, answer)
        self._timers.add(timer)

    async def close(self) -> None:
        """Forget what is in flight."""
        for timer in self._timers:
            timer.cancel()
