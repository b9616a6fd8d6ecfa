"""Our own transport with the real Triton: over TLS, behind a proxy, killed; every request is accounted for."""

import asyncio
import shutil
import signal
import socket
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
import trustme

from loadgen import Synthetic, clock, sweep_async
from loadgen.endpoint import Tls
from loadgen.server.launch import RunningServer, Secured, serve_standin

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

EVENTS = Synthetic(mu=20.0, events=5)
SHORT = {"input_data": EVENTS, "metrics_url": None, "warmup_ms": 300, "window_ms": 1500}


async def swept(server: RunningServer, folder: Path, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sweep a server; return its points and rows."""
    facts: dict[str, Any] = {"url": server.grpc, **SHORT, **options}
    run = await sweep_async(model=server.model, output=folder / "runs", **facts)
    return run.points(), run.records().collect()


def certificates(folder: Path) -> tuple[Secured, Tls]:
    """Make an authority, a server's certificate and a client's; return how Triton uses them, and a client without."""
    authority = trustme.CA()
    ca, cert, key, own, own_key = (str(folder / f"{name}.pem") for name in ("ca", "cert", "key", "own", "own_key"))
    authority.cert_pem.write_to_path(ca)
    for issued, chain, private in (
        (authority.issue_cert("localhost", "127.0.0.1"), cert, key),
        (authority.issue_cert("client@example.org"), own, own_key),
    ):
        issued.cert_chain_pems[0].write_to_path(chain)
        issued.private_key_pem.write_to_path(private)
    options = ["--grpc-use-ssl=1", "--grpc-use-ssl-mutual=1", f"--grpc-root-cert={ca}"]
    options += [f"--grpc-server-cert={cert}", f"--grpc-server-key={key}"]
    return Secured(options, Tls(ca, own, own_key)), Tls(ca)


@pytest.mark.parametrize("transport", ["direct", "grpcio"])
def test_mutual_tls_with_the_real_triton(tmp_path: Path, transport: str) -> None:
    """Certificates on both sides, for the load and for the questions about the server alike."""
    secured, _ = certificates(tmp_path)

    async def main() -> None:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log", secured=secured) as server:
            points, rows = await swept(server, tmp_path, tls=secured.tls, transport=transport, concurrency=2)
            assert set(rows["outcome"]) == {"ok"}
            assert points["point_server_success"].to_list() == points["point_ok"].to_list()

    asyncio.run(main())


def test_a_server_killed_in_mid_run_leaves_a_row_for_every_request(tmp_path: Path) -> None:
    """Answered, lost, or never reached: nothing is missing, and the sweep ends by itself."""

    async def main() -> None:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log") as server:
            killer = asyncio.create_task(_kill_after(1.5))
            points, rows = await swept(server, tmp_path, concurrency=4, window_ms=3000)
            await killer
            assert rows["seq"].sort().to_list() == list(range(rows.height))
            outcomes = Counter(rows["outcome"])
            assert outcomes["ok"] > 0
            assert 0 < outcomes["lost"] <= 4
            assert set(outcomes) <= {"ok", "lost", "not_processed", "grpc_unavailable"}
            assert points["verdict"].to_list() == ["failing"]

    asyncio.run(main())


async def _kill_after(seconds: float) -> None:
    """Kill the Triton of this test once the sweep is under way."""
    await clock.sleep_ns(round((seconds + 2) * clock.NS_PER_S))
    for child in psutil.Process().children(recursive=True):
        if "tritonserver" in child.name():
            child.kill()


@contextmanager
def nghttpx(backend: str, folder: Path) -> Iterator[str]:
    """Run nghttpx in front of a server; yields its address."""
    program = shutil.which("nghttpx")
    if program is None:
        pytest.skip("nghttpx (Debian package nghttp2-proxy) is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host, backend_port = backend.split(":")
    options = [f"--frontend=127.0.0.1,{port};no-tls", f"--backend={host},{backend_port};;proto=h2", "--workers=1"]
    options += [f"--errorlog-file={folder / 'nghttpx.log'}", "--conf=/dev/null"]
    with subprocess.Popen([program, *options]) as proxy:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            for each in proxies(f"127.0.0.1:{port}"):
                each.kill()
            proxy.wait()


def proxies(address: str) -> list[psutil.Process]:
    """Return the processes of a proxy, masters and workers; a restarted one is no child of ours."""
    return [each for each in psutil.process_iter() if address.replace(":", ",") in " ".join(_command(each))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def _restart(address: str) -> None:
    """Start a second proxy on the same socket, then tell the first to finish: it says goodbye to its clients."""
    await clock.sleep_ns(3 * clock.NS_PER_S)
    first = min(proxies(address), key=lambda each: each.pid)
    first.send_signal(signal.SIGUSR2)
    await clock.sleep_ns(clock.NS_PER_S)
    first.send_signal(signal.SIGQUIT)
    async with asyncio.timeout(10):
        while first.is_running() and first.status() != psutil.STATUS_ZOMBIE:
            await clock.sleep_ns(50 * clock.NS_PER_MS)


def test_behind_a_proxy_that_is_restarted(tmp_path: Path) -> None:
    """Through nghttpx: a graceful restart says GOAWAY in mid-run; every request has its row, an answer or a refusal.

    A request that crosses the GOAWAY on its way is refused unseen: no more of them than were in flight.
    """

    async def main() -> None:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log") as server:
            with nghttpx(server.grpc, tmp_path) as address:
                restart = asyncio.create_task(_restart(address))
                options = {"url": address, "concurrency": 4, "connections": 2, "window_ms": 4000}
                points, rows = await swept(server, tmp_path, **options)
                await restart
            assert rows["seq"].sort().to_list() == list(range(rows.height))
            refused = rows.filter(pl.col("outcome") != "ok")
            assert set(refused["outcome"]) <= {"not_processed"}
            assert refused.height <= 4
            assert set(rows["connection"]) == {0, 1}
            assert points["point_server_success"].to_list() == points["point_ok"].to_list()

    asyncio.run(main())


def test_both_transports_find_the_same_throughput(tmp_path: Path) -> None:
    """The same sweep at event size, taken in turns: the medians differ by less than the takes of one scatter."""

    async def main() -> None:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log", instances=1) as server:
            found: dict[str, list[float]] = {"direct": [], "grpcio": []}
            for name in ("direct", "grpcio", "grpcio", "direct", "direct", "grpcio"):
                points, _ = await swept(server, tmp_path, transport=name, concurrency=2)
                found[name].append(points["throughput_per_s"][0])
            medians = {name: statistics.median(values) for name, values in found.items()}
            assert abs(medians["direct"] / medians["grpcio"] - 1) < 0.15, found

    asyncio.run(main())


def test_a_missing_client_certificate_is_one_line(tmp_path: Path) -> None:
    """The command says what the server did not like; nothing is left behind."""
    secured, bare = certificates(tmp_path)

    async def main() -> None:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log", secured=secured) as server:
            command = [sys.executable, "-m", "loadgen", "sweep", "-m", server.model, "-u", server.grpc]
            command += ["--input-data", "synthetic", "--mu", "5", "--tls-ca", bare.ca_file, "--output", "runs"]
            process = await asyncio.create_subprocess_exec(
                *command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
            )
            _, said = await process.communicate()
            assert process.returncode == 3
            assert len(said.decode().strip().splitlines()) == 1
            assert not list((tmp_path / "runs").glob("*"))

    asyncio.run(main())
