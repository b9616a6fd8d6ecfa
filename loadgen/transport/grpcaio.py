"""The transport over grpcio's asyncio client: raw bytes out, raw bytes in, one channel."""

import asyncio
from collections.abc import Callable

import grpc

from loadgen import clock
from loadgen.kserve import SERVICE
from loadgen.records import GRPC_OUTCOME_BASE, Outcome, Reply

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
"""No size limit (an event passes gRPC's 4 MB default), a connection of our own, and no hidden second try."""


class GrpcAioTransport:
    """Sends every request as a unary call on one insecure channel to `address`."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        # Neither serialiser nor deserialiser: the corpus holds wire bytes, and answers stay bytes.
        self._infer = self._channel.unary_unary(SERVICE + "ModelInfer")
        self._open: set[asyncio.Task[None]] = set()

    def send(self, body: bytes, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        """Send `body`; see `Transport.send`."""
        task = asyncio.get_running_loop().create_task(self._one(body, deadline_ns, on_reply))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """Abandon what is in flight and close the channel."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._channel.close()

    async def _one(self, body: bytes, deadline_ns: int, on_reply: Callable[[Reply], None]) -> None:
        give_up_ns = clock.now_ns() + deadline_ns
        try:
            response = await self._infer(body, timeout=deadline_ns / clock.NS_PER_S)
        except grpc.aio.AioRpcError as error:
            on_reply(_failure(error, clock.now_ns(), give_up_ns))
        else:
            on_reply(Reply(Outcome.OK, clock.now_ns(), response=response))


def _failure(error: grpc.aio.AioRpcError, done_ns: int, give_up_ns: int) -> Reply:
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and done_ns >= give_up_ns:
        return Reply(Outcome.TIMEOUT, done_ns, details="no answer within the deadline")
    return Reply(Outcome(GRPC_OUTCOME_BASE + code.value[0]), done_ns, details=error.details() or "")
