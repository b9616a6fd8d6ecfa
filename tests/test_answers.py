"""Answers under load: what is kept of them, whether they were alike, and what of their tracks differs."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sealed_run import Story, write_run
from tritonclient.grpc import service_pb2

from analysis import summary
from analysis.__main__ import main
from analysis.answers import ways
from analysis.answers.difference import NOT_KEPT, difference
from analysis.figures import tables
from analysis.runs import open_run
from loadgen import finish, journal, rundir, witness
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError
from loadgen.journal import Journal
from loadgen.kserve import InputEvent, ModelMetadata, Tensor
from loadgen.plan import ByTime, ClosedLoop, PerfJson, Plan
from loadgen.progress import Quiet
from loadgen.records import Outcome, Reply
from loadgen.run import Job, run
from loadgen.server.simulated import StubConfig
from loadgen.server.stub import stub_server
from loadgen.tracks import Found

FAST = StubConfig(base_ns=2_000_000, per_cell_ns=0)
CHANGING = replace(FAST, change_after=60, changed_cells=36)
LONG = 40_000
"""Cells whose answer has 93 kB: more than is read at once."""


class Cells:
    """Events of so many cells, for the ODD signature of the stub."""

    description = "made-up cells"
    synthetic = False
    provenance: dict[str, object] = {}  # noqa: RUF012 - never changed
    files = None

    def __init__(self, *cells: int) -> None:
        self.cells = cells

    def events(self, metadata: ModelMetadata, batch: int) -> Iterator[InputEvent]:
        """Yield them."""
        assert metadata.inputs
        assert batch == 1
        for cells in self.cells:
            ids = Tensor("GEOMETRY_ID", "UINT64", np.arange(cells, dtype="<u8"))
            features = Tensor("FEATURES", "FP64", np.zeros((cells, 5)))
            yield InputEvent(f"event of {cells}", (ids, features), cells)


def swept(config: StubConfig, root: Path, *cells: int, **changes: Any) -> Path:
    """Sweep a stub at concurrency 1 and 2 with events of so many cells; return the sealed run."""

    async def carried_out() -> Path:
        async with stub_server(config) as stub:
            facts: dict[str, Any] = {"stopping": ByTime(200, 50), "ready_timeout_s": 5.0, "answers": "decode"}
            endpoint = Endpoint(stub.grpc, "traccc-gpu", metrics_urls=(stub.metrics_url or "",))
            plan = Plan(endpoint, PerfJson(("-",)), (ClosedLoop(1), ClosedLoop(2)), **(facts | changes))
            return (await run(Job(plan, Cells(*cells), Quiet(), asyncio.Event()), root)).path

    return asyncio.run(carried_out())


def answered(path: Path) -> pl.DataFrame:
    """Return the sealed answers of a run in the order in which they came."""
    return pl.read_parquet(path / "answers" / "*.parquet").sort("done_ns", "seq")


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose answers never changed, one of them long."""
    return swept(FAST, tmp_path_factory.mktemp("alike"), 24, 36, LONG)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run in which the event of 36 cells got another answer after a while."""
    return swept(CHANGING, tmp_path_factory.mktemp("changed"), 24, 36, 60)


def test_every_answer_has_its_digest(alike: Path) -> None:
    """Each row that was answered, the first request's too, has a digest, also where the answer is long."""
    rows = pl.read_parquet(alike / "records" / "*.parquet").filter(pl.col("outcome") == "ok")
    found = answered(alike)
    keys = ["point", "worker", "seq", "body", "done_ns"]
    assert found.select(keys).sort("seq").equals(rows.select(keys).sort("seq"))
    assert found["digest"].null_count() == 0
    assert found.group_by("body").agg(pl.col("digest").n_unique())["digest"].to_list() == [1, 1, 1]


def test_alike_answers_are_called_alike(alike: Path) -> None:
    """A server that always answers alike gets the sentence that says so, with how often each event was answered."""
    counts = answered(alike)["body"].value_counts()["count"]
    (sentence,) = ways.sentences(ways.read(open_run(alike)))
    few, *_, many = sorted(counts.to_list())
    span = f"{few:,} to {many:,}" if few != many else f"{few:,}"
    assert sentence == f"Every event was answered alike {span} times: 3 events, {counts.sum():,} answers."


def test_a_few_answers_are_kept_whole(alike: Path) -> None:
    """With `decode` one answer of each event is in the run directory, and its tracks stand at every answer to it."""
    assert len(list((alike / "answers").glob("body-*.response"))) == 3
    known = answered(alike).select("body", "tracks").unique().sort("body")
    assert known.rows() == [(0, 2), (1, 3), (2, LONG // 12)]
    assert not list((alike / "answers").glob(".*"))


def test_an_answer_that_changed_is_named_with_its_point(changed: Path) -> None:
    """The event whose answer changed is named, with the load at which it first did, and no other event is."""
    found = answered(changed)
    mine = found.filter(pl.col("body") == 1)
    other = mine.filter(pl.col("digest") != mine["digest"][0])
    point = other["point"][0]
    told = ways.sentences(ways.read(open_run(changed)))
    assert told[0] == "1 of 3 events did not always get the same answer."
    first, second = mine.height - other.height, other.height
    where = f"first at concurrency {point} (point {point}); {first} and {second} times"
    assert told[1].startswith(f"event of 36 was answered in 2 ways, {where}: ")
    assert "sums of chi2 and ndf 1 apart" in told[1]
    assert len(told) == 2


def test_the_summary_of_the_run_says_so(alike: Path, changed: Path) -> None:
    """Good news and bad, in the words of the command; a run that kept no digests says nothing of it."""
    for path, kind in ((alike, "good"), (changed, "warning")):
        sealed = open_run(path)
        (told,) = (each for each in summary.sentences(sealed, tables(sealed)) if "answered" in each.text)
        assert (told.kind, told.text) == (kind, " ".join(ways.sentences(ways.read(sealed))))
    sealed = open_run(changed)
    silent = replace(sealed, plan={**sealed.plan, "answers": "none"})
    assert not [each for each in summary.sentences(silent, tables(sealed)) if "answered" in each.text]


def test_ways_are_numbered_by_when_they_came(tmp_path: Path) -> None:
    """The first way is the one that came first, be it the rarer or the more frequent."""
    path = write_run(tmp_path / "run", Story(concurrency=(1, 2, 4)))
    (path / "answers").mkdir()
    # body, point, digest, how often, when first
    groups = [(3, 1, 5, 10, 100), (3, 3, 9, 1, 300), (3, 3, 5, 3, 310), (4, 2, 17, 1, 200), (4, 2, 8, 5, 210)]
    rows = [(point, body, at + n, digest) for body, point, digest, times, at in groups for n in range(times)]
    schema = {"point": pl.UInt32(), "body": pl.UInt32(), "done_ns": pl.Int64(), "digest": pl.UInt64()}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(path / "answers" / "worker-00000-000000.parquet")
    told = ways.sentences(ways.read(open_run(path)))
    assert told[0] == "2 of 2 events did not always get the same answer."
    assert told[1].startswith("event 3 was answered in 2 ways, first at concurrency 4 (point 3); 13 and 1 times")
    assert told[2].startswith("event 4 was answered in 2 ways, first at concurrency 2 (point 2); 1 and 5 times")


def test_ways_add_up_to_the_answers(changed: Path) -> None:
    """Ways hold every answer exactly once, and their points are those in which the digest is found."""
    table, found = ways.read(open_run(changed)).ways, answered(changed)
    assert table["answers"].sum() == found.height
    assert table.select("event", "way").rows() == [
        ("event of 24", 1), ("event of 36", 1), ("event of 36", 2), ("event of 60", 1),
    ]  # fmt: skip
    for row in table.iter_rows(named=True):
        same = found.filter(pl.col("digest") == int(row["digest"], 16))
        assert row["points"] == sorted(set(same["point"]))


def test_nothing_is_kept_that_is_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `none` there is no trace of answers, and `analysis answers` says so in a line and exits with 2."""
    path = swept(FAST, tmp_path, 24, answers="none")
    assert not (path / "answers").exists()
    monkeypatch.setattr(sys, "argv", ["analysis", "answers", str(path)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == PlanError.exit_code
    error = capsys.readouterr().err
    assert "did not record its answers" in error
    assert "--answers none" in error
    assert error.count("\n") == 1


def test_digests_alone_tell_that_answers_changed(tmp_path: Path) -> None:
    """By default no answer is kept whole: a change is seen all the same, and that its nature is not known is said."""
    path = swept(CHANGING, tmp_path, 24, 36, answers="digest")
    assert [each.suffix for each in (path / "answers").iterdir()] == [".parquet"]
    assert NOT_KEPT in ways.sentences(ways.read(open_run(path)))[1]


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from loadgen.journal import Journal
from loadgen.records import Outcome, Reply
written = Journal(Path(sys.argv[1]), worker=3, segment_rows=100, digests=True)
for k in range(250):
    row, _ = written.born(7, k % 5, k * 10 + 1, 99, lambda: k * 10 + 2)
    written.ended(row, Reply(Outcome.OK, k * 10 + 5))
    if k != 200:
        written.answered(row, k + 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_digests_outlive_a_kill(tmp_path: Path) -> None:
    """After SIGKILL each row's digest is in the file, and a row whose digest was not written yet has none."""
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path)], check=False)
    digests = np.concatenate([journal.read_digests(path) for path in journal.segments(tmp_path)])
    assert digests.tolist() == [0 if k == 200 else k + 1 for k in range(250)]


def test_a_rescued_run_has_its_answers(tmp_path: Path) -> None:
    """Sealing a run that was killed seals its digests too; an answer whose digest was lost is null, and counted."""
    directory = rundir.create(tmp_path, "killed")
    log = rundir.EventLog(directory)
    log.event("run_started", utc_ns=1)
    log.close()
    directory.plan.write_text("{}")
    directory.environment.write_text("{}")
    with Journal(directory.journal, worker=0, digests=True) as written:
        for number, end in enumerate((Outcome.OK, Outcome.OK, Outcome.TIMEOUT)):
            row, _ = written.born(1, 0, number + 1, 9, lambda: 5)
            written.ended(row, Reply(end, 9 + number))
        written.answered(0, 77)
    finish.rescue(directory)
    assert answered(directory.path)["digest"].to_list() == [77, None]
    told = ways.sentences(ways.read(open_run(directory.path)))
    assert told[1] == "1 answer came without a digest: a worker was killed."


def response(identity: str = "", parameter: int = 0, value: float = 1.0, name: str = "traccc-gpu") -> bytes:
    """Return a response of one output, with what belongs to its request alone."""
    message = service_pb2.ModelInferResponse(model_name=name, model_version="1", id=identity)
    if parameter:
        message.parameters["sequence_id"].int64_param = parameter
    message.outputs.add(name="chi2", datatype="FP32", shape=(1,))
    message.raw_output_contents.append(np.float32(value).tobytes())
    return bytes(message.SerializeToString())


@given(st.text(max_size=300), st.integers(0, 2**62), st.text(max_size=200))
def test_a_digest_is_of_the_outputs_alone(identity: str, parameter: int, name: str) -> None:
    """Request ids and parameters change no digest, and any other output does."""
    assert witness.digest(response(identity, parameter, name=name)) == witness.digest(response())
    assert witness.digest(response(identity, parameter, 2.0)) != witness.digest(response())


@example([b"\n\x01", b"\n"])
@given(st.lists(st.one_of(st.binary(max_size=60), st.builds(response, st.text(max_size=9), st.integers(0, 9)))))
def test_a_witness_finds_the_same_digest(tmp_path_factory: pytest.TempPathFactory, answers: list[bytes]) -> None:
    """Whatever came before, an answer's digest is its own, never 0, and any bytes have one."""
    with Journal(tmp_path_factory.mktemp("journal"), worker=0, segment_rows=64, digests=True) as written:
        seen = witness.Witness(written, None)
        rows = [written.born(1, 0, 1, 1, lambda: 1)[0] for _ in answers]
        for row, each in zip(rows, answers, strict=True):
            seen(row, 0, each)
        folder = written.directory
    found = [journal.read_digests(path) for path in journal.segments(folder)]
    assert np.concatenate(found).tolist() == [witness.digest(each) for each in answers]
    assert 0 not in np.concatenate(found)


def found(chi2: list[float], ndf: list[float]) -> Found:
    """Return what an answer with these tracks says."""
    return Found("ODD", len(chi2), np.array(chi2), np.array(ndf))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (found([1.0, 2.0, 3.0], [5.0, 6.0, 7.0]), "the same tracks, chi2 and ndf: what differs is beyond them"),
        (found([3.0, 1.0, 2.0], [7.0, 5.0, 6.0]), "the same tracks in another order"),
        (found([3.0, 1.0, 2.00001], [7.0, 5.0, 6.0]), "alike within rounding (2e-06)"),
        (found([3.0, 1.0, 2.1], [7.0, 5.0, 6.0]), "but sums of chi2 and ndf 0.016 apart"),
        (found([1.0, 2.0], [5.0, 6.0]), "other tracks: 2 tracks, not 3 tracks"),
        (Found("raw", 3, reason="no chi2, no ndf"), "as many tracks (3 tracks); no chi2, no ndf"),
        (Found("malformed", reason="TRACKS: 3 bytes"), "other tracks: not known how many (TRACKS: 3 bytes)"),
        (found([1.0, 2.0, np.nan], [5.0, 6.0, 7.0]), "but sums of chi2 and ndf inf apart"),
        (None, NOT_KEPT),
    ],
)
def test_what_differs_is_said(other: Found | None, words: str) -> None:
    """Order, rounding, other values and other tracks are told apart."""
    assert words in difference(found([1.0, 2.0, 3.0], [5.0, 6.0, 7.0]), other)
