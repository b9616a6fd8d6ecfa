"""A Prometheus server over its HTTP API: one query at a time, answers checked and limited, faults in words.

It is asked after the load, never during it. No redirect is followed: headers may carry a token, meant for one server.
"""

import math
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from loadgen import clock, proxies
from loadgen import endpoint as endpoints
from loadgen.endpoint import Endpoint, Prometheus
from loadgen.server.metrics import read_limited

ANSWER_BYTES = 16 << 20
TIMEOUT_S = 15.0
SHOWN_CHARACTERS = 300
HTTP_REDIRECT, HTTP_BAD, HTTP_UNAUTHORIZED, HTTP_FORBIDDEN, HTTP_NOT_FOUND = 300, 400, 401, 403, 404
REFUSED = (HTTP_UNAUTHORIZED, HTTP_FORBIDDEN)
QUERY_PREFIX = 'invalid parameter "query": '
MEND_REFUSAL = "give its token with --prometheus-header 'authorization: Bearer $TOKEN'"


class QueryError(Exception):
    """A query has no answer; the words say why."""


class UnusableError(QueryError):
    """The server cannot be asked anything: it is no use to try the next query."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels, and (seconds since 1970, value) in order of time; NaN stays NaN."""

    labels: Mapping[str, str]
    values: tuple[tuple[float, float], ...]


class _Data(msgspec.Struct):
    resultType: str  # noqa: N815 - the name on the wire
    result: msgspec.Raw


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""


class _One(msgspec.Struct):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] = []

    @property
    def samples(self) -> list[tuple[float, str]]:
        """A matrix's samples, or a vector's one."""
        return self.values if self.value is None else [self.value]


class Client:
    """Asks one Prometheus server; see `client`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, tls: ssl.SSLContext | None) -> None:
        self.url = url
        self._session = session
        self._tls = tls

    async def instant(self, query: str, at_s: float | None = None) -> list[Series]:
        """Evaluate a query at one time, now if none is given.

        Raises:
            QueryError: it has no answer; UnusableError where no query would have one.
        """
        return await self._ask("query", {"query": query} | ({} if at_s is None else {"time": f"{at_s:.3f}"}))

    async def over(self, query: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """Evaluate a query at every step from start to end; errors as `instant`."""
        span = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
        return await self._ask("query_range", {"query": query} | span)

    async def ahead_s(self) -> float:
        """Return by how much the server's clock is ahead of ours, to about the time of a round trip.

        Raises:
            UnusableError: it is no Prometheus server, or does not answer.
        """
        asked_ns = clock.utc_ns()
        try:
            found = await self.instant("time()")
        except QueryError as error:
            raise UnusableError(str(error)) from error
        midway_s = (asked_ns + clock.utc_ns()) / 2 / clock.NS_PER_S
        told_s = found[0].values[0][1] if len(found) == 1 and found[0].values else math.nan
        if not math.isfinite(told_s):
            raise UnusableError("answers, but does not tell its time")
        return told_s - midway_s

    async def _ask(self, what: str, parameters: Mapping[str, str]) -> list[Series]:
        try:
            async with self._session.get(
                f"{self.url}/api/v1/{what}", params=parameters, ssl=self._tls or True, allow_redirects=False
            ) as response:
                _refuse_redirect(response)
                content = await read_limited(response, ANSWER_BYTES)
                return series(content, response.status, response.reason or "", response.content_type)
        except TimeoutError:
            raise QueryError(f"does not answer within {TIMEOUT_S:g} s") from None
        except ValueError as error:
            raise QueryError(f"its answer cannot be used: {error}") from None
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise UnusableError(f"cannot be reached: {error or type(error).__name__}") from None
        except aiohttp.ClientError as error:
            raise QueryError(f"{type(error).__name__}: {error}") from None


@asynccontextmanager
async def client(endpoint: Endpoint, prometheus: Prometheus) -> AsyncIterator[Client]:
    """Yield a client of the endpoint's Prometheus server.

    Raises:
        PlanError: a header or a file of `tls` is wrong.
    """
    url, tls = base_url(prometheus.url), None
    if endpoint.tls is not None and url.startswith("https://"):
        tls = endpoints.ssl_context(endpoint.tls, http2=False)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    headers, further = endpoints.opened(prometheus.headers), proxies.session_options(url)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, **further) as session:  # type: ignore[arg-type]
        yield Client(session, url, tls)


def base_url(url: str) -> str:
    """Return the address below which the API lies, also of one that was copied from a browser."""
    return url.split("?", maxsplit=1)[0].rstrip("/").removesuffix("/graph").partition("/api/v1")[0].rstrip("/")


def _refuse_redirect(response: aiohttp.ClientResponse) -> None:
    if HTTP_REDIRECT <= response.status < HTTP_BAD:
        where = response.headers.get("location", "elsewhere")
        raise UnusableError(f"redirects to {_short(where)}, which is not followed; give that address if it is meant")


def series(content: bytes, status: int, reason: str, content_type: str) -> list[Series]:
    """Return the series in an answer; their values are floats, NaN where they are no number.

    Raises:
        QueryError: it is an error, or no answer of a Prometheus; UnusableError where no query would do better.
    """
    if status in REFUSED:
        raise UnusableError(f"answers {status} {reason}: {MEND_REFUSAL}")
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except msgspec.MsgspecError:
        raise _no_prometheus(content, status, reason, content_type) from None
    if answer.status != "success" or answer.data is None:
        raise QueryError(_short(answer.error.removeprefix(QUERY_PREFIX) or f"answers {status} {reason}"))
    try:
        return _decoded(answer.data)
    except msgspec.MsgspecError as error:
        raise QueryError(f"its answer is not as a Prometheus gives it: {error}") from None


def _decoded(data: _Data) -> list[Series]:
    if data.resultType == "scalar":
        at_s, value = msgspec.json.decode(data.result, type=tuple[float, str])
        return [Series({}, ((at_s, _number(value)),))]
    if data.resultType not in {"vector", "matrix"}:
        raise QueryError(f"answers with a {_short(data.resultType)}, not with numbers")
    found = msgspec.json.decode(data.result, type=list[_One])
    return [Series(one.metric, tuple((at_s, _number(value)) for at_s, value in one.samples)) for one in found]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _no_prometheus(content: bytes, status: int, reason: str, content_type: str) -> QueryError:
    if content.lstrip()[:1] == b"<" or "html" in content_type:
        return UnusableError(
            f"answers {status} {reason} with a web page, not with JSON: a login page, or not a Prometheus?"
        )
    if status == HTTP_NOT_FOUND:
        return UnusableError(f"answers {status} {reason}: is this the base address of a Prometheus?")
    if status >= HTTP_BAD:
        return QueryError(f"answers {status} {reason}: {_short(content.decode(errors='replace'))}")
    return UnusableError("answers, but not as a Prometheus does (no JSON with a status)")


def _short(text: Any) -> str:  # noqa: ANN401 - whatever a server says
    words = " ".join(str(text).split())
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]}..."
