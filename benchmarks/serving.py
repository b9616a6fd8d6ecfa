"""The servers that clients are timed against: a real Triton with two models that do next to nothing."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2

from loadgen import kserve
from loadgen.kserve import SERVICE, Tensor
from loadgen.server import embedded
from loadgen.server.launch import RunningServer, serve_triton

TINY, SINK = "tiny", "sink"
TINY_ELEMENTS = 8
DTYPES = {TINY: "FP32", SINK: "UINT8"}
RPC_TIMEOUT_S = 30.0
MODEL_FILE = Path(__file__).parent / "echo_model.py"


def write_models(folder: Path) -> Path:
    """Write a model repository with `tiny`, which echoes FP32, and `sink`, which takes UINT8 and says how many."""
    for name, answer in ((TINY, "echo"), (SINK, "size")):
        version = folder / "models" / name / "1"
        version.mkdir(parents=True)
        shutil.copyfile(MODEL_FILE, version / "model.py")
        config = model_config_pb2.ModelConfig(name=name, backend="python", max_batch_size=0)
        datatype = DTYPES[name]
        config.input.add(name="X", data_type=f"TYPE_{datatype}", dims=[-1])
        config.output.add(name="Y", data_type=f"TYPE_{datatype}" if answer == "echo" else "TYPE_INT64", dims=[-1])
        config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
        config.parameters["answer"].string_value = answer
        (version.parent / "config.pbtxt").write_text(text_format.MessageToString(config))
    return folder / "models"


@asynccontextmanager
async def serving() -> AsyncIterator[RunningServer]:
    """Serve both models until the context is left."""
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(Path(folder))
        async with serve_triton(embedded.install(), models, TINY, log=Path(folder) / "log") as server:
            yield server


def content(model: str, elements: int) -> bytes:
    """Return the raw bytes of an input of so many zeros."""
    return np.zeros(elements, kserve.DTYPES[DTYPES[model]]).tobytes()


def message(model: str, elements: int) -> bytes:
    """Return a request of so many zeros, as it goes over the wire."""
    data = np.zeros(elements, kserve.DTYPES[DTYPES[model]])
    return kserve.infer_request(model, "", [Tensor("X", DTYPES[model], data)])


def answered(address: str, model: str) -> int:
    """Return how many requests the server has answered for a model, once its counters stand still."""
    last, count = -2, -1
    while count != last:
        last, count = count, answered_now(address, model)
    return count


def answered_now(address: str, model: str) -> int:
    """Return the server's count of the model's requests that went well, which may trail its answers."""
    request = service_pb2.ModelStatisticsRequest(name=model).SerializeToString()
    with grpc.insecure_channel(address) as channel:
        reply = channel.unary_unary(SERVICE + "ModelStatistics")(request, timeout=RPC_TIMEOUT_S)
    statistics = service_pb2.ModelStatisticsResponse.FromString(reply).model_stats[0]
    return int(statistics.inference_stats.success.count)
