"""Inputs for any model: made from its declaration, read from raw files, joined to batches; overlaid events."""

import asyncio
import json
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_perf_json_forms import model
from test_run import FAST, Watcher, plan_for, records

from inputs import overlay, raw_files, traccc
from inputs.__main__ import lay_over
from inputs.batch import batched
from inputs.event import CELLS_SCHEMA, Event
from inputs.generate import generated
from inputs.inspect import described
from inputs.source import open_source
from loadgen import kserve
from loadgen.api import input_of
from loadgen.errors import PlanError
from loadgen.kserve import DTYPES, InputEvent, Tensor
from loadgen.plan import Cells, Generated, PerfJson
from loadgen.ranges import shape_option
from loadgen.run import Job, run
from loadgen.rundir import RunDirectory
from loadgen.server.stub import stub_server

# --- zero and random -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", sorted(DTYPES))
@pytest.mark.parametrize("kind", ["zero", "random"])
def test_every_datatype_can_be_made(datatype: str, kind: Literal["zero", "random"]) -> None:
    """Same seed, same bytes; another seed, others; floats are finite and in [0, 1), integers small."""
    metadata = model(f"X {datatype}[-1,3]")

    def content(seed: int) -> list[bytes]:
        events = generated(metadata, Generated(kind, 2, {"X": (50, 3)}, seed))
        return [kserve.raw_content(event.tensors[0]) for event in events]

    assert content(1) == content(1)
    assert (content(1) == content(2)) is (kind == "zero")
    (event,) = generated(metadata, Generated(kind, 1, {"X": (50, 3)}))
    data = event.tensors[0].data
    assert data.shape == (50, 3)
    if data.dtype.kind == "f":
        assert ((data >= 0) & (data < 1 + (datatype == "FP16"))).all()
    if data.dtype.kind in "iu" and datatype != "BF16":
        assert ((data >= 0) & (data < 128)).all()


def test_free_dimensions_must_be_said() -> None:
    """The message names the input and shows how; a shape that does not fit, or of no input, is refused."""
    metadata = model("X FP32[-1,5]")
    with pytest.raises(PlanError, match="--shape X:100,5"):
        list(generated(metadata, Generated("zero")))
    with pytest.raises(PlanError, match="does not fit"):
        list(generated(metadata, Generated("zero", 1, {"X": (3, 4)})))
    with pytest.raises(PlanError, match="no such input"):
        list(generated(metadata, Generated("zero", 1, {"Y": (3, 5)})))


@given(st.text(min_size=1, max_size=8), st.lists(st.integers(1, 999), min_size=1, max_size=4))
def test_shape_option_is_split_at_its_last_colon(name: str, dimensions: list[int]) -> None:
    """Names may hold colons; dimensions are whole numbers from 1."""
    text = ",".join(map(str, dimensions))
    assert shape_option(f"{name}:{text}") == (name, tuple(dimensions))
    for wrong in (text, f"{name}:", f"{name}:{text},0", f"{name}:-1", f":{text}"):
        with pytest.raises(PlanError, match="--shape"):
            shape_option(wrong)


# --- raw files -----------------------------------------------------------------------------------------------------


def test_a_folder_of_raw_files_is_one_request(tmp_path: Path) -> None:
    """Bytes are taken as they are, lines are strings, files named like outputs are the answer."""
    (tmp_path / "X").write_bytes(np.arange(6, dtype="<f4").tobytes())
    (tmp_path / "NAME").write_text("a\nbc\n")
    (tmp_path / "OUT").write_bytes(np.array([7], "<i8").tobytes())
    event = raw_files.read(tmp_path, model("X FP32[-1,3]", "NAME BYTES[2]", outputs=("OUT INT64[1]",)))
    assert event.tensors[0].data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert event.tensors[1].data.tolist() == [b"a", b"bc"]
    assert event.answer[0].data.tolist() == [7]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"X": b"1234567"}, "7 bytes are not a whole number of FP32"),
        ({"X": b"12345678", "Y": b""}, "no tensor Y"),
        ({}, "file of input X is missing"),
    ],
)
def test_a_bad_folder_is_one_line(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    """What is missing, of the wrong size or unknown is named with the folder."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanError, match=words) as refusal:
        raw_files.read(tmp_path, model("X FP32[2]"))
    assert str(tmp_path) in str(refusal.value)


def test_paths_tell_their_kind(tmp_path: Path) -> None:
    """JSON and folders of raw files are tensors; CSVs and folders of cells are events; mixed they are refused."""
    raw, cells = tmp_path / "raw", tmp_path / "cells"
    raw.mkdir()
    cells.mkdir()
    (raw / "X").write_bytes(b"")
    (cells / "event000000000-cells.csv").write_text("")
    assert isinstance(input_of(["a.json", raw]), PerfJson)
    assert input_of(cells, overlay=3) == Cells((str(cells),), 3)
    with pytest.raises(PlanError, match="not both"):
        input_of([raw, cells])


# --- batches -------------------------------------------------------------------------------------------------------


def numbered(count: int, rows: int = 2) -> list[InputEvent]:
    """Return events whose tensor holds their number."""
    return [InputEvent(f"e{k}", (Tensor("X", "INT32", np.full((rows, 3), k, "<i4")),), cells=k) for k in range(count)]


def test_batches_join_along_a_leading_dimension() -> None:
    """Five events in batches of two: the last is filled up from the first, cells are summed."""
    metadata = model("X INT32[-1,2,3]", max_batch_size=4)
    joined = list(batched(numbered(5), metadata, 2))
    assert [event.tensors[0].data[:, 0, 0].tolist() for event in joined] == [[0, 1], [2, 3], [4, 0]]
    assert joined[0].tensors[0].data.shape == (2, 2, 3)
    assert [event.cells for event in joined] == [1, 5, 4]
    (single, *_) = batched(numbered(1), metadata, 1)
    assert single.tensors[0].data.shape == (1, 2, 3)


def test_a_model_that_does_not_batch_is_left_alone() -> None:
    """Events stay as they are; asking for a batch is refused, as is one that is larger than the model takes."""
    events = numbered(3)
    assert list(batched(events, model("X INT32[2,3]"), 1)) == events
    with pytest.raises(PlanError, match="-b 2: model m takes at most 1"):
        list(batched(events, model("X INT32[2,3]"), 2))
    with pytest.raises(PlanError, match="-b 9: model m takes at most 8"):
        list(batched(events, model("X INT32[-1,2,3]", max_batch_size=8), 9))


def test_shapes_of_one_batch_must_agree() -> None:
    """Steps of different shapes cannot share a request."""
    mixed = [*numbered(1), *numbered(1, rows=4)]
    with pytest.raises(PlanError, match=r"X: a batch joins shapes \[2, 3\], \[4, 3\]"):
        list(batched(mixed, model("X INT32[-1,-1,3]", max_batch_size=4), 2))


# --- overlay -------------------------------------------------------------------------------------------------------


def event_of(*cells: tuple[int, int, int, float]) -> Event:
    """Return an event from (geometry_id, channel0, channel1, value)."""
    rows = [(gid, k, c0, c1, 0.0, value) for k, (gid, c0, c1, value) in enumerate(cells)]
    return Event("event", pl.DataFrame(rows, schema=CELLS_SCHEMA, orient="row"))


def test_an_overlay_is_the_union_with_values_summed() -> None:
    """A cell that fired in both events is one cell with both values; ids stay exact; measurements stay apart."""
    big = 2**63 + 1
    first, second = event_of((big, 1, 1, 0.25), (5, 2, 2, 1.0)), event_of((big, 1, 1, 0.5), (big, 9, 9, 1.0))
    (laid,) = overlay.overlaid([first, second, event_of((1, 1, 1, 1.0))], 2)
    rows = laid.cells.select("geometry_id", "channel0", "value").rows()
    assert sorted(rows) == [(5, 2, 1.0), (big, 1, 0.75), (big, 9, 1.0)]
    assert laid.cells["measurement_id"].n_unique() == 3
    with pytest.raises(PlanError, match="there are only 1 events"):
        list(overlay.overlaid([first], 2))


def test_the_real_event_merged_and_overlaid(field_data: Path) -> None:
    """The recorded event has 28 repeated cells; laid over itself it has as many cells, with twice the values."""
    path = field_data / "cells" / "ytchoutw__traccc-aaS__event000000000-cells.csv"
    metadata = model("GEOMETRY_ID UINT64[-1]", "FEATURES FP64[-1,5]")

    def sent(data: Cells) -> InputEvent:
        (event,) = open_source(data).events(metadata)
        return event

    plain = sent(Cells((str(path),)))
    merged = sent(Cells((str(path),), merge_duplicates=True))
    twice = sent(Cells((str(path), str(path)), overlay=2))
    assert plain.cells is not None
    assert merged.cells == plain.cells - 28 == twice.cells
    total = merged.tensors[1].data[:, 4].sum()
    assert total == pytest.approx(plain.tensors[1].data[:, 4].sum())
    assert twice.tensors[1].data[:, 4].sum() == pytest.approx(2 * total)


def test_what_was_done_to_the_events_is_said() -> None:
    """The description in every table names the overlay."""
    assert open_source(Generated("random", 3)).description == "random values, 3 requests, seed 0"


# --- answers -------------------------------------------------------------------------------------------------------


def test_a_wrong_answer_is_a_row_of_its_own(tmp_path: Path) -> None:
    """Answers are compared with validation_data: what differs is `wrong_answer`, what agrees is `ok`."""
    cells = 24
    step = {
        "GEOMETRY_ID": {"content": [1] * cells, "shape": [cells]},
        "FEATURES": {"content": [0.0] * 5 * cells, "shape": [cells, 5]},
    }
    answers = [{"ndf": {"content": [0.0, 0.0], "shape": [2]}}, {"ndf": {"content": [0.0, 1.0], "shape": [2]}}]
    path = tmp_path / "input.json"
    path.write_text(json.dumps({"data": [step, step], "validation_data": answers}))

    async def main() -> RunDirectory:
        async with stub_server(FAST) as stub:
            job = Job(plan_for(stub, 2), open_source(PerfJson((str(path),))), Watcher(), asyncio.Event())
            return await run(job, tmp_path / "runs")

    directory = asyncio.run(main())
    rows = records(directory).filter(pl.col("point") == 1)
    by_body = dict(rows.group_by("body").agg(pl.col("outcome").unique()).iter_rows())
    assert by_body == {0: ["ok"], 1: ["wrong_answer"]}
    (verdict,) = pl.read_parquet(directory.points)["verdict"]
    assert verdict == "failing"


# --- python -m inputs ----------------------------------------------------------------------------------------------


def test_inspect_says_what_is_in_files(tmp_path: Path) -> None:
    """Events, cells, repeats and unknown modules of a folder; steps, shapes and provenance of a JSON file."""
    folder = tmp_path / "cells"
    folder.mkdir()
    for number, cells in enumerate([((7, 1, 1, 1.0), (7, 1, 1, 1.0)), ((0, 1, 1, 1.0), (7, 2, 1, 1.0))]):
        event_of(*cells).cells.write_csv(folder / f"event{number:09}-cells.csv")
    (about_cells, _) = described([folder])
    assert (
        "2 events, 1 / 1 / 1 / 2 / 2 (min, p10, p50, p90, max) cells an event; 1 repeated, 1 of an unknown module"
        in about_cells
    )
    file = tmp_path / "input.json"
    file.write_text(
        '{"loadgen": {"source": "synthetic"}, "data": [[{"X": [1, 2]}], [{"X": {"b64": "", "shape": [3, 1]}}]]}'
    )
    head, about_x = described([file])
    assert "2 steps in 2 streams" in head
    assert "synthetic" in head
    assert "X: in 2 steps, 2 / 2 / 2 / 3 / 3 (min, p10, p50, p90, max) elements; shapes [2], [3, 1]" in about_x


def test_the_overlay_command_writes_cells_that_are_read_again(tmp_path: Path) -> None:
    """Two events become one file with the union of their cells."""
    for number in range(2):
        event_of((7, number, 1, 1.0), (9, 5, 5, 0.5)).cells.write_csv(tmp_path / f"event{number:09}-cells.csv")
    (tmp_path / "provenance.json").write_text('{"source": "synthetic", "mu": 5}')
    lay_over([str(tmp_path)], tmp_path / "laid", each=2)
    assert open_source(Cells((str(tmp_path / "laid"),))).synthetic
    (laid,) = traccc.read_events([tmp_path / "laid"])
    rows = laid.cells.select("geometry_id", "channel0", "value").rows()
    assert sorted(rows) == [(7, 0, 1.0), (7, 1, 1.0), (9, 5, 1.0)]
