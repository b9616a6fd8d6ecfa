"""Several servers behind one address: found out, their statistics not used, their shares and how even they are."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_points import TARGET, ZERO, constant_rows, point

from analysis import replicas as evenness
from analysis.figures import tables
from analysis.runs import REPLICAS_SCHEMA, Run
from analysis.summary import sentences
from loadgen import balance, points, replicas, sweep_async
from loadgen.balance import Balance
from loadgen.kserve import Statistics
from loadgen.plan import Companion, Generated
from loadgen.server.metrics import parse_page
from loadgen.server.simulated import StubConfig
from loadgen.server.stub import stub_server

INPUTS = Generated("random", shapes={"GEOMETRY_ID": (4,), "FEATURES": (4, 5)})


def counted(success: int, **changes: Any) -> Statistics:
    """Return a reading."""
    return replace(ZERO, success_count=success, inference_count=success, **changes)


def watched(readings: Sequence[Statistics]) -> Balance:
    """Return what a watch makes of readings."""
    watch = Balance()
    for reading in readings:
        watch.see(reading)
    return watch


@given(st.lists(st.integers(0, 100)))
def test_one_server_is_never_taken_for_several(steps: list[int]) -> None:
    """Counters that only grow, however they do, are those of one."""
    totals = [sum(steps[:place]) for place in range(len(steps))]
    assert watched([counted(total, queue_ns=7 * total) for total in totals]).reason == ""


@given(st.lists(st.integers(1, 50), min_size=2, max_size=20), st.integers(1, 1000))
def test_two_servers_that_answer_in_turn_are_found_out(steps: list[int], apart: int) -> None:
    """Two counters that grow, one ahead of the other: the second time that a reading falls, it is sure."""
    readings, low = [], 0
    for step in steps:
        low += step
        readings += [counted(low + apart + sum(steps)), counted(low)]
    assert "several servers answer" in watched(readings).reason


def test_a_restart_is_not_taken_for_several_servers() -> None:
    """One fall can be a restart: only the point across it loses its statistics."""
    readings = [counted(900), counted(950), counted(0), counted(40), counted(80)]
    assert watched(readings).reason == ""
    across = point(started=counted(900), opened=counted(950), closed=counted(40), drained=counted(980))
    row = points.point_row(across, constant_rows(2, 500), TARGET)
    assert row["server_success"] is None
    assert row["point_server_success"] is None
    assert (
        "the server was restarted, or several answer at this address (inference_count went from 950" in row["checks"]
    )
    assert row["verdict"] == "converged"


@given(st.integers(20, 10_000), st.floats(0, 1))
def test_answers_that_no_counter_holds_were_given_by_others(answered: int, share: float) -> None:
    """One in twenty may be late; more than that cannot be."""
    watch = Balance()
    watch.count(counted(5), counted(5 + int(share * answered)), answered)
    assert bool(watch.reason) == (int(share * answered) < 0.95 * answered)


def test_statistics_of_several_servers_are_null_everywhere() -> None:
    """Every figure that would come from them, with the reason in checks and verdict; ours are as they were."""
    log = point(unavailable="several servers answer at this address")
    row = points.point_row(log, constant_rows(2, 500), TARGET)
    theirs = [name for name in points.SCHEMA if name.startswith(("server_", "point_server", "network"))]
    assert {row[name] for name in theirs} == {None}
    assert row["completed"] == 1000
    assert "server's statistics not available: several servers" in row["checks"]
    assert "server statistics are not available: several servers" in row["reason"]
    assert points.composing_rows(log) == []


PAGE = """
nv_inference_request_success{model="m",version="1",gpu_uuid="a"} 7
nv_inference_request_success{model="m",version="1",gpu_uuid="b"} 5
nv_inference_request_success{model="m",version="2"} 100
nv_inference_request_success{model="other",version="1"} 100
nv_inference_request_failure{model="m",reason="OTHER",version="1"} 2
nv_inference_request_failure{model="m",reason="REJECTED",version="1"} 1
nv_inference_count{model="m",version="1"} 24
nv_inference_exec_count{model="m",version="1"} 6
nv_inference_queue_duration_us{model="m",version="1"} 1234
"""


def test_counters_of_a_page_are_those_of_the_model() -> None:
    """Over its GPUs and reasons, of its version alone; a page without the model has none."""
    found = replicas.counters(parse_page(PAGE, 0), replicas.Model("m", "m", "1"), 1, 2)
    assert found is not None
    assert (found.success_count, found.fail_count, found.inference_count, found.execution_count) == (12, 3, 24, 6)
    assert found.queue_ns == 1_234_000
    assert replicas.counters(parse_page(PAGE, 0), replicas.Model("m", "m", "3"), 1, 2) is None


def spread(counts: Sequence[float | None]) -> pl.DataFrame:
    """Return the table of one point with so many requests a replica."""
    rows = [(1, f"r{place}", "metrics", count) for place, count in enumerate(counts)]
    return replicas.shares(pl.DataFrame(rows, schema=list(replicas.SCHEMA)[:4], orient="row", strict=False))


@pytest.mark.parametrize(
    ("counts", "imbalance", "variation"),
    [((300, 100), 0.5, 0.5), ((100, 100, 100), 0, 0), ((90, 0, 0), 2, math.sqrt(2)), ((50,), 0, 0)],
)
def test_imbalance_is_what_its_definition_says(counts: Sequence[float], imbalance: float, variation: float) -> None:
    """The busiest's share times their number less one, and sd over mean of the shares."""
    table = spread(counts)
    assert table.schema == replicas.SCHEMA == REPLICAS_SCHEMA
    (row,) = evenness.imbalance(table).to_dicts()
    assert row["imbalance"] == pytest.approx(imbalance)
    assert row["variation"] == pytest.approx(variation)
    assert row["chance"] == pytest.approx(math.sqrt((len(counts) - 1) / sum(counts)))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=9).filter(any))
def test_imbalance_has_its_bounds(counts: list[int]) -> None:
    """From 0 to one less than the replicas, and shares add up to one."""
    table = spread(counts)
    assert table["share"].sum() == pytest.approx(1)
    (row,) = evenness.imbalance(table).to_dicts()
    assert -1e-9 <= row["imbalance"] <= len(counts) - 1 + 1e-9
    assert row["variation"] <= math.sqrt(len(counts) - 1) + 1e-9


def test_no_share_is_made_up() -> None:
    """Without a request, or with a replica that could not be read, shares are null."""
    for counts in ((0, 0), (5, None)):
        assert spread(counts)["share"].is_null().all()
        assert evenness.imbalance(spread(counts)).is_empty()


def test_the_summary_names_the_busiest_and_the_idle() -> None:
    """In a sentence, with what an even share would be; an even spread is no warning."""
    facts = pl.DataFrame({"point": [1], "concurrency": [4], "rate_per_s": [None]})
    said, even = evenness.words(facts, spread((90, 10, 0))) or ("", True)
    assert not even
    assert "at concurrency 4 r0 had 90.0 % of them, 170.0 % above an even share. r2 had none." in said
    said, even = evenness.words(facts, spread((52, 48))) or ("", False)
    assert even
    assert "2 replicas shared the requests evenly" in said
    assert evenness.words(facts, spread((90,))) is None


@asynccontextmanager
async def forwarded(addresses: Sequence[str]) -> AsyncIterator[str]:
    """Forward each connection whole to the next of some servers, as a balancer of connections does."""
    turns, tasks = cycle(addresses), set[asyncio.Task[None]]()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        host, port = next(turns).split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)
        finally:
            for each in (writer, far_writer):
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)


def swept(folder: Path, *, with_pages: bool, **options: Any) -> Run:
    """Sweep two stubs behind a balancer of connections; return the run."""

    async def main() -> Run:
        async with stub_server(StubConfig()) as one, stub_server(StubConfig()) as two:
            urls = [stub.metrics_url for stub in (one, two)] if with_pages else None
            async with forwarded([one.grpc, two.grpc]) as address:
                return await sweep_async(
                    model="traccc-gpu",
                    url=address,
                    metrics_url=urls,
                    input_data=INPUTS,
                    connections=2,
                    concurrency=4,
                    warmup_ms=50,
                    window_ms=400,
                    output=folder,
                    **options,
                )

    return asyncio.run(main())


def test_a_balancer_of_connections_is_found_out_by_what_is_not_counted(tmp_path: Path) -> None:
    """Its statistics never fall, they are one server's; yet they hold half of our answers: not used."""
    run = swept(tmp_path, with_pages=False)
    (row,) = run.points().to_dicts()
    assert row["server_queue_ns"] is None
    assert row["point_server_success"] is None
    assert "the counters hold" in row["checks"]
    said = [sentence.text for sentence in sentences(run, tables(run)) if "are not available" in sentence.text]
    assert len([text for text in said if text.startswith("Server statistics")]) == 1


def test_pages_of_every_replica_take_the_place_of_statistics(tmp_path: Path) -> None:
    """Their sum is our own count, exactly, and each one's share is there."""
    run = swept(tmp_path, with_pages=True)
    (row,) = run.points().to_dicts()
    assert row["point_server_success"] == row["point_ok"] > 0
    assert row["server_compute_infer_ns"] > 0
    assert f"server {row['point_ok']} = {row['point_ok']} (sum of 2 replicas)" in row["checks"]
    shares = run.replicas()
    assert shares["requests"].sum() == row["server_success"]
    assert shares.height == 2
    assert set(run.samples().filter(pl.col("metric") == "replicas")["value"]) == {2.0}


def test_the_plan_may_say_that_there_are_several(tmp_path: Path) -> None:
    """Then nothing needs to be found out: their statistics are not used from the start."""
    run = swept(tmp_path, with_pages=False, replicas=2)
    (row,) = run.points().to_dicts()
    assert "2 servers answer at this address, as was said" in row["checks"]
    assert balance.stated(1) == balance.stated(0) == ""


def test_a_mix_of_models_keeps_each_ones_counts(tmp_path: Path) -> None:
    """Over two replicas and two models: every model's part has its own counters, summed over the replicas."""

    async def main() -> Run:
        config = StubConfig(companions=("other",))
        async with stub_server(config) as one, stub_server(config) as two, forwarded([one.grpc, two.grpc]) as address:
            return await sweep_async(
                model="traccc-gpu",
                companions=[Companion("other", INPUTS)],
                url=address,
                metrics_url=[stub.metrics_url for stub in (one, two)],
                input_data=INPUTS,
                connections=2,
                concurrency=4,
                warmup_ms=50,
                window_ms=400,
                output=tmp_path,
            )

    run = asyncio.run(main())
    assert run.points()["point_server_success"].to_list() == run.points()["point_ok"].to_list()
    models = run.models()
    assert models["point_server_success"].to_list() == models["point_ok"].to_list()
    assert run.replicas()["requests"].sum() == run.points()["server_success"].sum() == models["server_success"].sum()
