"""KServe v2 over HTTP with the binary data extension: a JSON head, then the raw bytes of the tensors.

A request's head ends with the first newline of the message, which JSON allows and our encoder writes nowhere else: so
a message carries the length of its head without a field for it. Requests are made from their gRPC form, once, before
any load.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from google.protobuf import json_format
from tritonclient.grpc import service_pb2

from loadgen import kserve
from loadgen.kserve import TensorMetadata

HEAD_LENGTH = "Inference-Header-Content-Length"
HEAD_END = b"\n"
LOOK_BYTES = 4096


def from_grpc(message: bytes) -> bytes:
    """Return the HTTP form of a serialised ModelInferRequest; all outputs come back in binary."""
    request = service_pb2.ModelInferRequest.FromString(message)
    contents = request.raw_input_contents
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": {"binary_data_size": len(content)},
        }
        for tensor, content in zip(request.inputs, contents, strict=True)
    ]
    parameters = {name: _value(each) for name, each in request.parameters.items()}
    head = {"parameters": {"binary_data_output": True, **parameters}, "inputs": inputs}
    return b"".join([msgspec.json.encode(head), HEAD_END, *contents])


def step(message: bytes, sequence: int, *, first: bool, last: bool) -> bytes:
    """Return a request as a step of a sequence."""
    size = head_bytes(message)
    head = msgspec.json.decode(message[:size])
    head["parameters"] |= {"sequence_id": sequence, "sequence_start": first, "sequence_end": last}
    return b"".join([msgspec.json.encode(head), HEAD_END, memoryview(message)[size:]])


def head_bytes(message: bytes | memoryview) -> int:
    """Return the size of a request's JSON head, its newline included; all of it where there is none."""
    look = LOOK_BYTES
    while (end := bytes(message[:look]).find(HEAD_END)) < 0 and look < len(message):
        look *= 4
    return end + 1 if end >= 0 else len(message)


def input_contents(message: bytes) -> list[tuple[str, str, bytes]]:
    """Return name, datatype and raw content of every input of a request."""
    at = head_bytes(message)
    found = []
    for tensor in msgspec.json.decode(message[:at])["inputs"]:
        size = tensor["parameters"]["binary_data_size"]
        found.append((tensor["name"], tensor["datatype"], message[at : at + size]))
        at += size
    return found


def infer_outputs(response: bytes) -> tuple[TensorMetadata, ...]:
    """Decode a response far enough to say which tensors came back, with their shapes."""
    return tuple(
        TensorMetadata(output["name"], output["datatype"], tuple(output["shape"]))
        for output in _head(response)[0].get("outputs", ())
    )


def wrong_answer(response: bytes, expected: Mapping[str, str]) -> str | None:
    """Compare a response with the digests of its outputs; say what differs, or None if nothing does."""
    head, at = _head(response)
    given: dict[str, str] = {}
    for output in head.get("outputs", ()):
        size = output.get("parameters", {}).get("binary_data_size", 0)
        given[output["name"]] = kserve.digest(response[at : at + size])
        at += size
    return kserve.wrong_digest(given, expected)


def _head(response: bytes) -> tuple[dict[str, Any], int]:
    """Return the JSON in front of a response, and where it ends; bytes and characters of latin-1 count alike."""
    _, end = json.JSONDecoder().raw_decode(response.decode("latin-1"))
    return msgspec.json.decode(response[:end]), end


def _value(parameter: service_pb2.InferParameter) -> bool | int | float | str:
    value: bool | int | float | str = getattr(parameter, parameter.WhichOneof("parameter_choice"))
    return value


def parsed(content: dict[str, Any], into: Any) -> Any:  # noqa: ANN401 - any protobuf message
    """Fill a protobuf message with what a server says in JSON: the same fields, under the same names."""
    return json_format.ParseDict(content, into, ignore_unknown_fields=True)
