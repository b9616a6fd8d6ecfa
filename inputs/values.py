"""Values as perf_analyzer's files write them -> typed arrays; what does not fit is refused, never changed."""

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loadgen import kserve
from loadgen.errors import PlanError
from loadgen.kserve import DTYPES, Tensor

Array = npt.NDArray[Any]
LENGTH_PREFIX = struct.Struct("<I")
CONSTANT_MARK = "\0"
CONSTANTS = {f"\0{word}": float(word) for word in ("NaN", "Infinity", "-Infinity")}
"""How numbers that JSON has no word for travel through a JSON library: as strings that nobody else writes."""

ELEMENTS: dict[str, Any] = {"b": list[bool], "f": list[float], "i": list[int], "u": list[int], "O": list[str]}
"""numpy kind -> the flat list that is read fast; whole numbers are welcome where floats are wanted."""

ACCEPTED: dict[str, tuple[set[type], str]] = {
    "b": ({bool}, "true or false"),
    "f": ({int, float}, "a number"),
    "i": ({int}, "a whole number"),
    "u": ({int}, "a whole number"),
    "O": ({str}, "a string"),
}


def numpy_dtype(datatype: str, where: str) -> np.dtype[Any]:
    """Return the numpy dtype of a KServe datatype; BYTES are objects, BF16 its 16 bits.

    Raises:
        PlanError: there is no such datatype.
    """
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise PlanError(f"{where}: datatype {datatype} is not one of KServe's")
    return dtype


def from_json(raw: msgspec.Raw, datatype: str, where: str) -> tuple[Array, tuple[int, ...] | None]:
    """Return the values of a JSON list, flat, and the shape of its nesting (None for a flat list).

    Raises:
        PlanError: naming the element that is not of the datatype or does not fit it.
    """
    kind = "f" if datatype == "BF16" else numpy_dtype(datatype, where).kind
    try:
        items = msgspec.json.decode(raw, type=ELEMENTS[kind])
    except msgspec.ValidationError:
        items, shape = _flattened(msgspec.json.decode(raw), where)
        return typed(items, datatype, where), shape
    return _array(items, datatype, where), None


def typed(items: Sequence[Any], datatype: str, where: str) -> Array:
    """Return a flat list of anything as an array of a datatype.

    Raises:
        PlanError: naming the first element that is of another type or out of range.
    """
    kind = "f" if datatype == "BF16" else numpy_dtype(datatype, where).kind
    items = [CONSTANTS.get(item, item) if isinstance(item, str) and kind == "f" else item for item in items]
    accepted, words = ACCEPTED[kind]
    # A bool is an int to Python, and not to Triton: hence exact types.
    index = next((k for k, item in enumerate(items) if type(item) not in accepted), None)
    if index is not None:
        raise PlanError(f"{where}: element {index}: expected {words}, got {_shown(items[index])}")
    return _array(items, datatype, where)


def _array(items: Sequence[Any], datatype: str, where: str) -> Array:
    """Turn a list whose types are right into an array, if its values fit."""
    dtype = numpy_dtype(datatype, where)
    if dtype.kind == "O":
        return np.array([item.encode() for item in items], dtype=object)
    if datatype == "BF16" or dtype.kind == "f":
        return _floats(items, datatype, dtype, where)
    if dtype.kind == "b":
        return np.array(items, dtype=dtype)
    bits = 8 * dtype.itemsize
    low, high = (0, 2**bits - 1) if dtype.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if items and (min(items) < low or max(items) > high):
        index = next(k for k, item in enumerate(items) if not low <= item <= high)
        raise PlanError(f"{where}: element {index}: {items[index]} does not fit {datatype}")
    return np.array(items, dtype=dtype)


def from_base64(text: str, datatype: str, where: str) -> Array:
    """Return the values of base64 text: little-endian elements, BYTES each behind its length in four bytes.

    Raises:
        PlanError: it is not base64, or does not divide into elements.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PlanError(f"{where}: not base64: {error}") from error
    return from_bytes(content, datatype, where)


def from_bytes(content: bytes, datatype: str, where: str) -> Array:
    """Return the elements of raw little-endian content; errors as `from_base64`."""
    dtype = numpy_dtype(datatype, where)
    if dtype.kind == "O":
        return np.array(_split(content, where), dtype=object)
    if len(content) % dtype.itemsize:
        raise PlanError(f"{where}: {len(content)} bytes are not a whole number of {datatype} elements")
    return np.frombuffer(content, dtype)


def bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return float32 values rounded to bfloat16 (nearest, ties to even), as its 16 bits."""
    bits = values.view(np.uint32).astype(np.uint64)
    rounded: npt.NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def to_base64(tensor: Tensor) -> str:
    """Return a tensor's raw content as base64, which `from_base64` reads back."""
    return base64.b64encode(kserve.raw_content(tensor)).decode()


def _floats(items: Sequence[Any], datatype: str, dtype: np.dtype[Any], where: str) -> Array:
    try:
        values = np.array(items, dtype=np.float64)
    except OverflowError as error:
        raise PlanError(f"{where}: a whole number is too large for {datatype}") from error
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = values.astype(np.float32 if datatype == "BF16" else dtype)
    lost = np.isfinite(values) & ~np.isfinite(narrow)
    if lost.any():
        index = int(lost.argmax())
        raise PlanError(f"{where}: element {index}: {items[index]} does not fit {datatype}")
    return bfloat16(narrow) if datatype == "BF16" else narrow


def _flattened(value: Any, where: str) -> tuple[list[Any], tuple[int, ...] | None]:  # noqa: ANN401 - any JSON
    if not isinstance(value, list):
        raise PlanError(f"{where}: expected a list, got {_shown(value)}")
    if not any(isinstance(item, list) for item in value):
        return value, None
    parts = [_flattened(item, where) for item in value]
    shapes = {shape if shape is not None else (len(items),) for items, shape in parts}
    if len(shapes) != 1:
        raise PlanError(f"{where}: the nested lists are not all of one length")
    return [item for items, _ in parts for item in items], (len(value), *shapes.pop())


def _split(content: bytes, where: str) -> list[bytes]:
    elements: list[bytes] = []
    place = 0
    while place < len(content):
        start = place + LENGTH_PREFIX.size
        end = start + LENGTH_PREFIX.unpack_from(content, place)[0] if start <= len(content) else start
        if end > len(content):
            raise PlanError(f"{where}: element {len(elements)}: its length prefix reaches past the end")
        elements.append(content[start:end])
        place = end
    return elements


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}..."  # noqa: PLR2004 - enough to recognise it
