"""The metrics page: real pages, hostile pages, and a poller that survives them."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from aiohttp.typedefs import Handler
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from loadgen import clock
from loadgen.endpoint import Endpoint, Tls
from loadgen.errors import PlanError
from loadgen.plan import ClosedLoop, PerfJson, Plan, checked
from loadgen.rundir import Sample
from loadgen.server import metrics
from loadgen.server.metrics import Page, Poller, pages, parse_page


def figures(samples: list[Sample], metric: str, label: str) -> dict[str, float]:
    """Return one metric's values by one label."""
    return {json.loads(sample.labels)[label]: sample.value for sample in samples if sample.metric == metric}


def test_four_gpus_of_a_real_page(field_data: Path) -> None:
    """Every GPU of a recorded page is there under its own uuid, with the values that stand on the page."""
    text = (field_data / "metrics" / "drunkcoding__model-inference__metrics_4gpu.txt").read_text()
    samples = parse_page(text, at_ns=7)
    for metric in ("nv_gpu_utilization", "nv_gpu_power_usage", "nv_gpu_memory_used_bytes"):
        on_page = [line for line in text.splitlines() if line.startswith(metric + "{")]
        found = figures(samples, metric, "gpu_uuid")
        assert len(found) == len(on_page) == 4
        assert all(f'gpu_uuid="{uuid}"' in line for uuid, line in zip(found, on_page, strict=True))
        assert [float(line.split()[-1]) for line in on_page] == list(found.values())
    assert {sample.at_ns for sample in samples} == {7}


@pytest.mark.parametrize(
    "name",
    [
        "yongbinfeng__SonicMetricAnalyzer__result1.log",
        "yongbinfeng__SonicMetricAnalyzer__result2.log",
        "yongbinfeng__SONICTutorial__some-hands-on-metrics_0.txt",
        "triton-inference-server__vllm_backend__README-histograms.txt",
    ],
)
def test_every_figure_of_a_real_page_is_read(field_data: Path, name: str) -> None:
    """As many figures are parsed as there are lines with one."""
    # One is an excerpt in a document, with an ellipsis between its parts.
    page = [line for line in (field_data / "metrics" / name).read_text().splitlines() if line != "..."]
    lines = [line for line in page if line.strip() and not line.startswith("#")]
    assert len(parse_page("\n".join(page), 0)) == len(lines) > 0


@given(
    st.dictionaries(st.text(max_size=15), st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    st.text(max_size=10),
)
def test_any_label_and_value_comes_through(values: dict[str, float], extra: str) -> None:
    """Extra labels, quotes, newlines, exponents: what an exporter writes is what is read."""
    registry = CollectorRegistry()
    gauge = Gauge("nv_gpu_utilization", "of a GPU", ["gpu_uuid", "pod"], registry=registry)
    for uuid, value in values.items():
        gauge.labels(gpu_uuid=uuid, pod=extra).set(value)
    samples = parse_page(generate_latest(registry).decode(), 0)
    assert figures(samples, "nv_gpu_utilization", "gpu_uuid") == values


def test_names_are_those_of_the_page() -> None:
    """A counter keeps the name it has on the page, with or without _total."""
    page = "# TYPE nv_inference_count counter\nnv_inference_count 1\n# TYPE cpu_total counter\ncpu_total 2\n"
    assert {sample.metric for sample in parse_page(page, 0)} == {"nv_inference_count", "cpu_total"}


def test_not_a_number_is_missing() -> None:
    """NaN and infinities are no figures: they are left out, not turned into something else."""
    samples = parse_page("a NaN\nb +Inf\nc 1.5e3", 0)
    assert [(sample.metric, sample.value) for sample in samples] == [("c", 1500.0)]


async def poll_once(page: Handler | None) -> tuple[list[Sample], list[str]]:
    """Poll a page served by `page` (None: a port where nothing listens) a few times."""
    samples: list[Sample] = []
    warnings: list[str] = []
    told = asyncio.Event()

    def on_samples(more: list[Sample]) -> None:
        samples.extend(more)
        told.set()

    def on_warning(text: str) -> None:
        warnings.append(text)
        told.set()

    application = web.Application()
    if page is not None:
        application.router.add_get("/metrics", page)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    if page is None:
        await runner.cleanup()
    task = asyncio.create_task(Poller(Page(f"http://127.0.0.1:{port}/metrics"), 1, on_samples, on_warning).run())
    await told.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await runner.cleanup()
    return samples, warnings


def answering(text: str, status: int = 200) -> Handler:
    """Return a handler with one answer."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return answer


def test_the_poller_reads_a_page() -> None:
    """What stands on the page arrives as samples."""
    samples, warnings = asyncio.run(poll_once(answering('up{job="x"} 1\n')))
    assert (samples[0].metric, samples[0].labels, samples[0].value) == ("up", '{"job":"x"}', 1.0)
    assert samples[0].source == metrics.SOURCE
    assert warnings == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (None, "missing"),
        (answering("no", 404), "answers 404"),
        (answering("<html>\n<p>hello</p>\n</html>"), "not Prometheus text"),
    ],
)
def test_a_page_that_is_not_one_is_told_once_and_gives_nothing(page: Handler | None, words: str) -> None:
    """No figure is made up: there is one warning, and no sample."""
    samples, warnings = asyncio.run(poll_once(page))
    assert samples == []
    assert len(warnings) == 1
    assert words in warnings[0]
    assert "missing from this run" in warnings[0]


def polled(page: Page) -> tuple[list[Sample], list[str]]:
    """Poll a page until it has given figures or a warning."""
    samples: list[Sample] = []
    warnings: list[str] = []

    async def main() -> None:
        poller = Poller(page, 1, samples.extend, warnings.append)
        task = asyncio.create_task(poller.run())
        while not samples and not warnings:
            await clock.sleep_ns(clock.NS_PER_MS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await clock.sleep_ns(50 * clock.NS_PER_MS)  # a connection that was broken off is closed a turn or two later

    asyncio.run(main())
    return samples, warnings


@contextmanager
def served(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve a page from a thread of its own, over TLS if a context is given; yields `HOST:PORT`."""
    loop = asyncio.new_event_loop()
    application = web.Application()
    application.router.add_get("/metrics", handler)
    runner = web.AppRunner(application)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_page_over_https_with_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint's authority is trusted, the header comes with its variable replaced; without it, a warning."""
    monkeypatch.setenv("PAGE_TOKEN", "s3cret")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def answer(request: web.Request) -> web.StreamResponse:
        allowed = request.headers.get("authorization") == "Bearer s3cret"
        return web.Response(text="up 1\n") if allowed else web.Response(status=401, reason="Unauthorized")

    with served(answer, context) as where:
        facts = {"metrics_urls": (f"https://{where}/metrics",), "tls": Tls(str(tmp_path / "ca.pem"))}
        headers = {"authorization": "Bearer $PAGE_TOKEN"}
        (with_header,) = pages(Endpoint("h:1", "m", metrics_headers=headers, **facts))  # type: ignore[arg-type]
        (without,) = pages(Endpoint("h:1", "m", **facts))  # type: ignore[arg-type]
        assert [sample.value for sample in polled(with_header)[0]] == [1.0]
        assert "answers 401" in polled(without)[1][0]


def test_several_pages_are_told_apart() -> None:
    """Figures of each replica carry its host and port; those of a single page are as they stand on it."""
    one, two = pages(Endpoint("h:1", "m", metrics_urls=("http://a:8002/metrics", "http://b:8002/metrics")))
    assert (one.instance, two.instance) == ("a:8002", "b:8002")
    (alone,) = pages(Endpoint("h:1", "m", metrics_urls=("http://a:8002/metrics",)))
    assert alone.instance == ""
    assert figures(parse_page('up{job="x"} 1', 0, one.instance), "up", "instance") == {"a:8002": 1.0}


def test_a_page_without_end_is_not_read_to_it() -> None:
    """A hundred megabytes are no metrics page: one warning, no figures, no memory."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * (1 << 20))
        return response

    with served(endless) as where:
        samples, warnings = polled(Page(f"http://{where}/metrics"))
    assert samples == []
    assert "larger than 16 MB" in warnings[0]


@pytest.mark.parametrize("url", ["localhost:8002/metrics", "ftp://h/metrics", ""])
def test_a_page_that_is_no_url_is_refused(url: str) -> None:
    """One line, before anything starts."""
    plan = Plan(Endpoint("h:1", "m", metrics_urls=(url,)), PerfJson(("a.json",)), (ClosedLoop(1),))
    with pytest.raises(PlanError, match=r"metrics_urls: .*write http://HOST:PORT/metrics"):
        checked(plan)
