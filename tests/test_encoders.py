"""From cells to tensors by name: the raw form, functions of the user's, and back from tensors to cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_inputs import EDGE_IDS, HEADER, ITK, ODD, event_of, metadata_of, written
from typer.testing import CliRunner

from inputs import perf_json, raw_cells, signatures, source, traccc
from inputs.__main__ import app
from inputs.encoders import encoder
from inputs.event import CELLS_SCHEMA, Event
from loadgen.errors import PlanError
from loadgen.kserve import TensorMetadata
from loadgen.plan import Cells, PerfJson
from loadgen.ranges import range_option

RAW = metadata_of(*raw_cells.INPUTS)
IDS = st.lists(st.integers(0, 2**53 - 1), min_size=1, max_size=9)


def cells_file(folder: Path, number: int, *rows: str) -> Path:
    """Write a cells CSV."""
    return written(folder / f"event{number:09}-cells.csv", HEADER + "".join(f"{row}\n" for row in rows))


# --- raw -----------------------------------------------------------------------------------------------------------


def test_raw_cells_are_count_and_columns_in_the_servers_order(tmp_path: Path) -> None:
    """CELLS is u64 N, then channel0, channel1, activation, time and module index of cells sorted for the server."""
    module_map = written(tmp_path / "map.json", json.dumps({"20": 0, "10": 1}))
    rows = [(10, 0, 3, 2, 0.5, 1.5), (20, 1, 9, 9, 0.0, 2.5), (10, 2, 5, 1, 0.25, 3.5)]
    event = Event("event", pl.DataFrame(rows, schema=CELLS_SCHEMA, orient="row"))
    (tensor,) = encoder(RAW, "", (str(module_map),))(event).tensors
    content = tensor.data.tobytes()
    assert len(content) == 8 + 20 * 3
    assert np.frombuffer(content, "<u8", 1)[0] == 3
    kinds = ["<u4", "<u4", "<f4", "<f4", "<u4"]
    columns = [np.frombuffer(content, kind, 3, 8 + 12 * k).tolist() for k, kind in enumerate(kinds)]
    assert columns == [[9, 5, 3], [9, 1, 2], [2.5, 3.5, 1.5], [0, 0.25, 0.5], [0, 1, 1]]


def test_module_maps_are_applied_in_turn(tmp_path: Path) -> None:
    """Athena ids (hexadecimal, or signed) go through the text map to detray ids, and on to indices."""
    first = written(tmp_path / "athena.txt", "0x10,777\n-1,888\n")
    second = written(tmp_path / "index.json", json.dumps({"777": 4, "888": 5}))
    encode = encoder(RAW, "raw", (str(first), str(second)))
    (tensor,) = encode(event_of(16, 2**64 - 1)).tensors
    assert np.frombuffer(tensor.data.tobytes(), "<u4")[-2:].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "--module-map"), ("{}", "geometry_id 7 is not in the --module-map"), ('{"x": 1}', "not a map from id")],
)
def test_a_map_that_lacks_a_module_is_one_line(tmp_path: Path, content: str | None, words: str) -> None:
    """No map, a map without the module, and a file that is none are refused in words."""
    maps = () if content is None else (str(written(tmp_path / "map.json", content)),)
    with pytest.raises(PlanError, match=words):
        encoder(RAW, "raw", maps)(event_of(7))


# --- by name -------------------------------------------------------------------------------------------------------

USER_CODE = """
import numpy as np
def ids(cells):
    return {"GEOMETRY_ID": cells["geometry_id"].to_numpy()}
def narrow(cells):
    return {"GEOMETRY_ID": cells["geometry_id"].to_numpy().astype(np.int32)}
def fails(cells):
    return cells["no such column"]
def other(cells):
    return {"OTHER": np.zeros(1)}
"""
IDS_ONLY = metadata_of(TensorMetadata("GEOMETRY_ID", "UINT64", (-1,)))


@pytest.fixture
def user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a module of the user's into the working folder."""
    name = f"encoders_of_{tmp_path.name.replace('-', '_')}"
    written(tmp_path / f"{name}.py", USER_CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_function_of_the_users_encodes(user_code: str) -> None:
    """`MODULE:FUNCTION` of the working folder turns cells into the model's inputs, exactly."""
    encoded = encoder(IDS_ONLY, f"{user_code}:ids", ())(event_of(*EDGE_IDS))
    assert encoded.tensors[0].data.tolist() == list(EDGE_IDS)
    assert encoded.cells == len(EDGE_IDS)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("narrow", r"GEOMETRY_ID is int32\[1\]; the model wants GEOMETRY_ID UINT64"),
        ("fails", "no such column"),
        ("other", "gave OTHER; model traccc-gpu takes GEOMETRY_ID"),
        ("absent", "absent"),
    ],
)
def test_a_function_that_does_not_fit_is_named(user_code: str, function: str, words: str) -> None:
    """Wrong type, an exception, a wrong name and no such function are one line with the encoder's name."""
    with pytest.raises(PlanError, match=f"--encoder {user_code}:{function}: .*{words}"):
        encoder(IDS_ONLY, f"{user_code}:{function}", ())(event_of(7))


def test_an_unknown_name_shows_the_known() -> None:
    """A name that is no encoder, and one that makes other tensors than the model takes, say what there is."""
    with pytest.raises(PlanError, match="write one of odd, itk, tml, raw, or MODULE:FUNCTION"):
        encoder(ODD, "oddd", ())
    with pytest.raises(PlanError, match="--encoder itk: makes CELL_POSITIONS"):
        encoder(ODD, "itk", ())


# --- files ---------------------------------------------------------------------------------------------------------


def test_cells_of_unknown_modules_are_left_out_and_counted(tmp_path: Path) -> None:
    """Rows of geometry id 0 do not reach the model; how many there were is known; only such rows are refused."""
    cells_file(tmp_path, 0, "0,0,1,1,0,1", "7,1,1,1,0,1", "0,2,1,1,0,1")
    (event,) = traccc.read_events([tmp_path])
    assert event.cells["geometry_id"].to_list() == [7]
    (request,) = source.open_source(Cells((str(tmp_path),))).events(ODD)
    assert (request.cells, request.dropped_cells) == (1, 2)
    with pytest.raises(PlanError, match="every cell has geometry id 0"):
        list(traccc.read_events([cells_file(tmp_path, 1, "0,0,1,1,0,1")]))


def test_patterns_and_ranges_choose_events(tmp_path: Path) -> None:
    """A pattern stands for the files it matches; a range takes events by the number in their names."""
    for number in range(5):
        cells_file(tmp_path, number, "7,0,1,1,0,1")
    labels = [event.label for event in traccc.read_events([tmp_path / "event00000000[13]-cells.csv"])]
    assert labels == ["event000000001", "event000000003"]
    labels = [event.label for event in traccc.read_events([tmp_path], (3, 9))]
    assert labels == ["event000000003", "event000000004"]
    with pytest.raises(PlanError, match="--event-range 7:9: there is no such event; the files are 0 to 4"):
        traccc.cells_files([tmp_path], (7, 9))
    with pytest.raises(PlanError, match="matches no file"):
        traccc.cells_files([tmp_path / "*.txt"])
    assert (range_option("4"), range_option("0:3")) == ((4, 4), (0, 3))
    for wrong in ("3:1", "a:b", "", "-1:2"):
        with pytest.raises(PlanError, match="--event-range"):
            range_option(wrong)


@given(IDS)
def test_cells_come_back_from_every_signature(ids: list[int]) -> None:
    """What a signature made of cells says the same cells again, identifiers included."""
    event = event_of(*ids)
    for name, signature in signatures.SIGNATURES.items():
        again = signature.decode(signature.encode(event))
        assert again.cells.equals(event.cells), name


# --- commands ------------------------------------------------------------------------------------------------------


def test_cells_to_json_and_back(tmp_path: Path) -> None:
    """`cells` writes JSON, `convert` writes the same cells from it; both say how many."""
    folder = tmp_path / "cells"
    folder.mkdir()
    for number, identifier in enumerate(EDGE_IDS):
        cells_file(folder, number, f"{identifier},{number},3,4,0.5,0.25")
    file, again = str(tmp_path / "events.json"), str(tmp_path / "again")
    made = CliRunner().invoke(app, ["cells", str(folder), "-o", file, "--event-range", "1:2"])
    assert made.output.endswith("events.json: 2 events\n")
    assert CliRunner().invoke(app, ["convert", file, "-o", again]).exit_code == 0
    rows = [event.cells.row(0) for event in traccc.read_events([again])]
    assert rows == [(EDGE_IDS[1], 1, 3, 4, 0.5, 0.25), (EDGE_IDS[2], 2, 3, 4, 0.5, 0.25)]


def test_a_large_file_is_read_in_parts_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, streams, keys beside them: taken apart or read whole, the requests are the same."""
    monkeypatch.setattr("inputs.json_spans.LARGE_BYTES", 40)
    rng = np.random.default_rng(0)

    def step(cells: int) -> dict[str, object]:
        features = {"content": rng.random((cells, 5)).round(3).ravel().tolist(), "shape": [cells, 5]}
        return {"GEOMETRY_ID": rng.integers(1, 2**60, cells).tolist(), "FEATURES": features}

    forms: dict[str, dict[str, Any]] = {
        "steps": {"note]": "a [ in } text", "data": [step(k) for k in (1, 9, 2)], "loadgen": {"source": "synthetic"}},
        "streams": {"data": [[step(3), step(1)], [step(8)]]},
    }
    for name, content in forms.items():
        path = written(tmp_path / f"{name}.json", json.dumps(content))
        whole = written(tmp_path / f"{name} whole.json", json.dumps(content | {"why": "\\"}))
        parts, at_once = list(perf_json.read(path, ODD)), list(perf_json.read(whole, ODD))
        assert perf_json._in_parts(perf_json._mapped(path)) is not None
        assert perf_json._in_parts(perf_json._mapped(whole)) is None
        assert [(e.stream, e.step, e.cells) for e in parts] == [(e.stream, e.step, e.cells) for e in at_once]
        for one, other in zip(parts, at_once, strict=True):
            for left, right in zip(one.tensors, other.tensors, strict=True):
                np.testing.assert_array_equal(left.data, right.data)
        assert source.open_source(PerfJson((str(path),))).synthetic is (name == "steps")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab[]{}",: \\n\\'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a[]{}"'), inner, max_size=3),
    max_leaves=20,
)


@given(
    data=st.lists(ANY_JSON, max_size=5),
    beside=st.dictionaries(st.sampled_from(["loadgen", "x"]), st.dictionaries(st.text(max_size=3), ANY_JSON)),
    indent=st.sampled_from([None, 1]),
    chunk=st.integers(1, 60),
)
@example(data=[{"a": "a long text ]]] {"}, [1]], beside={}, indent=None, chunk=8)
def test_parts_are_what_a_parser_finds(
    tmp_path_factory: pytest.TempPathFactory, data: list[Any], beside: dict[str, Any], indent: int | None, chunk: int
) -> None:
    """Whatever the nesting and the strings, the parts found by brackets are the elements that a parser finds."""
    text = json.dumps({**beside, "data": data}, indent=indent, ensure_ascii=False)
    path = written(tmp_path_factory.mktemp("any") / "any.json", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inputs.json_spans.LARGE_BYTES", 1)
        patch.setattr("inputs.json_spans.CHUNK_BYTES", chunk)
        content = perf_json._in_parts(perf_json._mapped(path))
    if "\\" not in text and not beside and any(isinstance(each, list | dict) for each in data):
        assert content is not None
    if content is not None:
        assert [json.loads(bytes(part)) for part in content.data] == data
        assert content.loadgen == beside.get("loadgen", {})


@pytest.mark.parametrize("text", ['{"data": [{"X": [1, 2]]}', '{"data": [{"GEOMETRY_ID": [1]}}', '{"data": [[{]}]]'])
def test_broken_nesting_is_the_parsers_to_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A large file with brackets that do not match is refused in words, never split into nonsense."""
    monkeypatch.setattr("inputs.json_spans.LARGE_BYTES", 4)
    with pytest.raises(PlanError):
        list(perf_json.read(written(tmp_path / "broken.json", text), ODD))


def test_inspect_against_a_model_says_what_does_not_fit(tmp_path: Path) -> None:
    """With a declaration, all of a file is encoded for it: how many requests and how large, or what is wrong."""
    from inputs.inspect import described  # noqa: PLC0415

    cells_file(tmp_path, 0, "7,0,1,1,0,1", "7,0,2,1,0,1")
    assert "takes it as GEOMETRY_ID UINT64[-1] + FEATURES FP64[-1,5]: 1 requests of 9.6e-05 MB" in "".join(
        described([tmp_path], ODD)
    )
    file = written(tmp_path / "input.json", '{"data": [{"FEATURES": [1, 2, 3, 4, 5]}]}')
    with pytest.raises(PlanError, match="no input FEATURES"):
        list(described([file], ITK))
