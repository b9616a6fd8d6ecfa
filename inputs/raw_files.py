"""A folder with a file an input, as perf_analyzer reads it: raw little-endian bytes, or for BYTES a line a string."""

from pathlib import Path

import numpy as np

from inputs import values
from inputs.perf_json import resolved
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata, Tensor, TensorMetadata


def read(folder: Path, metadata: ModelMetadata) -> InputEvent:
    """Return the one request that a folder holds; files named like outputs are the answer.

    Raises:
        PlanError: a file is missing, is of the wrong size, or has a name that is no tensor's.
    """
    inputs = {tensor.name: tensor for tensor in metadata.request_inputs}
    outputs = {tensor.name: tensor for tensor in metadata.request_outputs}
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    unknown = [name for name in names if name not in inputs | outputs]
    if unknown:
        raise PlanError(f"{folder}: model {metadata.name} has no tensor {unknown[0]}; it has {', '.join(inputs)}")
    missing = [name for name in inputs if name not in names and name not in metadata.optional]
    if missing:
        raise PlanError(f"{folder}: the file of input {missing[0]} is missing")
    tensors = tuple(_tensor(folder / name, tensor) for name, tensor in inputs.items() if name in names)
    answer = tuple(_tensor(folder / name, tensor) for name, tensor in outputs.items() if name in names)
    return InputEvent(folder.name, tensors, answer=answer)


def _tensor(path: Path, wanted: TensorMetadata) -> Tensor:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}: cannot read: {error.strerror}") from error
    if wanted.datatype == "BYTES":
        lines = np.array(content.splitlines(), dtype=object)
        return resolved(lines, None, wanted, str(path))
    return resolved(values.from_bytes(content, wanted.datatype, str(path)), None, wanted, str(path))
