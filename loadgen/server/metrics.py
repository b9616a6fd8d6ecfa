"""The server's metrics page: Prometheus text to samples, and a poller on a clock of its own."""

import asyncio
import math
import re
from collections.abc import Callable, Iterator

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from loadgen import clock
from loadgen.rundir import Sample, canonical_labels

SOURCE = "metrics"
PAGE_TIMEOUT = aiohttp.ClientTimeout(total=5)


def parse_page(text: str, at_ns: int) -> list[Sample]:
    """Return every finite figure of a Prometheus text page, whatever its labels.

    Raises:
        ValueError: the text is not a metrics page.
    """
    return list(_samples(text, at_ns))


def _samples(text: str, at_ns: int) -> Iterator[Sample]:
    names = {re.split(r"[{\s]", line, maxsplit=1)[0] for line in text.splitlines()}
    # Some exporters leave out the last newline, which the parser takes as the end of the last figure.
    for family in text_string_to_metric_families(text if text.endswith("\n") else text + "\n"):
        for figure in family.samples:
            if math.isfinite(figure.value):
                # The parser adds OpenMetrics' _total to counters that do not have it: give the page's own name.
                name = figure.name if figure.name in names else figure.name.removesuffix("_total")
                yield Sample(at_ns, SOURCE, name, canonical_labels(figure.labels), float(figure.value))


class Poller:
    """Reads one metrics page again and again; what fails is told once, and simply missing from the samples."""

    def __init__(
        self,
        url: str,
        interval_ms: int,
        on_samples: Callable[[list[Sample]], None],
        on_warning: Callable[[str], None],
    ) -> None:
        self._url = url
        self._interval_ns = interval_ms * clock.NS_PER_MS
        self._on_samples = on_samples
        self._on_warning = on_warning
        self._told: set[str] = set()

    async def run(self) -> None:
        """Poll until cancelled, one page an interval from the start, late pages not made up for."""
        async with aiohttp.ClientSession(timeout=PAGE_TIMEOUT) as session:
            due_ns = clock.now_ns()
            while True:
                await self._poll(session)
                due_ns += self._interval_ns * max(1, -(-(clock.now_ns() - due_ns) // self._interval_ns))
                await clock.sleep_ns(due_ns - clock.now_ns())

    async def _poll(self, session: aiohttp.ClientSession) -> None:
        at_ns = clock.now_ns()
        try:
            async with session.get(self._url) as response:
                response.raise_for_status()
                samples = parse_page(await response.text(), at_ns)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            self._warn(f"metrics page {self._url}: {_in_words(error)}; its figures are missing from this run")
        else:
            self._on_samples(samples)

    def _warn(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._on_warning(text)


def _in_words(error: Exception) -> str:
    match error:
        case aiohttp.ClientResponseError():
            return f"answers {error.status} {error.message}"
        case asyncio.TimeoutError():
            return "does not answer in time"
        case aiohttp.ClientError():
            return str(error) or type(error).__name__
        case _:
            return f"is not Prometheus text ({error})"
