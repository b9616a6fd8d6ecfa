"""Metrics pages that are none: the run goes on, their figures are missing with the reason, and it is said once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import polars as pl
import pytest
from aiohttp import web
from test_run import FAST, Watcher, plan_for
from test_run import TinySource as Inputs

from analysis import figures
from analysis.runs import Run, open_run
from analysis.summary import sentences
from loadgen import clock
from loadgen.endpoint import Endpoint
from loadgen.run import Job, run
from loadgen.rundir import Sample
from loadgen.server.metrics import Page, Poller
from loadgen.server.stub import stub_server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(text: str, status: int = 200, kind: str = "text/plain", location: str = "") -> Handler:
    """Return a handler with one answer."""

    async def handle(_request: web.Request) -> web.StreamResponse:
        headers = {"Location": location} if location else None
        return web.Response(text=text, status=status, content_type=kind, headers=headers)

    return handle


async def endless(request: web.Request) -> web.StreamResponse:
    """Answer with a hundred megabytes."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b"x" * (1 << 20))
    return response


async def never(_request: web.Request) -> web.StreamResponse:
    """Do not answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def serve(handler: Handler, elsewhere: list[str]) -> tuple[web.AppRunner, str]:
    """Serve a page; what is asked for besides is noted in `elsewhere`."""

    async def other(request: web.Request) -> web.StreamResponse:
        elsewhere.append(request.path)
        return web.Response(text="up 1\n")

    application = web.Application()
    application.router.add_get("/metrics", handler)
    application.router.add_get("/{other:.*}", other)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"


BAD = {
    "500": (answer("boom", 500), "answers 500"),
    "404": (answer("no", 404), "answers 404"),
    "redirect": (answer("", 302, location="/login"), "answers 302 Found to /login"),
    "HTML": (answer("<html><body>up 1</body></html>", kind="text/html"), "answers with HTML"),
    "HTML as text": (answer("<html>\n<p>1</p>\n</html>"), "is not Prometheus text"),
    "empty": (answer(""), "holds no figure"),
    "other words at each poll": (answer("no page {"), "is not Prometheus text"),
    "100 MB": (endless, "is larger than 16 MB"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_run_goes_on_beside_a_bad_page(tmp_path: Path, name: str) -> None:
    """Every request is measured, no figure is made up, the summary names the page and the reason exactly once."""
    handler, words = BAD[name]
    elsewhere: list[str] = []

    async def main() -> Run:
        runner, url = await serve(handler, elsewhere)
        async with stub_server(FAST) as stub:
            plan = plan_for(stub, 2, endpoint=Endpoint(stub.grpc, "traccc-gpu", metrics_urls=(url,)))
            directory = await run(Job(plan, Inputs(), Watcher(), asyncio.Event()), tmp_path)
        await runner.cleanup()
        return open_run(directory.path)

    done = asyncio.run(main())
    assert done.manifest["ended"] == "complete"
    assert done.points()["completed"].item() > 0
    assert done.samples().filter(pl.col("source") == "metrics").is_empty()
    summary = [each.text for each in sentences(done, figures.tables(done))]
    assert sum(words in text for text in summary) == 1, summary
    assert elsewhere == []


def test_a_page_that_does_not_answer_is_given_up_in_time() -> None:
    """After its time, not before, the reason is said; the poller then asks again."""
    asked, warnings = [], list[str]()

    async def slow(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return await never(request)

    async def main() -> None:
        runner, url = await serve(slow, [])
        task = asyncio.create_task(Poller(Page(url), 1, list[Sample]().extend, warnings.append, timeout_s=0.05).run())
        while len(asked) < 3:
            await clock.sleep_ns(clock.NS_PER_MS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()

    asyncio.run(main())
    assert len(warnings) == 1
    assert "does not answer in time" in warnings[0]


def test_a_page_that_fails_later_says_that_further_figures_are_missing() -> None:
    """What was read stays, and is not called missing; it is read again when it is back."""
    answers, samples, warnings = iter("abxbxxb"), list[Sample](), list[str]()

    async def sometimes(_request: web.Request) -> web.StreamResponse:
        broken = next(answers, "b") == "x"
        return web.Response(status=503) if broken else web.Response(text="up 1\n")

    async def main() -> None:
        runner, url = await serve(sometimes, [])
        poller = Poller(Page(url), 1, samples.extend, warnings.append)
        for _ in range(7):
            await poller.once()
        await runner.cleanup()

    asyncio.run(main())
    assert len(samples) == 4
    (warning,) = warnings
    assert "answers 503 Service Unavailable; further figures are missing" in warning


def test_the_last_window_lies_between_two_readings(tmp_path: Path) -> None:
    """However long the interval of the polls: pages and host are read at the start and once more at the end."""

    async def main() -> Run:
        runner, url = await serve(answer("nv_up 1\n"), [])
        async with stub_server(FAST) as stub:
            endpoint = Endpoint(stub.grpc, "traccc-gpu", metrics_urls=(url,))
            plan = plan_for(stub, 2, endpoint=endpoint, metrics_interval_ms=3_600_000)
            directory = await run(Job(plan, Inputs(), Watcher(), asyncio.Event()), tmp_path)
        await runner.cleanup()
        return open_run(directory.path)

    done = asyncio.run(main())
    (point,) = done.points().iter_rows(named=True)
    for metric in ("nv_up", "host_cpu_seconds_total"):
        at_ns = done.samples().filter(pl.col("metric") == metric)["at_ns"].unique().sort().to_list()
        assert len(at_ns) == 2
        assert at_ns[0] <= point["window_start_ns"] < point["window_end_ns"] <= at_ns[1]
    assert 0 < figures.tables(done).client["host_cpu"].item() <= 1
