"""The metrics page: real pages, hostile pages, and a poller that survives them."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from loadgen.rundir import Sample
from loadgen.server import metrics
from loadgen.server.metrics import Poller, parse_page


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
    task = asyncio.create_task(Poller(f"http://127.0.0.1:{port}/metrics", 1, on_samples, on_warning).run())
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
