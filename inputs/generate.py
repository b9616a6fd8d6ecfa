"""Requests from nothing but a model's declaration: zeros, or seeded random values of each type's useful range."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from loadgen.errors import PlanError
from loadgen.kserve import DTYPES, InputEvent, ModelMetadata, Tensor, TensorMetadata
from loadgen.plan import Generated

LETTERS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .?!", np.uint8)
INTEGER_LIMIT = 128
"""Random integers stay below it, in reach of what most models index with them; perf_analyzer sends any bits."""


def generated(metadata: ModelMetadata, given: Generated) -> Iterator[InputEvent]:
    """Yield requests of zeros or random values for every input of the model.

    Raises:
        PlanError: a free dimension is not given, a given shape does not fit, or an input is not the model's.
    """
    names = {tensor.name for tensor in metadata.request_inputs}
    for option, keys in (("--shape", given.shapes), ("--input", given.each)):
        unknown = sorted(set(keys) - names)
        if unknown:
            raise PlanError(f"{option} {unknown[0]}: model {metadata.name} has no such input; it has {sorted(names)}")
    for index in range(given.requests):
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(given.seed, spawn_key=(index,))))
        tensors = tuple(_tensor(tensor, given, generator) for tensor in metadata.request_inputs)
        yield InputEvent(f"{given.values} #{index}", tensors, step=index)


def _shape(tensor: TensorMetadata, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    shape = shapes.get(tensor.name, tensor.shape)
    fits = len(shape) == len(tensor.shape) and all(w in {-1, g} for w, g in zip(tensor.shape, shape, strict=True))
    if not fits:
        raise PlanError(f"--shape {tensor.name}: {list(shape)} does not fit {tensor}")
    if -1 in shape:
        example = ",".join("100" if length < 0 else str(length) for length in shape)
        raise PlanError(f"{tensor}: say its free dimensions, as --shape {tensor.name}:{example}")
    return shape


def _tensor(tensor: TensorMetadata, given: Generated, generator: np.random.Generator) -> Tensor:
    shape, kind = _shape(tensor, given.shapes), given.each.get(tensor.name, given.values)
    dtype = DTYPES[tensor.datatype]
    if dtype.kind == "O":
        return Tensor(tensor.name, tensor.datatype, _strings(shape, kind, given, generator))
    if kind == "zero":
        return Tensor(tensor.name, tensor.datatype, np.zeros(shape, dtype))
    if tensor.datatype == "BF16":
        whole = generator.random(shape, np.float32).view(np.uint32) >> 16
        return Tensor(tensor.name, tensor.datatype, whole.astype(dtype))
    if dtype.kind == "f":
        return Tensor(tensor.name, tensor.datatype, generator.random(shape).astype(dtype))
    high = 2 if dtype.kind == "b" else INTEGER_LIMIT
    return Tensor(tensor.name, tensor.datatype, generator.integers(0, high, shape).astype(dtype))


def _strings(
    shape: tuple[int, ...], kind: str, given: Generated, generator: np.random.Generator
) -> npt.NDArray[np.object_]:
    strings = np.empty(shape, dtype=object)
    for place in np.ndindex(*shape):
        if given.string is not None:
            strings[place] = given.string.encode()
        else:
            strings[place] = b"" if kind == "zero" else generator.choice(LETTERS, given.string_bytes).tobytes()
    return strings
