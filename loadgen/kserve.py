"""KServe v2 messages: request bytes from tensors, and the server's answers as plain frozen types."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from tritonclient.grpc import service_pb2

from loadgen.errors import PlanError

SERVICE = "/inference.GRPCInferenceService/"

DTYPES: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "UINT8": "u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
        "UINT64": "<u8",
        "INT8": "i1",
        "INT16": "<i2",
        "INT32": "<i4",
        "INT64": "<i8",
        "FP16": "<f2",
        "FP32": "<f4",
        "FP64": "<f8",
    }.items()
}
"""KServe datatype -> little-endian numpy dtype, for the types whose elements have a fixed size."""


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """A model's declaration of one tensor; -1 in `shape` is a dimension the request chooses."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Return it as in messages: `FEATURES FP64[-1,5]`."""
        return f"{self.name} {self.datatype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Name, versions and signature of a served model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input tensor: `data` is C-contiguous, of the dtype of `datatype`, in the shape to declare."""

    name: str
    datatype: str
    data: npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class InputEvent:
    """One event encoded for a model: its tensors, a label for charts, and its cell count where known."""

    label: str
    tensors: tuple[Tensor, ...]
    cells: int | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Cumulative counters of one model version, read between `asked_ns` and `read_ns` (monotonic)."""

    asked_ns: int
    read_ns: int
    version: str
    inference_count: int
    execution_count: int
    success_count: int
    success_ns: int
    fail_count: int
    fail_ns: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int


def infer_request(model: str, version: str, tensors: Iterable[Tensor]) -> bytes:
    """Serialise one ModelInferRequest with raw little-endian contents; all outputs are returned.

    Raises:
        PlanError: a tensor has a datatype without a fixed element size.
    """
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for tensor in tensors:
        if tensor.datatype not in DTYPES:
            raise PlanError(f"input {tensor.name}: datatype {tensor.datatype} is not supported yet")
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape)
        data = np.ascontiguousarray(tensor.data, dtype=DTYPES[tensor.datatype])
        request.raw_input_contents.append(data.tobytes())
    return bytes(request.SerializeToString())


def infer_outputs(response: bytes) -> tuple[TensorMetadata, ...]:
    """Decode a ModelInferResponse far enough to say which tensors came back, with their shapes."""
    message = service_pb2.ModelInferResponse.FromString(response)
    return tuple(_tensor_metadata(output) for output in message.outputs)


def model_metadata(message: service_pb2.ModelMetadataResponse) -> ModelMetadata:
    """Turn a ModelMetadataResponse into the plain type."""
    return ModelMetadata(
        name=message.name,
        versions=tuple(message.versions),
        platform=message.platform,
        inputs=tuple(map(_tensor_metadata, message.inputs)),
        outputs=tuple(map(_tensor_metadata, message.outputs)),
    )


def statistics(entry: service_pb2.ModelStatistics, asked_ns: int, read_ns: int) -> Statistics:
    """Turn one ModelStatistics entry into the plain type."""
    stats = entry.inference_stats
    return Statistics(
        asked_ns=asked_ns,
        read_ns=read_ns,
        version=entry.version,
        inference_count=entry.inference_count,
        execution_count=entry.execution_count,
        success_count=stats.success.count,
        success_ns=stats.success.ns,
        fail_count=stats.fail.count,
        fail_ns=stats.fail.ns,
        queue_ns=stats.queue.ns,
        compute_input_ns=stats.compute_input.ns,
        compute_infer_ns=stats.compute_infer.ns,
        compute_output_ns=stats.compute_output.ns,
    )


def as_json(message: object) -> dict[str, object]:
    """Return any protobuf message as JSON-ready data with the field names of the .proto file."""
    plain: dict[str, object] = json_format.MessageToDict(message, preserving_proto_field_name=True)  # type: ignore[arg-type]
    return plain


def signature_text(tensors: Sequence[TensorMetadata]) -> str:
    """Return a signature on one line, for messages."""
    return " + ".join(map(str, tensors)) or "(none)"


def _tensor_metadata(message: service_pb2.ModelMetadataResponse.TensorMetadata) -> TensorMetadata:
    return TensorMetadata(message.name, message.datatype, tuple(message.shape))


def instances(config: dict[str, object]) -> int | None:
    """Return how many instances of a model a server runs, from its configuration; None if it does not say.

    A group has `count` instances on each GPU it names; a group on GPUs that are not named cannot be counted.
    """
    groups = config.get("instance_group")
    if not isinstance(groups, list) or not groups:
        return None
    total = 0
    for group in groups:
        gpus = group.get("gpus", [])
        if group.get("kind") in {"KIND_GPU", "KIND_AUTO", None} and not gpus:
            return None
        total += int(group.get("count", 1)) * max(1, len(gpus))
    return total
