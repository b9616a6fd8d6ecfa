"""The server's metrics page: Prometheus text to samples, and a poller on a clock of its own."""

import asyncio
import math
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from loadgen import clock, proxies
from loadgen import endpoint as endpoints
from loadgen.endpoint import Endpoint
from loadgen.errors import TargetError
from loadgen.rundir import Sample, canonical_labels

SOURCE = "metrics"
PAGE_BYTES = 16 << 20
PAGE_TIMEOUT_S = 5.0


def parse_page(text: str, at_ns: int, instance: str = "") -> list[Sample]:
    """Return every finite figure of a Prometheus text page, whatever its labels, and `instance` as one if not empty.

    Raises:
        ValueError: the text is not a metrics page.
    """
    return list(_samples(text, at_ns, {"instance": instance} if instance else {}))


def _samples(text: str, at_ns: int, own: dict[str, str]) -> Iterator[Sample]:
    names = {re.split(r"[{\s]", line, maxsplit=1)[0] for line in text.splitlines()}
    # Some exporters leave out the last newline, which the parser takes as the end of the last figure.
    for family in text_string_to_metric_families(text if text.endswith("\n") else text + "\n"):
        for figure in family.samples:
            if math.isfinite(figure.value):
                # The parser adds OpenMetrics' _total to counters that do not have it: give the page's own name.
                name = figure.name if figure.name in names else figure.name.removesuffix("_total")
                yield Sample(at_ns, SOURCE, name, canonical_labels(figure.labels | own), float(figure.value))


@dataclass(frozen=True, slots=True)
class Page:
    """A metrics page, and what goes with a request for it; `instance` is a label for its figures, if not empty."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    instance: str = ""


def pages(endpoint: Endpoint) -> list[Page]:
    """Return the pages of an endpoint; where there are several, each is told apart by its host and port.

    Raises:
        PlanError: a header or a file of `tls` is wrong.
    """
    urls, headers = endpoint.metrics_urls, endpoints.opened(endpoint.metrics_headers)
    tls = endpoints.ssl_context(endpoint.tls, http2=False) if endpoint.tls else None
    return [Page(url, headers, tls, urlsplit(url).netloc if len(urls) > 1 else "") for url in urls]


class NoPageError(Exception):
    """What a server gave is no metrics page; its text says what it is."""


FAULTS = (TimeoutError, aiohttp.ClientError, NoPageError, ValueError)
"""What reading a page may raise."""


def session_of(page: Page, timeout: aiohttp.ClientTimeout | None = None) -> aiohttp.ClientSession:
    """Return a session for a page: its headers, and the proxy that the environment names for it."""
    further = proxies.session_options(page.url)
    return aiohttp.ClientSession(timeout=timeout or aiohttp.ClientTimeout(), headers=page.headers, **further)  # type: ignore[arg-type]


class Poller:
    """Reads one metrics page again and again; what fails is told once, and simply missing from the samples."""

    def __init__(
        self,
        page: Page,
        interval_ms: int,
        on_samples: Callable[[list[Sample]], None],
        on_warning: Callable[[str], None],
        timeout_s: float = PAGE_TIMEOUT_S,
    ) -> None:
        self._page = page
        self._interval_ns = interval_ms * clock.NS_PER_MS
        self._on_samples = on_samples
        self._on_warning = on_warning
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._told: set[str] = set()
        self.has_read = False
        """Whether the page was ever read."""

    async def run(self) -> None:
        """Poll until cancelled, one page an interval from the start, late pages not made up for."""
        async with session_of(self._page, self._timeout) as session:
            due_ns = clock.now_ns()
            while True:
                await self._poll(session)
                due_ns += self._interval_ns * max(1, -(-(clock.now_ns() - due_ns) // self._interval_ns))
                await clock.sleep_ns(due_ns - clock.now_ns())

    async def once(self) -> None:
        """Read the page."""
        async with session_of(self._page, self._timeout) as session:
            await self._poll(session)

    async def _poll(self, session: aiohttp.ClientSession) -> None:
        try:
            samples = await _read(session, self._page)
        except FAULTS as error:
            self._warn(error)
        else:
            self.has_read = True
            self._on_samples(samples)

    def _warn(self, error: Exception) -> None:
        """Tell a kind of failure once, whatever its words are at each poll."""
        kind = str(error) if isinstance(error, NoPageError) else type(error).__name__
        if kind not in self._told:
            self._told.add(kind)
            missing = "further figures are missing" if self.has_read else "its figures are missing from this run"
            self._on_warning(f"metrics page {self._page.url}: {_in_words(error)}; {missing}")


def _figures(text: str, at_ns: int, instance: str) -> list[Sample]:
    samples = parse_page(text, at_ns, instance)
    if not samples:
        raise NoPageError("holds no figure")
    return samples


async def _read(session: aiohttp.ClientSession, page: Page) -> list[Sample]:
    at_ns = clock.now_ns()
    # A redirect is not followed: it may lead to a login page, or carry our headers to another host.
    async with session.get(page.url, ssl=page.tls or True, allow_redirects=False) as response:
        return _figures(await _text(response), at_ns, page.instance)


async def read(session: aiohttp.ClientSession, page: Page) -> list[Sample]:
    """Read a page once.

    Raises:
        TargetError: it cannot be read, or is no metrics page; in words that go behind its name.
    """
    try:
        return await _read(session, page)
    except FAULTS as error:
        raise TargetError(_in_words(error)) from error


async def read_once(page: Page) -> tuple[list[Sample], list[str]]:
    """Read a page once; return its figures, or why there are none."""
    samples: list[Sample] = []
    warnings: list[str] = []
    await Poller(page, 1000, samples.extend, warnings.append).once()
    return samples, warnings


async def read_limited(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Return the body of a response.

    Raises:
        ValueError: it is larger than the limit; the rest is not read.
    """
    content = bytearray(await response.content.read(limit_bytes + 1))
    while len(content) <= limit_bytes and (more := await response.content.read(limit_bytes + 1 - len(content))):
        content += more
    if len(content) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes >> 20} MB")
    return bytes(content)


async def _text(response: aiohttp.ClientResponse) -> str:
    """Return the page.

    Raises:
        NoPageError: it is none by its status or type.
        ValueError: it is far larger than any metrics page.
    """
    if response.status != HTTPStatus.OK:
        to = f" to {response.headers['Location']}" if "Location" in response.headers else ""
        raise NoPageError(f"answers {response.status} {response.reason}{to}")
    if response.content_type == "text/html":
        raise NoPageError("answers with HTML, which is not Prometheus text")
    return (await read_limited(response, PAGE_BYTES)).decode(errors="replace")


def _in_words(error: Exception) -> str:
    match error:
        case NoPageError():
            return str(error)
        case aiohttp.ClientResponseError():
            return f"answers {error.status} {error.message}"
        case asyncio.TimeoutError():
            return "does not answer in time"
        case aiohttp.ClientError():
            return str(error) or type(error).__name__
        case _:
            return f"is not Prometheus text ({error})"
