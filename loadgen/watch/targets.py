"""What options ask to be watched: endpoints with their pages, and how often to look."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from loadgen import clock
from loadgen import endpoint as endpoints
from loadgen.endpoint import Endpoint, Tls
from loadgen.errors import PlanError
from loadgen.slo import UNITS_NS
from loadgen.watch.loop import Pace

FORM = re.compile(r"(\d+(?:\.\d*)?)\s*(ms|s)?")
LEAST_NS, MOST_NS = 200 * clock.NS_PER_MS, 60 * clock.NS_PER_S


@dataclass(frozen=True, slots=True)
class Asked:
    """Addresses of servers and pages as they were given; no pages mean the default ones, None means no page."""

    urls: tuple[str, ...]
    pages: tuple[str, ...] | None = ()
    tls: Tls | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    metrics_headers: Mapping[str, str] = field(default_factory=dict)


def endpoints_of(asked: Asked) -> list[Endpoint]:
    """Return an endpoint a server; the only one has all the pages, several have one each, in turn.

    Raises:
        PlanError: an address is wrong or given twice, or there is not a page for each server.
    """
    if len(set(asked.urls)) < len(asked.urls):
        raise PlanError(f"-u {', '.join(asked.urls)}: names a server twice")
    found = [
        Endpoint(url, "", "", pages, asked.tls, dict(asked.headers), dict(asked.metrics_headers))
        for url, pages in zip(asked.urls, _pages(asked), strict=True)
    ]
    for endpoint in found:
        endpoints.check(endpoint)
    return found


def _pages(asked: Asked) -> list[tuple[str, ...]]:
    from loadgen.api import default_metrics_url  # noqa: PLC0415

    if asked.pages is None:
        return [() for _ in asked.urls]
    if not asked.pages:
        return [(default_metrics_url(url),) for url in asked.urls]
    if len(asked.urls) == 1:
        return [asked.pages]
    if len(asked.pages) != len(asked.urls):
        count = f"{len(asked.pages)} for {len(asked.urls)} servers"
        raise PlanError(f"--metrics-url: {count}: give one for each -u, in their order, or watch one server")
    return [(page,) for page in asked.pages]


def interval_ns(text: str) -> int:
    """Read a time between looks: `1s`, `500ms`, `2`.

    Raises:
        PlanError: it is not one, or shorter or longer than makes sense.
    """
    found = FORM.fullmatch(text.strip())
    if found is None:
        raise PlanError(f"--interval {text}: write a time, as 1s or 500ms")
    length_ns = round(float(found[1]) * UNITS_NS[found[2] or "s"])
    if not LEAST_NS <= length_ns <= MOST_NS:
        raise PlanError(f"--interval {text}: write 200ms to 60s; a shorter one would itself be load")
    return length_ns


def pace(every_ns: int, seconds: float | None, *, once: bool) -> Pace:
    """Return how often to look, and for how long."""
    return Pace(every_ns, None if seconds is None else round(seconds * clock.NS_PER_S), once)
