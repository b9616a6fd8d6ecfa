"""The main job against the real Triton: our counts are its counts, and a killed sweep leaves nothing but its rows."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from loadgen import Synthetic, sweep_async
from loadgen.endpoint import Endpoint
from loadgen.errors import TargetError
from loadgen.journal import segments
from loadgen.records import ROW, Outcome
from loadgen.server.launch import serve_standin
from loadgen.server.triton import Triton

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

CONCURRENCIES = [1, 2, 4]
GONE_S = 15


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return a sweep of the stand-in with two instances, and the growth of Triton's own success counter."""
    folder = tmp_path_factory.mktemp("live")

    async def main() -> tuple[Path, int]:
        async with serve_standin(directory=folder, log=folder / "triton.log") as server:
            async with Triton(Endpoint(server.grpc, server.model)) as triton:
                before = await triton.statistics("1")
                run = await sweep_async(
                    model=server.model,
                    url=server.grpc,
                    metrics_url=server.metrics_url,
                    input_data=Synthetic(mu=20.0, events=5),
                    concurrency=CONCURRENCIES,
                    warmup_ms=500,
                    window_ms=2000,
                    output=folder / "runs",
                )
                after = await triton.statistics("1")
            assert before is not None
            assert after is not None
            return run.path, after.success_count - before.success_count

    return asyncio.run(main())


def test_our_rows_are_tritons_successes(swept: tuple[Path, int]) -> None:
    """Every request Triton counted as a success is an ok row of ours, and no other: exactly, over the whole run."""
    path, successes = swept
    rows = pl.read_parquet(path / "records" / "*.parquet")
    assert (rows["outcome"] == "ok").sum() == len(rows) == successes
    points = pl.read_parquet(path / "points.parquet")
    assert points["point_ok"].to_list() == points["point_server_success"].to_list()


def test_the_asked_concurrency_is_held(swept: tuple[Path, int]) -> None:
    """At 1, 2 and 4 the mean in flight is within 3 % of what was asked: between two requests is only our work."""
    points = pl.read_parquet(swept[0] / "points.parquet")
    assert points["concurrency"].to_list() == CONCURRENCIES
    assert (points["in_flight_mean"] / points["concurrency"]).is_between(0.97, 1.001).all()


def test_the_stages_are_tritons(swept: tuple[Path, int]) -> None:
    """Clustering takes most of the time, four requests on two instances queue, and nothing is negative."""
    points = pl.read_parquet(swept[0] / "points.parquet")
    assert (points["server_compute_infer_ns"] > 0.3 * points["service_mean_ns"])[0]
    assert points["server_queue_ns"][2] > 3 * points["server_queue_ns"][0]
    assert (points["network_ns"] > 0).all()
    assert points["server_busy"].is_between(0.05, 1.05).all()


def test_the_result_says_what_it_is(swept: tuple[Path, int]) -> None:
    """Stand-in model and synthetic events are named in the table, the report and the log."""
    path, _ = swept
    points = pl.read_parquet(path / "points.parquet")
    assert points["simulated"].all()
    assert "stand-in" in points["server"][0]
    assert "synthetic ODD, mu 20" in points["inputs"][0]
    page = (path / "report.html").read_text()
    assert "stand-in" in page
    assert "synthetic" in page


def test_tritons_page_is_sampled_and_gpu_figures_are_missing(swept: tuple[Path, int]) -> None:
    """The page's counters are there; of a GPU, which this server has not, there is no figure: not even a 0."""
    samples = pl.read_parquet(swept[0] / "samples.parquet")
    assert "nv_inference_request_success" in set(samples["metric"])
    assert not any(metric.startswith("nv_gpu") for metric in samples["metric"])


def test_tritons_other_ports_are_named_for_what_they_are(tmp_path: Path) -> None:
    """Given Triton's HTTP or metrics port for gRPC, the one line says so at once."""

    async def main() -> None:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log", instances=1) as server:
            for port in (server.http, server.metrics_url.removeprefix("http://").removesuffix("/metrics")):
                async with Triton(Endpoint(port, server.model)) as triton:
                    with pytest.raises(TargetError, match="does not speak gRPC"):
                        await triton.wait_ready(timeout_s=60)

    asyncio.run(main())


def test_kill_9_leaves_no_server_and_loses_no_row(tmp_path: Path) -> None:
    """SIGKILL of the demo in mid-window: server and worker end, and `seal` recovers every completed request."""
    arguments = ["demo", "--mu", "2", "--events", "3", "--warmup-ms", "100", "-p", "60000", "-o", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "loadgen", *arguments], stdout=subprocess.DEVNULL)
    with process:
        while not any("window_opened" in log.read_text() for log in tmp_path.glob("*/log.jsonl")):
            assert process.poll() is None
        wait_for_rows(tmp_path)
        family = psutil.Process(process.pid).children(recursive=True)
        names = {child.name() for child in family}
        assert "tritonserver" in names
        process.kill()
    left = psutil.wait_procs(family, timeout=GONE_S)[1]
    assert left == []
    (log,) = tmp_path.glob("*/log.jsonl")
    sealed = subprocess.run(
        [sys.executable, "-m", "loadgen", "seal", str(log.parent)], capture_output=True, text=True, check=False
    )
    assert sealed.returncode == 0, sealed.stderr
    rows = pl.read_parquet(log.parent / "records" / "*.parquet")
    completed = rows.filter(pl.col("outcome") == "ok")
    assert completed.height >= 20
    assert rows["seq"].to_list() == list(range(len(rows)))
    assert set(rows["outcome"]) <= {"ok", "open_at_end"}
    assert rows.filter(pl.col("outcome") == "open_at_end").height <= 1
    assert json.loads((log.parent / "manifest.json").read_text())["ended"] == "rescued"
    (point,) = pl.read_parquet(log.parent / "points.parquet").iter_rows(named=True)
    assert point["completed"] > 0


def wait_for_rows(folder: Path) -> None:
    """Wait until the journal of the run below `folder` holds a few dozen rows."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = [np.fromfile(path, ROW) for run in folder.glob("*/journal") for path in segments(run)]
        if found and (found[0]["outcome"] == Outcome.OK).sum() > 20:
            return
    raise AssertionError("no rows in the journal")
