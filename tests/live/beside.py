"""Programs of others that stand beside the real Triton in tests: a Prometheus server, a balancer."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote

import pytest

from loadgen import clock

PATIENCE_S = 30


def program(name: str, package: str) -> str:
    """Return where a program is; skip the test where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} (Debian package {package}) is not installed")
    return found


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def prometheus(pages: Mapping[str, str], folder: Path, scrape_ms: int = 250) -> Iterator[str]:
    """Run a Prometheus server that scrapes pages, each labelled with its pod; yields its address once it has them."""
    command, port = program("prometheus", "prometheus"), free_port()
    targets = [{"targets": [page], "labels": {"pod": pod, "namespace": "test"}} for pod, page in pages.items()]
    jobs = [{"job_name": "triton", "scrape_interval": f"{scrape_ms}ms", "static_configs": targets}]
    for job in jobs:
        job["scrape_timeout"] = job["scrape_interval"]
    folder.mkdir()
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}))  # JSON is YAML too
    options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    options += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "log").open("wb") as log, running([command, *options], log.fileno()):
        url = f"http://127.0.0.1:{port}"
        _wait_for_scrapes(url, len(pages), folder / "log")
        yield url


@contextmanager
def running(command: list[str], output: int) -> Iterator[None]:
    """Run a program until the context is left, whatever happens in it."""
    with subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for_scrapes(url: str, count: int, log: Path) -> None:
    give_up_ns = clock.now_ns() + PATIENCE_S * clock.NS_PER_S
    while clock.now_ns() < give_up_ns:
        try:
            with urllib.request.urlopen(f"{url}/api/v1/query?query={quote('sum(up)')}") as answer:
                found = json.load(answer)["data"]["result"]
        except (URLError, ConnectionError):
            found = []
        if found and float(found[0]["value"][1]) == count:
            return
        time.sleep(0.1)
    raise AssertionError(f"Prometheus does not scrape {count} pages: {log.read_text()[-2000:]}")


@contextmanager
def nginx(weights: Mapping[str, int], folder: Path) -> Iterator[str]:
    """Run nginx as a balancer of gRPC servers by weight; yields its address."""
    command, port = program("nginx", "nginx"), free_port()
    folder.mkdir()
    servers = "".join(f"server {address} weight={weight};" for address, weight in weights.items())
    paths = "".join(
        f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; worker_processes 1; pid {folder / 'pid'}; error_log {folder / 'errors'};"
        "events { worker_connections 256; }"
        f"http {{ access_log off; {paths} client_max_body_size 0; grpc_read_timeout 600s;"
        "keepalive_requests 1000000; keepalive_timeout 600s;"
        f"upstream replicas {{ {servers} keepalive 64; }}"
        f"server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://replicas; }} }} }}"
    )
    with (folder / "log").open("wb") as log, running([command, "-c", str(folder / "nginx.conf")], log.fileno()):
        yield f"127.0.0.1:{port}"
