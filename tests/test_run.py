"""Whole runs against a loopback server: what ends up in the directory, however the run ends."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from loadgen import finish, points, rundir
from loadgen.endpoint import Endpoint
from loadgen.errors import FleetError, PlanError, TargetError
from loadgen.kserve import InputEvent, ModelMetadata, Tensor
from loadgen.plan import ByTime, ClosedLoop, OpenLoop, PerfJson, Plan, Search
from loadgen.progress import Quiet
from loadgen.run import Job, run
from loadgen.rundir import RunDirectory
from loadgen.server.simulated import RunningStub, StubConfig
from loadgen.server.stub import stub_server

FAST = StubConfig(base_ns=4_000_000, per_cell_ns=0)
BOOKS_FAULTS = {"failing", "server_disagrees", "records_disagree"}


class TinySource:
    """Three events of a few cells."""

    description = "three tiny events"
    synthetic = False
    provenance: dict[str, object] = {}  # noqa: RUF012 - never changed
    files = None

    def events(self, metadata: ModelMetadata, batch: int) -> Iterator[InputEvent]:
        """Yield them for the ODD signature."""
        assert metadata.inputs
        for cells in (3, 5, 8):
            ids = Tensor("GEOMETRY_ID", "UINT64", np.arange(cells, dtype="<u8") + 2**63)
            features = Tensor("FEATURES", "FP64", np.zeros((cells, 5)))
            yield InputEvent(f"event {cells}", (ids, features), cells)


class Watcher(Quiet):
    """Keeps the warnings, and calls `on_progress` on every report of progress."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.on_progress: Callable[[str], None] = lambda _phase: None

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)

    def progress(self, phase: str, progress: object) -> None:
        """Pass the phase on."""
        self.on_progress(phase)


def plan_for(stub: RunningStub, *concurrencies: int, **changes: Any) -> Plan:
    """Return a short plan against a stub."""
    facts: dict[str, Any] = {"stopping": ByTime(250, 50), "metrics_interval_ms": 50, "ready_timeout_s": 5.0}
    endpoint = changes.pop("endpoint", Endpoint(stub.grpc, "traccc-gpu", metrics_urls=(stub.metrics_url or "",)))
    loads = changes.pop("loads", tuple(map(ClosedLoop, concurrencies)))
    return Plan(endpoint, PerfJson(("tiny.json",)), loads, **(facts | changes))


def carry_out(
    config: StubConfig,
    root: Path,
    *concurrencies: int,
    watcher: Watcher | None = None,
    during: Callable[[RunningStub, asyncio.Event], Awaitable[None]] | None = None,
    **changes: Any,
) -> tuple[RunDirectory, RunningStub]:
    """Serve a stub and run a plan against it; `during` goes on beside the run."""

    async def main() -> tuple[RunDirectory, RunningStub]:
        interrupt = asyncio.Event()
        async with stub_server(config) as stub:
            plan = plan_for(stub, *concurrencies, **changes)
            beside = asyncio.ensure_future(during(stub, interrupt)) if during else None
            directory = await run(Job(plan, TinySource(), watcher or Watcher(), interrupt), root)
            if beside:
                await beside
            return directory, stub

    return asyncio.run(main())


def records(directory: RunDirectory) -> pl.DataFrame:
    """Return the sealed rows."""
    return pl.read_parquet(directory.records / "*.parquet")


def the_run(root: Path) -> RunDirectory:
    """Return the only run below a folder."""
    (path,) = root.iterdir()
    return RunDirectory(path)


def workers() -> list[psutil.Process]:
    """Return the worker processes of this test."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # another child that is just ending
            if "loadgen.worker" in child.cmdline():
                found.append(child)
    return found


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, RunningStub]:
    """Return a run of three points, and the server's own counts."""
    return carry_out(FAST, tmp_path_factory.mktemp("runs"), 1, 4, 2)


def test_every_answer_is_a_row(complete: tuple[RunDirectory, RunningStub]) -> None:
    """The rows of the run, probe included, are exactly the requests the server answered."""
    directory, stub = complete
    rows = records(directory)
    assert set(rows["outcome"]) == {"ok"}
    assert len(rows) == stub.served
    assert rows.filter(pl.col("point") == 0).height == 1


def test_the_points_table_is_whole(complete: tuple[RunDirectory, RunningStub]) -> None:
    """Each point has its row, in order, typed as documented, found in order, with the server's own counts equal."""
    directory, _ = complete
    table = pl.read_parquet(directory.points)
    assert dict(table.schema) == points.SCHEMA
    assert table["concurrency"].to_list() == [1, 4, 2]
    # A quarter of a second on a busy machine may drift: only faults of the books would be faults of ours.
    assert not set(table["verdict"]) & BOOKS_FAULTS
    assert (table["little_residual_ns"] == 0).all()
    assert table["point_ok"].to_list() == table["point_server_success"].to_list()
    assert (table["in_flight_mean"] / table["concurrency"]).is_between(0.97, 1.001).all()
    rows_by_point = records(directory).group_by("point").len().sort("point")["len"].to_list()
    assert table["point_requests"].to_list() == rows_by_point[1:]
    assert table["instances"].to_list() == [2, 2, 2]
    assert table["simulated"].all()


def test_queueing_shows_in_the_stages(complete: tuple[RunDirectory, RunningStub]) -> None:
    """Four requests on two instances of 4 ms wait about 4 ms in the queue; one waits none."""
    directory, _ = complete
    queue_ms = pl.read_parquet(directory.points)["server_queue_ns"] / 1e6
    assert queue_ms[0] < 1
    assert 2 < queue_ms[1] < 8


def test_the_directory_is_sealed(complete: tuple[RunDirectory, RunningStub]) -> None:
    """The manifest counts what is there; what the tables replace is gone; no draft is left."""
    directory, _ = complete
    manifest = json.loads(directory.manifest.read_text())
    assert manifest["ended"] == "complete"
    assert manifest["rows"] == len(records(directory))
    assert manifest["samples"] == pl.read_parquet(directory.samples).height
    names = {path.name for path in directory.path.iterdir()}
    assert names == {
        "plan.json",
        "environment.json",
        "corpus.json",
        "log.jsonl",
        "records",
        "samples.parquet",
        "points.parquet",
        "manifest.json",
    }


def test_the_servers_page_and_our_own_process_are_sampled(complete: tuple[RunDirectory, RunningStub]) -> None:
    """Samples hold the page's counters and the worker's memory, each at a time inside the run."""
    directory, _ = complete
    samples = pl.read_parquet(directory.samples)
    assert {"metrics", "loadgen"} == set(samples["source"])
    assert "nv_inference_request_success" in set(samples["metric"])
    memory = samples.filter(pl.col("metric") == "process_resident_memory_bytes")["value"]
    assert memory.is_between(10e6, 1e9).all()


def test_tables_computed_again_from_the_log_are_the_same(tmp_path: Path) -> None:
    """A run whose sealing was undone is sealed to the same points and rows: nothing lived in memory alone."""
    seen: list[pl.DataFrame] = []

    def keep(directory: RunDirectory) -> None:
        seen.append(finish.measured_points(directory))

    original = finish._drop_replaced
    finish._drop_replaced = keep  # type: ignore[assignment]
    try:
        directory, _ = carry_out(FAST, tmp_path, 2)
    finally:
        finish._drop_replaced = original
    first = records(directory)
    directory.manifest.unlink()
    directory.points.unlink()
    manifest = finish.rescue(directory)
    assert manifest.ended == "rescued"
    assert pl.read_parquet(directory.points).equals(seen[0])
    assert records(directory).equals(first)


def test_interrupted_means_whole_but_shorter(tmp_path: Path) -> None:
    """Asked to stop in a window, a run closes it, awaits what is in flight, seals, and leaves later points out."""
    watcher = Watcher()

    async def stop_in_the_window(_stub: RunningStub, interrupt: asyncio.Event) -> None:
        entered = asyncio.Event()
        watcher.on_progress = lambda phase: entered.set() if phase == "window" else None
        await entered.wait()
        interrupt.set()

    directory, stub = carry_out(
        FAST, tmp_path, 3, 1, watcher=watcher, during=stop_in_the_window, stopping=ByTime(60_000, 50)
    )
    table = pl.read_parquet(directory.points)
    assert table["concurrency"].to_list() == [3]
    assert "cut short" in table["reason"][0]
    rows = records(directory)
    assert set(rows["outcome"]) == {"ok"}
    assert len(rows) == stub.served
    assert json.loads(directory.manifest.read_text())["ended"] == "interrupted"


def test_no_metrics_page_is_a_warning(tmp_path: Path) -> None:
    """The run goes on without the page; its figures are missing, and that is said once."""
    watcher = Watcher()

    async def main() -> RunDirectory:
        async with stub_server(FAST) as stub:
            endpoint = Endpoint(stub.grpc, "traccc-gpu", metrics_urls=("http://127.0.0.1:9/metrics",))
            plan = plan_for(stub, 1, endpoint=endpoint)
            return await run(Job(plan, TinySource(), watcher, asyncio.Event()), tmp_path)

    directory = asyncio.run(main())
    assert set(pl.read_parquet(directory.samples)["source"]) == {"loadgen"}
    assert len([text for text in watcher.warnings if "metrics page" in text]) == 1


def test_failed_requests_are_rows_with_their_code(tmp_path: Path) -> None:
    """A server that refuses every fifth request: the point is kept, failing, and each refusal is counted."""
    directory, stub = carry_out(StubConfig(base_ns=1_000_000, per_cell_ns=0, fail_every=5), tmp_path, 2)
    outcomes = dict(records(directory)["outcome"].value_counts().iter_rows())
    assert outcomes["ok"] == stub.served
    assert outcomes["grpc_unavailable"] > 0
    (row,) = pl.read_parquet(directory.points).iter_rows(named=True)
    assert row["verdict"] == "failing"
    assert "grpc_unavailable" in row["reason"]
    failures = [event for event in rundir.read_log(directory.log) if event["event"] == "failure"]
    assert failures[0]["details"]


def test_an_answer_that_never_comes_is_a_timeout(tmp_path: Path) -> None:
    """A request that hangs ends at its deadline, as a row, and does not hold up the end of the run."""
    directory, _ = carry_out(
        StubConfig(base_ns=1_000_000, per_cell_ns=0, hang_every=20), tmp_path, 2, deadline_ms=150
    )
    rows = records(directory)
    timeouts = rows.filter(pl.col("outcome") == "timeout")
    assert timeouts.height > 0
    assert ((timeouts["done_ns"] - timeouts["sent_ns"]) >= 150_000_000).all()


def test_a_stall_is_seen_by_every_request_that_was_due_in_it(tmp_path: Path) -> None:
    """At 100 a second, a stall of 0.3 s delays some thirty requests, each by what was left of it: none unseen."""
    config = StubConfig(
        instances=1, base_ns=2_000_000, per_cell_ns=0, stall_at_ns=600_000_000, stall_for_ns=300_000_000
    )
    load = OpenLoop(100.0)
    directory, _ = carry_out(config, tmp_path, loads=(load,), stopping=ByTime(1500, 0))
    rows = pl.read_parquet(directory.records / "*.parquet").filter(pl.col("point") == 1)
    response_ms = (rows["done_ns"] - rows["due_ns"]) / 1e6
    assert 22 <= (response_ms > 50).sum() <= 45
    assert response_ms.max() == pytest.approx(300, abs=80)
    assert (rows["outcome"] == "ok").all()
    gaps_ms = rows.sort("due_ns")["due_ns"].diff().drop_nulls() / 1e6
    assert gaps_ms.is_between(9.99, 10.01).all()


def test_counters_that_trail_the_answers_are_awaited(tmp_path: Path) -> None:
    """A server that counts a request after it answered is not accused of losing it."""
    config = StubConfig(base_ns=2_000_000, per_cell_ns=0, late_statistics_ns=80_000_000)
    directory, _ = carry_out(config, tmp_path, 4)
    assert pl.read_parquet(directory.points)["verdict"][0] not in BOOKS_FAULTS


def test_a_killed_worker_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """The run says that the worker died, seals what it recorded, and keeps the point with its window cut."""
    watcher = Watcher()

    def kill(phase: str) -> None:
        if phase == "window":
            for worker in workers():
                worker.kill()

    watcher.on_progress = kill
    with pytest.raises(FleetError, match=r"worker \d+ ended \(status -9\).*what was measured until then is in"):
        carry_out(FAST, tmp_path, 2, watcher=watcher, stopping=ByTime(60_000, 50))
    directory = the_run(tmp_path)
    rows = records(directory)
    assert rows.filter(pl.col("outcome") == "ok").height > 10
    assert pl.read_parquet(directory.points)["point"].to_list() == [1]
    assert json.loads(directory.manifest.read_text())["ended"] == "failed"


def test_a_fault_of_who_watches_ends_the_run(tmp_path: Path) -> None:
    """It says so and seals, instead of waiting for reports that nobody reads any more."""
    watcher = Watcher()

    def fault(phase: str) -> None:
        if phase == "window":
            raise RuntimeError("no screen")

    watcher.on_progress = fault
    with pytest.raises(FleetError, match="no screen"):
        carry_out(FAST, tmp_path, 2, watcher=watcher, stopping=ByTime(60_000, 50))
    assert json.loads(the_run(tmp_path).manifest.read_text())["ended"] == "failed"


def test_a_worker_killed_while_it_drains_ends_the_run(tmp_path: Path) -> None:
    """The run does not wait for the end of a drain that nobody reports."""
    watcher = Watcher()

    def kill(phase: str) -> None:
        if phase == "drain":
            for worker in workers():
                worker.kill()

    watcher.on_progress = kill
    with pytest.raises(FleetError, match=r"worker \d+ ended \(status -9\)"):
        carry_out(StubConfig(base_ns=4_000_000, per_cell_ns=0, hang_every=3), tmp_path, 2, watcher=watcher)
    assert set(records(the_run(tmp_path))["outcome"]) == {"ok", "open_at_end"}


def test_a_server_that_goes_away_ends_the_run(tmp_path: Path) -> None:
    """When no request succeeds any more and the server does not come back, later points are not tried."""
    watcher = Watcher()

    async def main() -> None:
        async with stub_server(FAST) as stub:
            stopped = asyncio.Event()
            watcher.on_progress = lambda phase: stopped.set() if phase == "warm-up" else None
            plan = plan_for(stub, 2, 3)
            running = asyncio.create_task(run(Job(plan, TinySource(), watcher, asyncio.Event()), tmp_path))
            await stopped.wait()
        await running

    with pytest.raises(TargetError, match="no server answers"):
        asyncio.run(main())
    table = pl.read_parquet(the_run(tmp_path).points)
    assert table["verdict"].to_list() == ["failing"]


@pytest.mark.parametrize(
    ("config", "model", "words"),
    [
        (FAST, "nosuch", "no model nosuch on this server"),
        (StubConfig(ready=False), "traccc-gpu", "not ready"),
    ],
)
def test_a_target_that_cannot_be_used_leaves_nothing_behind(
    tmp_path: Path, config: StubConfig, model: str, words: str
) -> None:
    """One line says why, and no empty run directory stays."""

    async def main() -> None:
        async with stub_server(config) as stub:
            plan = plan_for(stub, 1, endpoint=Endpoint(stub.grpc, model), ready_timeout_s=0.3)
            await run(Job(plan, TinySource(), Watcher(), asyncio.Event()), tmp_path)

    with pytest.raises(TargetError, match=words):
        asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_refuses_the_input_ends_the_run_at_the_probe(tmp_path: Path) -> None:
    """The first request fails: the message carries the server's words, and the one row is kept."""
    with pytest.raises(TargetError, match="first request failed: grpc_unavailable"):
        carry_out(StubConfig(fail_every=1), tmp_path, 1)
    assert records(the_run(tmp_path))["outcome"].to_list() == ["grpc_unavailable"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The output is a file: say so, before any server is asked."""
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(PlanError, match="--output"):
        rundir.create(tmp_path / "runs", "sweep")


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    """A taken name is counted up; a name that is no file name is made one."""
    first, second = rundir.create(tmp_path, "a/b c"), rundir.create(tmp_path, "a/b c")
    assert first.path != second.path
    assert first.path.name.endswith("-a-b-c")


def test_a_running_run_is_not_sealed(tmp_path: Path) -> None:
    """Sealing a run that is still being written would take its journal away: it is refused."""
    directory = rundir.create(tmp_path, "sweep")
    log = rundir.EventLog(directory)
    log.event("run_started", utc_ns=1)
    with pytest.raises(PlanError, match="still running"):
        finish.rescue(directory)
    log.close()
    assert finish.rescue(directory).rows == 0


def test_a_search_is_a_run_whose_points_are_its_probes(tmp_path: Path) -> None:
    """Probes are sealed points in their order, the answer is in a file and in the log, goodput in every row."""
    asked = Search("service_p50 < 30ms", "concurrency", max_concurrency=8, probe_s=1.2)
    config = StubConfig(base_ns=10_000_000, per_cell_ns=0, instances=2)
    directory, _ = carry_out(config, tmp_path, search=asked)
    sealed = pl.read_parquet(directory.points)
    answer = json.loads(directory.search.read_text())
    events = rundir.read_log(directory.log)
    assert answer["probes"] == sealed.height == sum(event["event"] == "probe_measured" for event in events)
    assert sealed["concurrency"].to_list()[:3] == [1, 2, 4]
    # Five in flight on two instances of 10 ms take 25 ms, six take 30: what the machine adds decides between 3 and 5.
    assert answer["value"] in {2.0, 3.0, 4.0, 5.0}
    first = sealed.row(0, named=True)
    # A machine that is held up makes one or the other of the requests late.
    assert first["slo"] == "service_p50 < 30ms"
    assert 0.7 * first["throughput_per_s"] < first["goodput_per_s"] <= first["throughput_per_s"] * (1 + 1e-9)
    slow = sealed.filter(pl.col("concurrency") == 8)
    assert (slow["goodput_per_s"] < 0.5 * slow["throughput_per_s"]).all()


def test_probes_over_rate_draw_fresh_arrivals_and_fit(tmp_path: Path) -> None:
    """A whole search over rates against two instances of 10 ms claims less than their capacity of 200/s."""
    asked = Search("p50 < 40ms", "rate", arrivals="constant", saturation=4, probe_s=0.4, max_probe_s=1.0)
    config = StubConfig(base_ns=10_000_000, per_cell_ns=0, instances=2)
    directory, _ = carry_out(config, tmp_path, search=asked)
    answer = json.loads(directory.search.read_text())
    sealed = pl.read_parquet(directory.points)
    assert sealed["load"].to_list()[:3] == ["closed_loop", "closed_loop", "open_loop"]
    assert answer["probes"] == sealed.height
    if answer["value"] is not None:
        assert 40 < answer["value"] <= 200
