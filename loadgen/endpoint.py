"""Where a model is served, and how to reach it: address, TLS, headers."""

import os
import re
import shlex
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from loadgen.errors import PlanError

UNIX = "unix:"
HTTP = ("http://", "https://")
MASK = "***"
SECRET = re.compile(r"auth|token|secret|key|cookie|password|credential", re.IGNORECASE)
HEADER_NAME = re.compile(r"[0-9a-z_.-]+")
QUERY_NAME = re.compile(r"[A-Za-z_][0-9A-Za-z_]*")
HEADER_OPTION = r"--[\w-]*header|-[A-Za-z]*H"
HEADER_WORD = re.compile(
    rf"(?P<before>(?:(?:{HEADER_OPTION})=?)?\s*(?P<name>[\w.-]+)\s*:\s*)(?P<value>.+)", re.DOTALL
)
HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
PLACEHOLDER = re.compile(r"\$\(<\s*(?P<file>[^)]+)\)|\$\((?P<command>[^)]+)\)|\$\{?(?P<variable>\w+)\}?")
"""What stands for a secret: `$(<FILE)`, `$(COMMAND)`, `$VARIABLE`."""

COMMAND_TIMEOUT_S = 30.0
KEEPALIVE_TIMEOUT_S = 20.0
"""As gRPC's own default."""

RESERVED = ("te", "content-type", "user-agent", "connection")


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Speak TLS; the system's authorities are trusted where `ca_file` names no others.

    `cert_file` and `key_file` are our own certificate; `server_name` is what the server's must be for, where the
    address is not its name (a port forward, an IP address). `verify` says what of the server's is checked, its chain
    and its name (`full`), its `chain` alone, or nothing (`none`); less than all is for HTTP only.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    verify: Literal["full", "chain", "none"] = "full"


class Prometheus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Prometheus server that scrapes the service: its address, what goes with every query, and what is asked.

    `selector` (as `namespace="atlas-sonic"`) narrows every query of ours; `queries` are further ones by name, in
    which `$window`, `$selector` and `$model` are replaced. Over https it is checked as the endpoint's `tls` says.
    """

    url: str
    headers: dict[str, str] = {}
    selector: str = ""
    queries: dict[str, str] = {}


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model is served: gRPC address, metrics pages (one a replica; none: do not poll), model and version.

    `grpc` is HOST:PORT or unix:PATH; where `http` is given (HOST:PORT), everything goes there instead, over HTTP/1.1,
    and `grpc` is empty. `headers` go with every call, `metrics_headers` with every request for a page;
    in a value `$NAME` is that variable's content, `$(<FILE)` a file's, `$(COMMAND)` what a command prints; those two
    are asked again every `header_refresh_s`, for tokens that expire. Pages over https are checked as `tls` says.
    `replicas` says how many servers a balancer at `grpc` leads to; 0 is not known. A gRPC connection that was silent
    for `keepalive_s` is pinged (0: never), and given up where nothing comes in KEEPALIVE_TIMEOUT_S.
    """

    grpc: str
    model: str
    version: str = ""
    metrics_urls: tuple[str, ...] = ()
    tls: Tls | None = None
    headers: dict[str, str] = {}
    metrics_headers: dict[str, str] = {}
    prometheus: Prometheus | None = None
    replicas: Annotated[int, msgspec.Meta(ge=0)] = 0
    header_refresh_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    keepalive_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    http: str = ""

    @property
    def address(self) -> str:
        """Where requests go, whatever the protocol."""
        return self.http or self.grpc


def changing(endpoint: Endpoint) -> bool:
    """Say whether the headers of a call come from files or commands, so that they may change."""
    return any("$(" in value for value in endpoint.headers.values())


def check(endpoint: Endpoint) -> None:
    """Refuse an endpoint with an address, a header, a file or a query's name that cannot be used.

    Raises:
        PlanError: it names the field; or both protocols or none have an address.
    """
    if bool(endpoint.http) == bool(endpoint.grpc):
        raise PlanError("endpoint: give either a gRPC or an HTTP address")
    if endpoint.http and endpoint.keepalive_s:
        raise PlanError("keepalive_s: is for gRPC; HTTP/1.1 has no pings")
    if endpoint.http or not endpoint.grpc.startswith(UNIX):
        host_and_port(endpoint.address)
    metadata(endpoint)
    opened(endpoint.metrics_headers)
    for url in endpoint.metrics_urls:
        if not url.startswith(HTTP):
            raise PlanError(f"metrics_urls: {url}: write http://HOST:PORT/metrics or https://...")
        if urlsplit(url).username is not None:
            raise PlanError("metrics_urls: name and password would be written down; send --metrics-header instead")
    if endpoint.prometheus is not None:
        _check_prometheus(endpoint.prometheus)
    if endpoint.tls is None:
        return
    ssl_context(endpoint.tls)
    if endpoint.grpc and endpoint.tls.verify != "full":
        raise PlanError(f"tls.verify {endpoint.tls.verify}: is for HTTP only; gRPC always checks the server")


def _check_prometheus(prometheus: Prometheus) -> None:
    if not prometheus.url.startswith(HTTP):
        raise PlanError(f"prometheus.url: {prometheus.url}: write http://HOST:PORT or https://...")
    if urlsplit(prometheus.url).username is not None:
        raise PlanError("prometheus.url: its name and password would be written down; send a header instead")
    opened(prometheus.headers)
    for name, query in prometheus.queries.items():
        if not QUERY_NAME.fullmatch(name) or not query.strip():
            raise PlanError(f"prometheus.queries: {name}={query}: write NAME=PROMQL, NAME of letters, digits and _")


def metadata(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    """Return the headers of every call, variables replaced.

    Raises:
        PlanError: a name or value is not allowed, a variable is not set, or the value was masked.
    """
    return tuple(opened(endpoint.headers).items())


def opened(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as they are sent, variables replaced; errors as `metadata`."""
    return {_name(name): _value(name, value) for name, value in headers.items()}


def masked(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint as it may be written down: without the values of headers that look secret."""
    headers, pages = masked_headers(endpoint.headers), masked_headers(endpoint.metrics_headers)
    prometheus = masked_prometheus(endpoint.prometheus)
    return msgspec.structs.replace(endpoint, headers=headers, metrics_headers=pages, prometheus=prometheus)


def masked_prometheus(prometheus: Prometheus | None) -> Prometheus | None:
    """Return what may be written down of a Prometheus."""
    if prometheus is None:
        return None
    return msgspec.structs.replace(prometheus, headers=masked_headers(prometheus.headers))


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as they may be written down: MASK for a value that is a secret, and not where to get one."""
    return {name: MASK if _is_secret(name, value) else value for name, value in headers.items()}


def masked_words(words: Sequence[str]) -> list[str]:
    """Return a command line as it may be written down: options for headers without the secrets in them."""
    return [_masked_word(before, word) for before, word in zip(["", *words], words, strict=False)]


def _masked_word(before: str, word: str) -> str:
    is_header = re.fullmatch(HEADER_OPTION, before) or re.match(rf"(?:{HEADER_OPTION})=?[^=\s]", word)
    found = HEADER_WORD.fullmatch(word) if is_header else None
    if found is None or not _is_secret(found["name"], found["value"]):
        return word
    return found["before"] + MASK


def _is_secret(name: str, value: str) -> bool:
    return bool(SECRET.search(name)) and not PLACEHOLDER.search(value)


def header_option(text: str) -> tuple[str, str]:
    """Parse `-H NAME:VALUE`.

    Raises:
        PlanError: there is no name.
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise PlanError(f"--header {text}: write NAME:VALUE, as authorization:'Bearer $TOKEN'")
    return name.strip().lower(), value.strip()


def query_option(text: str) -> tuple[str, str]:
    """Parse `--prometheus-query NAME=PROMQL`.

    Raises:
        PlanError: there is no name, or no query.
    """
    name, sign, query = text.partition("=")
    if not sign or not QUERY_NAME.fullmatch(name.strip()) or not query.strip():
        raise PlanError(f"--prometheus-query {text}: write NAME=PROMQL, the name of letters, digits and _")
    return name.strip(), query.strip()


def ssl_context(tls: Tls, *, http2: bool = True) -> ssl.SSLContext:
    """Return the context of a client that offers HTTP/2, or does not.

    Raises:
        PlanError: a file cannot be read or is no certificate.
    """
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(tls, name)
        if path and not Path(path).is_file():
            raise PlanError(f"tls.{name} {path}: no such file")
    if bool(tls.cert_file) != bool(tls.key_file):
        raise PlanError("tls: a client certificate needs both cert_file and key_file")
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
        context.check_hostname = tls.verify == "full"
        context.verify_mode = ssl.CERT_NONE if tls.verify == "none" else ssl.CERT_REQUIRED
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (tls.ca_file, tls.cert_file, tls.key_file)))
        raise PlanError(f"tls: cannot use {files}: {error}") from error
    if http2:
        context.set_alpn_protocols(["h2"])
    return context


def host_and_port(address: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 host stands in brackets.

    Raises:
        PlanError: it is neither.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise PlanError(f"-u {address}: write HOST:PORT, as localhost:8001, or unix:PATH")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _name(name: str) -> str:
    if not HEADER_NAME.fullmatch(name) or name in RESERVED or name.startswith("grpc-"):
        raise PlanError(f"headers: {name!r}: is no name for a header of ours; use lower-case letters, digits, - _ .")
    return name


def _value(name: str, value: str) -> str:
    if value == MASK:
        raise PlanError(f"headers: {name}: was not written down; give it again, best as $VARIABLE")

    value = PLACEHOLDER.sub(lambda found: _content(name, found), value)
    if not HEADER_VALUE.fullmatch(value):
        raise PlanError(f"headers: {name}: the value is not printable ASCII")
    return value


def _content(name: str, found: re.Match[str]) -> str:
    """Return what a placeholder stands for; no message ever holds it."""
    file, command, variable = found["file"], found["command"], found["variable"]
    if variable is not None:
        if (content := os.environ.get(variable)) is None:
            raise PlanError(f"headers: {name}: the variable {variable} is not set")
        return content
    if file is not None:
        try:
            return Path(file.strip()).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"headers: {name}: cannot read the file {file.strip()}") from error
    return _printed(name, command)


def _printed(name: str, command: str) -> str:
    try:
        words = shlex.split(command)
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)  # noqa: S603 - the user's own command
    except (OSError, ValueError, subprocess.SubprocessError):
        raise PlanError(f"headers: {name}: the command {command.split(maxsplit=1)[0]} did not run") from None
    if done.returncode:
        raise PlanError(f"headers: {name}: the command {words[0]} ended with {done.returncode}")
    return done.stdout.strip()
