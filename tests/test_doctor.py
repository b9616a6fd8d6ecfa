"""The doctor: what it says of servers that are well, sick, or not there."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from loadgen.cli import app
from loadgen.doctor import Finding, examined, gpu_finding
from loadgen.endpoint import Endpoint, Tls
from loadgen.server.metrics import parse_page
from loadgen.server.simulated import RunningStub, StubConfig
from loadgen.server.stub import stub_server


def seen(target: Callable[[RunningStub], Endpoint], config: StubConfig | None = None) -> dict[str, Finding]:
    """Serve a stub and examine an endpoint of it; return the findings by what they are about."""

    async def main() -> list[Finding]:
        async with stub_server(config or StubConfig()) as stub:
            return await examined(target(stub))

    return {found.what: found for found in asyncio.run(main())}


def test_a_server_that_is_well() -> None:
    """From the network to the model's signature and the page, all of it."""
    found = seen(lambda stub: Endpoint(stub.grpc, "traccc-gpu", metrics_urls=(stub.metrics_url or "",)))
    states = {name: each.state for name, each in found.items()}
    well = ("network", "server", "models", "model", "statistics", "metrics")
    assert states == dict.fromkeys(well, "ok") | {"GPUs": "note"}
    assert "loadgen-stub 1 is ready" in found["server"].words
    assert "traccc-gpu 1 READY" in found["models"].words
    assert "FEATURES FP64[-1,5]" in found["model"].words


def test_no_model_named_is_no_fault() -> None:
    """The server is looked at, and what it has is listed."""
    found = seen(lambda stub: Endpoint(stub.grpc, ""))
    assert set(found) == {"network", "server", "models"}


def test_a_model_that_is_not_there() -> None:
    """The fault is the model's; what there is stands above it."""
    found = seen(lambda stub: Endpoint(stub.grpc, "absent"))
    assert found["server"].state == "ok"
    assert found["model"].state == "fault"
    assert "no model absent" in found["model"].words


def test_a_server_that_is_not_ready() -> None:
    """Up is not ready."""
    found = seen(lambda stub: Endpoint(stub.grpc, ""), StubConfig(ready=False))
    assert found["server"].state == "fault"
    assert "not ready" in found["server"].words


def test_nobody_there() -> None:
    """One fault, with what to look for; nothing else is tried."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        (found,) = asyncio.run(examined(Endpoint(address, "")))
    assert (found.what, found.state) == ("network", "fault")
    assert "usually 8001" in found.mend


def test_the_metrics_port_given_for_grpc() -> None:
    """It takes connections, and speaks another language."""
    found = seen(lambda stub: Endpoint((stub.metrics_url or "").split("/")[2], ""))
    assert found["network"].state == "ok"
    assert "does not speak gRPC" in found["server"].words


@pytest.mark.parametrize(("name", "mend"), [("elsewhere.org", "--tls-server-name"), ("127.0.0.1", "--tls-ca")])
def test_certificates_that_do_not_fit(tmp_path: Path, name: str, mend: str) -> None:
    """Another name, or an authority nobody knows: the remedy names the option."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    trusted = Tls(str(tmp_path / "ca.pem")) if mend == "--tls-server-name" else Tls()

    async def main() -> list[Finding]:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        async with server:
            return await examined(Endpoint(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "", tls=trusted))

    (found,) = asyncio.run(main())
    assert found.state == "fault"
    assert mend in found.mend


def test_a_page_of_zeros_is_a_collector_that_does_not_work() -> None:
    """GPUs whose use, power and memory are 0 are a fault, whatever their limit; one of them is enough to be well."""
    page = '{metric}{{gpu_uuid="GPU-1"}} {value}\n'
    zeros = "".join(page.format(metric=name, value=0) for name in ("nv_gpu_utilization", "nv_gpu_power_usage"))
    assert gpu_finding(parse_page(zeros, 0)).state == "fault"
    limit = page.format(metric="nv_gpu_power_limit", value=300)
    assert gpu_finding(parse_page(zeros + limit, 0)).state == "fault"
    memory = page.format(metric="nv_gpu_memory_used_bytes", value=1e9)
    assert gpu_finding(parse_page(zeros + memory, 0)).state == "ok"
    assert gpu_finding([]).state == "note"


def test_the_command_exits_with_3_on_a_fault() -> None:
    """A line a finding, and the remedy."""
    done = CliRunner().invoke(app, ["doctor", "-u", "127.0.0.1:1", "--no-collect-metrics"])
    assert done.exit_code == 3
    assert done.stdout.startswith("fault  network     127.0.0.1:1: ")
