"""Requests over HTTP/1.1: the same tensors as over gRPC, and every ending of a request as a row."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from loadgen import clock, kserve, kserve_http
from loadgen import plan as plans
from loadgen.carrier import resolved
from loadgen.endpoint import Endpoint, Tls
from loadgen.errors import PlanError, TargetError
from loadgen.kserve import Tensor
from loadgen.plan import ClosedLoop, Companion, Generated, Plan
from loadgen.records import Outcome, Reply
from loadgen.server.triton_http import TritonHttp
from loadgen.transport import http1
from loadgen.transport.http1 import HttpTransport

LONG_NS = 20 * clock.NS_PER_S
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

names = st.text(min_size=1, max_size=12)
strings, numbers = st.lists(st.binary(max_size=9), max_size=5), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9)
tensors = st.lists(st.tuples(names, strings | numbers), min_size=1, max_size=4)
parameter_values = st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=9)


def tensor(name: str, values: list[bytes] | list[int]) -> Tensor:
    if values and isinstance(values[0], bytes):
        array = np.empty(len(values), object)
        array[:] = values
        return Tensor(name, "BYTES", array)
    return Tensor(name, "INT32", np.array(values, np.int32))


@given(tensors, st.dictionaries(names, parameter_values, max_size=3))
def test_the_http_form_holds_what_the_grpc_form_holds(
    given_tensors: list[tuple[str, list[bytes] | list[int]]], parameters: dict[str, bool | int | str]
) -> None:
    """Names, types, shapes, parameters and every raw byte, strings included; the head's length is found again."""
    made = [tensor(*each) for each in given_tensors]
    message = kserve.infer_request("m", "", made, parameters)
    body = kserve_http.from_grpc(message)
    assert kserve_http.input_contents(body) == kserve.input_contents(message)
    size = kserve_http.head_bytes(memoryview(body))
    assert body[size - 1 : size] == b"\n"
    head = json.loads(body[:size])
    assert [each["shape"] for each in head["inputs"]] == [list(each.data.shape) for each in made]
    assert head["parameters"] == {"binary_data_output": True, **parameters}
    assert len(body) - size == sum(each["parameters"]["binary_data_size"] for each in head["inputs"])


def test_a_step_of_a_sequence_says_so_in_its_head() -> None:
    """Id and flags are added; tensors and other parameters stay."""
    body = kserve_http.from_grpc(kserve.infer_request("m", "", [tensor("X", [1, 2])], {"p": 3}))
    step = kserve_http.step(body, 7, first=True, last=False)
    head = json.loads(step[: kserve_http.head_bytes(step)])
    wanted = {"binary_data_output": True, "p": 3, "sequence_id": 7, "sequence_start": True, "sequence_end": False}
    assert head["parameters"] == wanted
    assert kserve_http.input_contents(step) == kserve_http.input_contents(body)


def answer(*outputs: tuple[str, bytes]) -> bytes:
    head = {
        "model_name": "m",
        "outputs": [
            {"name": name, "datatype": "UINT8", "shape": [len(raw)], "parameters": {"binary_data_size": len(raw)}}
            for name, raw in outputs
        ],
    }
    return json.dumps(head, ensure_ascii=False).encode() + b"".join(raw for _, raw in outputs)


def test_answers_are_read_and_held_against_what_was_expected() -> None:
    """Names and shapes of outputs, and whether each is right, wherever braces or odd bytes stand in the content."""
    response = answer(("Ä{", b'}{"\xff'), ("B", b"12"))
    assert [str(each) for each in kserve_http.infer_outputs(response)] == ["Ä{ UINT8[4]", "B UINT8[2]"]
    right = {"Ä{": kserve.digest(b'}{"\xff'), "B": kserve.digest(b"12")}
    assert kserve_http.wrong_answer(response, right) is None
    wrong = {**right, "B": kserve.digest(b"1")}
    assert kserve_http.wrong_answer(response, wrong) == "output B is not the expected one"
    assert kserve_http.wrong_answer(response, {"C": ""}) == "output C is missing"


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    """Serve every request by `handler` on a free port of this host."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield Endpoint("", "m", headers={"x-token": "t"}, http=f"127.0.0.1:{port}")
    finally:
        await runner.cleanup()


async def ask(target: Endpoint, body: bytes, deadline_ns: int = LONG_NS) -> Reply:
    """Send one request and wait for its reply."""
    transport = HttpTransport(target)
    await transport.open()
    reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    transport.send(body, deadline_ns, reply.set_result)
    try:
        return await reply
    finally:
        await transport.close()


@pytest.mark.parametrize("size_bytes", [8, 3 * http1.CHUNK_BYTES + 5])
def test_a_request_arrives_whole_with_its_headers(size_bytes: int) -> None:
    """Small and large: path of the version, length of the head, our headers, every byte; the times are in order."""
    sent = kserve_http.from_grpc(
        kserve.infer_request("m", "2", [Tensor("X", "UINT8", np.arange(size_bytes, dtype=np.uint8))])
    )
    seen: list[tuple[str, str, str, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        head, token = request.headers[kserve_http.HEAD_LENGTH], request.headers["x-token"]
        assert request.headers["Content-Length"] == str(len(sent))
        seen.append((request.path, head, token, await request.read()))
        return web.Response(body=b"answer")

    async def main() -> None:
        async with serving(handler) as target:
            begun_ns = clock.now_ns()
            reply = await ask(Endpoint("", "m", "2", headers=target.headers, http=target.http), sent)
            assert reply.outcome is Outcome.OK
            assert reply.response == b"answer"
            assert begun_ns < reply.first_byte_ns <= reply.done_ns
            assert (reply.flushed_ns > begun_ns) == (size_bytes > http1.CHUNK_BYTES)

    asyncio.run(main())
    head = str(kserve_http.head_bytes(sent))
    assert seen == [("/v2/models/m/versions/2/infer", head, "t", sent)]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.HTTP_BAD_REQUEST),
        (404, Outcome.HTTP_NOT_FOUND),
        (413, Outcome.HTTP_CONTENT_TOO_LARGE),
        (429, Outcome.HTTP_TOO_MANY_REQUESTS),
        (500, Outcome.HTTP_SERVER_ERROR),
        (503, Outcome.HTTP_SERVICE_UNAVAILABLE),
        (418, Outcome.HTTP_OTHER),
    ],
)
def test_a_refusal_is_a_row_with_the_servers_words(status: int, outcome: Outcome) -> None:
    """Each status has its outcome, and the words of the server's JSON."""

    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"error": "no\nmore"}, status=status)

    async def main() -> None:
        async with serving(handler) as target:
            reply = await ask(target, b"{}\n")
            assert (reply.outcome, reply.details) == (outcome, f"HTTP {status}: no more")

    asyncio.run(main())


def test_words_that_are_no_json_are_shown_too() -> None:
    """A proxy's page, or nothing."""
    assert http1.refusal_words(502, b"<html>\n bad\xff gateway") == "HTTP 502: <html> bad\ufffd gateway"
    assert http1.refusal_words(502, b"") == "HTTP 502"


def test_deadlines_and_lost_connections_are_rows() -> None:
    """A server that hangs, one that hangs up, and none at all."""
    hang = asyncio.Event()

    async def hanging(request: web.Request) -> web.Response:
        await hang.wait()
        return web.Response()

    async def hanging_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def main() -> None:
        async with serving(hanging) as target:
            assert (await ask(target, b"{}\n", 50 * clock.NS_PER_MS)).outcome is Outcome.TIMEOUT
            hang.set()
        async with serving(hanging_up) as target:
            assert (await ask(target, b"{}\n")).outcome is Outcome.LOST
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            reply = await ask(Endpoint("", "m", http=f"127.0.0.1:{free.getsockname()[1]}"), b"{}\n")
            assert reply.outcome is Outcome.LOST

    asyncio.run(main())


def test_tls_checks_what_it_is_asked_to_check(tmp_path: Path) -> None:
    """An authority that is not known is refused, one that is named is not; neither name nor chain, where so asked."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.example").configure_cert(context)

    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    async def main() -> None:
        async with serving(handler, context) as target:
            ca = str(tmp_path / "ca.pem")
            for tls, outcome in {
                Tls(ca): Outcome.LOST,
                Tls(ca, server_name="elsewhere.example"): Outcome.OK,
                Tls(ca, verify="chain"): Outcome.OK,
                Tls(verify="chain"): Outcome.LOST,
                Tls(verify="none"): Outcome.OK,
            }.items():
                assert (await ask(msgspec.structs.replace(target, tls=tls), b"{}\n")).outcome is outcome, tls

    asyncio.run(main())


def test_connections_are_kept() -> None:
    """Requests one after another share a connection."""
    peers = set()

    async def handler(request: web.Request) -> web.Response:
        peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        return web.Response()

    async def main() -> None:
        async with serving(handler) as target:
            transport = HttpTransport(target)
            await transport.open()
            for _ in range(3):
                reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
                transport.send(b"{}\n", LONG_NS, reply.set_result)
                assert (await reply).outcome is Outcome.OK
            await transport.close()

    asyncio.run(main())
    assert len(peers) == 1


def test_what_http_cannot_do_is_refused() -> None:
    """Two addresses, gRPC's own features, decoupled models: one line each."""
    made = Plan(Endpoint("", "m", http="h:1"), Generated("zero"), (ClosedLoop(1),))

    def changed(**fields: Any) -> Plan:
        return plans.checked(msgspec.structs.replace(made, **fields))

    assert resolved(made, in_streams=False).transport == "http"
    assert resolved(changed(endpoint=Endpoint("h:1", "m")), in_streams=False).transport == "direct"
    refused: dict[str, dict[str, Any]] = {
        "either": {"endpoint": Endpoint("h:1", "m", http="h:1")},
        "does not speak HTTP": {"transport": "direct"},
        "compression": {"compression": "gzip"},
        "companions": {"companions": (Companion("n", Generated("zero")),)},
        "HOST:PORT": {"endpoint": Endpoint("", "m", http="h")},
    }
    for words, fields in refused.items():
        with pytest.raises(PlanError, match=words):
            changed(**fields)
    with pytest.raises(PlanError, match="does not speak gRPC"):
        changed(endpoint=Endpoint("h:1", "m"), transport="http")
    with pytest.raises(PlanError, match="verify none"):
        changed(endpoint=Endpoint("h:1", "m", tls=Tls(verify="none")))
    with pytest.raises(PlanError, match="decoupled"):
        resolved(made, in_streams=True)


def test_a_port_that_does_not_speak_http_is_named() -> None:
    """As the gRPC port would be: at once, not after the time to wait for a server."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, TritonHttp(Endpoint("", "m", http=f"127.0.0.1:{port}")) as triton:
            with pytest.raises(TargetError, match="does not speak HTTP"):
                await triton.wait_ready(30)

    asyncio.run(main())


def test_the_grpc_form_is_only_read_once_per_request() -> None:
    """A request without tensors has a head and nothing behind it."""
    message = service_pb2.ModelInferRequest(model_name="m").SerializeToString()
    body = kserve_http.from_grpc(message)
    assert len(body) == kserve_http.head_bytes(body)
    assert kserve_http.head_bytes(b"{}" * 9999) == 2 * 9999
