"""Servers of our own: started under guard on free ports, handed out when ready, always stopped.

`guard.py` holds the server, and we hold the guard's stdin: however this process ends, the server goes with it.
"""

import asyncio
import json
import os
import re
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal

from loadgen.endpoint import Endpoint, Tls
from loadgen.errors import TargetError
from loadgen.server import embedded, repository
from loadgen.server.triton import Triton

GUARD = Path(__file__).parent / "guard.py"
LOCALHOST = "127.0.0.1"
PORTS_TRIES = 3
PORT_TAKEN = re.compile(r"already in use|Address in use|failed to start (GRPC|HTTP|Metrics) service")
GRACE_S = 10
"""How long a server may take to stop before it is killed."""

GUARD_MARGIN_S = 5
SHOWN_LINES = 8
SHOWN_CHARACTERS = 240
TABLE_BORDERS = ("|", "+")
USAGE = "Usage: tritonserver"
LOG_TAIL_BYTES = 64 * 1024
BAD_LINE = re.compile(r"^E\d{4} |\berror: |^Traceback|^\w*Error: |UNAVAILABLE: ")
HARMLESS = ("CudaDriverHelper has not been initialized",)
"""What Triton says at level error on every machine without a GPU."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server of ours that is up: its addresses, the model it serves, and its log."""

    grpc: str
    http: str
    metrics_url: str
    model: str
    kind: Literal["triton", "stub"]
    log: Path


@dataclass(frozen=True, slots=True)
class _Ports:
    grpc: int
    http: int
    metrics: int


@dataclass(frozen=True, slots=True)
class _Command:
    arguments: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    shm_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Secured:
    """Options that make Triton speak TLS, and how a client then reaches it."""

    options: Sequence[str]
    tls: Tls


@dataclass(frozen=True, slots=True)
class Program:
    """A tritonserver to start: its path, options of its own, and what to add to the environment."""

    binary: Path
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    @classmethod
    def of(cls, installation: embedded.Installation) -> "Program":
        """Return the embedded one, which has no GPU."""
        options = (
            f"--backend-directory={installation.backends}",
            "--disable-auto-complete-config",
            "--allow-gpu-metrics=false",
        )
        # The Python backend imports from its working folder first: not the user's, which may hold a random.py.
        return cls(installation.binary, options, installation.environment, installation.backends)


@asynccontextmanager
async def serve_standin(  # noqa: PLR0913 - each is one option of the server
    *,
    signature: str = "odd",
    instances: int = 2,
    stretch: float = 1.0,
    directory: Path,
    log: Path,
    ready_timeout_s: float = 60,
    secured: Secured | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve the stand-in `traccc-gpu` on our own Triton; its model repository is written below `directory`.

    An answer takes `stretch` times as long as the work for it.

    Raises:
        PlanError: the signature is not known, or `directory` cannot be written.
        TargetError: Triton cannot run here, cannot be downloaded, or does not get ready.
    """
    models = repository.write_standin(directory, signature, instances, stretch)
    installation = await asyncio.to_thread(embedded.install)
    async with serve_triton(
        installation, models, repository.MODEL, log=log, ready_timeout_s=ready_timeout_s, secured=secured
    ) as server:
        yield server


@asynccontextmanager
async def serve_triton(  # noqa: PLR0913 - likewise
    program: Program | embedded.Installation,
    models: Path,
    model: str,
    *,
    log: Path,
    ready_timeout_s: float = 60,
    secured: Secured | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve a model repository on free ports of this host, until the context is left; over TLS if `secured`.

    Raises:
        TargetError: the server ends or is not ready in time; the message names `log` and shows its errors.
    """
    started = Program.of(program) if isinstance(program, embedded.Installation) else program
    server, guard = await _triton_on_free_ports(started, models, model, log, ready_timeout_s, secured)
    try:
        yield server
    finally:
        await _stop(guard)


@asynccontextmanager
async def serve_stub(
    *, signature: str = "odd", instances: int = 2, log: Path, ready_timeout_s: float = 30
) -> AsyncIterator[RunningServer]:
    """Serve the simulating stub, which runs on every system, until the context is left.

    Raises:
        TargetError: the stub ends or is not ready in time; the message names `log` and shows its errors.
    """
    stub = [sys.executable, "-m", "loadgen.server.stub", "--signature", signature, "--instances", str(instances)]
    guard = await _start(_Command(stub, log), stdout=asyncio.subprocess.PIPE)
    try:
        yield await _stub_ready(guard, log, ready_timeout_s)
    finally:
        await _stop(guard)


@asynccontextmanager
async def serve_noop(*, response_bytes: int = 64, log: Path, ready_timeout_s: float = 30) -> AsyncIterator[str]:
    """Serve what answers every call at once, until the context is left; yields its address.

    Raises:
        TargetError: it ends or is not ready in time; the message names `log` and shows its errors.
    """
    noop = [sys.executable, "-m", "loadgen.server.noop", "--response-bytes", str(response_bytes)]
    guard = await _start(_Command(noop, log), stdout=asyncio.subprocess.PIPE)
    try:
        yield (await _stub_ready(guard, log, ready_timeout_s)).grpc
    finally:
        await _stop(guard)


async def _triton_on_free_ports(  # noqa: PLR0913, PLR0917 - likewise
    program: Program,
    models: Path,
    model: str,
    log: Path,
    ready_timeout_s: float,
    secured: Secured | None,
) -> tuple[RunningServer, asyncio.subprocess.Process]:
    for _ in range(PORTS_TRIES):
        ports = _free_ports()
        command = _triton_command(program, models, ports, log)
        options = secured.options if secured else ()
        guard = await _start(replace(command, arguments=[*command.arguments, *options]))
        server = RunningServer(
            grpc=f"{LOCALHOST}:{ports.grpc}",
            http=f"{LOCALHOST}:{ports.http}",
            metrics_url=f"http://{LOCALHOST}:{ports.metrics}/metrics",
            model=model,
            kind="triton",
            log=log,
        )
        try:
            if await _is_ready(server, guard, ready_timeout_s, secured.tls if secured else None):
                return server, guard
        except BaseException:
            await _stop(guard)
            raise
        await _stop(guard)
    raise _failure(f"Triton found its ports taken {PORTS_TRIES} times", log)


def _triton_command(program: Program, models: Path, ports: _Ports, log: Path) -> _Command:
    # A name of its own, so that the guard removes this server's shared memory and no other's.
    shm_prefix = f"loadgen-{os.getpid()}-{secrets.token_hex(4)}-"
    arguments = [
        str(program.binary),
        f"--model-repository={models.absolute()}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--grpc-address={LOCALHOST}",
        f"--http-address={LOCALHOST}",
        f"--grpc-port={ports.grpc}",
        f"--http-port={ports.http}",
        f"--metrics-port={ports.metrics}",
        f"--exit-timeout-secs={GRACE_S // 2}",
        *program.options,
    ]
    return _Command(arguments, log, program.environment, program.cwd, shm_prefix)


async def _is_ready(
    server: RunningServer, guard: asyncio.subprocess.Process, timeout_s: float, tls: Tls | None
) -> bool:
    """Wait for the server; False if another process took one of its ports first."""
    refusal = await _refusal(server, guard, timeout_s, tls)
    if PORT_TAKEN.search(tail(server.log)):
        return False
    if guard.returncode is not None:
        raise _failure(f"Triton ended with status {guard.returncode} before it was ready", server.log)
    if refusal is not None:
        raise _failure(f"Triton does not get ready ({refusal})", server.log)
    return True


async def _refusal(
    server: RunningServer, guard: asyncio.subprocess.Process, timeout_s: float, tls: Tls | None
) -> BaseException | None:
    async with Triton(Endpoint(grpc=server.grpc, model=server.model, tls=tls)) as triton:
        ready = asyncio.create_task(triton.wait_ready(timeout_s))
        ended = asyncio.create_task(guard.wait())
        try:
            await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
            return ready.exception() if ready.done() else None
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)


async def _stub_ready(guard: asyncio.subprocess.Process, log: Path, timeout_s: float) -> RunningServer:
    assert guard.stdout is not None
    try:
        line = await asyncio.wait_for(guard.stdout.readline(), timeout_s)
        said = json.loads(line)
    except TimeoutError:
        raise _failure(f"the stub is not ready after {timeout_s:g} s", log) from None
    except ValueError:
        raise _failure("the stub ended before it was ready", log) from None
    return RunningServer(said["grpc"], said["http"], said["metrics_url"], repository.MODEL, "stub", log)


async def _start(command: _Command, stdout: int | None = None) -> asyncio.subprocess.Process:
    prefix = f"--shm-prefix={command.shm_prefix}"
    with _opened(command.log) as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(GUARD), f"--grace-s={GRACE_S}", prefix, "--"),
            *command.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=log if stdout is None else stdout,
            stderr=log,
            cwd=command.cwd,
            env={**os.environ, **command.environment},
            start_new_session=True,
        )


async def guarded(command: Sequence[str], log: Path) -> asyncio.subprocess.Process:
    """Start any program under guard, its stdout to be read, its stderr into `log`.

    Raises:
        TargetError: `log` cannot be written.
    """
    return await _start(_Command(command, log), stdout=asyncio.subprocess.PIPE)


async def stopped(guard: asyncio.subprocess.Process) -> None:
    """Stop what `guarded` started."""
    await _stop(guard)


async def _stop(guard: asyncio.subprocess.Process) -> None:
    assert guard.stdin is not None
    guard.stdin.close()
    try:
        await asyncio.wait_for(guard.wait(), GRACE_S + GUARD_MARGIN_S)
    except TimeoutError:
        guard.kill()
        await guard.wait()


def _opened(log: Path) -> IO[bytes]:
    try:
        return log.open("wb")
    except OSError as error:
        raise TargetError(f"{log}: cannot write the server's log there ({error.strerror})") from error


def _free_ports() -> _Ports:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind((LOCALHOST, 0))
        return _Ports(*(each.getsockname()[1] for each in sockets))


def _failure(what: str, log: Path) -> TargetError:
    return TargetError("\n  ".join([f"{what}; its log is {log} and says:", *telling_lines(tail(log))]))


def telling_lines(log: str) -> list[str]:
    """Return the lines of a server's log that say what went wrong, else its last lines; at most eight, each cut.

    Of a program that explains its usage, what it says before that.
    """
    complaint, usage, _ = log.partition(USAGE)
    lines = [line.strip() for line in (complaint if usage else log).splitlines()]
    bad = [line for line in lines if BAD_LINE.search(line) and not any(words in line for words in HARMLESS)]
    plain = [line for line in lines if line and not line.startswith(TABLE_BORDERS)]
    # Triton writes a whole traceback into one line, with its newlines spelled out; the first of them says enough.
    cut = [line.partition(r"\n")[0][:SHOWN_CHARACTERS] for line in bad or plain or ["(nothing)"]]
    return list(dict.fromkeys(cut))[-SHOWN_LINES:]


def tail(log: Path) -> str:
    """Return the end of a log; its beginning where a wrong option is complained of there."""
    with log.open("rb") as file:
        head = file.read(LOG_TAIL_BYTES).decode(errors="replace")
        if USAGE in head:
            return head
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
