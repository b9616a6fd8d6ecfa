"""A service in a Kubernetes cluster, reached by port forwards that are made again when they break.

`kubectl` and `helm` are the user's own, with the user's own configuration. Each forward runs under guard, so that it
goes with this process however that ends; each break is a gap that the run's log tells.
"""

import asyncio
import json
import re
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadgen import clock
from loadgen.errors import PlanError, TargetError
from loadgen.rundir import Sample, canonical_labels
from loadgen.server import launch

READY = re.compile(rb"^Forwarding from ")
START_TIMEOUT_S, TRIES = 20.0, 3
REST_S = 0.5
"""Between a forward that broke and the next try."""

ASK_TIMEOUT_S = 30.0
SOURCE = "kube"
RELEASE = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace")
GPU_RESOURCES = re.compile(r"/gpu$|/mig-")


@dataclass(frozen=True, slots=True)
class Cluster:
    """How to ask a cluster: namespace, and the context if not the current one."""

    namespace: str
    context: str = ""

    @property
    def options(self) -> list[str]:
        """Options of kubectl."""
        return ["--namespace", self.namespace, *(["--context", self.context] if self.context else [])]


@dataclass(frozen=True, slots=True)
class Pod:
    """One replica: where it runs, what of, since when."""

    name: str
    node: str
    ready: bool
    restarts: int
    images: tuple[str, ...]
    gpus: int


@dataclass(frozen=True, slots=True)
class Release:
    """The helm release that a service belongs to; `context` is that of its cluster, if not the current one."""

    name: str
    namespace: str
    context: str = ""

    @property
    def uninstall(self) -> str:
        """The command that removes it: from the cluster that was measured."""
        where = ["-n", self.namespace, *(["--kube-context", self.context] if self.context else [])]
        return shlex.join(["helm", "uninstall", self.name, *where])


@dataclass(frozen=True, slots=True)
class Gap:
    """A forward was broken from one time to another, monotonic."""

    what: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Ready:
    """From a time on so many pods are ready; told at first and when it changes."""

    at_ns: int
    pods: int


News = Gap | Ready | Sample


@dataclass(slots=True)
class Forwarded:
    """A service that is reached: local addresses, its pods, and what has happened to the forwards.

    `tell` is called with each gap as it ends, with samples of how many pods there are, and when other pods are ready.
    """

    grpc: str
    metrics_urls: tuple[str, ...]
    pods: tuple[Pod, ...]
    release: Release | None
    gaps: list[Gap] = field(default_factory=list)
    ready: Ready | None = None
    tell: Callable[[News], None] | None = None

    def hear(self, news: News) -> None:
        """Keep a gap, and how many pods are ready; pass on what is new."""
        if isinstance(news, Gap):
            self.gaps.append(news)
        elif isinstance(news, Ready):
            self.ready = news
        if self.tell is not None:
            self.tell(news)


@asynccontextmanager
async def forwarded(  # noqa: PLR0913 - each is one fact of the service
    service: str,
    cluster: Cluster,
    folder: Path,
    *,
    grpc_port: int = 8001,
    metrics_port: int = 8002,
    poll_s: float = 10.0,
) -> AsyncIterator[Forwarded]:
    """Forward a service's gRPC port, and the metrics port of each of its pods, until the context is left.

    `folder` takes kubectl's words, a file a forward. Pods are counted every `poll_s`.

    Raises:
        PlanError: there is no kubectl, or `service` is not KIND/NAME.
        TargetError: the cluster refuses, there is no such service, or no forward comes up.
    """
    if not re.fullmatch(r"(service|svc|deployment|pod)/[\w.-]+", service):
        raise PlanError(f"--kube {service}: write service/NAME, as service/atlas-sonic")
    described = await _described(service, cluster)
    pods = await pods_of(described, cluster)
    ready = [pod for pod in pods if pod.ready]
    async with AsyncExitStack() as stack:
        gaps: list[Callable[[Gap], None]] = []

        def on_gap(gap: Gap) -> None:
            for hear in gaps:
                hear(gap)

        grpc = await stack.enter_async_context(_forward(service, cluster, grpc_port, folder, on_gap))
        pages = [
            await stack.enter_async_context(_forward(f"pod/{pod.name}", cluster, metrics_port, folder, on_gap))
            for pod in ready
        ]
        urls = tuple(f"http://{address}/metrics" for address in pages)
        found = Forwarded(grpc, urls, tuple(pods), _release(described, cluster))
        gaps.append(found.hear)
        counting = asyncio.create_task(_count(described, cluster, found.hear, poll_s))
        stack.push_async_callback(_cancelled, counting)
        yield found


async def pods_of(described: dict[str, Any], cluster: Cluster) -> list[Pod]:
    """Return the pods behind a service, by its selector; the pod itself if it is one.

    Raises:
        TargetError: the cluster refuses.
    """
    if described["kind"] == "Pod":
        return [_pod(described)]
    selector = described["spec"].get("selector", {})
    labels = selector.get("matchLabels", selector)
    wanted = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
    found = await _asked(["get", "pods", "--selector", wanted, "--output", "json"], cluster)
    return [_pod(item) for item in found["items"]]


def _pod(item: dict[str, Any]) -> Pod:
    status, spec = item.get("status", {}), item["spec"]
    states = status.get("containerStatuses", [])
    limits = [container.get("resources", {}).get("limits", {}) for container in spec["containers"]]
    return Pod(
        name=item["metadata"]["name"],
        node=spec.get("nodeName", ""),
        ready=bool(states) and all(state.get("ready") for state in states),
        restarts=sum(state.get("restartCount", 0) for state in states),
        images=tuple(container["image"] for container in spec["containers"]),
        gpus=sum(int(count) for each in limits for name, count in each.items() if GPU_RESOURCES.search(name)),
    )


def _release(described: dict[str, Any], cluster: Cluster) -> Release | None:
    notes = described["metadata"].get("annotations", {})
    name, namespace = (notes.get(key) for key in RELEASE)
    return Release(name, namespace, cluster.context) if name and namespace else None


async def _described(service: str, cluster: Cluster) -> dict[str, Any]:
    return await _asked(["get", service, "--output", "json"], cluster)


async def _asked(arguments: Sequence[str], cluster: Cluster) -> dict[str, Any]:
    """Ask kubectl for JSON."""
    command = ["kubectl", *arguments, *cluster.options]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise PlanError("--kube: kubectl is not found on PATH; install it, or give the address with -u") from error
    try:
        out, err = await asyncio.wait_for(process.communicate(), ASK_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        raise TargetError(
            f"kubectl {arguments[0]}: no answer in {ASK_TIMEOUT_S:g} s; is the cluster reachable?"
        ) from None
    if process.returncode:
        words = " ".join(err.decode(errors="replace").split()) or f"ended with {process.returncode}"
        raise TargetError(f"kubectl {' '.join(arguments[:2])}: {words}")
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError as error:
        raise TargetError(f"kubectl {' '.join(arguments[:2])}: its answer is not JSON") from error
    return found


@asynccontextmanager
async def _forward(
    what: str, cluster: Cluster, port: int, folder: Path, on_gap: Callable[[Gap], None]
) -> AsyncIterator[str]:
    """Hold one forward up; yields its local address, which stays the same when it is made again."""
    local = _free_port()
    log = folder / f"port-forward-{what.replace('/', '-')}-{port}.log"
    command = ["kubectl", "port-forward", what, f"{local}:{port}", "--address", launch.LOCALHOST, *cluster.options]
    process = await _begun(command, log)
    keeping = asyncio.create_task(_keep(process, command, log, what, on_gap))
    try:
        yield f"{launch.LOCALHOST}:{local}"
    finally:
        await _cancelled(keeping)


async def _begun(command: Sequence[str], log: Path) -> asyncio.subprocess.Process:
    """Start a forward and wait until it listens.

    Raises:
        TargetError: it does not, several times.
    """
    for _ in range(TRIES):
        process = await launch.guarded(command, log)
        try:
            if await _listens(process):
                return process
        except BaseException:
            await launch.stopped(process)
            raise
        await launch.stopped(process)
        await clock.sleep_ns(round(REST_S * clock.NS_PER_S))
    words = " / ".join(launch.telling_lines(launch.tail(log))[-2:])
    raise TargetError(f"{' '.join(command[:3])}: does not come up: {words}")


async def _listens(process: asyncio.subprocess.Process) -> bool:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while line := await process.stdout.readline():
                if READY.match(line):
                    return True
    except TimeoutError:
        pass
    return False


async def _keep(
    process: asyncio.subprocess.Process, command: Sequence[str], log: Path, what: str, on_gap: Callable[[Gap], None]
) -> None:
    """Make a forward again whenever it ends, until cancelled."""
    try:
        while True:
            await _end_of(process)
            broken_ns = clock.now_ns()
            await launch.stopped(process)
            while True:
                await clock.sleep_ns(round(REST_S * clock.NS_PER_S))
                try:
                    process = await _begun(command, log)
                except TargetError:
                    continue  # the cluster may come back; until then requests fail, and are rows
                break
            on_gap(Gap(what, broken_ns, clock.now_ns()))
    finally:
        await launch.stopped(process)


async def _end_of(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    while await process.stdout.readline():  # kubectl says a line a connection
        pass
    await process.wait()


async def _count(
    described: dict[str, Any], cluster: Cluster, tell: Callable[[Ready | Sample], None], poll_s: float
) -> None:
    """Tell over and over how many pods there are, and how many of them are ready."""
    known: int | None = None
    while True:
        at_ns = clock.now_ns()
        try:
            pods = await pods_of(described, cluster)
        except TargetError:
            pods = None
        if pods is not None:
            labels = canonical_labels({"namespace": cluster.namespace})
            tell(Sample(at_ns, SOURCE, "pods", labels, float(len(pods))))
            ready = sum(pod.ready for pod in pods)
            tell(Sample(at_ns, SOURCE, "pods_ready", labels, float(ready)))
            if ready != known:
                known = ready
                tell(Ready(at_ns, ready))
        await clock.sleep_ns(round(poll_s * clock.NS_PER_S))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _free_port() -> int:
    with socket.socket() as own:
        own.bind((launch.LOCALHOST, 0))
        return int(own.getsockname()[1])
