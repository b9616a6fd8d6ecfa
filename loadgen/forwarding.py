"""A service in a Kubernetes cluster under measurement: its port forwards, and what befalls them in the run's log."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadgen import atomic, clock
from loadgen.plan import Plan
from loadgen.rundir import EventLog, Sample
from loadgen.server import kube
from loadgen.server.kube import Cluster, Forwarded, Gap, News, Ready, Release
from loadgen.study_plan import Kube


@dataclass(frozen=True, slots=True)
class Reached:
    """A server to measure: addresses as an Endpoint has them, what to tell a run's log, the helm release if any."""

    grpc: str
    metrics_urls: tuple[str, ...]
    beside: Callable[[EventLog], None] | None = None
    release: Release | None = None


@asynccontextmanager
async def reached(server: Kube, logs: Path) -> AsyncIterator[Reached]:
    """Forward a service's ports until the context is left; kubectl's own words go into the folder `logs`.

    Raises:
        PlanError, TargetError: as `kube.forwarded`.
    """
    cluster = Cluster(server.namespace, server.context)
    atomic.make_folder(logs)
    forwards = kube.forwarded(
        server.service,
        cluster,
        logs,
        grpc_port=server.grpc_port,
        metrics_port=server.metrics_port,
        poll_s=server.poll_s,
    )
    async with forwards as found:
        yield Reached(found.grpc, found.metrics_urls, lambda log: _tell(found, log), found.release)


def aimed(plan: Plan, server: Reached, service: Kube) -> Plan:
    """Return the plan with the forwards as its addresses; its labels say what they lead to."""
    endpoint = msgspec.structs.replace(plan.endpoint, grpc=server.grpc, metrics_urls=server.metrics_urls)
    labels = {**plan.labels, "kube": f"{service.namespace}/{service.service}"}
    return msgspec.structs.replace(plan, endpoint=endpoint, labels=labels)


def _tell(found: Forwarded, log: EventLog) -> None:
    """Write into a run's log what the cluster is, and from now on what happens to its forwards."""
    log.event("kube", pods=msgspec.to_builtins(found.pods), release=msgspec.to_builtins(found.release))

    def tell(news: News) -> None:
        match news:
            case Sample():
                log.samples([news])
            case Ready(at_ns, pods):
                log.event("pods_ready", at_ns, ready=pods)
            case Gap(what, start_ns, end_ns):
                seconds = (end_ns - start_ns) / clock.NS_PER_S
                log.event("gap", end_ns, what=what, start_ns=start_ns)
                log.event("warning", text=f"the forward to {what} was broken for {seconds:.1f} s and made again")

    if found.ready is not None:  # told to nobody yet, or to the run before
        tell(found.ready)
    found.tell = tell
