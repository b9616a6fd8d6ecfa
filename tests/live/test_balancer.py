"""Two real Tritons behind a real balancer: whose statistics they are, and which share each of them had."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from beside import nginx, program, prometheus

from analysis.figures import tables
from analysis.replicas import imbalance
from analysis.runs import Run
from analysis.summary import sentences
from loadgen import Synthetic, sweep_async
from loadgen.endpoint import Prometheus
from loadgen.server.launch import RunningServer, serve_standin

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

WEIGHTS = (3, 1)
OPTIONS: dict[str, Any] = {"input_data": Synthetic(mu=10.0, events=3), "concurrency": (1, 3), "warmup_ms": 500}


@asynccontextmanager
async def two_behind_one(folder: Path) -> AsyncIterator[tuple[str, list[RunningServer]]]:
    """Serve two Tritons behind nginx, three requests to the first for every one to the second."""
    for name in ("a", "b"):
        (folder / name).mkdir()
    async with (
        serve_standin(directory=folder / "a", log=folder / "a.log", instances=1) as first,
        serve_standin(directory=folder / "b", log=folder / "b.log", instances=1) as second,
    ):
        weights = dict(zip((first.grpc, second.grpc), WEIGHTS, strict=True))
        with nginx(weights, folder / "nginx") as address:
            yield address, [first, second]


def test_statistics_through_a_balancer_are_not_available(tmp_path: Path) -> None:
    """Counters of whichever server answers give no figure at all: every column of theirs is null, and it says why."""
    program("nginx", "nginx")

    async def main() -> Run:
        async with two_behind_one(tmp_path) as (address, _):
            return await sweep_async(
                model="traccc-gpu", url=address, metrics_url=None, window_ms=2000, output=tmp_path / "runs", **OPTIONS
            )

    run = asyncio.run(main())
    points = run.points()
    assert points["failed"].sum() == 0
    for column in points.columns:
        if column.startswith(("server_", "point_server", "network_")):
            assert points[column].is_null().all(), column
    assert not set(points["verdict"]) & {"server_disagrees", "failing"}
    for row in points.iter_rows(named=True):
        print(row["load_words"], row["verdict"], row["checks"])
        assert "server's statistics not available: several servers answer at this address" in row["checks"]
        if row["verdict"] != "client_limited":  # another fault, as of a busy machine, comes before remarks
            assert "server statistics are not available: several servers" in row["reason"]
    assert len(run.events("balanced")) == 1


def test_each_replicas_share_from_its_own_page(tmp_path: Path) -> None:
    """Sums over the pages are our own counts, exactly; shares are the balancer's weights, in Prometheus too."""
    program("nginx", "nginx")
    program("prometheus", "prometheus")

    async def main() -> Run:
        async with two_behind_one(tmp_path) as (address, servers):
            pages = [server.metrics_url for server in servers]
            targets = {
                f"pod-{n}": page.removeprefix("http://").removesuffix("/metrics") for n, page in enumerate(pages)
            }
            with prometheus(targets, tmp_path / "prometheus") as url:
                return await sweep_async(
                    model="traccc-gpu",
                    url=address,
                    metrics_url=pages,
                    prometheus=Prometheus(url),
                    window_ms=5000,
                    output=tmp_path / "runs",
                    **OPTIONS,
                )

    run = asyncio.run(main())
    points = run.points()
    assert points["point_server_success"].to_list() == points["point_ok"].to_list()
    assert not set(points["verdict"]) & {"server_disagrees", "failing"}
    replicas = pl.read_parquet(run.path / "replicas.parquet")
    heavy = WEIGHTS[0] / sum(WEIGHTS)
    uneven = {row["point"]: row["imbalance"] for row in imbalance(replicas).iter_rows(named=True)}
    scraped = pl.read_parquet(run.path / "prometheus.parquet").filter(pl.col("query") == "requests_by_replica_per_s")
    for row in points.iter_rows(named=True):
        assert "(sum of 2 replicas)" in row["checks"]
        mine = replicas.filter(pl.col("point") == row["point"])
        assert mine["requests"].sum() == row["server_success"]
        # Weighted round robin takes turns of four requests; those that cross the window's edges shift it a little.
        slack = 16 / row["completed"]
        print(
            row["load_words"], mine["share"].to_list(), "of", row["completed"], "requests; statistics", row["checks"]
        )
        assert abs(mine["share"].max() - heavy) < slack  # type: ignore[operator]
        assert uneven[row["point"]] == pytest.approx(2 * heavy - 1, abs=2 * slack)
        rates = scraped.filter(pl.col("point") == row["point"])["value"]
        print("  Prometheus:", (rates / rates.sum()).to_list())
        assert rates.max() / rates.sum() == pytest.approx(heavy, abs=0.05)  # type: ignore[operator]
    (said,) = (sentence.text for sentence in sentences(run, tables(run)) if "replicas shared" in sentence.text)
    print(said)
    assert "2 replicas shared the requests unevenly" in said
