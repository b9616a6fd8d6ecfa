"""Every form of perf_analyzer's input files: there and back for every datatype, and the files of the field."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from inputs import perf_json, values
from loadgen import kserve
from loadgen.errors import PlanError
from loadgen.kserve import DTYPES, InputEvent, ModelMetadata, Tensor, TensorMetadata


def model(*inputs: str, outputs: tuple[str, ...] = (), **facts: Any) -> ModelMetadata:
    """Return metadata from declarations like `X FP32[-1,2]`."""
    return ModelMetadata("m", ("1",), "", tuple(map(declared, inputs)), tuple(map(declared, outputs)), **facts)


def declared(text: str) -> TensorMetadata:
    """Return `NAME TYPE[dims]` as metadata."""
    found = re.fullmatch(r"(\S+) (\w+)\[([-\d,]*)\]", text)
    assert found is not None
    return TensorMetadata(found[1], found[2], tuple(map(int, found[3].split(","))) if found[3] else ())


def read(tmp_path: Path, content: object, metadata: ModelMetadata) -> list[InputEvent]:
    """Write a file and read it back as requests."""
    path = tmp_path / "input.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return list(perf_json.read(path, metadata))


def arrays(datatype: str) -> st.SearchStrategy[Tensor]:
    """Return tensors [n, 2] of any content of a datatype, NaN and infinities included."""
    size = st.integers(0, 5).map(lambda rows: rows * 2)
    if datatype == "BYTES":
        content = size.flatmap(lambda n: st.lists(st.binary(max_size=9), min_size=n, max_size=n))
        return content.map(lambda items: Tensor("X", datatype, np.array(items, dtype=object).reshape(-1, 2)))
    width = DTYPES[datatype].itemsize
    raw = size.flatmap(lambda n: st.binary(min_size=n * width, max_size=n * width))
    bits = raw.map(lambda content: bytes(b & 1 for b in content) if datatype == "BOOL" else content)
    return bits.map(lambda content: Tensor("X", datatype, np.frombuffer(content, DTYPES[datatype]).reshape(-1, 2)))


@settings(deadline=None, max_examples=40)
@given(st.data())
@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_there_and_back_for_every_datatype(
    tmp_path_factory: pytest.TempPathFactory, datatype: str, data: st.DataObject
) -> None:
    """What is written is read back with the same bytes, whatever they are: NaN payloads, any string, no element."""
    path = tmp_path_factory.mktemp("json") / "input.json"
    tensors = data.draw(st.lists(arrays(datatype), min_size=1, max_size=3))
    perf_json.write(path, [InputEvent("e", (tensor,)) for tensor in tensors], {})
    again = [event.tensors[0] for event in perf_json.read(path, model(f"X {datatype}[-1,2]"))]
    assert [kserve.raw_content(tensor) for tensor in again] == [kserve.raw_content(tensor) for tensor in tensors]
    assert [tensor.data.shape for tensor in again] == [tensor.data.shape for tensor in tensors]


@pytest.mark.parametrize(
    "tensor",
    [
        [1, 2, 3, 4],
        [[1, 2], [3, 4]],
        [1.0, 2, 3e0, 4],
        {"content": [1, 2, 3, 4]},
        {"content": [1, 2, 3, 4], "shape": [2, 2]},
        {"content": [[1, 2], [3, 4]], "shape": [2, 2], "datatype": "ignored"},
        {"b64": base64.b64encode(np.array([1, 2, 3, 4], "<f4").tobytes()).decode()},
        {"content": {"b64": base64.b64encode(np.array([1, 2, 3, 4], "<f4").tobytes()).decode()}, "shape": [2, 2]},
    ],
)
def test_all_spellings_of_a_tensor_are_one_tensor(tmp_path: Path, tensor: object) -> None:
    """Flat, nested, with or without shape, base64 at the top or inside: the same four floats."""
    (event,) = read(tmp_path, {"data": [{"X": tensor}]}, model("X FP32[-1,2]"))
    assert event.tensors[0].data.tolist() == [[1, 2], [3, 4]]
    assert event.tensors[0].data.dtype == np.dtype("<f4")


@pytest.mark.parametrize(
    ("tensor", "datatype", "words"),
    [
        ({"b64": "AAA*"}, "FP32", "not base64"),
        ({"b64": "AAAA"}, "FP32", "3 bytes are not a whole number of FP32 elements"),
        ({"content": {"b64": "AAAA", "x": 1}, "shape": [1]}, "INT8", "shape [1] wants 1 elements, content has 3"),
        ({"b64": base64.b64encode(b"\x05\0\0\0abc").decode()}, "BYTES", "element 0: its length prefix reaches past"),
        ({"content": ["a", "b"], "shape": [3]}, "BYTES", "shape [3] wants 3 elements, content has 2"),
        ([[1, 2], [3]], "INT8", "nested lists are not all of one length"),
        ("text", "BYTES", "write"),
        ({"content": "text"}, "BYTES", 'expected a list, got "text"'),
        ({"content": [True], "shape": [1]}, "INT8", "element 0: expected a whole number, got true"),
        ({"content": [1], "shape": [1]}, "NOTYPE", "datatype NOTYPE is not one of KServe's"),
    ],
)
def test_what_perf_analyzer_lets_pass_is_refused(tmp_path: Path, tensor: object, datatype: str, words: str) -> None:
    """Broken base64, string counts, ragged lists, bools as numbers: named with file, step and tensor."""
    with pytest.raises(PlanError, match=re.escape(words)) as refusal:
        read(tmp_path, {"data": [{"X": tensor}]}, model(f"X {datatype}[-1]"))
    assert "input.json: step 0: X" in str(refusal.value)


def test_half_precision_from_numbers(tmp_path: Path) -> None:
    """FP16 and BF16 are rounded to nearest, ties to even, as hardware does."""
    (event,) = read(tmp_path, {"data": [{"X": [1, 0.1, -2.5, 1.00390625]}]}, model("X BF16[-1]"))
    assert event.tensors[0].data.tolist() == [0x3F80, 0x3DCD, 0xC020, 0x3F80]
    (event,) = read(tmp_path, {"data": [{"X": [1, 0.1, 65504]}]}, model("X FP16[-1]"))
    assert event.tensors[0].data.tolist() == [1, float(np.float16(0.1)), 65504]


@given(st.floats(width=32, allow_nan=True))
def test_bfloat16_is_the_nearest(value: float) -> None:
    """No other bfloat16 lies nearer than the one chosen; NaN stays NaN."""
    bits = int(values.bfloat16(np.array([value], np.float32))[0])
    as_float = float(np.array([bits << 16], np.uint32).view(np.float32)[0])
    if value != value or abs(as_float) == float("inf"):  # noqa: PLR0124 - NaN
        assert as_float != as_float or abs(value) > 3.38e38  # noqa: PLR0124
        return
    neighbours = np.array([max(bits - 1, 0) << 16, (bits + 1) << 16], np.uint32).view(np.float32)
    assert all(abs(float(each) - value) >= abs(as_float - value) for each in neighbours if np.isfinite(each))


def test_not_a_number_is_a_float(tmp_path: Path) -> None:
    """NaN and Infinity, spelled out as Python does, are floats; nowhere else."""
    (event,) = read(tmp_path, '{"data": [{"X": [NaN, Infinity, -Infinity, 1]}]}', model("X FP64[-1]"))
    np.testing.assert_array_equal(event.tensors[0].data, [np.nan, np.inf, -np.inf, 1])


def test_streams_keep_their_numbers(tmp_path: Path) -> None:
    """A list of lists is streams of steps, told by stream and step, also in messages."""
    content = {"data": [[{"X": ["1"]}, {"X": ["2"]}], [{"X": ["3"]}]]}
    events = read(tmp_path, content, model("X BYTES[1]"))
    assert [(event.stream, event.step, event.tensors[0].data[0]) for event in events] == [
        (0, 0, b"1"),
        (0, 1, b"2"),
        (1, 0, b"3"),
    ]
    content["data"][1][0]["X"] = [3]  # type: ignore[list-item]
    with pytest.raises(PlanError, match="stream 1 step 0: X: element 0"):
        read(tmp_path, content, model("X BYTES[1]"))


def test_optional_inputs_may_be_absent(tmp_path: Path) -> None:
    """An input that the model's configuration calls optional need not be in every step."""
    metadata = model("X INT32[1]", "Y INT32[1]", optional=frozenset({"X", "Y"}))
    events = read(tmp_path, {"data": [{"X": [1]}, {"Y": [1]}]}, metadata)
    assert [[tensor.name for tensor in event.tensors] for event in events] == [["X"], ["Y"]]


def test_parameters_go_with_the_request(tmp_path: Path) -> None:
    """A step's parameters keep their kinds on the wire; anything else is refused."""
    content = {"data": [{"X": [1], "parameters": {"a": True, "b": 7, "c": "text"}}]}
    (event,) = read(tmp_path, content, model("X INT32[1]"))
    message = service_pb2.ModelInferRequest.FromString(kserve.infer_request("m", "", event.tensors, event.parameters))
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in message.parameters.items()}
    assert kinds == {"a": "bool_param", "b": "int64_param", "c": "string_param"}
    with pytest.raises(PlanError, match="parameters are"):
        read(tmp_path, {"data": [{"X": [1], "parameters": {"a": [1]}}]}, model("X INT32[1]"))


def test_shapes_are_those_of_one_request_of_a_batch(tmp_path: Path) -> None:
    """A model that batches declares a leading -1 which files do not have."""
    metadata = model("X INT32[-1,16]", max_batch_size=8)
    (event,) = read(tmp_path, {"data": [{"X": list(range(16))}]}, metadata)
    assert event.tensors[0].data.shape == (16,)


def test_validation_data_is_the_answer_of_each_step(tmp_path: Path) -> None:
    """What the model must answer is read as its outputs; a step without one is refused."""
    metadata = model("X INT32[2]", outputs=("Y INT32[2]",))
    content = {"data": [{"X": [1, 2]}], "validation_data": [{"Y": [3, 4]}]}
    (event,) = read(tmp_path, content, metadata)
    assert event.answer[0].data.tolist() == [3, 4]
    content["validation_data"].append({"Y": [3, 4]})
    with pytest.raises(PlanError, match="not one step for each"):
        read(tmp_path, content, metadata)
    with pytest.raises(PlanError, match="no output Z"):
        read(tmp_path, {"data": [{"X": [1, 2]}], "validation_data": [{"Z": [3, 4]}]}, metadata)


ADD_SUB = ("INPUT0 INT32[-1,16]", "INPUT1 INT32[-1,16]")
DOC = "triton-inference-server__perf_analyzer__input_data_doc"
FIELD: dict[str, tuple[tuple[str, ...], int, int | str]] = {
    "ELS-RD__transformer-deploy__perf_data.json": (("TEXT BYTES[-1]",), 0, 1),
    "JeroendenBoef__tritonserver_vllm_showcase__data_large.json": (
        ("text_input BYTES[1]", "temperature FP32[1]", "max_tokens INT32[1]", "stream BOOL[1]"),
        0,
        1,
    ),
    "milescb__traccc-aaS-performance__dummy_data.json": (("FEATURES FP64[-1,6]",), 0, 1),
    "openvinotoolkit__model_server__input_data.json": (("payload BYTES[1]",), 0, "element 0: expected a string"),
    "triton-inference-server__model_analyzer__bls_input_data.json": (
        ("MODEL_NAME BYTES[1]", "INPUT0 FP32[4]", "INPUT1 FP32[4]"),
        0,
        1,
    ),
    "triton-inference-server__model_analyzer__input-data-10.json": (("PROMPT BYTES[1]", "STREAM BOOL[1]"), 0, 1),
    f"{DOC}_0.txt": (ADD_SUB, 8, 4),
    f"{DOC}_1.txt": (("INPUT0 INT8[14]", "INPUT1 INT8[14]"), 0, 3),
    f"{DOC}_2.txt": (("INPUT BYTES[1]",), 0, 9),
    f"{DOC}_3.txt": (
        ("INPUT FP32[-1,-1]",),
        0,
        "step 2: INPUT",
    ),
    f"{DOC}_4.txt": (("INPUT UINT8[-1]",), 0, "not base64"),
    f"{DOC}_5.txt": (("payload BYTES[1]",), 0, "expected a string"),
    f"{DOC}_6.txt": (
        ("payload BYTES[1]",),
        0,
        "trailing comma",
    ),
    f"{DOC}_7.txt": (ADD_SUB, 8, 1),
    f"{DOC}_8.txt": (("X FP32[1]",), 0, "no input message_generator"),
    f"{DOC}_9.txt": (
        ("X FP32[1]",),
        0,
        "missing required field `data`",
    ),
    "triton-inference-server__pytriton__input-data.json": (("sequence BYTES[-1]", "labels BYTES[-1]"), 0, 1),
    "triton-inference-server__server__float_data_with_shape.json": (("INPUT FP32[-1]",), 0, 9),
    "triton-inference-server__server__int_data.json": (ADD_SUB, 8, 4),
    "triton-inference-server__server__int_data_diff_shape.json": (
        ("INPUT0 INT32[-1,-1,-1]", "INPUT1 INT32[-1,-1,-1]"),
        0,
        4,
    ),
    "triton-inference-server__server__repeat_int32_data.json": (
        ("IN INT32[-1]", "DELAY UINT32[-1]", "WAIT UINT32[1]"),
        0,
        1,
    ),
    "triton-inference-server__server__seq_data.json": (("INPUT BYTES[1]",), 0, 9),
    "triton-inference-server__server__string_data.json": (("INPUT0 BYTES[-1,16]", "INPUT1 BYTES[-1,16]"), 8, 4),
    "wilhelm-lab__koina__koina_input.json": (
        (
            "peptide_sequences BYTES[1]",
            "precursor_charges INT32[1]",
            "collision_energies FP32[1]",
            "instrument_types INT64[1]",
            "fragmentation_types FP32[1]",
        ),
        0,
        1,
    ),
}
"""File -> inputs of the model it is for, its max_batch_size, and how many steps it has or why it is refused."""


@pytest.mark.parametrize("name", sorted(FIELD))
def test_files_of_the_field_are_read_or_refused_by_name(field_data: Path, name: str) -> None:
    """Each file gives its steps for the model it was written for, or one line that names its fault."""
    inputs, batch, expected = FIELD[name]
    outputs = ("OUTPUT0 INT32[-1,16]", "OUTPUT1 INT32[-1,16]")
    metadata = model(*inputs, outputs=outputs, max_batch_size=batch)
    path = field_data / "input_json" / name
    if isinstance(expected, str):
        with pytest.raises(PlanError, match=re.escape(expected)):
            list(perf_json.read(path, metadata))
        return
    assert len(list(perf_json.read(path, metadata))) == expected


def field_files() -> list[str]:
    """Return the names of all input files of the field that are here."""
    folder = Path(__file__).parents[1].parent / "shared" / "data" / "input_json"
    return [path.name for path in sorted(folder.glob("*"))]


@pytest.mark.parametrize("name", field_files())
def test_no_file_of_the_field_gives_a_traceback(field_data: Path, name: str) -> None:
    """For a model that has nothing to do with it, any file is refused in words."""
    with pytest.raises(PlanError, match=re.escape(name)):
        list(perf_json.read(field_data / "input_json" / name, model("NOSUCH FP32[1]")))
