"""A small KServe v2 server over HTTP/1.1: one model, answered at once, with counters."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from loadgen import kserve_http
from loadgen.kserve_http import HEAD_LENGTH


@dataclass
class Model:
    """The model that is served; `refuses` says of the k-th request whether it is refused."""

    name: str = "made"
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...] = (("X", "FP32", (4,)),)
    refuses: Callable[[int], bool] = lambda _: False
    asked: int = 0
    answered: int = 0
    bodies: list[bytes] = field(default_factory=list)
    keep: bool = False

    def tensors(self) -> list[dict[str, Any]]:
        """Its inputs as metadata."""
        return [{"name": name, "datatype": kind, "shape": list(shape)} for name, kind, shape in self.inputs]

    async def infer(self, request: web.Request) -> web.Response:
        """Answer a request."""
        body = await request.read()
        self.asked += 1
        assert kserve_http.head_bytes(body) == int(request.headers[HEAD_LENGTH])
        if self.keep:
            self.bodies.append(body)
        if self.refuses(self.asked):
            return web.json_response({"error": "not today"}, status=500)
        self.answered += 1
        output = {"name": "Y", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": 1}}
        head = json.dumps({"model_name": self.name, "outputs": [output]}).encode()
        return web.Response(body=head + b"\x07", headers={HEAD_LENGTH: str(len(head))})

    def statistics(self) -> dict[str, Any]:
        """Its counters: 10, 20, 300 and 40 microseconds a request in the four stages."""
        spent = {"queue": 10, "compute_input": 20, "compute_infer": 300, "compute_output": 40, "success": 380}
        durations = {name: {"count": self.answered, "ns": 1000 * us * self.answered} for name, us in spent.items()}
        counts = {"inference_count": self.answered, "execution_count": self.answered}
        return {"model_stats": [{"name": self.name, "version": "1", **counts, "inference_stats": durations}]}


@asynccontextmanager
async def serving(model: Model) -> AsyncIterator[str]:
    """Serve a model on a free port; yields HOST:PORT."""
    path = f"/v2/models/{model.name}"
    described = {"name": model.name, "versions": ["1"], "platform": "", "inputs": model.tensors(), "outputs": []}
    config = {"name": model.name, "max_batch_size": 0, "instance_group": [{"count": 1, "kind": "KIND_CPU"}]}
    app = web.Application(client_max_size=1 << 30)

    def says(content: Callable[[], Any]) -> Callable[[web.Request], Any]:
        async def handler(_: web.Request) -> web.Response:
            return web.json_response(content())

        return handler

    app.router.add_get("/v2", says(lambda: {"name": "made", "version": "0", "extensions": ["statistics"]}))
    app.router.add_get("/v2/health/ready", says(dict))
    app.router.add_get(f"{path}/ready", says(dict))
    app.router.add_get(path, says(lambda: described))
    app.router.add_get(f"{path}/config", says(lambda: config))
    app.router.add_get(f"{path}/versions/1/stats", says(model.statistics))
    app.router.add_post(f"{path}/infer", model.infer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    try:
        yield f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


@contextmanager
def in_a_thread(model: Model) -> Iterator[str]:
    """Serve a model from a thread of its own."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[str] = []

    async def main() -> None:
        async with serving(model) as address:
            found.append(address)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
