"""The server under test over gRPC: readiness, metadata, configuration, statistics. Never on the load's path."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from loadgen import clock
from loadgen import endpoint as endpoints
from loadgen.endpoint import Endpoint
from loadgen.errors import TargetError
from loadgen.kserve import SERVICE, ModelMetadata, Statistics, as_json, model_metadata, statistics
from loadgen.transport.channel import channel
from loadgen.transport.renewal import Metadata, Renewal

RPC_TIMEOUT_S = 10.0
HTTP1_TIMEOUT_S = 2.0
POLL_NS = 100 * clock.NS_PER_MS
HTTP_HINT = "is this the HTTP or metrics port? gRPC is usually 8001"
NOT_HTTP2_SIGNS = ("Failed parsing HTTP/2", "http1.x", "HTTP/1")
"""Words in gRPC's details when the peer answers with something that is not HTTP/2."""


Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the server cannot be used now; `final` when waiting cannot change it, `answers` when it says so itself."""

    text: str
    final: bool
    answers: bool = False


class Triton:
    """One gRPC channel to the server for everything but inference; use as `async with Triton(endpoint)`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._channel = channel(endpoint)
        self._metadata = endpoints.metadata(endpoint)
        self._renewal = Renewal(endpoint, self._renew)

    async def __aenter__(self) -> Self:
        """Return itself; the channel connects at the first call."""
        self._renewal.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        await self.close()

    async def close(self) -> None:
        """Close the channel, and with it every call under way."""
        await self._renewal.stop()
        await self._channel.close()

    def _renew(self, metadata: Metadata) -> None:
        self._metadata = metadata

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until the server and the model are ready.

        Raises:
            TargetError: not so within `timeout_s` seconds, at once where waiting cannot help (a port that does
                not speak gRPC, a model the server does not know).
        """
        await ready_in_time(self.refusal, timeout_s)

    async def metadata(self) -> ModelMetadata:
        """Return the model's signature and versions, with what its configuration adds."""
        request = service_pb2.ModelMetadataRequest(name=self.endpoint.model, version=self.endpoint.version)
        message = await self._call("ModelMetadata", request, service_pb2.ModelMetadataResponse)
        return model_metadata(message, await self.model_config())

    async def model_config(self) -> dict[str, object]:
        """Return the model's configuration as the server completed it, as JSON-ready data."""
        return await self.config_of(self.endpoint.model, self.endpoint.version)

    async def config_of(self, model: str, version: str) -> dict[str, object]:
        """Return likewise the configuration of any model of the server."""
        request = service_pb2.ModelConfigRequest(name=model, version=version)
        reply = await self._call("ModelConfig", request, service_pb2.ModelConfigResponse)
        return as_json(reply.config)

    async def server_metadata(self) -> dict[str, object]:
        """Return the server's name, version and extensions."""
        request = service_pb2.ServerMetadataRequest()
        return as_json(await self._call("ServerMetadata", request, service_pb2.ServerMetadataResponse))

    async def statistics(self, version: str) -> Statistics | None:
        """Return the cumulative counters of one version now, or None if the server keeps none for it."""
        request = service_pb2.ModelStatisticsRequest(name=self.endpoint.model, version=version)
        asked_ns = clock.now_ns()
        reply = await self._call("ModelStatistics", request, service_pb2.ModelStatisticsResponse)
        read_ns = clock.now_ns()
        entries = [entry for entry in reply.model_stats if entry.version == version]
        return statistics(entries[0], asked_ns, read_ns) if entries else None

    async def all_statistics(self) -> dict[tuple[str, str], Statistics]:
        """Return the cumulative counters of every model that the server has loaded, by name and version."""
        asked_ns = clock.now_ns()
        reply = await self._call(
            "ModelStatistics", service_pb2.ModelStatisticsRequest(), service_pb2.ModelStatisticsResponse
        )
        read_ns = clock.now_ns()
        return {(entry.name, entry.version): statistics(entry, asked_ns, read_ns) for entry in reply.model_stats}

    async def set_trace(self, settings: Mapping[str, str]) -> None:
        """Set trace settings of the whole server; they stay until somebody sets others."""
        request = service_pb2.TraceSettingRequest()
        for name, value in settings.items():
            request.settings[name].value.append(value)
        await self._call("TraceSetting", request, service_pb2.TraceSettingResponse)

    async def models(self) -> list[tuple[str, str, str]]:
        """Return the models of the server's repository: name, version and state of each."""
        reply = await self._call(
            "RepositoryIndex", service_pb2.RepositoryIndexRequest(), service_pb2.RepositoryIndexResponse
        )
        return [(model.name, model.version, model.state) for model in reply.models]

    async def refusal(self) -> Refusal | None:
        """Say why the server, or the endpoint's model if it names one, cannot be used now; None if it can."""
        where, model = self.endpoint.grpc, self.endpoint.model
        try:
            server = await self._rpc("ServerReady", service_pb2.ServerReadyRequest(), service_pb2.ServerReadyResponse)
            if not server.ready:
                return Refusal(f"{where}: the server is up but not ready; see its log", final=False, answers=True)
            if not model:
                return None
            request = service_pb2.ModelReadyRequest(name=model, version=self.endpoint.version)
            if (await self._rpc("ModelReady", request, service_pb2.ModelReadyResponse)).ready:
                return None
            return await self._why_model_not_ready()
        except grpc.aio.AioRpcError as error:
            if "Socket closed" in (error.details() or "") and await speaks_http1(where):
                return Refusal(f"{where}: does not speak gRPC: {HTTP_HINT}", final=True)
            return connection_refusal(where, error)

    async def _why_model_not_ready(self) -> Refusal:
        where, model = self.endpoint.grpc, self.endpoint.model
        request = service_pb2.ModelMetadataRequest(name=model, version=self.endpoint.version)
        try:
            await self._rpc("ModelMetadata", request, service_pb2.ModelMetadataResponse)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND or "unknown model" in (error.details() or ""):
                return Refusal(
                    f"{where}: no model {model} on this server ({error.details()}); check -m and -x",
                    final=True,
                )
        return Refusal(f"{where}: model {model} is loaded but not ready; see the server's log", final=False)

    async def _call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        try:
            return await self._rpc(method, request, reply)
        except grpc.aio.AioRpcError as error:
            raise TargetError(f"{self.endpoint.grpc}: {method}: {error.code().name}: {error.details()}") from error

    async def _rpc(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        call = self._channel.unary_unary(
            SERVICE + method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        answer: Reply = await call(request, timeout=RPC_TIMEOUT_S, metadata=self._metadata)
        return answer


async def ready_in_time(refusal: Callable[[], Awaitable[Refusal | None]], timeout_s: float) -> None:
    """Ask until there is no refusal; errors as `Triton.wait_ready`."""
    deadline_ns = clock.now_ns() + int(timeout_s * clock.NS_PER_S)
    while (refused := await refusal()) is not None:
        if refused.final or clock.now_ns() >= deadline_ns:
            raise TargetError(refused.text)
        await clock.sleep_ns(POLL_NS)


async def speaks_http1(where: str) -> bool:
    """Say whether a plain HTTP/1 server listens at `host:port`, as on Triton's other two ports."""
    host, _, port = where.rpartition(":")
    try:
        async with asyncio.timeout(HTTP1_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET / HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(8)
            writer.close()
    except (OSError, ValueError):
        return False
    return answer.startswith(b"HTTP/1")


def connection_refusal(where: str, error: grpc.aio.AioRpcError) -> Refusal:
    """Say why a server did not answer a readiness call, and whether waiting can help."""
    details = (error.details() or "").removeprefix("failed to connect to all addresses; last error: ")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Refusal(f"{where}: speaks gRPC, but is no KServe v2 server ({details})", final=True)
    if "resolving" in details or "DNS" in details:
        return Refusal(f"{where}: no such host ({details}); check -u", final=True)
    if any(sign in details for sign in NOT_HTTP2_SIGNS):
        return Refusal(f"{where}: does not speak gRPC: {HTTP_HINT} ({details})", final=True)
    return Refusal(f"{where}: no server answers ({error.code().name}: {details}); check -u, or start it", final=False)
