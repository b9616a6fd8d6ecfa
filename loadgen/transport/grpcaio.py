"""The transport over grpcio's asyncio client: raw bytes out, raw bytes in, a channel a connection."""

import asyncio
from collections.abc import Callable

import grpc

from loadgen import clock, endpoint
from loadgen.endpoint import Endpoint
from loadgen.kserve import SERVICE
from loadgen.records import GRPC_OUTCOME_BASE, Outcome, Reply
from loadgen.transport.channel import channel


class GrpcAioTransport:
    """Sends every request as a unary call, on the channel with the fewest in flight."""

    def __init__(self, target: Endpoint, connections: int = 1) -> None:
        self._metadata = endpoint.metadata(target)
        self._channels = [channel(target) for _ in range(connections)]
        # Neither serialiser nor deserialiser: the corpus holds wire bytes, and answers stay bytes.
        self._calls = [each.unary_unary(SERVICE + "ModelInfer") for each in self._channels]
        self._in_flight = [0] * connections
        self._open: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect at the first call, as grpcio does."""

    def send(self, body: bytes | memoryview, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        """Send `body`; see `Transport.send`."""
        task = asyncio.get_running_loop().create_task(self._one(bytes(body), deadline_ns, on_reply))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """Abandon what is in flight and close the channels."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        for each in self._channels:
            await each.close()

    async def _one(self, body: bytes, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        give_up_ns = clock.now_ns() + deadline_ns
        connection = self._in_flight.index(min(self._in_flight))
        self._in_flight[connection] += 1
        try:
            call = self._calls[connection](body, timeout=deadline_ns / clock.NS_PER_S, metadata=self._metadata)
            response = await call
            done_ns = clock.now_ns()
        except grpc.aio.AioRpcError as error:
            reply = _failure(error, clock.now_ns(), give_up_ns)
        else:
            reply = Reply(Outcome.OK, done_ns, response=response)
        finally:
            self._in_flight[connection] -= 1
        on_reply(reply._replace(connection=connection))


def _failure(error: grpc.aio.AioRpcError, done_ns: int, give_up_ns: int) -> Reply:
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and done_ns >= give_up_ns:
        return Reply(Outcome.TIMEOUT, done_ns, details="no answer within the deadline")
    return Reply(Outcome(GRPC_OUTCOME_BASE + code.value[0]), done_ns, details=error.details() or "")
