"""Corpora that are kept: the cache serves the same bytes, only to the same inputs; a prepared one only its model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from test_inputs import HEADER, ITK, ODD, written
from typer.testing import CliRunner

from inputs.__main__ import app
from inputs.source import Source, open_source
from loadgen import corpus, kserve, prepare
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError
from loadgen.kserve import ModelMetadata
from loadgen.plan import Cells, ClosedLoop, Plan, Prepared


class Counting:
    """Counts the requests that are encoded."""

    def __init__(self) -> None:
        self.encoded = 0

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Count one."""
        self.encoded += 1


Prepare = Callable[[Plan, ModelMetadata], tuple[corpus.Index, bytes, int]]


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepare a plan's corpus with a cache of the test's own: index, bytes, and how many requests were encoded."""
    monkeypatch.setattr(prepare, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(prepare, "WORTH_CACHING_BYTES", 0)
    runs = iter(range(99))

    def run(plan: Plan, metadata: ModelMetadata) -> tuple[corpus.Index, bytes, int]:
        progress, binary = Counting(), tmp_path / f"run-{next(runs)}.bin"
        index = prepare.prepare(plan, open_source(plan.inputs), metadata, binary, progress)
        return index, binary.read_bytes(), progress.encoded

    return run


def plan_of(path: Path, model: str = "traccc-gpu", **cells: object) -> Plan:
    """Return a plan over cells."""
    return Plan(Endpoint("x:1", model), Cells((str(path),), **cells), (ClosedLoop(1),))  # type: ignore[arg-type]


def cells_at(folder: Path, *rows: str) -> Path:
    """Write the one event of a folder."""
    folder.mkdir(exist_ok=True)
    return written(folder / "event000000000-cells.csv", HEADER + "".join(f"{row}\n" for row in rows))


def test_the_second_run_encodes_nothing(tmp_path: Path, prepared: Prepare) -> None:
    """The same inputs for the same model come from the cache with the same bytes and the same index."""
    path = cells_at(tmp_path / "a", "7,0,1,1,0,1", "0,0,1,1,0,1", "8,0,1,1,0,1")
    index, content, encoded = prepared(plan_of(path), ODD)
    assert (encoded, index.dropped_cells) == (1, 1)
    again, same, encoded = prepared(plan_of(path), ODD)
    assert encoded == 0
    assert (again, same) == (index, content)
    moved = cells_at(tmp_path / "b", *path.read_text().splitlines()[1:])
    assert prepared(plan_of(moved), ODD)[2] == 0


def test_whatever_changes_the_bytes_is_encoded_anew(tmp_path: Path, prepared: Prepare) -> None:
    """Another content, model, option or declaration is never served from the cache."""
    path = cells_at(tmp_path / "a", "7,0,1,1,0,1", "7,1,1,1,0,1")
    prepared(plan_of(path), ODD)
    renamed = ModelMetadata("other", ODD.versions, ODD.platform, ODD.inputs, ODD.outputs)
    assert prepared(plan_of(path, model="other"), renamed)[2] == 1
    assert prepared(plan_of(path, merge_duplicates=True), ODD)[2] == 1
    assert prepared(plan_of(path), ITK)[2] == 1
    cells_at(tmp_path / "a", "7,0,1,1,0,2", "7,1,1,1,0,1")
    assert prepared(plan_of(path), ODD)[2] == 1


def test_a_damaged_cache_is_made_again(tmp_path: Path, prepared: Prepare) -> None:
    """A kept corpus whose bytes do not have their digest is not sent."""
    path = cells_at(tmp_path / "a", "7,0,1,1,0,1")
    _, content, _ = prepared(plan_of(path), ODD)
    (kept,) = (tmp_path / "cache").glob("*/corpus.bin")
    kept.unlink()
    kept.write_bytes(content[:-1] + b"x")
    assert prepared(plan_of(path), ODD)[1:] == (content, 1)
    assert prepared(plan_of(path), ODD)[2] == 0


def test_the_cache_stays_within_its_limit(tmp_path: Path, prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used longest ago goes first."""
    paths = [cells_at(tmp_path / f"{k}", f"{k + 1},0,1,1,0,1") for k in range(3)]
    size = len(prepared(plan_of(paths[0]), ODD)[1])
    monkeypatch.setattr(prepare, "CACHE_LIMIT_BYTES", 2 * size)
    prepared(plan_of(paths[1]), ODD)
    assert prepared(plan_of(paths[0]), ODD)[2] == 0
    prepared(plan_of(paths[2]), ODD)
    assert prepared(plan_of(paths[0]), ODD)[2] == 0
    assert prepared(plan_of(paths[1]), ODD)[2] == 1


def test_code_of_the_users_is_never_cached() -> None:
    """A function can change without its name: its corpora are made each time."""
    assert Source(Cells(("x",), encoder="my:code"), {"source": "replay"}).files is None


def test_a_prepared_corpus_is_sent_to_its_model_only(tmp_path: Path, prepared: Prepare) -> None:
    """`python -m inputs cells -o NAME.corpus` writes the requests; another model, or damage, is refused."""
    path, folder = cells_at(tmp_path / "a", "7,0,1,1,0,1"), tmp_path / "mu.corpus"
    made = CliRunner().invoke(app, ["cells", str(path), "-o", str(folder), "-m", "traccc-gpu"])
    assert made.exit_code == 0, made.output
    plan = Plan(Endpoint("x:1", "traccc-gpu"), Prepared(str(folder)), (ClosedLoop(1),))
    index, content, encoded = prepared(plan, ODD)
    (event,) = open_source(Cells((str(path),))).events(ODD)
    assert (content, encoded) == (kserve.infer_request("traccc-gpu", "", event.tensors), 0)
    assert open_source(plan.inputs).description == f"corpus mu.corpus of {index.source}"
    with pytest.raises(PlanError, match="was made for traccc-gpu: FEATURES"):
        prepared(Plan(Endpoint("x:1", "other"), plan.inputs, plan.loads), ODD)
    (folder / "corpus.bin").write_bytes(b"x")
    with pytest.raises(PlanError, match="damaged"):
        prepared(plan, ODD)
    with pytest.raises(PlanError, match="is no prepared corpus"):
        open_source(Prepared(str(tmp_path)))
