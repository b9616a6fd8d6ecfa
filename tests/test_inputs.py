"""Inputs: identifiers stay exact from file to wire, JSON goes there and back, and what is wrong is named."""

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from inputs import perf_json, signatures, source, traccc
from inputs.event import CELLS_SCHEMA, Event
from loadgen import kserve
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata, Tensor, TensorMetadata
from loadgen.plan import Cells, PerfJson, Synthetic
from loadgen.server import repository

HEADER = "geometry_id,measurement_id,channel0,channel1,timestamp,value\n"
REAL_ID = 1152922329240578050
EDGE_IDS = (REAL_ID, 1224979236083738112, 2**53 + 1, 2**63 - 1)


def metadata_of(*inputs: TensorMetadata) -> ModelMetadata:
    """Return the metadata of a model with these inputs."""
    return ModelMetadata("traccc-gpu", ("1",), "traccc", inputs, ())


ODD = metadata_of(*repository.ODD_INPUTS)
ITK = metadata_of(*repository.ITK_INPUTS)


def event_of(*ids: int) -> Event:
    """Return an event with one cell for each id."""
    columns = {name: [k % 7 for k in range(len(ids))] for name in CELLS_SCHEMA} | {"geometry_id": list(ids)}
    return Event("event", pl.DataFrame(columns, schema=CELLS_SCHEMA))


def written(path: Path, text: str) -> Path:
    """Write a file and return its path."""
    path.write_text(text)
    return path


# --- cells ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identifier", [*EDGE_IDS, 2**64 - 1])
def test_an_identifier_is_the_same_integer_from_csv_to_wire(tmp_path: Path, identifier: int) -> None:
    """No float on the way: the bytes of the message hold the id that stood in the file."""
    path = written(tmp_path / "event000000000-cells.csv", f"{HEADER}{identifier},0,194,1334,0,0.119857997\n")
    (event,) = traccc.read_events([path])
    encoded = signatures.choose(ODD).encode(event)
    message = service_pb2.ModelInferRequest.FromString(kserve.infer_request("traccc-gpu", "", encoded.tensors))
    assert np.frombuffer(message.raw_input_contents[0], "<u8").tolist() == [identifier]
    assert np.frombuffer(message.raw_input_contents[1], "<f8").tolist() == [0, 194, 1334, 0, np.float32(0.119857997)]
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in message.inputs] == [
        ("GEOMETRY_ID", "UINT64", [1]),
        ("FEATURES", "FP64", [1, 5]),
    ]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20))
def test_itk_positions_are_exact(ids: list[int]) -> None:
    """INT64 positions hold geometry and measurement ids and channels, in that order; properties time and value."""
    encoded = signatures.choose(ITK).encode(event_of(*ids))
    positions, properties = encoded.tensors
    assert positions.data[:, 0].tolist() == ids
    assert (positions.data.dtype.name, properties.data.dtype.name) == ("int64", "float32")
    assert positions.data.shape == (len(ids), 4)
    assert properties.data.shape == (len(ids), 2)


def test_an_id_too_large_for_itk_is_refused() -> None:
    """An id above 2^63 cannot be an INT64: it is named, not wrapped."""
    with pytest.raises(PlanError, match=f"event: geometry_id {2**63} does not fit INT64"):
        signatures.choose(ITK).encode(event_of(1, 2**63))


def test_the_signature_is_the_models_not_ours() -> None:
    """Inputs are matched by name, type and shape in any order; an unknown model shows both known signatures."""
    assert signatures.choose(metadata_of(*reversed(repository.ODD_INPUTS))).name == "odd"
    assert signatures.choose(ITK).name == "itk"
    other = metadata_of(TensorMetadata("GEOMETRY_ID", "INT64", (-1,)), repository.ODD_INPUTS[1])
    with pytest.raises(PlanError) as refusal:
        signatures.choose(other)
    for words in ("GEOMETRY_ID INT64[-1]", "GEOMETRY_ID UINT64[-1]", "CELL_POSITIONS INT64[-1,4]"):
        assert words in str(refusal.value)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    """Order does not matter, `hit_id` and `cannel0` are accepted, extra columns are left out."""
    header = "value,timestamp,channel1,cannel0,hit_id,geometry_id,more\n"
    cells = traccc.read_cells(written(tmp_path / "a.csv", f"{header}0.5,1,2,3,4,{REAL_ID},x\n"))
    assert dict(cells.schema) == CELLS_SCHEMA
    assert cells.row(0) == (REAL_ID, 4, 3, 2, 1.0, 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "header is empty"),
        (HEADER, "holds no cell"),
        ("module_id,channel0\n1,2\n", "has no column geometry_id, measurement_id, channel1, timestamp, value"),
        (HEADER + "-1,0,0,0,0,0\n", "u64"),
        (HEADER + "x,0,0,0,0,0\n", "x"),
        (HEADER + "1,0,0,0,0,0\n2,0,,0,0,0\n", "row 3: channel0 is empty"),
        (HEADER + "1.5,0,0,0,0,0\n", "1.5"),
    ],
)
def test_a_bad_cells_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    """The message names the file and what is wrong with it."""
    path = written(tmp_path / "bad.csv", text)
    with pytest.raises(PlanError) as refusal:
        traccc.read_cells(path)
    assert str(path) in str(refusal.value)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_cells_file_named_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    """Brackets are a part of its name."""
    path = written(tmp_path / "run [3]-cells.csv", f"{HEADER}7,0,194,1334,0,0.5\n")
    assert traccc.read_cells(path)["geometry_id"].to_list() == [7]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_is_refused_in_words(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    """Whatever bytes stand below a good header, they are cells or a PlanError."""
    path = tmp_path_factory.mktemp("cells") / "a.csv"
    path.write_bytes(HEADER.encode() + garbage)
    try:
        cells = traccc.read_cells(path)
    except PlanError as error:
        assert str(path) in str(error)  # noqa: PT017 - either is fine, one is checked
    else:
        assert dict(cells.schema) == CELLS_SCHEMA


def test_a_folder_is_its_events_in_order(tmp_path: Path) -> None:
    """Events of a folder come in order of name, labelled; an empty folder and a missing path are refused."""
    for number in (2, 0, 1):
        written(tmp_path / f"event{number:09}-cells.csv", f"{HEADER}{number + 1},0,0,0,0,1\n")
    written(tmp_path / "event000000000-hits.csv", "other\n")
    events = list(traccc.read_events([tmp_path]))
    assert [event.label for event in events] == ["event000000000", "event000000001", "event000000002"]
    assert [event.cells["geometry_id"][0] for event in events] == [1, 2, 3]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PlanError, match="holds no event"):
        list(traccc.read_events([tmp_path / "empty"]))
    with pytest.raises(PlanError, match="no such file"):
        list(traccc.read_events([tmp_path / "nosuch.csv"]))


def test_the_real_event_comes_through_whole(field_data: Path) -> None:
    """Every row of a real ODD event is there, and each id is the text of the file."""
    path = field_data / "cells" / "ytchoutw__traccc-aaS__event000000000-cells.csv"
    lines = path.read_text().splitlines()[1:]
    cells = traccc.read_cells(path)
    assert cells["geometry_id"].cast(pl.String).to_list() == [line.split(",")[0] for line in lines]
    assert cells["channel1"].cast(pl.String).to_list() == [line.split(",")[3] for line in lines]


@pytest.mark.parametrize(
    ("name", "rows"),
    [("ugGit__traccc__event000000000-cells.csv", 6), ("dlai211__clusterization__itk_event000000000-cells.csv", None)],
)
def test_other_real_files_are_read(field_data: Path, name: str, rows: int | None) -> None:
    """The old header with hit_id, and ITk ids."""
    cells = traccc.read_cells(field_data / "cells" / name)
    assert cells.height > 0
    assert rows is None or cells.height >= rows


# --- perf_analyzer's JSON ------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False)
odd_tensors = st.integers(0, 8).flatmap(
    lambda cells: st.tuples(
        st.lists(st.integers(0, 2**64 - 1), min_size=cells, max_size=cells),
        st.lists(finite, min_size=5 * cells, max_size=5 * cells),
    )
)


def input_event(ids: list[int], features: list[float]) -> InputEvent:
    """Return an ODD request."""
    data = np.array(features, "<f8").reshape(len(ids), 5)
    return InputEvent(
        "event",
        (Tensor("GEOMETRY_ID", "UINT64", np.array(ids, "<u8")), Tensor("FEATURES", "FP64", data)),
    )


@settings(deadline=None)
@given(st.lists(odd_tensors, min_size=1, max_size=4))
def test_json_goes_there_and_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[int], list[float]]]
) -> None:
    """What is written is read back bit for bit: ids as integers, floats as the same floats."""
    path = tmp_path_factory.mktemp("json") / "events.json"
    events = [input_event(*step) for step in steps]
    assert perf_json.write(path, events, {"source": "synthetic"}) == len(events)
    for event, again in zip(events, perf_json.read(path, ODD), strict=True):
        for tensor, same in zip(event.tensors, again.tensors, strict=True):
            assert tensor.data.tobytes() == same.data.tobytes()
            assert tensor.data.shape == same.data.shape
            assert (tensor.name, tensor.datatype) == (same.name, same.datatype)
    assert perf_json.provenance(path) == {"source": "synthetic"}
    assert set(json.loads(path.read_text())["data"][0]["FEATURES"]) == {"content", "shape"}


GOOD_STEP = {
    "GEOMETRY_ID": {"content": [REAL_ID, 2], "shape": [2]},
    "FEATURES": {"content": [0.5] * 10, "shape": [2, 5]},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"GEOMETRY_ID": {"content": [1, -2], "shape": [2]}},
            "step 1: GEOMETRY_ID: element 1: -2 does not fit UINT64",
        ),
        ({"GEOMETRY_ID": {"content": [1, 2**64], "shape": [2]}}, "GEOMETRY_ID"),
        (
            {"GEOMETRY_ID": {"content": [1, 2.5], "shape": [2]}},
            "GEOMETRY_ID: element 1: expected a whole number, got 2.5",
        ),
        (
            {"GEOMETRY_ID": {"content": [1, "2"], "shape": [2]}},
            'GEOMETRY_ID: element 1: expected a whole number, got "2"',
        ),
        (
            {"FEATURES": {"content": [0.5] * 9, "shape": [2, 5]}},
            "FEATURES: shape [2, 5] wants 10 elements, content has 9",
        ),
        (
            {"FEATURES": {"content": [0.5] * 10, "shape": [5, 2]}},
            "shape [5, 2] does not fit the model's FEATURES FP64",
        ),
        ({"FEATURES": {"content": [0.5] * 10, "shape": [10]}}, "shape [10] does not fit"),
        ({"FEATURES": {"content": [0.5] * 10, "shape": [-2, 5]}}, "shape [-2, 5] does not fit"),
        ({"FEATURES": [0.5] * 9}, 'add "shape"'),
        ({"FEATURES": 3}, "FEATURES: write"),
        ({"FEATURES": {"shape": [2, 5]}}, "FEATURES: write"),
        ({"LABELS": [1]}, "has no input LABELS; it has GEOMETRY_ID, FEATURES"),
        ({"FEATURES": None}, "FEATURES"),
    ],
)
def test_a_bad_step_is_named_to_the_element(tmp_path: Path, change: dict[str, object], words: str) -> None:
    """The message names file, step, tensor and, where there is one, element."""
    text = json.dumps({"data": [GOOD_STEP, GOOD_STEP | change]})
    path = written(tmp_path / "events.json", text)
    with pytest.raises(PlanError) as refusal:
        list(perf_json.read(path, ODD))
    assert f"{path}: step 1" in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "truncated"),
        ('{"data": [', "truncated"),
        ('{"data": [}', "byte 10"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `data`"),
        ('{"data": []}', "nothing to send"),
        ('{"data": [[{}]]}', "stream 0 step 0: input GEOMETRY_ID is missing"),
        ('{"data": [{}, [{}]]}', "mixes steps and streams"),
        ('{"data": [[]]}', "stream 0: holds no step"),
        ('{"data": [{"GEOMETRY_ID": [NaN], "FEATURES": []}]}', "element 0: expected a whole number"),
        ('{"data": [{"FEATURES": [1]}]}', "input GEOMETRY_ID is missing"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    """Broken JSON is told with its position; forms that are not read yet are refused by name."""
    with pytest.raises(PlanError) as refusal:
        list(perf_json.read(written(tmp_path / "events.json", text), ODD))
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["content", "shape", "x"]), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(json_values, st.sampled_from(["GEOMETRY_ID", "FEATURES"]))
def test_any_value_for_a_tensor_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: object, name: str
) -> None:
    """Nothing but a PlanError comes out of any JSON."""
    path = tmp_path_factory.mktemp("json") / "events.json"
    path.write_text(json.dumps({"data": [GOOD_STEP | {name: value}]}))
    try:
        (event,) = perf_json.read(path, ODD)
    except PlanError as error:
        assert f"step 0: {name}" in str(error)  # noqa: PT017 - either is fine, one is checked
    else:
        assert [tensor.name for tensor in event.tensors] == ["GEOMETRY_ID", "FEATURES"]


@pytest.mark.parametrize(
    ("datatype", "content", "words"),
    [
        ("UINT8", [255, 300], "element 1: 300 does not fit UINT8"),
        ("FP32", [1, 1e300], r"element 1: 1e\+300 does not fit FP32"),
        ("INT16", [-32769], "element 0: -32769 does not fit INT16"),
        ("BOOL", [1], "element 0: expected true or false, got 1"),
        ("BYTES", ["a", 1], "element 1: expected a string, got 1"),
        ("FP16", [1, 70000], "element 1: 70000.0 does not fit FP16"),
        ("BF16", [1e300], r"element 0: 1e\+300 does not fit BF16"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_not_wrapped(
    tmp_path: Path, datatype: str, content: list[object], words: str
) -> None:
    """Where perf_analyzer wraps or overflows in silence, the element is named."""
    path = written(tmp_path / "a.json", json.dumps({"data": [{"X": content}]}))
    with pytest.raises(PlanError, match=words):
        list(perf_json.read(path, metadata_of(TensorMetadata("X", datatype, (-1,)))))


def test_whole_numbers_are_welcome_as_floats(tmp_path: Path) -> None:
    """`1` is a float where the model wants floats, and a bare list takes its shape from the model."""
    path = written(tmp_path / "a.json", '{"data": [{"X": [1, 2.5, 3, 4]}, {"X": []}]}')
    first, second = perf_json.read(path, metadata_of(TensorMetadata("X", "FP32", (-1, 2))))
    assert first.tensors[0].data.tolist() == [[1, 2.5], [3, 4]]
    assert second.tensors[0].data.shape == (0, 2)


def test_the_studies_dummy_file_is_read(field_data: Path) -> None:
    """A real input file of the studies, for the signature it was written for."""
    path = field_data / "input_json" / "milescb__traccc-aaS-performance__dummy_data.json"
    (event,) = perf_json.read(path, metadata_of(TensorMetadata("FEATURES", "FP64", (-1, 6))))
    assert event.tensors[0].data.tolist() == [[0.0] * 6]


# --- sources -------------------------------------------------------------------------------------------------------


def test_synthetic_stays_synthetic_through_every_file(tmp_path: Path) -> None:
    """Made events are labelled so when they come back from JSON or from a folder of cells."""
    from inputs import __main__ as command  # noqa: PLC0415

    command.make_synthetic(tmp_path / "e.json", mu=1.0, events=2, seed=7)
    command.make_synthetic(tmp_path / "cells", mu=1.0, events=2, seed=7)
    words = "synthetic ODD, mu 1, 2 events, seed 7"
    direct = source.open_source(Synthetic(1.0, 2, 7))
    from_json = source.open_source(PerfJson((str(tmp_path / "e.json"),)))
    from_cells = source.open_source(Cells((str(tmp_path / "cells"),)))
    from_file = source.open_source(Cells((str(tmp_path / "cells" / "event000000001-cells.csv"),)))
    assert direct.description == words
    assert all(words in each.description for each in (from_json, from_cells, from_file))
    assert all(each.synthetic for each in (direct, from_json, from_cells, from_file))
    digests = {hashlib.sha256(wire(each)).hexdigest() for each in (direct, from_json, from_cells)}
    assert len(digests) == 1, "all three ways give the same requests"


def wire(origin: source.Source) -> bytes:
    """Return all requests of a source, serialised."""
    return b"".join(kserve.infer_request("m", "", event.tensors) for event in origin.events(ODD))


def test_real_events_are_not_called_synthetic(tmp_path: Path) -> None:
    """Cells without provenance are a replay."""
    written(tmp_path / "event000000000-cells.csv", f"{HEADER}1,0,0,0,0,1\n")
    origin = source.open_source(Cells((str(tmp_path),)))
    assert not origin.synthetic
    assert origin.provenance["source"] == "replay"
    assert "synthetic" not in origin.description
    made = tmp_path / "made"
    made.mkdir()
    written(made / "event000000000-cells.csv", f"{HEADER}1,0,0,0,0,1\n")
    written(made / "provenance.json", '{"source": "synthetic", "mu": 3}')
    assert source.open_source(Cells((str(tmp_path), str(made)))).synthetic, "one made file makes the whole made"


def test_synthetic_itk_is_refused() -> None:
    """ITk ids cannot be invented."""
    with pytest.raises(PlanError, match="synthetic events are ODD events"):
        list(source.open_source(Synthetic(1.0, 1, 0)).events(ITK))
