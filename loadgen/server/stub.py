"""A deterministic KServe v2 server: N instances, one first-in-first-out queue, Triton's statistics and metrics page.

It answers after set times and computes nothing: for tests of the client, for machines on which Triton cannot run,
and never for a physics figure. It says so in its model configuration.
"""

import argparse
import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import numpy as np
from aiohttp import web
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from loadgen import clock
from loadgen.kserve import DTYPES, TensorMetadata
from loadgen.server.repository import SIGNATURES
from loadgen.server.simulated import Counters, Refused, RunningStub, StubConfig

HOST = "127.0.0.1"
NAME, VERSION, MODEL_VERSION = "loadgen-stub", "1", "1"
SIMULATED = "simulated service times: not a GPU, not traccc"
CELLS_PER_TRACK = 12
CHANNEL_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))

SERVICE_NAME = "inference.GRPCInferenceService"


class Service:
    """The KServe v2 calls, on one stub."""

    def __init__(self, stub: RunningStub) -> None:
        self.stub = stub
        self.inputs, self.outputs = SIGNATURES[stub.config.signature]

    async def model_infer(self, request: service_pb2.ModelInferRequest) -> object:
        """Answer after the service time, with outputs of the right shapes."""
        self._known(request.model_name)
        given = {tensor.name: (tensor.datatype, tuple(tensor.shape)) for tensor in request.inputs}
        for tensor in self.inputs:
            _check_input(tensor, given)
        cells = given[self.inputs[0].name][1][0]
        await self.stub.infer(request.model_name, cells)
        return self._answer(request.model_name, cells)

    async def server_live(self, _request: Message) -> object:
        """Say that the server runs."""
        return service_pb2.ServerLiveResponse(live=True)

    async def server_ready(self, _request: Message) -> object:
        """Say whether it is ready."""
        return service_pb2.ServerReadyResponse(ready=self.stub.config.ready)

    async def model_ready(self, request: service_pb2.ModelReadyRequest) -> object:
        """Say whether the model is there and ready."""
        return service_pb2.ModelReadyResponse(ready=self.stub.config.ready and request.name in self.stub.models)

    async def server_metadata(self, _request: Message) -> object:
        """Name the server."""
        return service_pb2.ServerMetadataResponse(name=NAME, version=VERSION, extensions=["statistics"])

    async def model_metadata(self, request: service_pb2.ModelMetadataRequest) -> object:
        """Declare the model's tensors."""
        self._known(request.name)
        reply = service_pb2.ModelMetadataResponse(name=request.name, versions=[MODEL_VERSION], platform="stub")
        for declared, tensors in ((reply.inputs, self.inputs), (reply.outputs, self.outputs)):
            for tensor in tensors:
                declared.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        return reply

    async def model_config(self, request: service_pb2.ModelConfigRequest) -> object:
        """Give the configuration, with the note that nothing is computed."""
        self._known(request.name)
        reply = service_pb2.ModelConfigResponse()
        reply.config.name, reply.config.backend = request.name, "stub"
        reply.config.instance_group.add(count=self.stub.config.instances, kind="KIND_CPU")
        reply.config.parameters["stub"].string_value = SIMULATED
        return reply

    async def model_statistics(self, request: service_pb2.ModelStatisticsRequest) -> object:
        """Give the counters as Triton does: of every model if none is named."""
        if request.name:
            self._known(request.name)
        reply = service_pb2.ModelStatisticsResponse()
        for model, counters in self.stub.models.items():
            if request.name in {"", model}:
                _fill(reply.model_stats.add(name=model, version=MODEL_VERSION), counters)
        return reply

    async def repository_index(self, _request: Message) -> object:
        """List the models."""
        reply = service_pb2.RepositoryIndexResponse()
        for model in self.stub.models:
            reply.models.add(name=model, version=MODEL_VERSION, state="READY")
        return reply

    def _answer(self, model: str, cells: int) -> object:
        reply = service_pb2.ModelInferResponse(model_name=model, model_version=MODEL_VERSION)
        filling = self.stub.filling(cells)
        for tensor in self.outputs:
            shape = tuple(cells // CELLS_PER_TRACK if size < 0 else size for size in tensor.shape)
            reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
            reply.raw_output_contents.append(np.full(shape, filling, DTYPES[tensor.datatype]).tobytes())
        return reply

    def _known(self, model: str) -> None:
        if model not in self.stub.models:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{model}' is not found")


def _fill(entry: service_pb2.ModelStatistics, counters: Counters) -> None:
    entry.inference_count = entry.execution_count = counters.success
    stats = entry.inference_stats
    stats.success.count, stats.success.ns = counters.success, counters.success_ns
    stats.fail.count, stats.fail.ns = counters.fail, counters.fail_ns
    stats.queue.count, stats.queue.ns = counters.success, counters.queue_ns
    stats.compute_infer.count, stats.compute_infer.ns = counters.success, counters.compute_infer_ns
    stats.compute_input.count = stats.compute_output.count = counters.success


def _check_input(tensor: TensorMetadata, given: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    datatype, shape = given.get(tensor.name, ("nothing", ()))
    fits = len(shape) == len(tensor.shape) and all(w in {-1, g} for w, g in zip(tensor.shape, shape, strict=True))
    if datatype != tensor.datatype or not fits:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"expected {tensor}, got {datatype}{list(shape)}")


METHODS: dict[str, tuple[Callable[[Service], Callable[..., object]], type[Message]]] = {
    "ModelInfer": (lambda service: service.model_infer, service_pb2.ModelInferRequest),
    "ServerLive": (lambda service: service.server_live, service_pb2.ServerLiveRequest),
    "ServerReady": (lambda service: service.server_ready, service_pb2.ServerReadyRequest),
    "ModelReady": (lambda service: service.model_ready, service_pb2.ModelReadyRequest),
    "ServerMetadata": (lambda service: service.server_metadata, service_pb2.ServerMetadataRequest),
    "ModelMetadata": (lambda service: service.model_metadata, service_pb2.ModelMetadataRequest),
    "ModelConfig": (lambda service: service.model_config, service_pb2.ModelConfigRequest),
    "RepositoryIndex": (lambda service: service.repository_index, service_pb2.RepositoryIndexRequest),
    "ModelStatistics": (lambda service: service.model_statistics, service_pb2.ModelStatisticsRequest),
}


@asynccontextmanager
async def stub_server(config: StubConfig) -> AsyncIterator[RunningStub]:
    """Serve a stub on this host until the context is left; port 0 means a free one."""
    stub = RunningStub(config)
    server = grpc.aio.server(options=CHANNEL_OPTIONS)
    server.add_generic_rpc_handlers((_handlers(Service(stub)),))
    stub.grpc = f"{HOST}:{server.add_insecure_port(f'{HOST}:{config.grpc_port}')}"
    pages = web.AppRunner(_pages(stub))
    await pages.setup()
    if config.metrics_port is not None:
        site = web.TCPSite(pages, HOST, config.metrics_port)
        await site.start()
        stub.metrics_url = f"http://{HOST}:{pages.addresses[0][1]}/metrics"
    await server.start()
    try:
        yield stub
    finally:
        await server.stop(grace=None)
        await pages.cleanup()


def _handlers(service: Service) -> grpc.GenericRpcHandler:
    def handler(name: str) -> grpc.RpcMethodHandler:
        method, request = METHODS[name]
        answer = method(service)

        async def call(message: Message, context: grpc.aio.ServicerContext) -> object:
            try:
                return await answer(message)  # type: ignore[misc]
            except Refused as refused:
                return await context.abort(refused.code, refused.details)

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=request.FromString, response_serializer=lambda reply: reply.SerializeToString()
        )

    return grpc.method_handlers_generic_handler(SERVICE_NAME, {name: handler(name) for name in METHODS})


def _pages(stub: RunningStub) -> web.Application:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=metrics_page(stub))

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    return application


def metrics_page(stub: RunningStub) -> str:
    """Return the counters of every model as Triton's metrics page shows them (durations in whole microseconds)."""
    of_models = {name: _figures(counters, stub.counters.pending) for name, counters in stub.models.items()}
    lines = []
    for metric, (kind, _) in _figures(stub.counters, 0).items():
        lines.append(f"# TYPE nv_inference_{metric} {kind}\n")
        for model, figures in of_models.items():
            lines.append(f'nv_inference_{metric}{{model="{model}",version="{MODEL_VERSION}"}} {figures[metric][1]}\n')
    return "".join(lines)


def _figures(counters: Counters, pending: int) -> dict[str, tuple[str, int]]:
    return {
        "request_success": ("counter", counters.success),
        "request_failure": ("counter", counters.fail),
        "count": ("counter", counters.success),
        "exec_count": ("counter", counters.success),
        "request_duration_us": ("counter", counters.success_ns // 1000),
        "queue_duration_us": ("counter", counters.queue_ns // 1000),
        "compute_input_duration_us": ("counter", 0),
        "compute_infer_duration_us": ("counter", counters.compute_infer_ns // 1000),
        "compute_output_duration_us": ("counter", 0),
        "pending_request_count": ("gauge", pending),
    }


async def serve(config: StubConfig) -> None:
    """Serve until SIGTERM or SIGINT; print the addresses as one JSON line once ready."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with stub_server(config) as stub:
        print(json.dumps({"grpc": stub.grpc, "http": "", "metrics_url": stub.metrics_url}), flush=True)  # noqa: T201
        await stopped.wait()


def main() -> None:
    """Run the stub as a process."""
    default = StubConfig()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=default.model)
    parser.add_argument("--signature", default=default.signature, choices=sorted(SIGNATURES))
    parser.add_argument("--instances", type=int, default=default.instances)
    parser.add_argument("--base-ms", type=float, default=default.base_ns / clock.NS_PER_MS)
    parser.add_argument("--ns-per-cell", type=int, default=default.per_cell_ns)
    parser.add_argument("--law", default=default.law, choices=["constant", "exponential", "bimodal"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall-at-s", type=float, default=0.0)
    parser.add_argument("--stall-for-s", type=float, default=0.0)
    parser.add_argument("--spin-us", type=int, default=0)
    parser.add_argument("--fail-every", type=int, default=0)
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--metrics-port", type=int, default=0)
    given = parser.parse_args()
    config = StubConfig(
        model=given.model,
        signature=given.signature,
        instances=given.instances,
        base_ns=int(given.base_ms * clock.NS_PER_MS),
        per_cell_ns=given.ns_per_cell,
        grpc_port=given.grpc_port,
        metrics_port=given.metrics_port,
        law=given.law,
        seed=given.seed,
        stall_at_ns=round(given.stall_at_s * clock.NS_PER_S),
        stall_for_ns=round(given.stall_for_s * clock.NS_PER_S),
        fail_every=given.fail_every,
        spin_ns=given.spin_us * 1000,
    )
    asyncio.run(serve(config))


if __name__ == "__main__":
    main()
