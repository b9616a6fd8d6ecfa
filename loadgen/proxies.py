"""Which HTTP proxy the environment names for an address: one rule for every transport and page.

gRPC's own library looks for `grpc_proxy`, `https_proxy`, `http_proxy`, the first that is set, and heeds
`no_grpc_proxy` or `no_proxy`; other programs take the one of the address's scheme. Both would send what is for this
very host to the proxy too, where it is another host: what is on a loopback address never goes there.
"""

import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import quote, unquote, urlsplit

from loadgen.endpoint import UNIX, Endpoint, host_and_port
from loadgen.errors import PlanError

OF_GRPC = ("grpc_proxy", "https_proxy", "http_proxy")
NOT_OF_GRPC = ("no_grpc_proxy", "no_proxy")
DEFAULT_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its address, the variable that names it, and as whom to ask (a secret)."""

    host: str
    port: int
    variable: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """Host and port, without the secret."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Address and secret, as HTTP clients take them: not to be written down."""
        known = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user else ""
        return f"http://{known}{self.address}"

    @property
    def authorization(self) -> str:
        """The value of Proxy-Authorization (RFC 7617), empty without a user."""
        return f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}" if self.user else ""


def words(endpoint: Endpoint) -> str:
    """Say that requests go through a proxy, if they do.

    Raises:
        PlanError: a variable names no HTTP proxy for them, or for a page.
    """
    for page in (*endpoint.metrics_urls, *([endpoint.prometheus.url] if endpoint.prometheus else [])):
        of_url(page)
    scheme = "https" if endpoint.tls else "http"
    proxy = of_url(f"{scheme}://{endpoint.http}") if endpoint.http else of_grpc(endpoint.grpc)
    if proxy is None:
        return ""
    return (
        f"requests go through the proxy {proxy.address}, which {proxy.variable} names: its time is in every latency; "
        "with the host in no_proxy they go to the server itself"
    )


def of_grpc(address: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy for gRPC to HOST:PORT, None where it is reached directly.

    Raises:
        PlanError: the address is none, or the variable names no HTTP proxy.
    """
    if address.startswith(UNIX):
        return None
    host, _ = host_and_port(address)
    return _named(host, OF_GRPC, NOT_OF_GRPC, environment)


def of_url(url: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy for a page, None where it is reached directly; errors as `of_grpc`."""
    parts = urlsplit(url)
    return _named(parts.hostname or "", (f"{parts.scheme}_proxy",), ("no_proxy",), environment)


def session_options(url: str) -> dict[str, str]:
    """Return what an HTTP client's session needs for a page."""
    proxy = of_url(url)
    return {"proxy": proxy.url} if proxy else {}


def channel_options(address: str, environment: Mapping[str, str] = os.environ) -> tuple[tuple[str, int], ...]:
    """Return what keeps grpcio from a proxy of the environment where the rule here knows none."""
    return () if of_grpc(address, environment) else (("grpc.enable_http_proxy", 0),)


def variables_for(address: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what keeps another program's gRPC from a proxy where the rule here knows none."""
    if address.startswith(UNIX) or of_grpc(address, environment):
        return {}
    return {"no_grpc_proxy": host_and_port(address)[0]}


def _named(
    host: str, names: tuple[str, ...], exempt: tuple[str, ...], environment: Mapping[str, str]
) -> Proxy | None:
    name = next((name for name in names if environment.get(name)), None)
    beside = next((environment[name] for name in exempt if environment.get(name)), "")
    if name is None or is_loopback(host) or any(_matches(host, entry.strip()) for entry in beside.split(",")):
        return None
    parts = urlsplit(environment[name] if "://" in environment[name] else f"http://{environment[name]}")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise PlanError(
            f"the variable {name}: names no HTTP proxy; write http://HOST:PORT, or put {host} into no_proxy"
        )
    return Proxy(parts.hostname, port, name, unquote(parts.username or ""), unquote(parts.password or ""))


def is_loopback(host: str) -> bool:
    """Say whether a host is this one."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in {"localhost", "ip6-localhost"}


def _matches(host: str, entry: str) -> bool:
    """Say whether an entry of `no_proxy` is for a host: `*`, a network, a domain and what is below it."""
    if not entry:
        return False
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        domain = entry.lower().lstrip("*").lstrip(".")
        return not domain or host.lower() == domain or host.lower().endswith(f".{domain}")
