"""KServe v2 messages: request bytes from tensors, and the server's answers as plain frozen types."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from tritonclient.grpc import service_pb2

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
        "BF16": "<u2",
        "BYTES": "O",
    }.items()
}
"""KServe datatype -> little-endian numpy dtype; BF16 is held as its 16 bits, BYTES as objects of type bytes."""


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
    max_batch_size: int = 0
    optional: frozenset[str] = frozenset()
    sequence: bool = False
    decoupled: bool = False
    """Whether it answers a request any number of times, so that it must be called by streams."""

    @property
    def request_inputs(self) -> tuple[TensorMetadata, ...]:
        """The inputs of one request of a batch: without the batch dimension, where the model has one."""
        return self._unbatched(self.inputs)

    @property
    def request_outputs(self) -> tuple[TensorMetadata, ...]:
        """The outputs likewise."""
        return self._unbatched(self.outputs)

    def _unbatched(self, tensors: tuple[TensorMetadata, ...]) -> tuple[TensorMetadata, ...]:
        if self.max_batch_size == 0:
            return tensors
        return tuple(TensorMetadata(tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in tensors)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input tensor: `data` is C-contiguous, of the dtype of `datatype`, in the shape to declare."""

    name: str
    datatype: str
    data: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class InputEvent:
    """One event encoded for a model: its tensors, a label for charts, and its cell count where known.

    `answer` holds the outputs the model must give, where the input says so; `parameters` go with the request;
    `dropped_cells` were left out because no module is known for them.
    """

    label: str
    tensors: tuple[Tensor, ...]
    cells: int | None = None
    stream: int = 0
    step: int = 0
    parameters: Mapping[str, bool | int | str] = field(default_factory=dict)
    answer: tuple[Tensor, ...] = ()
    dropped_cells: int = 0


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
    cache_hit_count: int = 0
    cache_hit_ns: int = 0
    cache_miss_count: int = 0
    cache_miss_ns: int = 0
    parts: Mapping[str, "Statistics"] = field(default_factory=dict)
    """Of several models together: the counters of each, by name."""

    composing: Mapping[str, "Statistics"] = field(default_factory=dict)
    """Of an ensemble, or a model that calls others: the counters of those, by name."""

    replicas: Mapping[str, "Statistics"] = field(default_factory=dict)
    """Of several servers together: the counters of each, by the address of its metrics page."""

    @classmethod
    def together(cls, parts: Mapping[str, "Statistics"]) -> "Statistics":
        """Return the sums of the counters of several models, read one after another."""
        counters = {
            name: sum(getattr(part, name) for part in parts.values())
            for name in cls.__dataclass_fields__
            if name.endswith(("_count", "_ns")) and name not in {"asked_ns", "read_ns"}
        }
        asked_ns = min(part.asked_ns for part in parts.values())
        read_ns = max(part.read_ns for part in parts.values())
        return cls(asked_ns, read_ns, "", **counters, parts=parts)


def infer_request(
    model: str, version: str, tensors: Iterable[Tensor], parameters: Mapping[str, bool | int | str] | None = None
) -> bytes:
    """Serialise one ModelInferRequest with raw little-endian contents; all outputs are returned."""
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for tensor in tensors:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape)
        request.raw_input_contents.append(raw_content(tensor))
    for name, value in (parameters or {}).items():
        setattr(request.parameters[name], PARAMETER_FIELDS[type(value)], value)
    return bytes(request.SerializeToString())


def step(message: bytes, sequence: int, *, first: bool, last: bool) -> bytes:
    """Return a serialised request as a step of a sequence."""
    return message + sequence_parameters(sequence, first=first, last=last)


def sequence_parameters(sequence: int, *, first: bool, last: bool) -> bytes:
    """Return what, appended to a serialised ModelInferRequest, makes it a step of a sequence.

    Protobuf merges concatenated messages, so that the tensors need not be serialised again.
    """
    request = service_pb2.ModelInferRequest()
    request.parameters["sequence_id"].int64_param = sequence
    request.parameters["sequence_start"].bool_param = first
    request.parameters["sequence_end"].bool_param = last
    return bytes(request.SerializeToString())


PARAMETER_FIELDS = {bool: "bool_param", int: "int64_param", str: "string_param"}


def raw_content(tensor: Tensor) -> bytes:
    """Return a tensor's elements in KServe's raw form: little-endian; BYTES each behind its length in four bytes."""
    if tensor.datatype == "BYTES":
        elements: list[bytes] = list(tensor.data.ravel().tolist())
        return b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    return np.ascontiguousarray(tensor.data, dtype=DTYPES[tensor.datatype]).tobytes()


def input_contents(message: bytes) -> list[tuple[str, str, bytes]]:
    """Return name, datatype and raw content of every input of a serialised ModelInferRequest."""
    request = service_pb2.ModelInferRequest.FromString(message)
    contents = zip(request.inputs, request.raw_input_contents, strict=True)
    return [(tensor.name, tensor.datatype, content) for tensor, content in contents]


def infer_outputs(response: bytes) -> tuple[TensorMetadata, ...]:
    """Decode a ModelInferResponse far enough to say which tensors came back, with their shapes."""
    message = service_pb2.ModelInferResponse.FromString(response)
    return tuple(_tensor_metadata(output) for output in message.outputs)


def wrong_answer(response: bytes, expected: Mapping[str, str]) -> str | None:
    """Compare a ModelInferResponse with the digests of its outputs; say what differs, or None if nothing does."""
    message = service_pb2.ModelInferResponse.FromString(response)
    given = dict(zip((output.name for output in message.outputs), message.raw_output_contents, strict=False))
    return wrong_digest({name: digest(content) for name, content in given.items()}, expected)


def wrong_digest(given: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """Compare digests of outputs; say what differs, or None if nothing does."""
    for name, wanted in expected.items():
        if name not in given:
            return f"output {name} is missing"
        if given[name] != wanted:
            return f"output {name} is not the expected one"
    return None


def digest(content: bytes) -> str:
    """Return the sha256 of raw content, as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()


def model_metadata(
    message: service_pb2.ModelMetadataResponse, config: Mapping[str, Any] | None = None
) -> ModelMetadata:
    """Turn a ModelMetadataResponse, and what only the model's configuration says, into the plain type."""
    config = config or {}
    return ModelMetadata(
        max_batch_size=int(config.get("max_batch_size", 0)),
        optional=frozenset(tensor["name"] for tensor in config.get("input", ()) if tensor.get("optional")),
        sequence="sequence_batching" in config,
        decoupled=bool(config.get("model_transaction_policy", {}).get("decoupled")),
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
        cache_hit_count=stats.cache_hit.count,
        cache_hit_ns=stats.cache_hit.ns,
        cache_miss_count=stats.cache_miss.count,
        cache_miss_ns=stats.cache_miss.ns,
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


def steps(config: dict[str, object]) -> list[str]:
    """Return the models that an ensemble calls, from its configuration; none for other models."""
    scheduling = config.get("ensemble_scheduling")
    found = scheduling.get("step", []) if isinstance(scheduling, dict) else []
    return list(dict.fromkeys(str(step["model_name"]) for step in found))


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
