"""Several worker processes that share a load: together they are exactly the load that was asked for."""

import asyncio
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_run import BOOKS_FAULTS, carry_out, plan_for, records, the_run, workers

from loadgen import clock, finish
from loadgen.commands import Progress
from loadgen.errors import FleetError, PlanError
from loadgen.fleet import together
from loadgen.plan import ByTime, OpenLoop, checked
from loadgen.rundir import RunDirectory
from loadgen.server.simulated import RunningStub, StubConfig
from loadgen.worker import part_of

WIDE = StubConfig(base_ns=20_000_000, per_cell_ns=0, instances=20)


@given(whole=st.integers(0, 5000), count=st.integers(1, 64))
def test_parts_add_up(whole: int, count: int) -> None:
    """No slot is lost or doubled, and no worker has two more than another."""
    parts = [part_of(whole, number, count) for number in range(count)]
    assert sum(parts) == whole
    assert max(parts) - min(parts) <= 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, RunningStub]:
    """Return a run of three workers: concurrency 7, then 150 requests a second."""
    root = tmp_path_factory.mktemp("shared")
    return carry_out(WIDE, root, 7, workers=3, connections=2, stopping=ByTime(1000, 200), order="sequential")


def test_slots_are_shared_exactly(shared: tuple[RunDirectory, RunningStub]) -> None:
    """Seven in flight at the server, never more; each worker fills its part of them."""
    directory, stub = shared
    assert stub.in_service_max == 7
    rows = records(directory).filter(pl.col("point") == 1)
    assert set(rows["worker"].unique()) == {0, 1, 2}
    (point,) = pl.read_parquet(directory.points).to_dicts()
    assert point["in_flight_mean"] > 6.7
    assert point["verdict"] not in BOOKS_FAULTS, point["reason"]
    assert point["little_residual_ns"] == 0
    assert point["point_server_success"] == point["point_ok"] == rows.height


def test_workers_begin_together_and_use_all_inputs_alike(shared: tuple[RunDirectory, RunningStub]) -> None:
    """First requests are due at one instant; every worker goes through all bodies."""
    rows = records(shared[0]).filter(pl.col("point") == 1)
    assert rows.group_by("worker").agg(pl.col("due_ns").min())["due_ns"].n_unique() == 1
    counts = Counter(rows["body"])
    assert max(counts.values()) - min(counts.values()) <= 7


def test_an_open_loop_is_the_same_process_however_it_is_shared(tmp_path: Path) -> None:
    """The due times of all workers together are those of one: 5 ms apart, to the nanosecond."""
    directory, _ = carry_out(WIDE, tmp_path, loads=(OpenLoop(200),), workers=3, stopping=ByTime(700, 200))
    due_ns = np.sort(records(directory).filter(pl.col("point") == 1)["due_ns"].to_numpy())
    # The last few may be missing: workers stop one after the other.
    assert set(np.diff(due_ns[:-5])) == {5_000_000}


def test_the_death_of_one_worker_ends_the_run_with_its_rows(tmp_path: Path) -> None:
    """The others' rows are kept too."""

    async def kill(stub: RunningStub, _interrupt: asyncio.Event) -> None:
        while stub.arrived < 40:
            await clock.sleep_ns(10_000_000)
        workers()[1].kill()

    with pytest.raises(FleetError, match="what was measured until then"):
        carry_out(WIDE, tmp_path, 6, workers=3, stopping=ByTime(20_000, 0), during=kill)
    rows = records(the_run(tmp_path))
    assert set(rows["worker"].unique()) == {0, 1, 2}
    assert finish.measured_points(the_run(tmp_path)).height >= 0


def test_fewer_in_flight_than_workers_is_refused() -> None:
    """A worker that may have none in flight would never send what is its share."""
    plan = plan_for(RunningStub(WIDE, grpc="127.0.0.1:1"), loads=(OpenLoop(10, max_in_flight=2),), workers=3)
    with pytest.raises(PlanError, match="max_in_flight 2: is less than one for each of 3 workers"):
        checked(plan)


def test_reports_of_several_workers_become_one() -> None:
    """Counts add up; the time is the last."""
    one = Progress(5, 1, completed=3, failed=1, unsent=0, in_flight=2, resident_memory_bytes=10, cpu_s=0.5)
    two = Progress(7, 1, completed=4, failed=0, unsent=2, in_flight=1, resident_memory_bytes=20, cpu_s=0.25)
    both = together([one, two])
    assert (both.at_ns, both.completed, both.failed, both.unsent, both.in_flight) == (7, 7, 1, 2, 3)
    assert (both.resident_memory_bytes, both.cpu_s) == (30, 0.75)
