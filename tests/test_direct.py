"""The direct transport against real sockets: every request becomes a row that tells what happened to it."""

import asyncio
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from h2_server import Call, Server, digest, hang, serving

from loadgen import clock
from loadgen.endpoint import Endpoint, Tls
from loadgen.errors import PlanError
from loadgen.records import Outcome, Reply
from loadgen.transport.direct import DirectTransport, _timeout_text
from loadgen.transport.grpcaio import GrpcAioTransport

LONG_NS = 20 * clock.NS_PER_S
MODEL = "m"


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Return what runs a coroutine, on either event loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def go(work: Any) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work)

    return go


async def ask(transport: DirectTransport, body: bytes, deadline_ns: int = LONG_NS) -> Reply:
    """Send a request and wait for its reply."""
    reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    returned = False

    def on_reply(found: Reply) -> None:
        assert returned, "a reply came before send returned"
        reply.set_result(found)

    transport.send(body, deadline_ns, on_reply)
    returned = True
    return await reply


async def opened(server: Server | str, connections: int = 1, **target: Any) -> DirectTransport:
    """Return a transport that has tried to connect."""
    address = server if isinstance(server, str) else server.address
    transport = DirectTransport(Endpoint(address, MODEL, **target), connections)
    await transport.open()
    return transport


def test_every_request_is_answered_with_its_own_answer(run: Callable[..., None]) -> None:
    """300 requests of many sizes on three connections, all in flight at once: each answer is that of its request."""

    async def main() -> None:
        async with serving() as server:
            transport = await opened(server, connections=3)
            bodies = [struct.pack(">I", number) * (number * 37 % 5000 + 1) for number in range(300)]
            replies = await asyncio.gather(*(ask(transport, body) for body in bodies))
            for body, reply in zip(bodies, replies, strict=True):
                assert reply.outcome is Outcome.OK
                assert reply.response == struct.pack(">I", len(body)) + body[:4] + body[-4:]
            shares = Counter(reply.connection for reply in replies)
            assert shares == {0: 100, 1: 100, 2: 100}
            await transport.close()

    run(main())


def test_times_are_in_order(run: Callable[..., None]) -> None:
    """Sent, flushed, first byte, done: also of a body that the kernel takes in many pieces."""

    async def main() -> None:
        async with serving() as server:
            transport = await opened(server)
            for size in (1, 8_000_000):
                sent_ns = clock.now_ns()
                reply = await ask(transport, bytes(size))
                assert sent_ns <= reply.flushed_ns <= reply.first_byte_ns <= reply.done_ns
            await transport.close()

    run(main())


def test_large_bodies_cross_small_windows_whole(run: Callable[..., None]) -> None:
    """Two bodies of 5 MB at once through windows of 70 kB, as views of one buffer."""

    async def main() -> None:
        settings = {SettingCodes.INITIAL_WINDOW_SIZE: 70_000, SettingCodes.MAX_FRAME_SIZE: 30_000}
        content = memoryview(bytes(range(256)) * 40_000)
        async with serving(settings=settings) as server:
            transport = await opened(server)
            halves = content[:5_000_000], content[5_000_000:]
            await asyncio.gather(*(ask(transport, half) for half in halves))  # type: ignore[arg-type]
            assert sorted(call.body for call in server.calls) == sorted(map(bytes, halves))
            await transport.close()

    run(main())


def test_the_servers_limit_of_streams_is_kept(run: Callable[..., None]) -> None:
    """No more than two are open at once; the others wait and are answered."""

    async def main() -> None:
        async with serving(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as server:
            transport = await opened(server)
            replies = await asyncio.gather(*(ask(transport, b"x") for _ in range(20)))
            assert {reply.outcome for reply in replies} == {Outcome.OK}
            assert server.most_open == 2
            await transport.close()

    run(main())


def test_a_goodbye_in_mid_run_loses_nothing(run: Callable[..., None]) -> None:
    """Above the last stream: not processed. Below: answered. What comes after goes over a new connection."""

    async def main() -> None:
        held: list[Call] = []

        def answer(call: Call) -> None:
            held.append(call)
            if len(held) == 4:
                call.line.http2.close_connection(last_stream_id=held[1].stream)
                call.line.write()
                # h2 says nothing more once it has closed: the two answers are written by hand.
                for kept in held[:2]:
                    call.line.transport.write(_answer_bytes(kept.stream))
            elif len(held) > 4:
                digest(call)

        async with serving(answer) as server:
            transport = await opened(server)
            replies = await asyncio.gather(*(ask(transport, b"x") for _ in range(4)))
            expected = [Outcome.OK, Outcome.OK, Outcome.NOT_PROCESSED, Outcome.NOT_PROCESSED]
            assert [reply.outcome for reply in replies] == expected
            assert "GOAWAY" in replies[2].details
            assert (await ask(transport, b"y")).outcome is Outcome.OK
            assert len(server.lines) == 2
            await transport.close()

    run(main())


def _answer_bytes(stream: int) -> bytes:
    """Return a whole answer, header blocks without any table."""

    def frame(kind: int, flags: int, payload: bytes) -> bytes:
        return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload

    head = b"\x88\x0f\x10\x10application/grpc"
    return frame(1, 4, head) + frame(0, 0, b"\0\0\0\0\1z") + frame(1, 5, b"\x00\x0bgrpc-status\x010")


def test_a_connection_out_of_stream_numbers_is_replaced(run: Callable[..., None]) -> None:
    """Its last requests are answered on it, the next ones on a new connection."""

    async def main() -> None:
        async with serving() as server:
            transport = await opened(server)
            line = transport._lines[0]
            assert line is not None
            line._http2._next_id = 2**31 - 5
            replies = await asyncio.gather(*(ask(transport, b"x") for _ in range(9)))
            assert {reply.outcome for reply in replies} == {Outcome.OK}
            assert [call.line is server.lines[0] for call in server.calls] == [True] * 3 + [False] * 6
            await transport.close()

    run(main())


def test_a_lost_connection_is_told_and_made_again(run: Callable[..., None]) -> None:
    """What was in flight is lost, with the reason; the next request finds a new connection."""

    async def main() -> None:
        def answer(call: Call) -> None:
            if len(server.calls) == 3:
                call.line.transport.abort()
            elif len(server.calls) > 3:
                digest(call)

        async with serving(answer) as server:
            transport = await opened(server)
            replies = await asyncio.gather(*(ask(transport, b"x") for _ in range(3)))
            assert {reply.outcome for reply in replies} == {Outcome.LOST}
            assert all("connection" in reply.details for reply in replies)
            assert (await ask(transport, b"y")).outcome is Outcome.OK
            await transport.close()

    run(main())


def test_without_a_server_requests_fail_at_once_until_it_is_there(run: Callable[..., None]) -> None:
    """A refused connection is a row with the reason; once the server is up, requests pass."""

    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        transport = await opened(f"127.0.0.1:{port}")
        reply = await ask(transport, b"x")
        assert reply.outcome is Outcome.GRPC_UNAVAILABLE
        assert f"127.0.0.1:{port}: cannot connect" in reply.details
        async with serving(port=port):
            async with asyncio.timeout(10):
                while (await ask(transport, b"x")).outcome is not Outcome.OK:
                    await clock.sleep_ns(10 * clock.NS_PER_MS)
        await transport.close()

    run(main())


def test_a_server_that_only_greets_is_not_called_all_the_time(run: Callable[..., None]) -> None:
    """It hangs up after its greeting, again and again: we wait longer each time, however long that goes on."""

    async def main() -> None:
        async with serving(lambda call: call.line.transport.abort()) as server:
            transport = await opened(server)
            transport._failures[0] = 5000
            await ask(transport, b"x")
            await clock.sleep_ns(300 * clock.NS_PER_MS)
            assert len(server.lines) == 1
            await transport.close()

    run(main())


def test_a_request_waits_no_longer_than_its_deadline(run: Callable[..., None]) -> None:
    """The row says timeout, the server hears of the deadline beforehand and of the end afterwards."""

    async def main() -> None:
        async with serving(hang) as server:
            transport = await opened(server)
            begun_ns = clock.now_ns()
            replies = await asyncio.gather(
                ask(transport, b"x", 300 * clock.NS_PER_MS), ask(transport, b"x", 100 * clock.NS_PER_MS)
            )
            assert [reply.outcome for reply in replies] == [Outcome.TIMEOUT, Outcome.TIMEOUT]
            waited_ms = [(reply.done_ns - begun_ns) / clock.NS_PER_MS for reply in replies]
            assert 300 <= waited_ms[0] < 2000
            assert 100 <= waited_ms[1] < 290
            assert [call.headers["grpc-timeout"] for call in server.calls] == ["300000u", "100000u"]
            while len(server.resets) < 2:
                await clock.sleep_ns(clock.NS_PER_MS)
            assert server.resets == [ErrorCodes.CANCEL, ErrorCodes.CANCEL]
            await transport.close()

    run(main())


def test_a_timed_out_stream_makes_room_for_one_that_waits(run: Callable[..., None]) -> None:
    """At the server's limit of streams, a hung request is not in the way for ever."""

    async def main() -> None:
        def answer(call: Call) -> None:
            if len(server.calls) > 1:
                digest(call)

        async with serving(answer, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as server:
            transport = await opened(server)
            first, second = await asyncio.gather(
                ask(transport, b"x", 100 * clock.NS_PER_MS), ask(transport, b"y", LONG_NS)
            )
            assert (first.outcome, second.outcome) == (Outcome.TIMEOUT, Outcome.OK)
            await transport.close()

    run(main())


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(100), b"SSH-2.0-x\r\n"], ids=["http1", "zeros", "ssh"]
)
def test_what_is_no_http2_server_is_a_row(run: Callable[..., None], said: bytes) -> None:
    """Never a hang, never an exception."""

    async def main() -> None:
        class Stranger(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                lines.append(transport)
                transport.write(said)  # type: ignore[attr-defined]

        lines: list[asyncio.BaseTransport] = []
        listener = await asyncio.get_running_loop().create_server(Stranger, "127.0.0.1", 0)
        transport = await opened(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        reply = await ask(transport, b"x")
        assert reply.outcome is Outcome.GRPC_UNAVAILABLE
        assert "HTTP/2" in reply.details
        await transport.close()
        listener.close()
        for line in lines:
            line.close()

    run(main())


def test_a_refusal_keeps_the_servers_words(run: Callable[..., None]) -> None:
    """grpc-status and the percent-encoded grpc-message."""

    async def main() -> None:
        def refuse(call: Call) -> None:
            call.line.reply(call.stream, b"", [("grpc-status", "5"), ("grpc-message", "no model %C2%B5")])

        async with serving(refuse) as server:
            transport = await opened(server)
            reply = await ask(transport, b"x")
            assert (reply.outcome, reply.details) == (Outcome.GRPC_NOT_FOUND, "no model µ")
            await transport.close()

    run(main())


def test_headers_go_with_every_call(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose value is in the environment."""
    monkeypatch.setenv("A_TOKEN", "s3cret")

    async def main() -> None:
        async with serving() as server:
            transport = await opened(server, headers={"authorization": "Bearer $A_TOKEN", "x-run": "7"})
            await ask(transport, b"x")
            seen = server.calls[0].headers
            assert (seen["authorization"], seen["x-run"]) == ("Bearer s3cret", "7")
            assert (seen[":path"], seen["te"]) == ("/inference.GRPCInferenceService/ModelInfer", "trailers")
            await transport.close()

    run(main())


@pytest.mark.parametrize("kind", [DirectTransport, GrpcAioTransport])
def test_a_token_in_a_file_may_change_in_mid_run(run: Callable[..., None], tmp_path: Path, kind: Any) -> None:
    """It is read again: later requests of the same connection carry what it holds; without it, the last."""
    file = tmp_path / "token"
    file.write_text("first\n")

    async def main() -> None:
        async with serving() as server:
            headers = {"authorization": f"Bearer $(<{file})"}
            transport = kind(Endpoint(server.address, MODEL, headers=headers, header_refresh_s=0.02))
            await transport.open()
            await ask(transport, b"x")
            file.write_text("second")
            while server.calls[-1].headers["authorization"] != "Bearer second":
                await ask(transport, b"x")
            file.unlink()
            for _ in range(5):
                await asyncio.sleep(0.02)
                await ask(transport, b"x")
            assert {call.headers["authorization"] for call in server.calls} == {"Bearer first", "Bearer second"}
            assert server.calls[-1].headers["authorization"] == "Bearer second"
            assert len(server.lines) == 1
            await transport.close()

    run(main())


@pytest.mark.parametrize("kind", [DirectTransport, GrpcAioTransport])
def test_a_silent_connection_is_pinged(run: Callable[..., None], kind: Any) -> None:
    """While a request waits, and only if asked; the server answers, so the connection stays and the request too."""

    async def main() -> None:
        for keepalive_s in (0.05, 0.0):
            async with serving(hang) as server:
                transport = kind(Endpoint(server.address, MODEL, keepalive_s=keepalive_s))
                await transport.open()
                reply = await ask(transport, b"x", 3 * clock.NS_PER_S // 2)  # grpcio pings once a second at most
                assert reply.outcome is Outcome.TIMEOUT
                assert (server.pings > 0, len(server.lines)) == (bool(keepalive_s), 1)
                await transport.close()

    run(main())


def test_a_server_that_is_gone_without_a_word_is_noticed(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pings stay unanswered: the request is lost long before its deadline, and the row says why."""
    monkeypatch.setattr("loadgen.endpoint.KEEPALIVE_TIMEOUT_S", 0.1)

    async def main() -> None:
        async with serving(lambda call: call.line.transport.pause_reading()) as server:
            transport = await opened(server, keepalive_s=0.05)
            reply = await ask(transport, b"x")
            assert (reply.outcome, reply.details) == (
                Outcome.LOST,
                "nothing came in 0.1 s after a keep-alive ping",
            )
            await transport.close()

    run(main())


def test_a_unix_socket_carries_requests(run: Callable[..., None], tmp_path: Path) -> None:
    """unix:PATH."""

    async def main() -> None:
        async with serving(unix=tmp_path / "s") as server:
            transport = await opened(server)
            assert (await ask(transport, b"x")).outcome is Outcome.OK
            await transport.close()

    run(main())


def test_close_abandons_without_a_word(run: Callable[..., None]) -> None:
    """No reply comes after close, and no line is made again."""

    async def main() -> None:
        async with serving(hang) as server:
            transport = await opened(server)
            replies: list[Reply] = []
            transport.send(b"x", LONG_NS, replies.append)
            await clock.sleep_ns(20 * clock.NS_PER_MS)
            await transport.close()
            await clock.sleep_ns(100 * clock.NS_PER_MS)
            assert replies == []
            assert len(server.lines) == 1

    run(main())


class Certificates:
    """An authority, the contexts of servers it vouches for, and files of it."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca_file, self.cert_file, self.key_file = (str(folder / name) for name in ("ca.pem", "c.pem", "k.pem"))
        self.authority.cert_pem.write_to_path(self.ca_file)
        own = self.authority.issue_cert("client@example.org")
        own.cert_chain_pems[0].write_to_path(self.cert_file)
        own.private_key_pem.write_to_path(self.key_file)

    def server(self, name: str = "127.0.0.1", *, asks: bool = False, alpn: bool = True) -> ssl.SSLContext:
        """Return the context of a server of this name; one that `asks` wants a client's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        if alpn:
            context.set_alpn_protocols(["h2"])
        if asks:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make an authority."""
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_tls_carries_requests(run: Callable[..., None], certificates: Certificates, size: int) -> None:
    """The server's certificate is checked against the authority's file."""

    async def main() -> None:
        async with serving(context=certificates.server()) as server:
            transport = await opened(server, tls=Tls(certificates.ca_file))
            reply = await ask(transport, bytes(size))
            assert reply.outcome is Outcome.OK, reply.details
            assert server.calls[0].headers[":scheme"] == "https"
            await transport.close()

    run(main())


def test_a_client_certificate_is_shown(run: Callable[..., None], certificates: Certificates) -> None:
    """A server that asks for one serves us; without one it does not."""

    async def main() -> None:
        async with serving(context=certificates.server(asks=True)) as server:
            own = Tls(certificates.ca_file, certificates.cert_file, certificates.key_file)
            with_one = await opened(server, tls=own)
            assert (await ask(with_one, b"x")).outcome is Outcome.OK
            without = await opened(server, tls=Tls(certificates.ca_file))
            assert (await ask(without, b"x")).outcome is Outcome.GRPC_UNAVAILABLE
            await with_one.close()
            await without.close()

    run(main())


def test_the_name_to_check_can_be_given(run: Callable[..., None], certificates: Certificates) -> None:
    """Behind a port forward the certificate is for another name than the address."""

    async def main() -> None:
        async with serving(context=certificates.server("triton.example.org")) as server:
            named = await opened(server, tls=Tls(certificates.ca_file, server_name="triton.example.org"))
            assert (await ask(named, b"x")).outcome is Outcome.OK
            assert server.calls[0].headers[":authority"] == "triton.example.org"
            unnamed = await opened(server, tls=Tls(certificates.ca_file))
            reply = await ask(unnamed, b"x")
            assert reply.outcome is Outcome.GRPC_UNAVAILABLE
            assert "certificate verify failed" in reply.details
            await named.close()
            await unnamed.close()

    run(main())


@pytest.mark.parametrize("fault", ["untrusted", "no alpn"])
def test_tls_faults_are_rows(run: Callable[..., None], certificates: Certificates, fault: str) -> None:
    """An unknown authority, or a server that does not speak HTTP/2 over TLS: the row says so."""

    async def main() -> None:
        async with serving(context=certificates.server(alpn=fault != "no alpn")) as server:
            tls = Tls(certificates.ca_file) if fault == "no alpn" else Tls()
            transport = await opened(server, tls=tls)
            reply = await ask(transport, b"x")
            assert reply.outcome is Outcome.GRPC_UNAVAILABLE
            assert {"untrusted": "certificate verify failed", "no alpn": "HTTP/2 over TLS"}[fault] in reply.details
            await transport.close()

    run(main())


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (Tls(ca_file="absent.pem"), "tls.ca_file absent.pem: no such file"),
        (Tls(cert_file=__file__), "needs both cert_file and key_file"),
        (Tls(ca_file=__file__), "tls: cannot use"),
    ],
)
def test_wrong_tls_files_are_refused_beforehand(tls: Tls, words: str) -> None:
    """One line, before anything is sent."""
    with pytest.raises(PlanError, match=words):
        DirectTransport(Endpoint("localhost:1", MODEL, tls=tls))


@pytest.mark.parametrize("address", ["", "host", "host:", "host:x", ":8001", "host:0", "host:70000"])
def test_wrong_addresses_are_refused(address: str) -> None:
    """One line that says what to write."""
    with pytest.raises(PlanError, match="write HOST:PORT"):
        DirectTransport(Endpoint(address, MODEL))


@pytest.mark.parametrize(
    ("deadline_ns", "text"),
    [(1, b"1n"), (99_999_999, b"99999999n"), (10**8, b"100000u"), (300 * 10**9, b"300000m"), (10**18, b"99999999S")],
)
def test_timeouts_have_eight_digits_at_most(deadline_ns: int, text: bytes) -> None:
    """GRPC allows no more; a timeout is never rounded down."""
    found = _timeout_text(deadline_ns)
    assert found == text
