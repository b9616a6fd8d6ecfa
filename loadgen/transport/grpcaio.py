"""The transport over grpcio's asyncio client: raw bytes out, raw bytes in, a channel a connection.

It does what the direct transport does not: compressed messages, and models that answer a request any number of times,
each request a stream of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
from msgspec.structs import replace
from tritonclient.grpc import service_pb2

from loadgen import clock, endpoint
from loadgen.endpoint import Endpoint
from loadgen.kserve import SERVICE
from loadgen.records import GRPC_OUTCOME_BASE, Outcome, Reply
from loadgen.transport.channel import channel
from loadgen.transport.renewal import Renewal

COMPRESSIONS = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
UNKNOWN_NS = 1 << 62

Ask = Callable[[bytes, float], Awaitable[Reply]]
"""Sends a message, with how many seconds the answer may take, and returns what came of it."""


class GrpcAioTransport:
    """Sends every request as a call of its own, on the channel with the fewest in flight.

    `in_streams`: by ModelStreamInfer, one message a stream; the request is done when its stream has ended.
    """

    def __init__(
        self, target: Endpoint, connections: int = 1, compression: str = "none", *, in_streams: bool = False
    ) -> None:
        options: dict[str, object] = {"metadata": endpoint.metadata(target), "compression": COMPRESSIONS[compression]}
        self._renewal = Renewal(target, lambda metadata: options.update(metadata=metadata))
        self._channels = [channel(target) for _ in range(connections)]
        kind = _streamed if in_streams else _unary
        self._asks = [kind(each, options) for each in self._channels]
        self._in_flight = [0] * connections
        self._open: set[asyncio.Task[None]] = set()

    def longest_ns(self) -> int:
        """Not know: the callbacks are grpcio's."""
        return UNKNOWN_NS

    async def open(self) -> None:
        """Connect at the first call, as grpcio does."""
        self._renewal.start()

    def send(self, body: bytes | memoryview, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        """Send `body`; see `Transport.send`."""
        task = asyncio.get_running_loop().create_task(self._one(bytes(body), deadline_ns, on_reply))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """Abandon what is in flight and close the channels."""
        await self._renewal.stop()
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
            reply = await self._asks[connection](body, deadline_ns / clock.NS_PER_S)
        except grpc.aio.AioRpcError as error:
            reply = _failure(error, clock.now_ns(), give_up_ns)
        finally:
            self._in_flight[connection] -= 1
        on_reply(replace(reply, connection=connection))


def _unary(of: grpc.aio.Channel, options: dict[str, object]) -> Ask:
    # Neither serialiser nor deserialiser: the corpus holds wire bytes, and answers stay bytes.
    call = of.unary_unary(SERVICE + "ModelInfer")

    async def ask(body: bytes, timeout_s: float) -> Reply:
        response = await call(body, timeout=timeout_s, **options)
        return Reply(Outcome.OK, clock.now_ns(), response=response)

    return ask


def _streamed(of: grpc.aio.Channel, options: dict[str, object]) -> Ask:
    call = of.stream_stream(SERVICE + "ModelStreamInfer")

    async def ask(body: bytes, timeout_s: float) -> Reply:
        stream = call(timeout=timeout_s, **options)
        await stream.write(body)
        await stream.done_writing()
        first, first_ns, count, size, fault = b"", 0, 0, 0, ""
        while (answer := await stream.read()) is not grpc.aio.EOF:
            first_ns = first_ns or clock.now_ns()
            message = service_pb2.ModelStreamInferResponse.FromString(answer)
            fault = fault or message.error_message
            first = first or message.infer_response.SerializeToString()
            count, size = count + 1, size + len(answer)
        outcome = Outcome.GRPC_UNKNOWN if fault else Outcome.OK
        return Reply(outcome, clock.now_ns(), 0, first_ns, first, fault, 0, count, size)

    return ask


def _failure(error: grpc.aio.AioRpcError, done_ns: int, give_up_ns: int) -> Reply:
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and done_ns >= give_up_ns:
        return Reply(Outcome.TIMEOUT, done_ns, details="no answer within the deadline")
    return Reply(Outcome(GRPC_OUTCOME_BASE + code.value[0]), done_ns, details=error.details() or "")
