"""What is asked of a Prometheus server, and what becomes of every kind of bad answer: a reason, and one warning."""

import asyncio
import contextlib
import json
import math
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from analysis import prometheus as page_rows
from analysis.figures import tables
from analysis.summary import sentences
from loadgen import clock, promql, scraped, sweep_async
from loadgen.cli import app
from loadgen.doctor import Finding, examined
from loadgen.endpoint import MASK, Endpoint, Prometheus, Tls
from loadgen.errors import PlanError
from loadgen.measure import Window
from loadgen.plan import ClosedLoop, Generated, PerfJson, Plan, checked, from_json, to_json, written
from loadgen.scraped import Anchor, Figure, Task, gather, missing_words
from loadgen.server import prometheus
from loadgen.server.prometheus import QueryError, base_url, client
from loadgen.server.simulated import StubConfig
from loadgen.server.stub import stub_server

S = clock.NS_PER_S
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
SCOPE = promql.scope(Prometheus("http://h"), [("m", "")])


def said(result: list[Any], kind: str = "vector") -> web.Response:
    """Return an answer as a Prometheus gives it."""
    return web.json_response({"status": "success", "data": {"resultType": kind, "result": result}})


async def good(request: web.Request) -> web.StreamResponse:
    """Answer everything: our time, twenty scrapes of each basis, one series of 2.5 for the rest."""
    query = request.query["query"]
    if query == "time()":
        return said([clock.utc_ns() / S, str(clock.utc_ns() / S)], "scalar")
    at_s = float(request.query.get("time") or request.query.get("end") or clock.utc_ns() / S)
    if query.startswith("label_replace"):
        return said(
            [{"metric": {"basis": str(n)}, "value": [at_s, "20"]} for n in range(query.count("label_replace"))]
        )
    if request.path.endswith("query_range"):
        return said([{"metric": {"pod": "a"}, "values": [[at_s - 1, "2.5"], [at_s, "NaN"]]}], "matrix")
    return said([{"metric": {"pod": "a"}, "value": [at_s, "2.5"]}])


def unless(query: str, answer: Answer) -> Answer:
    """Answer one query in a bad way, the others well."""

    async def either(request: web.Request) -> web.StreamResponse:
        return await (answer if query in request.query["query"] else good)(request)

    return either


@contextmanager
def served(answer: Answer | None, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve an API from a thread of its own (None: nothing listens), over TLS if a context is given."""
    loop = asyncio.new_event_loop()
    application = web.Application()
    application.router.add_get("/{path:.*}", answer or good)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start())
    port = runner.addresses[0][1]
    if answer is None:
        loop.run_until_complete(runner.cleanup())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def asked(
    answer: Answer | None, asking: Prometheus | None = None, windows: int = 2
) -> tuple[list[Any], list[Figure], list[str]]:
    """Ask a server about a run of ten seconds with so many windows; return samples, figures, warnings."""
    asking = asking or Prometheus("http://h")
    span = Window(0, 10 * S)
    of_points = {point: Window(point * S, (point + 4) * S) for point in range(1, windows + 1)}
    task = Task(promql.queries(asking), promql.scope(asking, [("m", "")]), Anchor(0, clock.utc_ns()), span, of_points)

    async def main(url: str) -> tuple[list[Any], list[Figure], list[str]]:
        async with client(Endpoint("h:1", "m"), Prometheus(url, asking.headers)) as server:
            return await gather(server, task)

    with served(answer) as url:
        samples, figures, remarks = asyncio.run(main(url))
    return samples, figures, [*remarks, *missing_words(figures, windows)]


def test_a_good_server_gives_every_figure_of_every_window() -> None:
    """A value each query and point, samples over the run at our own times, and nothing to warn of."""
    samples, figures, told = asked(good)
    names = {query.name for query in promql.BUILT_IN}
    assert {(figure.point, figure.query) for figure in figures} == {
        (point, name) for point in (1, 2) for name in names
    }
    assert {figure.value for figure in figures} == {2.5}
    assert {figure.labels for figure in figures} == {'{"pod":"a"}'}
    assert {sample.source for sample in samples} == {"prometheus"}
    assert {sample.metric for sample in samples} == names
    assert all(abs(sample.at_ns - 9 * S) < S // 100 for sample in samples)  # not a number: left out
    assert told == []


async def html(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="<!doctype html><title>Log in</title>", content_type="text/html")


async def unauthorized(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=401, text="no token")


async def elsewhere(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"location": "https://login.example.org/"})


async def slow(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return said([])


async def broken(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="out of memory")


async def unfinished(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": "1000"})
    await response.prepare(request)
    await response.write(b'{"status":')
    assert request.transport is not None
    request.transport.close()
    return response


async def other_json(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"hello": 1})


async def absent(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="not found")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "cannot be reached"),
        (html, "with a web page, not with JSON"),
        (unauthorized, "answers 401 Unauthorized: give its token with --prometheus-header"),
        (elsewhere, "redirects to https://login.example.org/, which is not followed"),
        (slow, "does not answer within 0.2 s"),
        (broken, "answers 500 Internal Server Error: out of memory"),
        (absent, "is this the base address of a Prometheus?"),
        (other_json, "not as a Prometheus does"),
        (unfinished, ""),
    ],
)
def test_a_server_that_is_of_no_use_is_told_once(
    answer: Answer | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does instead of answering: no figure, each with the reason, and one warning for all of them."""
    monkeypatch.setattr(prometheus, "TIMEOUT_S", 0.2)
    samples, figures, told = asked(answer)
    assert samples == []
    assert len(figures) == 2 * len(promql.BUILT_IN)
    assert all(figure.value is None and figure.reason for figure in figures)
    assert len(told) == 1
    assert words in told[0]
    assert told[0].startswith("every figure: ")
    assert told[0].endswith("missing from this run")


async def nothing(_request: web.Request) -> web.StreamResponse:
    return said([])


async def none_of_none(request: web.Request) -> web.StreamResponse:
    return said([{"metric": {}, "value": [1.0, "NaN"]}]) if request.path.endswith("query") else said([], "matrix")


async def syntax(_request: web.Request) -> web.StreamResponse:
    text = 'invalid parameter "query": 1:6: parse error: unclosed left parenthesis'
    return web.json_response({"status": "error", "errorType": "bad_data", "error": text}, status=400)


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b" " * (1 << 20))
    return response


async def words_for_numbers(_request: web.Request) -> web.StreamResponse:
    return said([1.0, "hello"], "string")


async def crooked(_request: web.Request) -> web.StreamResponse:
    return said([{"metric": {}, "value": "seven"}])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (nothing, "no data: there is no such series"),
        (none_of_none, "not a number: nothing was counted in the window (0/0)"),
        (syntax, "1:6: parse error: unclosed left parenthesis"),
        (endless, "its answer cannot be used: it is larger than 16 MB"),
        (broken, "answers 500 Internal Server Error: out of memory"),
        (slow, "does not answer within 0.5 s"),
        (words_for_numbers, "answers with a string, not with numbers"),
        (crooked, "its answer is not as a Prometheus gives it"),
    ],
)
def test_a_query_without_an_answer_leaves_the_others_alone(
    answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figure is missing with its reason at every point, told once; all other figures are there."""
    monkeypatch.setattr(prometheus, "TIMEOUT_S", 0.5)
    asking = Prometheus("http://h", queries={"mine": "my_metric"})
    _, figures, told = asked(unless("my_metric", answer), asking)
    mine = [figure for figure in figures if figure.query == "mine" and figure.point]
    assert [figure.value for figure in mine] == [None, None]
    assert all(words in (figure.reason or "") for figure in mine)
    assert all(figure.value == 2.5 for figure in figures if figure.query != "mine")
    assert len(told) == 1
    assert told[0].startswith("mine: ")


def counting(counts: Callable[[int], str]) -> Answer:
    """Answer how often the bases were scraped in a window of so many milliseconds; the rest well."""

    async def answer(request: web.Request) -> web.StreamResponse:
        query = request.query["query"]
        if not query.startswith("label_replace"):
            return await good(request)
        window_ms = int(query.partition("[")[2].partition("ms")[0])
        count = query.count("label_replace")
        return said([{"metric": {"basis": str(n)}, "value": [1.0, counts(window_ms)]} for n in range(count)])

    return answer


def test_too_few_scrapes_in_a_window_are_no_figure() -> None:
    """Scraped every 5 s: a window of 4 s has one scrape, which says nothing, although the server answers."""
    _, figures, told = asked(counting(lambda window_ms: str(max(1, window_ms // 5000))))
    assert {figure.value for figure in figures} == {None}
    assert len(told) == 1
    assert "a window holds fewer than 4 scrapes (one every 5 s): make it longer (-p)" in told[0]


def test_no_such_series_names_what_was_looked_for() -> None:
    """A selector that nothing matches: one line with it, not one a query."""
    asking = Prometheus("http://h", selector='namespace="x"')
    _, figures, told = asked(counting(lambda _: "0"), asking)
    assert {figure.value for figure in figures} == {None}
    assert sorted(text.partition(": ")[2] for text in told) == [
        'no such series ({namespace="x",model="m"}); missing from this run',
        'no such series ({namespace="x"}); missing from this run',
    ]


def test_a_clock_that_is_ahead_shifts_the_queries() -> None:
    """A server an hour ahead is asked for its own times; samples come back at ours, and it is said."""
    hour = 3600

    async def ahead(request: web.Request) -> web.StreamResponse:
        if request.query["query"] == "time()":
            return said([0, str(clock.utc_ns() / S + hour)], "scalar")
        assert abs(float(request.query.get("time") or request.query["end"]) - clock.utc_ns() / S - hour) < 60
        return await good(request)

    samples, figures, told = asked(ahead)
    assert {figure.value for figure in figures} == {2.5}
    assert all(abs(sample.at_ns - 9 * S) < S // 10 for sample in samples)
    assert told == ["its clock is +3600.0 s from ours; every query was shifted by that"]


def test_the_token_goes_with_every_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable in a header is replaced when it is sent."""
    monkeypatch.setenv("PROM_TOKEN", "s3cret")

    async def guarded(request: web.Request) -> web.StreamResponse:
        allowed = request.headers.get("authorization") == "Bearer s3cret"
        return await (good if allowed else unauthorized)(request)

    _, figures, told = asked(guarded, Prometheus("http://h", {"authorization": "Bearer $PROM_TOKEN"}))
    assert told == []
    assert figures


def test_a_reason_of_the_series_is_not_told_beside_that_of_the_points() -> None:
    """A query that fails over the run and at points is named once; where only its series is missing, that is told."""
    reasons = [(0, "a", "refused"), (1, "a", "refuses"), (0, "b", "big"), (1, "c", "refuses")]
    figures = [Figure(point, query, "{}", None, reason) for point, query, reason in reasons]
    told = missing_words([*figures, Figure(2, "c", "{}", 1.0)], 2)
    assert told == [
        "a (at 1 of 2 points), c (at 1 of 2 points): refuses; missing from this run",
        "b: big; missing from this run",
    ]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is slow at every query holds the end of a run up for so long, and no longer."""
    monkeypatch.setattr(scraped, "PATIENCE_S", -1.0)
    _, figures, told = asked(good)
    assert {figure.value for figure in figures} == {None}
    assert len(told) == 1
    assert "was not asked" in told[0]


def test_over_https_by_the_endpoints_authority(tmp_path: Path) -> None:
    """The endpoint's authority is trusted; without it, the certificate is the reason."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def ahead_s(url: str, tls: Tls | None) -> float:
        async with client(Endpoint("h:1", "m", tls=tls), Prometheus(url)) as server:
            return await server.ahead_s()

    with served(good, context) as url:
        assert abs(asyncio.run(ahead_s(url, Tls(str(tmp_path / "ca.pem"))))) < 60
        with pytest.raises(QueryError, match="certificate verify failed"):
            asyncio.run(ahead_s(url, None))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.sampled_from(["NaN", "1", "", "+Inf"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["metric", "value", "values"]), inner)
    ),
)


@given(st.sampled_from(["vector", "matrix", "scalar", "string"]), JSON)
def test_any_answer_is_numbers_or_a_reason(kind: str, result: Any) -> None:
    """Whatever JSON stands in an answer, it is read, or refused in a line."""
    content = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()
    found = []
    with contextlib.suppress(QueryError):
        found = prometheus.series(content, 200, "OK", "application/json")
    assert all(isinstance(value, float) for series in found for _, value in series.values)


@given(st.floats(1, 1e7), st.one_of(st.none(), st.floats(0.1, 300)))
def test_no_series_is_asked_for_in_too_many_steps(span_s: float, scrape_s: float | None) -> None:
    """A Prometheus refuses more than 11,000 steps."""
    step = promql.step_s(span_s, scrape_s)
    assert math.floor(span_s / step) + 1 <= 11_000
    assert step >= 1.0
    assert promql.rate_window_ms(step, scrape_s) >= 4000 * step - 1


def test_queries_name_the_model_and_the_window() -> None:
    """Matchers of the user and the plan stand in every query; the window is in milliseconds."""
    of = promql.scope(Prometheus("http://h", selector='{namespace="atlas-sonic",}'), [("traccc-gpu", "2")])
    (queue,) = (query for query in promql.BUILT_IN if query.name == "queue_ms")
    inside = '{namespace="atlas-sonic",model="traccc-gpu",version="2"}[5013ms]'
    assert of.filled(queue.at_point, 5013) == (
        f"sum(rate(nv_inference_queue_duration_us{inside})) / "
        f"(1000 * sum(rate(nv_inference_request_success{inside})))"
    )
    several = promql.scope(Prometheus("http://h"), [("b", "1"), ("a", "")])
    assert several.model == 'model=~"a|b"'
    assert "$" not in "".join(of.filled(query.at_point + query.over_run, 1) for query in promql.BUILT_IN)
    replaced = promql.queries(Prometheus("http://h", queries={"queue_ms": "up", "mine": "up"}))
    assert [query.at_point for query in replaced if query.name in {"queue_ms", "mine"}] == ["up", "up"]


@pytest.mark.parametrize(
    "url", ["http://h:9090", "http://h:9090/", "http://h:9090/graph?g0.expr=up", "http://h:9090/api/v1/query"]
)
def test_an_address_from_a_browser_will_do(url: str) -> None:
    """The API lies below the base address, whichever page of it was copied."""
    assert base_url(url) == "http://h:9090"
    assert base_url("https://h/prometheus/") == "https://h/prometheus"


def plan_with(asking: Prometheus) -> Plan:
    """Return a plan that asks a Prometheus."""
    return Plan(Endpoint("h:1", "m", prometheus=asking), PerfJson(("a.json",)), (ClosedLoop(1),))


@pytest.mark.parametrize(
    ("asking", "words"),
    [
        (Prometheus("h:9090"), "prometheus.url: h:9090: write http"),
        (Prometheus("http://me:secret@h"), "would be written down"),
        (Prometheus("http://h", {"authorization": "Bearer $NOT_SET_AT_ALL"}), "NOT_SET_AT_ALL is not set"),
        (Prometheus("http://h", queries={"a-b": "up"}), "a-b=up: write NAME=PROMQL"),
        (Prometheus("http://h", queries={"a": " "}), "write NAME=PROMQL"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_the_load(asking: Prometheus, words: str) -> None:
    """One line that names the field."""
    with pytest.raises(PlanError) as refused:
        checked(plan_with(asking))
    assert words in str(refused.value)


def test_a_plan_is_written_without_its_token() -> None:
    """The token is masked, a variable's name is kept; the rest comes back as it was."""
    asking = Prometheus("http://h", {"authorization": "Bearer abc", "x-scope-orgid": "7"}, "a='b'", {"mine": "up"})
    kept = from_json(to_json(written(plan_with(asking))), "x").endpoint.prometheus
    assert kept == Prometheus("http://h", {"authorization": MASK, "x-scope-orgid": "7"}, "a='b'", {"mine": "up"})


def test_options_become_the_plan(tmp_path: Path) -> None:
    """And something to ask without a server to ask is refused."""
    (tmp_path / "a.json").write_text('{"data":[]}')
    options = ["sweep", "-m", "m", "--input-data", str(tmp_path / "a.json"), "--dry-run"]
    refused = CliRunner().invoke(app, [*options, "--prometheus-query", "a=up"])
    assert isinstance(refused.exception, PlanError)
    assert "--prometheus-url: is missing" in str(refused.exception)
    wrong = CliRunner().invoke(app, [*options, "--prometheus-url", "http://h", "--prometheus-query", "up"])
    assert "write NAME=PROMQL" in str(wrong.exception)


def test_a_run_goes_on_without_its_prometheus(tmp_path: Path) -> None:
    """Nothing listens there: the run ends well, the table says why figures are missing, the summary once."""

    async def main(url: str) -> Any:
        async with stub_server(StubConfig()) as stub:
            return await sweep_async(
                model="traccc-gpu",
                url=stub.grpc,
                metrics_url=None,
                input_data=Generated("random", shapes={"GEOMETRY_ID": (4,), "FEATURES": (4, 5)}),
                prometheus=Prometheus(url),
                warmup_ms=10,
                window_ms=200,
                output=tmp_path,
            )

    with served(None) as url:
        run = asyncio.run(main(url))
    assert run.manifest["ended"] == "complete"
    table = run.prometheus()
    assert table.schema == scraped.SCHEMA
    assert table["value"].is_null().all()
    assert table["reason"].str.contains("cannot be reached").all()
    said_of_it = [sentence.text for sentence in sentences(run, tables(run)) if "Prometheus" in sentence.text]
    assert len(said_of_it) == 1
    rows = page_rows.rows(run.points(), table)
    assert len(rows) == len(promql.BUILT_IN)
    assert all("cannot be reached" in row[-1] for row in rows)


def test_the_doctor_looks_at_the_prometheus() -> None:
    """Its clock, whether the model is scraped, and the user's queries; a fault names what would mend it."""

    def seen(answer: Answer | None, queries: dict[str, str]) -> dict[str, Finding]:
        with served(answer) as url:
            target = Endpoint("127.0.0.1:1", "m", prometheus=Prometheus(url, queries=queries))
            return {found.what: found for found in asyncio.run(examined(target))}

    found = seen(unless("my_metric", syntax), {"mine": "my_metric", "other": "up"})
    assert (found["prometheus"].state, found["scrapes"].state) == ("ok", "ok")
    assert "1 replica(s) of the model" in found["scrapes"].words
    assert (found["mine"].state, found["other"].state) == ("fault", "ok")
    assert seen(None, {})["prometheus"].state == "fault"
    assert seen(unless("count_over_time", nothing), {})["scrapes"].state == "note"


def test_tables_of_answers_are_read_as_rows_of_text() -> None:
    """A row a query and series, a column a point, the reason at the end."""
    points = pl.DataFrame({"point": [1, 2], "concurrency": [1, 4], "rate_per_s": [None, None]})
    figures = [
        Figure(1, "up", '{"pod":"a"}', 1.0),
        Figure(2, "up", '{"pod":"a"}', None, "why"),
        Figure(0, "x", "{}", None),
    ]
    assert page_rows.rows(points, scraped.table(figures)) == [
        ["up", "pod=a", "1", "–", "why"],  # noqa: RUF001 - the dash of a missing figure
        ["x", "", "–", "–", ""],  # noqa: RUF001
    ]
    assert page_rows.headings(points) == ["1", "4"]
