"""A sealed run -> perf_analyzer's profile export: JSON of every request, written as it is made, in flat memory.

What a run does not keep is not made up: answers are names without contents, of a stream of answers there are the
first and the last moment, and the requests' contents are there where the run kept its corpus. What is no number (NaN,
infinities) is null, where perf_analyzer leaves an empty file.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from analysis.perf_export import Told, rows_of, told_points
from analysis.perf_sequences import Ids, sequence_ids
from analysis.runs import Run
from loadgen import kserve, kserve_http
from loadgen.atomic import written_atomically
from loadgen.kserve import DTYPES
from loadgen.plan import ClosedLoop, OpenLoop
from loadgen.records import Outcome

COPY_BYTES = 1 << 20
CORPUS_FILE = "corpus.bin"
LENGTH_BYTES = 4


def write(run: Run, path: Path) -> Path:
    """Write the profile export of a run.

    Raises:
        PlanError: the run's tables cannot be read.
        FleetError: the file cannot be written; none is left behind.
    """
    ids = sequence_ids(run)
    with _inputs(run) as inputs, written_atomically(path) as file:
        file.write(b'{"experiments":[')
        for place, told in enumerate(told_points(run)):
            file.write(b"," if place else b"")
            _write_experiment(file, run, told, inputs, ids.get(told.point))
        file.write(b'],"version":"","service_kind":"triton","endpoint":""}')
    return path


class Inputs:
    """The JSON of every body's tensors, made once, in a file of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._spans: list[tuple[int, int]] = []

    def add(self, text: bytes) -> None:
        """Keep the text of the next body."""
        self._spans.append((self._file.tell(), len(text)))
        self._file.write(text)

    def copy(self, body: int, into: IO[bytes]) -> None:
        """Write a body's text; an empty object where it is not known."""
        if body >= len(self._spans):
            into.write(b"{}")
            return
        start, size = self._spans[body]
        for offset in range(start, start + size, COPY_BYTES):
            into.write(os.pread(self._file.fileno(), min(COPY_BYTES, start + size - offset), offset))


@contextmanager
def _inputs(run: Run) -> Iterator[Inputs]:
    with tempfile.TemporaryFile() as file:
        inputs = Inputs(file)
        corpus = run.path / CORPUS_FILE
        if corpus.exists():
            over_http = bool(run.plan["endpoint"].get("http"))
            with corpus.open("rb") as messages:
                for body in run.corpus["bodies"]:
                    messages.seek(body["offset_bytes"])
                    inputs.add(_input_text(messages.read(body["size_bytes"]), over_http=over_http))
            file.flush()
        yield inputs


def _input_text(message: bytes, *, over_http: bool) -> bytes:
    tensors = kserve_http.input_contents(message) if over_http else kserve.input_contents(message)
    return msgspec.json.encode({name: _plain(datatype, content) for name, datatype, content in tensors})


def _plain(datatype: str, content: bytes) -> Any:  # noqa: ANN401 - JSON
    values = _strings(content) if datatype == "BYTES" else _numbers(datatype, content)
    if len(values) == 1:
        return values[0]
    return values or ""


def _numbers(datatype: str, content: bytes) -> list[Any]:
    values = np.frombuffer(content, DTYPES[datatype])
    whole = (values.astype(np.uint32) << 16).view(np.float32) if datatype == "BF16" else values
    return list(whole.tolist())


def _strings(content: bytes) -> list[str]:
    found, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + LENGTH_BYTES], "little")
        at += LENGTH_BYTES + size
        found.append(content[at - size : at].decode(errors="replace"))
    return found


def _write_experiment(file: IO[bytes], run: Run, told: Told, inputs: Inputs, ids: Ids | None) -> None:
    boundaries = [edge.at_ns for edge in told.edges]
    file.write(b'{"experiment":' + msgspec.json.encode(_experiment(told)) + b',"requests":[')
    rows = rows_of(run, told.point)
    ended = (rows["outcome"] == Outcome.OK) & (rows["done_ns"] >= boundaries[0]) & (rows["done_ns"] < boundaries[-1])
    windows = np.searchsorted(boundaries, rows["done_ns"], side="right")
    to_utc_ns = run.manifest["started_utc_ns"] - run.manifest["started_at_ns"]
    ordered = np.lexsort((rows["done_ns"], rows["worker"], windows))
    for place, number in enumerate(ordered[ended[ordered]]):
        file.write(b"," if place else b"")
        _write_request(file, rows[number], to_utc_ns, inputs, None if ids is None else int(ids[number]))
    file.write(b'],"window_boundaries":' + msgspec.json.encode([at_ns + to_utc_ns for at_ns in boundaries]) + b"}")


def _experiment(told: Told) -> dict[str, object]:
    match told.load:
        case ClosedLoop(concurrency):
            return {"mode": "concurrency", "value": concurrency}
        case OpenLoop(rate):
            return {"mode": "request_rate", "value": float(rate)}
    return {"mode": "request_rate", "value": 0.0}


def _write_request(file: IO[bytes], row: np.void, to_utc_ns: int, inputs: Inputs, sequence: int | None) -> None:
    ends_ns = [int(row["done_ns"])]
    if row["responses"] > 1 and row["first_byte_ns"]:
        ends_ns.insert(0, int(row["first_byte_ns"]))
    file.write(b'{"timestamp":%d,' % (int(row["sent_ns"]) + to_utc_ns))
    file.write(b'"sequence_id":%d,' % sequence if sequence is not None else b"")
    file.write(b'"request_inputs":')
    inputs.copy(int(row["body"]), file)
    stamps = msgspec.json.encode([end_ns + to_utc_ns for end_ns in ends_ns])
    outputs = b",".join([b"{}"] * len(ends_ns))
    file.write(b',"response_timestamps":' + stamps + b',"response_outputs":[' + outputs + b"]}")
