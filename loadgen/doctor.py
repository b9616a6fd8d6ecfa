"""What of a server can be reached, what state it is in, and what to do about each fault; no load is sent."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from loadgen import clock, kserve, promql, recorded
from loadgen import endpoint as endpoints
from loadgen.endpoint import UNIX, Endpoint, Prometheus
from loadgen.errors import TargetError
from loadgen.kserve import ModelMetadata, signature_text
from loadgen.rundir import Sample
from loadgen.server import metrics, prometheus
from loadgen.server.metrics import Page
from loadgen.server.prometheus import QueryError
from loadgen.server.triton import Triton

CONNECT_TIMEOUT_S = 5.0
SHOWN_MODELS = 12
MOST_AHEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: whether it is well, in words, and what would mend it."""

    what: str
    state: Literal["ok", "note", "fault"]
    words: str
    mend: str = ""

    def __str__(self) -> str:
        """Return it as a line, with the remedy below it."""
        line = f"{self.state:<5}  {self.what:<10}  {self.words}"
        return f"{line}\n{'':19}-> {self.mend}" if self.mend else line


async def examine(target: Endpoint) -> AsyncIterator[Finding]:
    """Yield what is found of a server, from the network upwards; a model is looked at if the endpoint names one.

    Raises:
        PlanError: the address, a header or a file of `tls` is wrong.
    """
    reached = await _network(target)
    yield reached
    if reached.state != "fault":
        async with Triton(target) as triton:
            async for found in _server(triton):
                yield found
    for page in metrics.pages(target):
        async for found in _page(page):
            yield found
    if target.prometheus is not None:
        async for found in _prometheus(target, target.prometheus):
            yield found


async def _network(target: Endpoint) -> Finding:
    """Connect, over TLS if it is asked for."""
    begun_ns = clock.now_ns()
    tls = endpoints.ssl_context(target.tls) if target.tls else None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if target.grpc.startswith(UNIX):
                _, writer = await asyncio.open_unix_connection(target.grpc.removeprefix(UNIX), ssl=tls)
            else:
                host, port = endpoints.host_and_port(target.grpc)
                name = (target.tls.server_name or host) if target.tls else None
                _, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=name)
    except (OSError, TimeoutError) as error:
        return Finding("network", "fault", f"{target.grpc}: {_reason(error)}", _network_mend(error, target))
    took_ms = (clock.now_ns() - begun_ns) / clock.NS_PER_MS
    secured = writer.get_extra_info("ssl_object")
    writer.close()
    if secured is None:
        return Finding("network", "ok", f"{target.grpc} takes connections ({took_ms:.1f} ms)")
    if secured.selected_alpn_protocol() != "h2":
        mend = "gRPC needs HTTP/2: turn it on at the ingress, or name the gRPC port"
        return Finding("network", "fault", f"{target.grpc} speaks TLS, but not HTTP/2 over it", mend)
    return Finding("network", "ok", f"{target.grpc} takes connections over {secured.version()} ({took_ms:.1f} ms)")


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_S:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _network_mend(error: BaseException, target: Endpoint) -> str:
    words = str(error)
    if "certificate verify failed" in words:
        if "Hostname mismatch" in words or "IP address mismatch" in words:
            return "the certificate is for another name: give it with --tls-server-name"
        return "name the authority that signed the server's certificate with --tls-ca"
    if "Name or service not known" in words or "nodename" in words:
        return "no such host: check -u"
    if isinstance(error, TimeoutError):
        return "a firewall, or the wrong host? A port forward (kubectl port-forward) must still be running"
    if target.tls is not None and "SSL" in words.upper():
        return "is this port plain? leave out --tls"
    return "nothing listens there: is the server up, is this its gRPC port (usually 8001)?"


async def _server(triton: Triton) -> AsyncIterator[Finding]:
    target = triton.endpoint
    refusal = await triton.refusal()
    if refusal is not None and "model" not in refusal.text:
        mend = "" if target.tls else "if the port speaks TLS, add --tls"
        yield Finding("server", "fault", refusal.text, mend)
        return
    facts = await triton.server_metadata()
    extensions = ", ".join(map(str, facts.get("extensions", []))) or "none"  # type: ignore[call-overload]
    yield Finding("server", "ok", f"{facts.get('name')} {facts.get('version')} is ready; extensions: {extensions}")
    yield await _models(triton)
    if not target.model:
        return
    if refusal is not None:
        yield Finding(
            "model", "fault", refusal.text, "check -m and -x against the models above, and the server's log"
        )
        return
    metadata, config = await triton.metadata(), await triton.model_config()
    yield Finding("model", "ok", _model_words(metadata, config))
    yield await _statistics(triton, metadata)


async def _models(triton: Triton) -> Finding:
    try:
        known = await triton.models()
    except TargetError as error:
        return Finding("models", "note", f"the server does not list its models: {error}")
    words = [f"{name} {version or '-'} {state or 'not loaded'}" for name, version, state in known]
    more = f", and {len(words) - SHOWN_MODELS} more" if len(words) > SHOWN_MODELS else ""
    return Finding("models", "ok" if words else "note", (", ".join(words[:SHOWN_MODELS]) + more) or "none is loaded")


def _model_words(metadata: ModelMetadata, config: dict[str, object]) -> str:
    count = kserve.instances(config)
    kinds = [word for word, has in (("decoupled", metadata.decoupled), ("keeps state", metadata.sequence)) if has]
    facts = [f"{metadata.name} versions {', '.join(metadata.versions)}", metadata.platform, *kinds]
    facts += [f"{count} instances" if count else "instances not known"]
    facts += [f"takes {signature_text(metadata.inputs)}", f"gives {signature_text(metadata.outputs)}"]
    return "; ".join(filter(None, facts))


async def _statistics(triton: Triton, metadata: ModelMetadata) -> Finding:
    version = triton.endpoint.version or (metadata.versions[-1] if metadata.versions else "1")
    try:
        found = await triton.statistics(version)
    except TargetError as error:
        return Finding("statistics", "note", f"cannot be read: {error}", "queue and compute times will be missing")
    if found is None:
        return Finding("statistics", "note", f"none of version {version}", "queue and compute times will be missing")
    return Finding("statistics", "ok", f"{found.success_count} requests served, {found.fail_count} failed, so far")


async def _page(page: Page) -> AsyncIterator[Finding]:
    samples, warnings = await metrics.read_once(page)
    if warnings:
        mend = "give --metrics-url (Triton's page is usually port 8002, /metrics), or --no-collect-metrics"
        yield Finding("metrics", "fault", warnings[0], mend)
        return
    yield Finding("metrics", "ok", f"{page.url}: {len(samples)} figures, {len({s.metric for s in samples})} metrics")
    yield gpu_finding(samples)


async def _prometheus(target: Endpoint, asked: Prometheus) -> AsyncIterator[Finding]:
    """Ask for its time, for the model's counters and how often they are scraped, and for each query of the user."""
    what, scope = "prometheus", promql.scope(asked, [(target.model, target.version)])
    async with prometheus.client(target, asked) as server:
        try:
            ahead_s = await server.ahead_s()
        except QueryError as error:
            yield Finding(what, "fault", f"{server.url}: {error}", "check --prometheus-url; see --prometheus-header")
            return
        state: Literal["ok", "note"] = "ok" if abs(ahead_s) < MOST_AHEAD_S else "note"
        yield Finding(what, state, f"{server.url} answers; its clock is {ahead_s:+.2f} s from ours")
        yield await _scraped(server, scope, asked)
        for name, query in asked.queries.items():
            try:
                count = len(await server.instant(scope.filled(query, promql.RECENT_MS)))
            except QueryError as error:
                yield Finding(name, "fault", str(error), f"mend --prometheus-query {name}=...")
            else:
                yield Finding(name, "ok" if count else "note", f"{count} series")


async def _scraped(server: prometheus.Client, scope: promql.Scope, asked: Prometheus) -> Finding:
    basis, recent_s = scope.filled(promql.REQUESTS, 0), promql.RECENT_MS / 1000
    try:
        found = await server.instant(f"count_over_time({basis}[{promql.RECENT_MS}ms])")
    except QueryError as error:
        return Finding("scrapes", "fault", str(error), f"is --prometheus-selector {asked.selector} well written?")
    if not found:
        mend = "is the server scraped by it, the model loaded, --prometheus-selector right?"
        return Finding("scrapes", "note", f"none of {basis} in {recent_s:g} s", mend)
    replicas = {
        next((each.labels[name] for name in promql.REPLICA_LABELS if name in each.labels), "") for each in found
    }
    most = max(each.values[0][1] for each in found)
    words = f"{len(replicas)} replica(s) of the model, the best scraped {most:g} times in {recent_s:g} s"
    return Finding("scrapes", "ok", words)


def gpu_finding(samples: Sequence[Sample]) -> Finding:
    """Say what a page knows of GPUs; one whose every gauge is 0 is a collector that does not work."""
    found = recorded.of_gpus(samples)
    if not found:
        mend = "GPU figures will be missing: DCGM is absent, or does not serve this GPU (MIG, a second agent)"
        return Finding("GPUs", "note", "the page has none", f"{mend}; add a page of dcgm-exporter, or --nvml")
    if len(recorded.dead_gpus(found)) == len(found):
        return Finding(
            "GPUs", "fault", f"{len(found)} named, every gauge is 0", "the collector does not work: see DCGM"
        )
    metrics_found = ", ".join(sorted({metric for each in found.values() for metric in each}))
    return Finding("GPUs", "ok", f"{len(found)}: {metrics_found}")


async def examined(target: Endpoint) -> list[Finding]:
    """Return everything that is found; errors as `examine`."""
    return [found async for found in examine(target)]
