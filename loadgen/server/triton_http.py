"""The server under test over HTTP: what `loadgen.server.triton` does, where only the HTTP port can be reached."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from tritonclient.grpc import model_config_pb2, service_pb2

from loadgen import clock
from loadgen.endpoint import Endpoint
from loadgen.errors import TargetError
from loadgen.kserve import ModelMetadata, Statistics, as_json, model_metadata, statistics
from loadgen.kserve_http import parsed
from loadgen.server.triton import RPC_TIMEOUT_S, Refusal, ready_in_time
from loadgen.transport.http1 import base_url, model_path, refusal_words, session

NOT_HTTP = "does not speak HTTP: is this the gRPC port? HTTP is usually 8000"


class TritonHttp:
    """One HTTP session to the server for everything but inference; use as `async with TritonHttp(endpoint)`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._model = model_path(endpoint.model, endpoint.version)
        tls = endpoint.tls
        self._name = tls.server_name if tls and tls.server_name else None
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the session; it connects at the first call."""
        self._session = session(self.endpoint)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self._session.close()

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until the server and the model are ready; errors as `Triton.wait_ready`."""
        await ready_in_time(self.refusal, timeout_s)

    async def metadata(self) -> ModelMetadata:
        """Return the model's signature and versions, with what its configuration adds."""
        message = parsed(await self._get(self._model), service_pb2.ModelMetadataResponse())
        return model_metadata(message, await self.model_config())

    async def model_config(self) -> dict[str, object]:
        """Return the model's configuration as the server completed it, as JSON-ready data."""
        return as_json(parsed(await self._get(f"{self._model}/config"), model_config_pb2.ModelConfig()))

    async def server_metadata(self) -> dict[str, object]:
        """Return the server's name, version and extensions."""
        return as_json(parsed(await self._get("/v2"), service_pb2.ServerMetadataResponse()))

    async def statistics(self, version: str) -> Statistics | None:
        """Return the cumulative counters of one version now, or None if the server keeps none for it."""
        asked_ns = clock.now_ns()
        content = await self._get(f"{model_path(self.endpoint.model, version)}/stats")
        read_ns = clock.now_ns()
        reply = parsed(content, service_pb2.ModelStatisticsResponse())
        entries = [entry for entry in reply.model_stats if entry.version == version]
        return statistics(entries[0], asked_ns, read_ns) if entries else None

    async def set_trace(self, settings: Mapping[str, str]) -> None:
        """Set trace settings of the whole server; they stay until somebody sets others."""
        url = base_url(self.endpoint) + "/v2/trace/setting"
        listed = {name: [value] if name == "trace_level" else value for name, value in settings.items()}
        content = msgspec.json.encode(listed)
        async with self._session.post(url, data=content, server_hostname=self._name) as got:
            if got.status != HTTPStatus.OK:
                raise TargetError(f"{url}: {refusal_words(got.status, await got.read())}")

    async def refusal(self) -> Refusal | None:
        """Say why the server, or the endpoint's model if it names one, cannot be used now; None if it can."""
        where, model = self.endpoint.http, self.endpoint.model
        try:
            if (await self._answer("/v2/health/ready"))[0] != HTTPStatus.OK:
                return Refusal(f"{where}: the server is up but not ready; see its log", final=False)
            if not model or (await self._answer(f"{self._model}/ready"))[0] == HTTPStatus.OK:
                return None
            status, content = await self._answer(self._model)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return _connection_refusal(where, error)
        if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
            words = refusal_words(status, content)
            return Refusal(f"{where}: no model {model} on this server ({words}); check -m and -x", final=True)
        return Refusal(f"{where}: model {model} is loaded but not ready; see the server's log", final=False)

    async def _answer(self, path: str) -> tuple[int, bytes]:
        url = base_url(self.endpoint) + path
        async with asyncio.timeout(RPC_TIMEOUT_S), self._session.get(url, server_hostname=self._name) as got:
            return got.status, await got.read()

    async def _get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        where = f"{self.endpoint.http}: {path}"
        try:
            status, content = await self._answer(path)
            if status != HTTPStatus.OK:
                raise TargetError(f"{where}: {refusal_words(status, content)}")
            return msgspec.json.decode(content)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
            raise TargetError(f"{where}: {type(error).__name__}: {error}") from error


def _connection_refusal(where: str, error: Exception) -> Refusal:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return Refusal(f"{where}: no such host ({error}); check -u", final=True)
        case aiohttp.ClientResponseError():
            return Refusal(f"{where}: {NOT_HTTP}", final=True)
    words = str(error) or type(error).__name__
    return Refusal(f"{where}: no server answers ({words}); check -u, or start it", final=False)
