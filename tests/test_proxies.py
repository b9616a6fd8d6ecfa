"""Proxies that the environment names: which addresses go there, that requests arrive, what a refusal looks like."""

import asyncio
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from aiohttp import web
from connect_proxy import connect_proxy
from h2_server import serving
from test_direct import Certificates, ask, certificates, opened, run  # noqa: F401 - fixtures
from test_http1 import ask as http_ask
from test_http1 import serving as http_serving
from test_run import FAST, TinySource, Watcher, carry_out, plan_for

from loadgen import proxies
from loadgen.endpoint import Endpoint, Prometheus, Tls
from loadgen.errors import PlanError
from loadgen.proxies import Proxy
from loadgen.records import Outcome
from loadgen.run import Job
from loadgen.run import run as run_job
from loadgen.server.stub import stub_server
from loadgen.transport import tunnel

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know of no proxy but those of the test."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("address", "variables", "expected"),
    [
        ("triton.example:8001", {}, None),
        ("triton.example:8001", {"http_proxy": "http://p:3128"}, ("p:3128", "http_proxy")),
        ("triton.example:8001", {"http_proxy": "p:3128"}, ("p:3128", "http_proxy")),
        ("triton.example:8001", {"http_proxy": "http://p"}, ("p:80", "http_proxy")),
        ("triton.example:8001", {"http_proxy": "http://p:1", "https_proxy": "http://q:2"}, ("q:2", "https_proxy")),
        ("triton.example:8001", {"https_proxy": "http://q:2", "grpc_proxy": "http://r:3"}, ("r:3", "grpc_proxy")),
        ("[2001:db8::1]:8001", {"grpc_proxy": "http://[2001:db8::2]:3"}, ("[2001:db8::2]:3", "grpc_proxy")),
        *(
            (f"{host}:8001", {"http_proxy": "http://p:3128"}, None)
            for host in ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]")
        ),
        ("unix:/run/triton", {"http_proxy": "http://p:3128"}, None),
        ("triton.example:8001", {"http_proxy": "http://p:1", "no_proxy": "other, example"}, None),
        ("triton.example:8001", {"http_proxy": "http://p:1", "no_proxy": ".example"}, None),
        ("triton.example:8001", {"http_proxy": "http://p:1", "no_proxy": "*"}, None),
        ("triton.example:8001", {"http_proxy": "http://p:1", "no_proxy": "ton.example"}, ("p:1", "http_proxy")),
        ("10.1.2.3:8001", {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("10.1.2.3:8001", {"http_proxy": "http://p:1", "no_proxy": "*", "no_grpc_proxy": "x"}, ("p:1", "http_proxy")),
    ],
)
def test_which_proxy_is_taken(address: str, variables: Mapping[str, str], expected: tuple[str, str] | None) -> None:
    """The first variable that is set; none for this host, nor for what no_proxy names."""
    found = proxies.of_grpc(address, variables)
    assert (found and (found.address, found.variable)) == expected
    assert bool(proxies.channel_options(address, variables)) == (expected is None)
    of_others = proxies.variables_for(address, variables)
    assert bool(of_others) == (expected is None and not address.startswith("unix:"))
    assert proxies.of_grpc(address, {**variables, **of_others}) == found


def test_pages_take_the_proxy_of_their_scheme() -> None:
    """And no other; this host none."""
    variables = {"http_proxy": "http://p:1", "grpc_proxy": "http://r:3"}
    assert proxies.of_url("http://h:8002/metrics", variables) == Proxy("p", 1, "http_proxy")
    assert proxies.of_url("https://h:8002/metrics", variables) is None
    assert proxies.of_url("http://127.0.0.1:8002/metrics", variables) is None


@pytest.mark.parametrize("value", ["socks5://p:1", "https://p:1", "http://p:port", "http://p:0x"])
def test_what_is_no_http_proxy_is_one_line(value: str) -> None:
    """It names the variable, not its value, which may hold a password."""
    with pytest.raises(PlanError, match="the variable http_proxy: names no HTTP proxy") as refusal:
        proxies.of_grpc("h:1", {"http_proxy": value})
    assert value not in str(refusal.value)


def test_a_proxy_that_cannot_be_used_for_pages_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the poller, in mid-run; nor where none is needed."""
    monkeypatch.setenv("http_proxy", "socks5://p:1")
    monkeypatch.setenv("grpc_proxy", "http://p:1")
    page, own = "http://triton.example:8002/metrics", "http://localhost:8002/metrics"
    assert "through the proxy p:1" in proxies.words(Endpoint("triton.example:1", "m", metrics_urls=(own,)))
    with pytest.raises(PlanError, match="the variable http_proxy: names no HTTP proxy"):
        proxies.words(Endpoint("triton.example:1", "m", metrics_urls=(page,)))
    with pytest.raises(PlanError, match="the variable http_proxy: names no HTTP proxy"):
        proxies.words(Endpoint("triton.example:1", "m", prometheus=Prometheus("http://prometheus.example")))


def test_a_password_is_told_to_the_proxy_alone() -> None:
    """No representation has it but the header, and the URL for an HTTP client."""
    proxy = proxies.of_grpc("h:1", {"http_proxy": "http://me:p%40ss@p:1"})
    assert proxy is not None
    assert proxy.authorization == f"Basic {b64encode(b'me:p@ss').decode()}"
    assert proxy.url == "http://me:p%40ss@p:1"
    assert "ss" not in f"{proxy!r} {proxy.address}"


@pytest.mark.parametrize("transport", ["direct", "grpcio"])
def test_this_host_is_reached_without_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """Nobody listens where the variables point: a run on this host does not care, neither for its pages."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    watcher = Watcher()
    directory, stub = carry_out(FAST, tmp_path, 2, transport=transport, watcher=watcher)
    assert stub.counters.success > 10
    assert directory.samples.exists()
    assert not watcher.warnings


@pytest.mark.parametrize("transport", ["direct", "grpcio"])
def test_a_run_through_a_proxy_is_whole_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """Statistics, pages and every request arrive at a host that only the proxy knows; no file holds the password."""

    async def main() -> None:
        watcher = Watcher()
        async with stub_server(FAST) as stub, connect_proxy() as proxy:
            monkeypatch.setenv("http_proxy", f"http://me:s3cret@127.0.0.1:{proxy.port}")
            port, page = stub.grpc.rpartition(":")[2], (stub.metrics_url or "").replace("127.0.0.1", "triton.example")
            endpoint = Endpoint(f"triton.example:{port}", "traccc-gpu", metrics_urls=(page,))
            plan = plan_for(stub, 2, endpoint=endpoint, transport=transport)
            directory = await run_job(Job(plan, TinySource(), watcher, asyncio.Event()), tmp_path)
            assert stub.counters.success > 10
            assert f"CONNECT triton.example:{port} " in "".join(proxy.heads)
            secret = b64encode(b"me:s3cret").decode()
            assert all(f"roxy-Authorization: Basic {secret}".lower() in head.lower() for head in proxy.heads)
            assert any(head.startswith("GET http://triton.example:") for head in proxy.heads)
            assert directory.samples.exists()
        [said] = [text for text in watcher.warnings if "proxy" in text]
        told.append(secret.encode())
        assert f"go through the proxy 127.0.0.1:{proxy.port}, which http_proxy names" in said

    told = [b"s3cret"]
    asyncio.run(main())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if any(secret in path.read_bytes() for secret in told)]


def test_tls_goes_through_a_proxy(
    run: Callable[..., None],  # noqa: F811 - a fixture
    certificates: Certificates,  # noqa: F811 - a fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server's name is checked, and the proxy sees no more than that."""

    async def main() -> None:
        async with serving(context=certificates.server("triton.example")) as server, connect_proxy() as proxy:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
            address = server.address.replace("127.0.0.1", "triton.example")
            transport = await opened(address, connections=2, tls=Tls(certificates.ca_file))
            replies = [await ask(transport, bytes(100_000)) for _ in range(3)]
            assert [reply.outcome for reply in replies] == [Outcome.OK] * 3
            assert [head.split()[1] for head in proxy.heads] == [address] * 2
            await transport.close()

    run(main())


def test_http_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of `-i http` for a host that only the proxy knows; the proxy is asked by its address, once."""

    async def handler(request: web.Request) -> web.Response:
        assert await request.read() == b"{}\n"
        return web.Response()

    async def main() -> None:
        async with http_serving(handler) as target, connect_proxy() as proxy:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            away = target.http.replace("127.0.0.1", "triton.example")
            reply = await http_ask(Endpoint("", "m", http=away), b"{}\n")
            assert reply.outcome is Outcome.OK, reply.details
            assert [head.split()[1].startswith(f"http://{away}/v2/models/m/infer") for head in proxy.heads] == [True]

    asyncio.run(main())


def test_what_follows_the_proxys_answer_is_the_servers(run: Callable[..., None]) -> None:  # noqa: F811 - a fixture
    """A server may greet unasked: its bytes in one segment with the proxy's answer are not swallowed."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1], "http_proxy")
            with await tunnel.opened(proxy, "triton.example", 8001) as through:
                assert await asyncio.get_running_loop().sock_recv(through, 99) == b"hello"

    run(main())


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_that_refuses_is_named(
    run: Callable[..., None],  # noqa: F811 - a fixture
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    """The request is a row with the proxy's words; so it is where no proxy listens."""

    async def main() -> None:
        async with connect_proxy(status) as proxy:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            transport = await opened("triton.example:8001")
            reply = await ask(transport, b"x")
            assert reply.outcome is Outcome.GRPC_UNAVAILABLE
            assert f"the proxy 127.0.0.1:{proxy.port} does not connect: HTTP/1.1 {status}" in reply.details
            await transport.close()
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        transport = await opened("triton.example:8001")
        reply = await ask(transport, b"x")
        assert "the proxy 127.0.0.1:9: " in reply.details
        await transport.close()

    run(main())
