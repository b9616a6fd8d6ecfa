"""The model receives the same bytes from us as from the real perf_analyzer, for the same `--input-data` files."""

import asyncio
import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import perf_analyzer_binary
import pytest
from google.protobuf import text_format
from numpy_1 import with_numpy_1
from perf_analyzer_binary import PerfAnalyzer
from tritonclient.grpc import model_config_pb2

from loadgen.errors import TargetError
from loadgen.server import embedded
from loadgen.server.launch import RunningServer, serve_triton

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

MODEL = "recording"
RECORDING_MODEL = Path(__file__).parent / "recording_model.py"
TIMEOUT_S = 60

Array = npt.NDArray[Any]
Step = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A model's inputs as (datatype, dimensions), the steps of a file, and the arrays those steps say."""

    inputs: dict[str, tuple[str, tuple[int, ...]]]
    steps: Sequence[Step]
    meant: Sequence[dict[str, Array]]


def b64(array: Array) -> dict[str, str]:
    return {"b64": base64.b64encode(array.tobytes()).decode()}


IDS = np.array([2**60 + 1, 1152922329240578050, 2**64 - 1, 0], dtype=np.uint64)
FEATURES = np.array(
    [
        [0.0, 1.0, 2.0, -0.0, 0.1],
        [1.0, 335.0, 1279.0, 1e-300, 0.333251953125],
        [2.0, 16777217.0, 9007199254740993.0, -1.5e300, 5.0e-324],
        [3.0, 0.30000000000000004, 2.2250738585072014e-308, 1.7976931348623157e308, 123456.789],
    ]
)
ODD = Case(
    inputs={"GEOMETRY_ID": ("UINT64", (-1,)), "FEATURES": ("FP64", (-1, 5))},
    steps=[
        {
            "GEOMETRY_ID": {"content": IDS[:cells].tolist(), "shape": [cells]},
            "FEATURES": {"content": FEATURES[:cells].ravel().tolist(), "shape": [cells, 5]},
        }
        for cells in (4, 1, 0)
    ],
    meant=[{"GEOMETRY_ID": IDS[:cells], "FEATURES": FEATURES[:cells]} for cells in (4, 1, 0)],
)
DATATYPES = Case(
    inputs={
        "I8": ("INT8", (2,)),
        "I32": ("INT32", (-1,)),
        "F32": ("FP32", (-1, 3)),
        "FLAGS": ("BOOL", (2,)),
        "U16": ("UINT16", (1,)),
    },
    steps=[
        {
            "I8": [-128, 127],
            "I32": {"content": [-(2**31), 0, 2**31 - 1], "shape": [3]},
            "F32": {"content": [0.1, -0.0, 3.4028234e38, 1e-45, 16777217.0, 0.30000001192092896], "shape": [2, 3]},
            "FLAGS": [True, False],
            "U16": [65535],
        },
        {
            "I8": [0, -1],
            "I32": {"content": [7], "shape": [1]},
            "F32": {"content": [1.0, 2.0, 3.0], "shape": [1, 3]},
            "FLAGS": [False, True],
            "U16": [0],
        },
    ],
    meant=[
        {
            "I8": np.array([-128, 127], dtype=np.int8),
            "I32": np.array([-(2**31), 0, 2**31 - 1], dtype=np.int32),
            "F32": np.array([[0.1, -0.0, 3.4028234e38], [1e-45, 16777217.0, 0.3]], dtype=np.float32),
            "FLAGS": np.array([True, False]),
            "U16": np.array([65535], dtype=np.uint16),
        },
        {
            "I8": np.array([0, -1], dtype=np.int8),
            "I32": np.array([7], dtype=np.int32),
            "F32": np.array([[1.0, 2.0, 3.0]], dtype=np.float32),
            "FLAGS": np.array([False, True]),
            "U16": np.array([0], dtype=np.uint16),
        },
    ],
)
FLOATS = np.array([np.nan, -np.inf, 0.1, -0.0], dtype=np.float32)
WHOLE = np.array([-(2**63), 2**53 + 1])
BASE64 = Case(
    inputs={"F": ("FP32", (-1,)), "I": ("INT64", (2,))},
    steps=[
        {"F": {**b64(FLOATS), "shape": [4]}, "I": b64(WHOLE)},
        {"F": {"content": b64(FLOATS[1:]), "shape": [3]}, "I": {"content": b64(WHOLE[::-1]), "shape": [2]}},
    ],
    meant=[{"F": FLOATS, "I": WHOLE}, {"F": FLOATS[1:], "I": WHOLE[::-1]}],
)
LONG_DECIMAL = 0.9127555772777217
MISREAD = float(np.nextafter(LONG_DECIMAL, 0))
LONG = Case(
    inputs={"X": ("FP64", (1,))},
    steps=[{"X": [LONG_DECIMAL]}, {"X": b64(np.array([LONG_DECIMAL]))}],
    meant=[{"X": np.array([LONG_DECIMAL])}],
)
STRINGS = Case(
    inputs={"S": ("STRING", (-1,)), "N": ("INT32", (1,))},
    steps=[
        {"S": {"content": ["muon", "", "Müller", "a" * 300], "shape": [4]}, "N": [1]},
        {"S": {"content": ["one"], "shape": [1]}, "N": [2]},
        {"S": {"b64": base64.b64encode(b"\3\0\0\0\0\xff\n\1\0\0\0z").decode(), "shape": [2]}, "N": [3]},
    ],
    meant=[
        {"S": np.array([b"muon", b"", "Müller".encode(), b"a" * 300], dtype=object), "N": np.array([1], np.int32)},
        {"S": np.array([b"one"], dtype=object), "N": np.array([2], np.int32)},
        {"S": np.array([b"\0\xff\n", b"z"], dtype=object), "N": np.array([3], np.int32)},
    ],
)
CASES = {"odd": ODD, "datatypes": DATATYPES, "base64": BASE64}


@pytest.fixture(scope="module")
def perf_analyzer(triton: embedded.Installation) -> PerfAnalyzer:
    """Return the real perf_analyzer; skip where it cannot be downloaded."""
    try:
        return perf_analyzer_binary.install(triton)
    except TargetError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", CASES)
def test_same_bytes_as_perf_analyzer(
    triton: embedded.Installation, perf_analyzer: PerfAnalyzer, tmp_path: Path, name: str
) -> None:
    """Each step reaches the model from us as it does from perf_analyzer: datatypes, shapes and every byte."""
    case = CASES[name]
    ours, theirs = both(triton, perf_analyzer, case, tmp_path)
    assert theirs == {line(case, step) for step in case.meant}
    assert ours == theirs


def test_only_the_last_bit_of_long_decimals_differs(
    triton: embedded.Installation, perf_analyzer: PerfAnalyzer, tmp_path: Path
) -> None:
    """Past 15 digits an FP64 is the nearest double from us, its neighbour from perf_analyzer; as b64 it is equal."""
    ours, theirs = both(triton, perf_analyzer, LONG, tmp_path)
    nearest = {line(LONG, step) for step in LONG.meant}
    assert ours == nearest
    assert theirs == nearest | {line(LONG, {"X": np.array([MISREAD])})}


def test_same_strings_as_perf_analyzer(
    triton: embedded.Installation, perf_analyzer: PerfAnalyzer, tmp_path: Path
) -> None:
    """BYTES from a file, as text and as b64: empty, long and not ASCII, each reaches the model as theirs does."""
    ours, theirs = both(with_numpy_1(triton), perf_analyzer, STRINGS, tmp_path)
    assert theirs == {line(STRINGS, step) for step in STRINGS.meant}
    assert ours == theirs


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_same_strings_of_options(
    triton: embedded.Installation, perf_analyzer: PerfAnalyzer, tmp_path: Path, protocol: str
) -> None:
    """The drop-in's `--string-data` and `--shape` reach the model as perf_analyzer's do, over gRPC and over HTTP."""
    digests = tmp_path / "digests"
    case = Case({"S": ("STRING", (-1,))}, [], [{"S": np.array([b"a muon"] * 3, dtype=object)}])
    models = write_repository(tmp_path, case, digests)
    options = ["-m", MODEL, "--shape", "S:3", "--string-data", "a muon", "--request-count", "4"]

    async def serve() -> tuple[set[str], set[str]]:
        async with serve_triton(with_numpy_1(triton), models, MODEL, log=tmp_path / "log") as server:
            options.extend(["-i", protocol, "-u", server.grpc if protocol == "grpc" else server.http])
            done = await asyncio.to_thread(perf_analyzer.run, *options, timeout_s=TIMEOUT_S)
            theirs = taken(digests, done.stdout + done.stderr)
            command = [sys.executable, "-m", "loadgen", "perf-analyzer", *options, "--runs", str(tmp_path / "runs")]
            return taken(digests, await asyncio.to_thread(said_by, command)), theirs

    ours, theirs = asyncio.run(serve())
    assert theirs == {line(case, case.meant[0])}
    assert ours == theirs


def both(
    triton: embedded.Installation, perf_analyzer: PerfAnalyzer, case: Case, folder: Path
) -> tuple[set[str], set[str]]:
    """Return what the model recorded of one file when we sent it, and when perf_analyzer did."""
    digests, file = folder / "digests", folder / "input.json"
    models = write_repository(folder, case, digests)
    file.write_text(json.dumps({"data": case.steps}))

    async def serve() -> tuple[set[str], set[str]]:
        async with serve_triton(triton, models, MODEL, log=folder / "log") as server:
            said = await asyncio.to_thread(send_theirs, perf_analyzer, server, file, len(case.steps))
            theirs = taken(digests, said)
            said = await asyncio.to_thread(send_ours, server, file, folder)
            return taken(digests, said), theirs

    return asyncio.run(serve())


def send_theirs(perf_analyzer: PerfAnalyzer, server: RunningServer, file: Path, steps: int) -> str:
    # One worker sends the steps of a file in turn: twice round shows each.
    arguments = ["-m", server.model, "-u", server.grpc, "-i", "grpc", "--input-data", str(file)]
    done = perf_analyzer.run(
        *arguments, "--concurrency-range", "1", "--request-count", str(2 * steps), timeout_s=TIMEOUT_S
    )
    return done.stdout + done.stderr


def send_ours(server: RunningServer, file: Path, folder: Path) -> str:
    arguments = ["-m", server.model, "-u", server.grpc, "--input-data", str(file), "--concurrency-range", "1"]
    window = ["-p", "300", "--warmup-ms", "0", "--no-collect-metrics", "-o", str(folder / "runs")]
    return said_by([sys.executable, "-m", "loadgen", "sweep", *arguments, *window])


def said_by(command: Sequence[str]) -> str:
    done = subprocess.run(command, timeout=TIMEOUT_S, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def taken(digests: Path, said: str) -> set[str]:
    """Take away what was recorded so far and return its distinct lines; `said` explains why there is nothing."""
    assert digests.exists(), said
    lines = digests.read_text().splitlines()
    digests.unlink()
    return set(lines)


def line(case: Case, step: dict[str, Array]) -> str:
    """Return what the model must record for the arrays of a step."""
    received = {
        name: [case.inputs[name][0], list(array.shape), hashlib.sha256(raw(array)).hexdigest()]
        for name, array in step.items()
    }
    return json.dumps(received, sort_keys=True)


def raw(array: Array) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    return b"".join(len(each).to_bytes(4, "little") + each for each in array.ravel().tolist())


def write_repository(folder: Path, case: Case, digests: Path) -> Path:
    version = folder / "models" / MODEL / "1"
    version.mkdir(parents=True)
    shutil.copyfile(RECORDING_MODEL, version / "model.py")
    config = model_config_pb2.ModelConfig(name=MODEL, backend="python", max_batch_size=0)
    for name, (datatype, dims) in case.inputs.items():
        config.input.add(name=name, data_type=f"TYPE_{datatype}", dims=dims)
    config.output.add(name="ANSWER", data_type="TYPE_INT32", dims=[1])
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    config.parameters["digests"].string_value = str(digests)
    (version.parent / "config.pbtxt").write_text(text_format.MessageToString(config))
    return version.parents[1]
