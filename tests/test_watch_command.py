"""`python -m loadgen watch` against servers that are well, go away, hang, or speak nonsense."""

import asyncio
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest
from aiohttp import web
from rich.console import Console
from watched import at, shown, watched

from loadgen import clock
from loadgen.endpoint import Endpoint
from loadgen.server.simulated import StubConfig
from loadgen.server.stub import stub_server
from loadgen.watch.faces import live_page
from loadgen.watch.look import GrpcSource
from loadgen.watch.loop import Pace, watch
from loadgen.watch.page import Round
from loadgen.watch.view import EndpointView

INTERVAL_NS = 200 * clock.NS_PER_MS


async def until(target: Endpoint, enough: Callable[[EndpointView], bool], rounds: list[Round] | None = None) -> None:
    """Watch until the endpoint looks as it should."""
    stopped = asyncio.Event()

    def show(shown: Round) -> None:
        if rounds is not None:
            rounds.append(shown)
        if enough(shown.views[0]):
            stopped.set()

    async with asyncio.timeout(60):
        await watch([target], [], Pace(INTERVAL_NS), show, stopped)


def test_rates_of_a_server_under_load() -> None:
    """What the stub counted while it was watched is what the rates add up to."""

    async def main() -> tuple[list[Round], int]:
        rounds: list[Round] = []
        async with stub_server(StubConfig(base_ns=1_000_000, per_cell_ns=0)) as stub:
            load = asyncio.create_task(_infer(stub.infer))
            await until(
                Endpoint(stub.grpc, "", metrics_urls=(stub.metrics_url or "",)),
                lambda view: len(rounds) > 8 and bool(view.server) and view.models[0].instances is not None,
                rounds,
            )
            load.cancel()
            return rounds, stub.counters.success

    rounds, success = asyncio.run(main())
    (view,) = rounds[-1].views
    (model,) = view.models
    assert (view.server, view.ready, model.state, model.instances) == ("loadgen-stub", True, "READY", 2)
    counted = (model.minute.requests_per_s or 0) * model.minute.seconds
    assert 0 < counted <= success
    each = [shown.views[0].models[0].now for shown in rounds if shown.views[0].models]
    assert counted == pytest.approx(sum((now.requests_per_s or 0) * now.seconds for now in each))
    assert model.minute.compute_infer_ns == pytest.approx(1e6, rel=5)
    assert model.pending is not None


async def _infer(infer: Callable[[str, int], object]) -> None:
    while True:
        await infer("traccc-gpu", 1)  # type: ignore[misc]


def test_a_server_that_goes_away_and_comes_back() -> None:
    """It is shown so, with a reason; on return its lower counters are noted, and rates go on."""

    async def main() -> list[Round]:
        rounds: list[Round] = []
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(stub_server(StubConfig()))
            first.counters.success = 1000
            port = int(first.grpc.rpartition(":")[2])
            target = Endpoint(first.grpc, "")
            back = asyncio.Event()

            async def restart() -> None:
                await _seen(rounds, lambda view: bool(view.models))
                await stack.aclose()
                await _seen(rounds, lambda view: view.sources[0].reachable is False)
                async with stub_server(StubConfig(grpc_port=port)):
                    await back.wait()

            other = asyncio.create_task(restart())
            await until(target, lambda view: len(view.notes) == 2 and view.models[0].now.seconds > 0, rounds)
            back.set()
            await other
        return rounds

    rounds = asyncio.run(main())
    away = next(view for shown in rounds for view in shown.views if view.sources[0].reachable is False)
    assert "no server answers" in away.sources[0].reason
    assert away.models[0].now.requests_per_s is None
    words = [note.words for note in rounds[-1].views[0].notes]
    assert "gRPC is back after" in words[0]
    assert words[1] == "gRPC: counters of traccc-gpu 1 went back: started again"
    assert rounds[-1].views[0].models[0].now.requests_per_s == 0.0


def test_a_lost_server_is_connected_to_afresh() -> None:
    """Not by a channel that waits longer each time, so that a server is seen as soon as it is back."""

    async def main() -> list[bool]:
        source = GrpcSource(Endpoint("127.0.0.1:1", ""))
        channels = [source._triton]
        for _ in range(2):
            assert (await source.read()).fault
            channels.append(source._triton)
        await source.close()
        return [one is other for one, other in pairwise(channels)]

    assert asyncio.run(main()) == [False, False]


async def _seen(rounds: list[Round], wanted: Callable[[EndpointView], bool]) -> None:
    while not (rounds and wanted(rounds[-1].views[0])):
        await clock.sleep_ns(clock.NS_PER_MS)


def test_a_page_that_hangs_does_not_hold_up_the_rest() -> None:
    """Rounds go on while it owes an answer; then it is unreachable, for that reason."""

    async def main() -> list[Round]:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1024):
                pass
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(never, "127.0.0.1", 0)
        page = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
        rounds: list[Round] = []
        async with stub_server(StubConfig()) as stub:
            await until(
                Endpoint(stub.grpc, "", metrics_urls=(page,)), lambda view: view.sources[1].reachable is False, rounds
            )
        server.close()
        return rounds

    rounds = asyncio.run(main())
    views = [shown.views[0] for shown in rounds]
    assert views[-1].sources[1].reason == "no answer within 2 s"
    assert rounds[-1].moment.utc_ns - (views[-1].sources[1].since_utc_ns or 0) >= 2 * clock.NS_PER_S
    waiting = [view for view in views if view.sources[1].owes_s is not None]
    assert len(waiting) > 3
    assert any(view.models[0].now.requests_per_s == 0.0 for view in waiting if view.models)


def test_another_port_and_a_page_that_is_none() -> None:
    """A port that does not speak gRPC, HTML for a page: named with their reason, and nothing breaks."""

    async def main() -> EndpointView:
        application = web.Application()
        application.router.add_get("/metrics", _html)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        where = f"127.0.0.1:{runner.addresses[0][1]}"
        rounds: list[Round] = []
        target = Endpoint(where, "", metrics_urls=(f"http://{where}/metrics",))
        await until(target, lambda view: all(source.reachable is False for source in view.sources), rounds)
        await runner.cleanup()
        return rounds[-1].views[0]

    view = asyncio.run(main())
    assert "does not speak gRPC" in view.sources[0].reason
    assert "not Prometheus text" in view.sources[1].reason
    assert view.models == ()


async def _html(_request: web.Request) -> web.Response:
    return web.Response(text="<html>\n<p>hello</p>\n</html>")


def watching(*options: str) -> list[str]:
    """Return a command line."""
    return [sys.executable, "-m", "loadgen", "watch", *options]


def test_nobody_there_ends_in_time_without_an_error() -> None:
    """Plain lines say so each interval, and the exit code is 0."""
    command = watching("-u", "127.0.0.1:1", "--no-collect-metrics", "--interval", "0.2s", "--for", "0.6")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) >= 3
    assert all("source=127.0.0.1:1 state=unreachable" in line for line in lines)


@pytest.mark.parametrize("options", [("--interval", "0"), ("-u", "nowhere"), ("--tls-ca", "/absent.pem")])
def test_wrong_options_are_one_line(options: tuple[str, ...]) -> None:
    """Exit code 2, and the option's name."""
    done = subprocess.run(watching(*options), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert options[0].removeprefix("--").replace("-", "_")[:3] in done.stderr.replace("-", "_")


def test_ctrl_c_ends_well() -> None:
    """JSON until the signal, then exit code 0 with whole lines."""
    command = watching("-u", "127.0.0.1:1", "--no-collect-metrics", "--interval", "0.2s", "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(20) == 0
    assert {json.loads(line)["interval_s"] for line in (first + rest).splitlines()} == {0.2}


def test_a_reader_that_leaves_ends_it() -> None:
    """`watch | head -1`: no traceback, exit code 0."""
    command = watching("-u", "127.0.0.1:1", "--no-collect-metrics", "--interval", "0.2s")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 0


def test_a_terminal_is_left_as_it_was() -> None:
    """In a real terminal the page has a screen of its own; Ctrl-C gives the old one back, with the last page."""
    command = watching("-u", "127.0.0.1:1", "--no-collect-metrics", "--interval", "0.2s")
    outer, inner = pty.openpty()
    terminal = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, env=terminal) as run:
        os.close(inner)
        written = b""
        while b"unreachable since" not in written:
            written += os.read(outer, 65536)
        run.send_signal(signal.SIGINT)
        while chunk := _rest(outer):
            written += chunk
        assert run.wait(20) == 0
    os.close(outer)
    assert written.count(b"\x1b[?1049h") == written.count(b"\x1b[?1049l") == 1
    after = written.partition(b"\x1b[?1049l")[2]
    assert b"unreachable since" in after
    assert b"Traceback" not in written


def _rest(outer: int) -> bytes:
    try:
        return os.read(outer, 65536)
    except OSError:
        return b""


def test_the_page_is_redrawn_with_each_round() -> None:
    """What was shown last is what stays."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    with live_page(console) as show:
        for second in (1, 2):
            show(shown(second, watched([at(second, 5)])))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert written.rstrip().count("14:13:22") == 2
