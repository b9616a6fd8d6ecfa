"""A server behind nginx that wants TLS, a client certificate and a token: reached; the token is written nowhere."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from beside import free_port, program, running

from loadgen.server.launch import serve_standin

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

TOKEN = "tok3n-that-must-not-be-written"


@contextmanager
def guarded(address: str, folder: Path) -> Iterator[str]:
    """Run nginx before a gRPC server: TLS, a client certificate of our authority, and the token, or 401."""
    command, port = program("nginx", "nginx"), free_port()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, issued in (("server", authority.issue_cert("localhost")), ("client", authority.issue_cert("me@x.org"))):
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    paths = "".join(
        f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; worker_processes 1; pid {folder / 'pid'}; error_log {folder / 'errors'};"
        "events { worker_connections 256; }"
        f"http {{ access_log off; {paths} client_max_body_size 0; keepalive_requests 1000000;"
        f"server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {folder / 'server.pem'};"
        f"ssl_certificate_key {folder / 'server.key'}; ssl_client_certificate {folder / 'ca.pem'};"
        "ssl_verify_client on;"
        f'location / {{ if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}'
        f"grpc_pass grpc://{address}; }} }} }}"
    )
    with (folder / "log").open("wb") as log, running([command, "-c", str(folder / "nginx.conf")], log.fileno()):
        yield f"localhost:{port}"


def study(folder: Path, address: str, secrets: Path, token: str) -> "subprocess.CompletedProcess[str]":
    """Measure one point through the guard."""
    (secrets / "token").write_text(f"{token}\n")
    options = ["-u", f"guarded={address}", "--tls-ca", str(secrets / "ca.pem")]
    options += ["--tls-cert", str(secrets / "client.pem"), "--tls-key", str(secrets / "client.key")]
    options += ["-H", f"authorization: Bearer $(<{secrets / 'token'})", "--metrics-url", "http://127.0.0.1:9/metrics"]
    options += ["--mu", "2", "--events", "3", "--concurrency-range", "2", "-p", "500", "--warmup-ms", "100"]
    command = [sys.executable, "-m", "loadgen", "study", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_tls_certificate_and_token_through_a_proxy(tmp_path: Path) -> None:
    """Every request is answered, and no file of the study and no word of the command holds the token."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()

    async def main() -> None:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log") as server:
            with guarded(server.grpc, secrets) as address:
                done = await asyncio.to_thread(study, tmp_path / "scan", address, secrets, TOKEN)
                assert done.returncode == 0, done.stderr
                wrong = await asyncio.to_thread(study, tmp_path / "wrong", address, secrets, "another")
                assert wrong.returncode == 3
                assert "Traceback" not in wrong.stderr
                assert TOKEN not in done.stdout + done.stderr + wrong.stdout + wrong.stderr

    asyncio.run(main())
    files = [path for path in (tmp_path / "scan").rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    plan = next((tmp_path / "scan").glob("runs/*/plan.json")).read_text()
    assert "$(<" in plan
