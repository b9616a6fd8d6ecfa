"""perf_analyzer's `--input-data` JSON, both ways, in the forms the studies use.

`{"data": [{NAME: {"content": [flat list], "shape": [...]}, ...}, ...]}`, one object a request; a bare list may
stand for the object where the shape follows from the model. Datatypes are the model's. perf_analyzer ignores further
keys at the top, so `loadgen` carries where the events came from: results of a synthetic file stay labelled so.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loadgen.atomic import written_atomically
from loadgen.errors import PlanError
from loadgen.kserve import DTYPES, InputEvent, ModelMetadata, Tensor, TensorMetadata

Step = dict[str, msgspec.Raw]
ELEMENT_TYPES: dict[str, type[list[Any]]] = {"b": list[bool], "f": list[float], "i": list[int], "u": list[int]}
"""numpy kind -> what a JSON list must hold; whole numbers are welcome where floats are wanted."""


class _File(msgspec.Struct):
    data: list[msgspec.Raw]
    loadgen: dict[str, Any] = {}
    validation_data: msgspec.Raw = msgspec.Raw()


class _Content(msgspec.Struct):
    content: msgspec.Raw
    shape: list[int] | None = None


def read(path: Path, metadata: ModelMetadata) -> Iterator[InputEvent]:
    """Yield the requests of one file, in order, as tensors of the model.

    Raises:
        PlanError: naming file, step, tensor and element of what is wrong.
    """
    wanted = {tensor.name: tensor for tensor in metadata.inputs}
    for number, raw in enumerate(_file(path).data):
        where = f"{path}: step {number}"
        step = _decoded(raw, Step, f"{where}: a step is an object of tensors (lists of steps are not supported yet)")
        unknown = [name for name in step if name not in wanted and name != "model"]
        if unknown:
            raise PlanError(f"{where}: model {metadata.name} has no input {unknown[0]}; it has {', '.join(wanted)}")
        missing = [name for name in wanted if name not in step]
        if missing:
            raise PlanError(f"{where}: input {missing[0]} is missing")
        tensors = tuple(_tensor(step[name], tensor, f"{where}: {name}") for name, tensor in wanted.items())
        yield InputEvent(f"{path.stem} #{number}", tensors)


def provenance(path: Path) -> dict[str, Any]:
    """Return what a file says of where its events came from; empty if it says nothing.

    Raises:
        PlanError: as `read`.
    """
    return _file(path).loadgen


def write(path: Path, events: Iterable[InputEvent], provenance: dict[str, object]) -> int:
    """Write events in the form with `content` and `shape`; return how many.

    Raises:
        PlanError: the file cannot be written; none is left behind.
    """
    count = 0
    with written_atomically(path) as file:
        file.write(b'{"loadgen":' + msgspec.json.encode(provenance) + b',\n"data":[')
        for event in events:
            step = {
                tensor.name: {"content": tensor.data.ravel().tolist(), "shape": list(tensor.data.shape)}
                for tensor in event.tensors
            }
            file.write((b",\n" if count else b"\n") + msgspec.json.encode(step))
            count += 1
        file.write(b"\n]}\n")
    return count


def _file(path: Path) -> _File:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}: cannot read: {error.strerror}; check --input-data") from error
    content: _File = _decoded(text, _File, f"{path}: not perf_analyzer's input JSON")
    if bytes(content.validation_data):
        raise PlanError(f"{path}: validation_data is not supported yet; take it out")
    if not content.data:
        raise PlanError(f'{path}: "data" holds no step; nothing to send')
    return content


def _tensor(raw: msgspec.Raw, wanted: TensorMetadata, where: str) -> Tensor:
    dtype = DTYPES.get(wanted.datatype)
    if dtype is None:
        raise PlanError(f"{where}: datatype {wanted.datatype} is not supported yet")
    if bytes(raw).lstrip()[:1] == b"[":
        content, shape = raw, None
    else:
        given = _decoded(raw, _Content, f'{where}: write {{"content": [...], "shape": [...]}} or a list')
        content, shape = given.content, given.shape
    values = _values(content, dtype, where)
    return Tensor(wanted.name, wanted.datatype, values.reshape(_shape(shape, wanted, values.size, where)))


def _values(raw: msgspec.Raw, dtype: np.dtype[np.generic], where: str) -> npt.NDArray[np.generic]:
    items = _decoded(raw, ELEMENT_TYPES[dtype.kind], where)
    if dtype.kind in "iu":
        low, high = _limits(dtype)
        if items and (min(items) < low or max(items) > high):
            index = next(k for k, item in enumerate(items) if not low <= item <= high)
            raise PlanError(f"{where}: element {index}: {items[index]} does not fit {dtype.name}")
    values = np.array(items, dtype=np.float64 if dtype.kind == "f" else dtype)
    with np.errstate(over="ignore"):
        typed: npt.NDArray[np.generic] = values.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(typed).all():
        index = int(np.argmin(np.isfinite(typed)))
        raise PlanError(f"{where}: element {index}: {items[index]} does not fit {dtype.name}")
    return typed


def _limits(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    bits = 8 * dtype.itemsize
    return (0, 2**bits - 1) if dtype.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _shape(given: list[int] | None, wanted: TensorMetadata, size: int, where: str) -> tuple[int, ...]:
    shape = tuple(given) if given is not None else _inferred(wanted, size, where)
    fits = len(shape) == len(wanted.shape) and all(
        w == g or (w < 0 <= g) for w, g in zip(wanted.shape, shape, strict=True)
    )
    if not fits:
        raise PlanError(f"{where}: shape {list(shape)} does not fit the model's {wanted}")
    if math.prod(shape) != size:
        raise PlanError(f"{where}: shape {list(shape)} wants {math.prod(shape)} elements, content has {size}")
    return shape


def _inferred(wanted: TensorMetadata, size: int, where: str) -> tuple[int, ...]:
    free = wanted.shape.count(-1)
    known = math.prod(length for length in wanted.shape if length >= 0)
    if free > 1 or (free == 1 and (known == 0 or size % known)):
        raise PlanError(f'{where}: {size} elements do not say the shape of {wanted}; add "shape"')
    return tuple(size // known if length < 0 else length for length in wanted.shape)


def _decoded(text: bytes | msgspec.Raw, kind: Any, what: str) -> Any:  # noqa: ANN401 - as the kind asked for
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PlanError(f"{what}: {error}") from error
