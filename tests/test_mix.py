"""Several models at once: who gets which share, and whether the books of each add up."""

import asyncio
from collections import Counter
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
from test_run import BOOKS_FAULTS, TinySource, Watcher, plan_for, records

from analysis.report import model_table
from analysis.runs import open_run
from loadgen import corpus, plan
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError, TargetError
from loadgen.plan import ByTime, Companion, OpenLoop, PerfJson
from loadgen.ranges import companion_option
from loadgen.run import Job, run
from loadgen.rundir import RunDirectory
from loadgen.server.simulated import RunningStub, StubConfig
from loadgen.server.stub import stub_server

TWO = StubConfig(base_ns=2_000_000, per_cell_ns=0, companions=("other",))
OTHER = Companion("other", PerfJson(("tiny.json",)), weight=3.0)


def carry_out(root: Path, *companions: Companion) -> tuple[RunDirectory, RunningStub]:
    """Run two points against a stub of two models."""

    async def main() -> tuple[RunDirectory, RunningStub]:
        async with stub_server(TWO) as stub:
            asked = plan_for(stub, 4, companions=companions, stopping=ByTime(700, 50))
            sources = tuple(TinySource() for _ in companions)
            job = Job(plan.checked(asked), TinySource(), Watcher(), asyncio.Event(), sources)
            return await run(job, root), stub

    return asyncio.run(main())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, RunningStub]:
    """Return a run in which a second model takes three requests in four."""
    return carry_out(tmp_path_factory.mktemp("mixed"), OTHER)


def test_each_group_gets_its_share_and_uses_its_bodies_equally() -> None:
    """Chances follow the weights; within a group every body is used once a pass."""
    drawn = Counter(islice(corpus.mixed((3, 2), (3.0, 1.0), seed=1), 8000))
    first, second = [drawn[body] for body in range(3)], [drawn[body] for body in (3, 4)]
    assert abs(sum(first) / 8000 - 0.75) < 0.02
    assert max(first) - min(first) <= 1
    assert max(second) - min(second) <= 1


def test_the_same_seed_draws_the_same_mix() -> None:
    """Two workers with one seed would send the same requests."""
    draws = [list(islice(corpus.mixed((3, 2), (3.0, 1.0), seed), 50)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_the_books_of_each_model_agree_with_the_server(mixed: tuple[RunDirectory, RunningStub]) -> None:
    """Our rows of a model, by body, are what the server counted for that model; the whole is their sum."""
    directory, stub = mixed
    bodies = [body.model for body in corpus.read_index(directory.corpus_index).bodies]
    ours = Counter(bodies[body] for body in records(directory)["body"])
    probes = records(directory).filter(pl.col("point") == 0)["body"].to_list()
    assert [bodies[body] for body in probes] == ["traccc-gpu", "other"]
    assert ours == {"traccc-gpu": stub.models["traccc-gpu"].success, "other": stub.models["other"].success}
    (point,) = pl.read_parquet(directory.points).to_dicts()
    assert point["verdict"] not in BOOKS_FAULTS, point["reason"]
    assert point["point_server_success"] == point["point_ok"]


def test_the_models_table_splits_the_point(mixed: tuple[RunDirectory, RunningStub]) -> None:
    """A row a model: counts add up to the point's, stages are the model's own, and so is its success count."""
    directory, _ = mixed
    models = pl.read_parquet(directory.models)
    (point,) = pl.read_parquet(directory.points).to_dicts()
    assert models["model"].to_list() == ["traccc-gpu", "other"]
    assert models["completed"].sum() == point["completed"]
    assert models["point_server_success"].to_list() == models["point_ok"].to_list()
    assert abs(models["completed"][1] / point["completed"] - 0.75) < 0.15
    shown = model_table(open_run(directory.path).models())
    assert [row[1] for row in shown.rows] == ["traccc-gpu", "other"]


def test_a_model_that_is_not_served_is_named(tmp_path: Path) -> None:
    """Nothing is sent, and nothing is left behind."""
    with pytest.raises(TargetError, match="no model absent"):
        carry_out(tmp_path, Companion("absent", PerfJson(("tiny.json",))))
    assert not list(tmp_path.iterdir())


def test_a_mix_is_data_in_the_plan(mixed: tuple[RunDirectory, RunningStub]) -> None:
    """The run's own plan reads back with its companions, so that it runs again."""
    again = plan.read_plan(mixed[0].plan)
    assert [(each.model, each.weight) for each in again.companions] == [("other", 3.0)]


def test_one_model_named_twice_is_refused() -> None:
    """Rows could not be told apart."""
    endpoint = Endpoint("localhost:8001", "traccc-gpu")
    inputs = PerfJson(("in.json",))
    twice = plan.Plan(endpoint, inputs, (OpenLoop(5),), companions=(Companion("traccc-gpu", inputs),))
    with pytest.raises(PlanError, match="companions: traccc-gpu is named twice"):
        plan.checked(twice)


def test_the_option_is_read() -> None:
    """MODEL@VERSION=WEIGHT:INPUT."""
    assert companion_option("other@2=0.5:a:b.json") == ("other", "2", 0.5, "a:b.json")


@pytest.mark.parametrize(
    "text", ["", "other", "other=1", "other=0:in.json", "other=x:in.json", "=1:in.json", "o=-1:i"]
)
def test_a_wrong_option_is_refused(text: str) -> None:
    """One line says what to write."""
    with pytest.raises(PlanError, match=r"--also .*: write MODEL=WEIGHT:INPUT"):
        companion_option(text)
