"""perf_analyzer's `--input-data` JSON, both ways.

`{"data": [step, ...]}` or `{"data": [[step, ...], ...]}` (streams); a step is `{NAME: tensor, ...}`, a tensor a list
or `{"content": list or {"b64": text}, "shape": [...]}` or `{"b64": text, "shape": [...]}`. Accepted beyond
perf_analyzer: whole numbers as floats, nested lists, FP16 and BF16 as numbers, a shape that follows from the model.
Refused where it errs in silence: overflow, wrong string counts, broken base64. Datatypes are the model's.

perf_analyzer ignores further keys at the top, so `loadgen` carries where the events came from: results of a synthetic
file stay labelled so.
"""

import json
import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from inputs import json_spans, values
from inputs.values import Array
from loadgen.atomic import written_atomically
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata, Tensor, TensorMetadata

Text = msgspec.Raw | memoryview
Step = dict[str, msgspec.Raw]
TOLERATED = ("model", "parameters")
"""Keys of a step that are no tensor: one that perf_analyzer ignores, one of ours."""

NOT_NUMBERS = (b"NaN", b"Infinity")
ELEMENT_DEPTH, STEP_DEPTH = 3, 2
"""Elements of "data" lie in the list in the object; steps of a stream in the list that the stream is."""


class _File(msgspec.Struct):
    data: list[msgspec.Raw]
    loadgen: dict[str, Any] = {}
    validation_data: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True)
class _Content:
    """A file taken apart: texts of steps or streams, and what says more about them."""

    data: list[Text]
    answers: list[msgspec.Raw]
    loadgen: dict[str, Any]
    forget: Callable[[], None] = lambda: None
    """Lets go of what was read of the file so far."""


class _Tensor(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()
    b64: str | None = None
    shape: list[int] | None = None


class _Base64(msgspec.Struct):
    b64: str


Parameters = dict[str, bool | int | str]


def read(path: Path, metadata: ModelMetadata) -> Iterator[InputEvent]:
    """Yield the requests of one file, stream by stream, in order, as tensors of the model.

    Raises:
        PlanError: naming file, stream, step, tensor and element of what is wrong.
    """
    content = _file(path)
    expected = _answers(path, content, metadata)
    for stream, step, raw in _steps(path, content.data):
        where = _where(path, content.data, stream, step)
        tensors, parameters = _step(raw, metadata, where)
        answer = expected.get((stream, step), ())
        content.forget()
        yield InputEvent(f"{path.stem} #{step}", tensors, None, stream, step, parameters, answer)


def provenance(path: Path) -> dict[str, Any]:
    """Return what a file says of where its events came from; empty if it says nothing.

    Raises:
        PlanError: as `read`.
    """
    return _file(path).loadgen


def raw_steps(path: Path) -> Iterator[tuple[int, int, dict[str, tuple[int, ...]]]]:
    """Yield (stream, step, shape of each tensor) of a file, without a model: a list has the shape of its length.

    Raises:
        PlanError: the file is not perf_analyzer's input JSON.
    """
    content = _file(path)
    for stream, step, raw in _steps(path, content.data):
        given = _decoded(raw, dict[str, Any], f"{_where(path, content.data, stream, step)}: a step is an object")
        yield stream, step, {name: _raw_shape(value) for name, value in given.items() if name not in TOLERATED}


def write(path: Path, events: Iterable[InputEvent], provenance: dict[str, object]) -> int:
    """Write events in the form with `content` and `shape`; return how many.

    Raises:
        PlanError, FleetError: the file cannot be written; none is left behind.
    """
    count = 0
    with written_atomically(path) as file:
        file.write(b'{"loadgen":' + msgspec.json.encode(provenance) + b',\n"data":[')
        for event in events:
            step = {tensor.name: _written(tensor) for tensor in event.tensors}
            file.write((b",\n" if count else b"\n") + msgspec.json.encode(step))
            count += 1
        file.write(b"\n]}\n")
    return count


def resolved(values_: Array, shape: tuple[int, ...] | None, wanted: TensorMetadata, where: str) -> Tensor:
    """Return the tensor of flat values, its shape as given or as it follows from the model.

    Raises:
        PlanError: the shape does not fit the model or the values.
    """
    shape = shape if shape is not None else _inferred(wanted, values_.size, where)
    fits = len(shape) == len(wanted.shape) and all(
        w == g or (w < 0 <= g) for w, g in zip(wanted.shape, shape, strict=True)
    )
    if not fits:
        raise PlanError(f"{where}: shape {list(shape)} does not fit the model's {wanted}")
    if math.prod(shape) != values_.size:
        raise PlanError(f"{where}: shape {list(shape)} wants {math.prod(shape)} elements, content has {values_.size}")
    return Tensor(wanted.name, wanted.datatype, values_.reshape(shape))


def _file(path: Path) -> _Content:
    text = _mapped(path)
    content = _in_parts(text) if len(text) >= json_spans.LARGE_BYTES else None
    if content is None:
        content = _whole(path, text)
    if not content.data:
        raise PlanError(f'{path}: "data" holds no step; nothing to send')
    return content


def _mapped(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except OSError as error:
        raise PlanError(f"{path}: cannot read: {error.strerror}; check --input-data") from error


def _in_parts(text: mmap.mmap | bytes) -> _Content | None:
    """Take a large file apart without reading its steps; None if only a parser can tell what it is."""
    if not isinstance(text, mmap.mmap):
        return None
    spans = json_spans.spans(text, ELEMENT_DEPTH)
    if not spans:
        return None
    try:
        rest = msgspec.json.decode(json_spans.without(text, spans), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if sum(bytes(raw) == json_spans.PLACEHOLDER for raw in rest.data) != len(spans):  # elsewhere than in "data"
        return None
    view, waiting = memoryview(text), iter(spans)
    data = [view[slice(*next(waiting))] if bytes(raw) == json_spans.PLACEHOLDER else raw for raw in rest.data]
    return _Content(data, rest.validation_data, rest.loadgen, lambda: json_spans.forget(text))


def _whole(path: Path, text: mmap.mmap | bytes) -> _Content:
    content: _File = _decoded(text, _File, f"{path}: not perf_analyzer's input JSON")
    return _Content(list(content.data), content.validation_data, content.loadgen)


def _steps(path: Path, data: Sequence[Text]) -> Iterator[tuple[int, int, Text]]:
    """Yield (stream, step, text) of a list of steps (one stream) or of streams."""
    are_streams = [bytes(memoryview(raw)[:1]) == b"[" for raw in data]
    if any(are_streams) and not all(are_streams):
        raise PlanError(f'{path}: "data" mixes steps and streams; make every item an object, or every item a list')
    if not all(are_streams):
        yield from ((0, step, raw) for step, raw in enumerate(data))
        return
    for stream, raw in enumerate(data):
        steps = _stream(raw, f"{path}: stream {stream}")
        if not steps:
            raise PlanError(f"{path}: stream {stream}: holds no step")
        yield from ((stream, step, each) for step, each in enumerate(steps))


def _stream(raw: Text, what: str) -> Sequence[Text]:
    view = memoryview(raw)
    spans = json_spans.spans(view, STEP_DEPTH) if len(view) >= json_spans.LARGE_BYTES else None
    whole: Callable[[], list[msgspec.Raw]] = lambda: _decoded(raw, list[msgspec.Raw], what)  # noqa: E731
    if not spans:
        return whole()
    waiting = iter(spans)
    rest: list[msgspec.Raw] = _decoded(json_spans.without(view, spans), list[msgspec.Raw], what)
    if sum(bytes(each) == json_spans.PLACEHOLDER for each in rest) != len(spans):
        return whole()
    return [view[slice(*next(waiting))] if bytes(each) == json_spans.PLACEHOLDER else each for each in rest]


def _where(path: Path, data: Sequence[Text], stream: int, step: int) -> str:
    in_streams = bytes(memoryview(data[0])[:1]) == b"["
    return f"{path}: stream {stream} step {step}" if in_streams else f"{path}: step {step}"


def _step(raw: Text, metadata: ModelMetadata, where: str) -> tuple[tuple[Tensor, ...], Parameters]:
    wanted = {tensor.name: tensor for tensor in metadata.request_inputs}
    step = _decoded(raw, Step, f"{where}: a step is an object of tensors")
    unknown = [name for name in step if name not in wanted and name not in TOLERATED]
    if unknown:
        raise PlanError(f"{where}: model {metadata.name} has no input {unknown[0]}; it has {', '.join(wanted)}")
    missing = [name for name in wanted if name not in step and name not in metadata.optional]
    if missing:
        raise PlanError(f"{where}: input {missing[0]} is missing")
    tensors = tuple(_tensor(step[name], each, f"{where}: {name}") for name, each in wanted.items() if name in step)
    return tensors, _parameters(step, where) if "parameters" not in wanted else {}


def _parameters(step: Step, where: str) -> Parameters:
    raw = step.get("parameters")
    what = f"{where}: parameters are an object of booleans, integers and strings"
    parameters: Parameters = {} if raw is None else _decoded(raw, Parameters, what)
    return parameters


def _tensor(raw: msgspec.Raw, wanted: TensorMetadata, where: str) -> Tensor:
    if bytes(memoryview(raw)[:1]) == b"[":
        items, shape = values.from_json(raw, wanted.datatype, where)
        return resolved(items, shape if shape != (items.size,) else None, wanted, where)
    given: _Tensor = _decoded(raw, _Tensor, f'{where}: write {{"content": [...], "shape": [...]}} or a list')
    items, nested = _content(given, wanted.datatype, where)
    shape = tuple(given.shape) if given.shape is not None else nested
    return resolved(items, shape, wanted, where)


def _content(given: _Tensor, datatype: str, where: str) -> tuple[Array, tuple[int, ...] | None]:
    if given.b64 is not None:
        return values.from_base64(given.b64, datatype, where), None
    if not bytes(memoryview(given.content)[:1]):
        raise PlanError(f'{where}: write {{"content": [...], "shape": [...]}} or a list: neither content nor b64')
    if bytes(memoryview(given.content)[:1]) == b"{":
        text = _decoded(given.content, _Base64, f'{where}: content is a list or {{"b64": text}}').b64
        return values.from_base64(text, datatype, where), None
    return values.from_json(given.content, datatype, where)


def _answers(path: Path, content: _Content, metadata: ModelMetadata) -> dict[tuple[int, int], tuple[Tensor, ...]]:
    """Read what the model must answer; every step of `data` has one, in the same nesting."""
    if not content.answers:
        return {}
    wanted = {tensor.name: tensor for tensor in metadata.request_outputs}
    answers = {}
    for stream, step, raw in _steps(path, content.answers):
        where = f"{path}: validation_data: stream {stream} step {step}"
        given = _decoded(raw, Step, f"{where}: a step is an object of tensors")
        unknown = [name for name in given if name not in wanted]
        if unknown:
            raise PlanError(f"{where}: model {metadata.name} has no output {unknown[0]}; it has {', '.join(wanted)}")
        answers[stream, step] = tuple(_tensor(each, wanted[name], f"{where}: {name}") for name, each in given.items())
    if set(answers) != {(stream, step) for stream, step, _ in _steps(path, content.data)}:
        raise PlanError(f"{path}: validation_data has not one step for each step of data")
    return answers


def _raw_shape(value: Any) -> tuple[int, ...]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        shape, content = value.get("shape"), value.get("content", ())
        return tuple(shape) if shape is not None else _raw_shape(content)
    return (len(value),) if isinstance(value, list) else ()


def _inferred(wanted: TensorMetadata, size: int, where: str) -> tuple[int, ...]:
    free = wanted.shape.count(-1)
    known = math.prod(length for length in wanted.shape if length >= 0)
    if free > 1 or (free == 1 and (known == 0 or size % known)):
        raise PlanError(f'{where}: {size} elements do not say the shape of {wanted}; add "shape"')
    return tuple(size // known if length < 0 else length for length in wanted.shape)


def _written(tensor: Tensor) -> dict[str, object]:
    shape = list(tensor.data.shape)
    if tensor.datatype == "BYTES":
        try:
            return {"content": [element.decode() for element in tensor.data.ravel()], "shape": shape}
        except UnicodeDecodeError:
            return {"b64": values.to_base64(tensor), "shape": shape}
    finite = tensor.data.dtype.kind != "f" or bool(all(map(math.isfinite, tensor.data.ravel().tolist())))
    if tensor.datatype == "BF16" or not finite:
        return {"b64": values.to_base64(tensor), "shape": shape}
    return {"content": tensor.data.ravel().tolist(), "shape": shape}


def _decoded(text: Any, kind: Any, what: str) -> Any:  # noqa: ANN401 - as the kind asked for
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        plain = bytes(text)
        # Python's writer spells NaN and Infinity out, which JSON has no word for and perf_analyzer accepts.
        if not any(word in plain for word in NOT_NUMBERS):
            raise PlanError(f"{what}: {error}") from error
    try:
        return msgspec.json.decode(_with_quoted_numbers(plain), type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PlanError(f"{what}: {error}") from error


def _with_quoted_numbers(text: bytes) -> bytes:
    return msgspec.json.encode(json.loads(text, parse_constant=lambda word: values.CONSTANT_MARK + word))
