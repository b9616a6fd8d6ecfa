"""perf_analyzer's profile export (JSON) -> levels and requests; tensors are passed over.

Memory: some tens of bytes a request, and one request's text. A level's window is the one perf_analyzer reports: its
last three, or from the first request to the last answer where there is one window (`--request-count`) or none.
"""

import itertools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.perf_analyzer.profile_split import Splitter
from analysis.perf_analyzer.tables import REQUESTS_SCHEMA, Level, Parsed, Row, level_columns
from loadgen import measure
from loadgen.errors import PlanError
from loadgen.estimate import PERCENTS, Estimate
from loadgen.measure import Durations, Window
from loadgen.points import percent_name

REPORTED_WINDOWS = 3
I64_MAX = 2**63 - 1
RESPONSES_MAX = 2**16 - 1
CUT = "is cut off: its last level ends with the last whole request, and what would follow is missing"
INTERVALS = np.dtype([("sent_ns", "<i8"), ("done_ns", "<i8")])

Integers = npt.NDArray[np.int64]


class Request(msgspec.Struct):
    """One request; its tensors are not read."""

    timestamp: int | None = None
    response_timestamps: list[int] | None = None
    sequence_id: int | None = None


class Asked(msgspec.Struct):
    """The load of a level."""

    mode: str = ""
    value: float | int | None = None


class Experiment(msgspec.Struct):
    """A level, when its requests have been taken out; `requests` has a placeholder for each."""

    experiment: Asked = msgspec.field(default_factory=Asked)
    requests: list[int] = msgspec.field(default_factory=list)
    window_boundaries: list[int] = msgspec.field(default_factory=list)


class Export(msgspec.Struct):
    """The whole file, when the requests have been taken out."""

    experiments: list[Experiment]
    version: str = ""
    service_kind: str = ""


@dataclass(frozen=True, slots=True)
class Requests:
    """Times of all requests in the order of the file, as columns; 0 stands for what never happened."""

    sent_ns: "array[int]" = field(default_factory=lambda: array("q"))
    first_ns: "array[int]" = field(default_factory=lambda: array("q"))
    done_ns: "array[int]" = field(default_factory=lambda: array("q"))
    responses: "array[int]" = field(default_factory=lambda: array("H"))
    sequence: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, request: Request) -> None:
        """Append one.

        Raises:
            ValueError: it has no time, or one that no clock shows.
        """
        answers = request.response_timestamps or [0]
        times = (request.timestamp or 0, min(answers), answers[-1])
        if request.timestamp is None or not all(0 <= each <= I64_MAX for each in (*times, request.sequence_id or 0)):
            raise ValueError("a request without a time stamp, or with one that is no nanoseconds since 1970")
        for column, value in zip((self.sent_ns, self.first_ns, self.done_ns), times, strict=True):
            column.append(value)
        self.responses.append(min(len(request.response_timestamps or ()), RESPONSES_MAX))
        self.sequence.append(request.sequence_id or 0)


def parse(file: IO[bytes], path: Path) -> Parsed:
    """Read an export from an open file, which is read once from its start to its end.

    Raises:
        PlanError: it is not JSON, is cut off, or is not a profile export.
    """
    requests, splitter = Requests(), Splitter()
    decoder = msgspec.json.Decoder(Request)
    for text in splitter.parts(file):
        try:
            requests.add(decoder.decode(text))
        except (ValueError, RecursionError) as error:
            where = f"request {len(requests.sent_ns) + 1}"
            raise PlanError(f"{path}: {where} is none of a profile export: {error}") from error
    export = _export(path, splitter)
    counts = [len(experiment.requests) for experiment in export.experiments]
    if sum(counts) != len(requests.sent_ns):
        raise PlanError(f"{path}: holds requests outside the list `requests` of a level; is it perf_analyzer's?")
    if not export.experiments:
        raise PlanError(f"{path}: is a profile export without a level")
    edges = list(pairwise([0, *itertools.accumulate(counts)]))
    levels = [_level(each, requests, edge) for each, edge in zip(export.experiments, edges, strict=True)]
    notes = list(_file_notes(export)) + ([] if splitter.whole else [CUT])
    return Parsed("profile_export", levels, notes, _table(requests, edges))


def _export(path: Path, splitter: Splitter) -> Export:
    rest = bytes(splitter.rest) if splitter.whole else splitter.closed()
    if not rest:
        raise PlanError(
            f"{path}: is cut off or no JSON: its brackets do not close in {splitter.read_bytes} bytes; copy it again"
        )
    try:
        return msgspec.json.decode(rest.removeprefix(b"\xef\xbb\xbf"), type=Export)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path}: is JSON, but no profile export of perf_analyzer: {error}") from error


def _file_notes(export: Export) -> Iterator[str]:
    if export.service_kind.lower() not in {"", "triton"}:
        yield f"was made with service kind {export.service_kind}, not triton: its requests are whole conversations"
    modes = {each.experiment.mode for each in export.experiments} - {"concurrency", "request_rate"}
    if modes:
        yield f"holds loads of an unknown mode ({', '.join(sorted(modes))[:80]})"


def _level(experiment: Experiment, requests: Requests, edge: tuple[int, int]) -> Level:
    notes: list[str] = []
    figures: Row = {"run": 1, "resolution_ns": 1.0, **_asked(experiment.experiment)}
    sent, done = (_column(column, edge) for column in (requests.sent_ns, requests.done_ns))
    answered = done > 0
    backwards = int((answered & (done < sent)).sum())
    if backwards:
        notes.append(f"{backwards} requests end before they begin (the clock was set): left out of the figures")
        answered &= done >= sent
    boundaries = sorted(each for each in experiment.window_boundaries if 0 <= each < I64_MAX)
    window = _window(boundaries, sent[answered], done[answered], notes)
    figures |= _figures(window, sent[answered], done[answered])
    several = int((_column(requests.responses, edge) > 1).sum())
    if several:
        notes.append(f"{several} requests had several answers: service time is until the last of them")
    return Level(figures, windows=list(_windows(boundaries, sent[answered], done[answered])), notes=notes)


def _asked(asked: Asked) -> Row:
    """Return the columns of the load; a rate of 0 stands for custom intervals or a fixed schedule."""
    value = asked.value
    if value is None or value < 0 or value > I64_MAX:
        return {}
    if asked.mode == "concurrency" and value == int(value) and value < 2**32:
        return level_columns(concurrency=int(value))
    if asked.mode == "request_rate":
        rate = level_columns(rate_per_s=float(value))
        return rate if value else {"load": "replay", "load_words": "custom intervals"}
    return {}


def _column(column: "array[int]", edge: tuple[int, int]) -> Integers:
    return np.frombuffer(column, dtype=column.typecode)[edge[0] : edge[1]].astype(np.int64, copy=False)


def _window(boundaries: Sequence[int], sent: Integers, done: Integers, notes: list[str]) -> Window | None:
    """Return the window of perf_analyzer's own report, or what the requests span where that would say too little."""
    if len(boundaries) > 2 and boundaries[-1] > boundaries[0]:  # noqa: PLR2004 - two edges are one window
        return Window(boundaries[-min(REPORTED_WINDOWS + 1, len(boundaries))], boundaries[-1])
    if not len(done):
        notes.append("holds no answered request")
        return None
    spanned = Window(int(sent.min()), int(done.max()) + 1)
    if not boundaries:
        notes.append("has no windows: taken from its first request to its last answer")
    elif boundaries[-1] > boundaries[0]:
        theirs = len(done) * 1e9 / (boundaries[-1] - boundaries[0])
        notes.append(
            f"has one window (--request-count), of whole seconds: perf_analyzer says {theirs:.6g}/s of it, "
            f"here it is taken from the first request to the last answer"
        )
    return spanned


def _figures(window: Window | None, sent: Integers, done: Integers) -> Row:
    """Measure the window as a native point is: same percentiles, same intervals."""
    if window is None:
        return {"completed": 0}
    inside = (done >= window.start_ns) & (done < window.end_ns)
    edges = {"window_start_ns": window.start_ns, "window_end_ns": window.end_ns}
    figures: Row = {**edges, "completed": int(inside.sum())}
    found = measure.durations(done[inside], done[inside] - sent[inside], window, PERCENTS)
    if found is None:
        return figures | {"throughput_per_s": 0.0}
    rows = np.empty(len(sent), INTERVALS)
    rows["sent_ns"], rows["done_ns"] = sent, done
    return figures | _durations(found) | {"in_flight_mean": measure.in_flight_mean(rows, window)}


def _durations(found: Durations) -> Row:
    moments = {"std": found.std_ns, "min": found.min_ns, "max": found.max_ns}
    estimates = {percent_name(percent): one for percent, one in found.found.percentiles_ns.items()}
    assert found.found.mean_ns is not None
    estimates["mean"] = found.found.mean_ns
    return {
        **{f"service_{name}_ns": value for name, value in moments.items()},
        **{key: value for name, one in estimates.items() for key, value in _limits(f"service_{name}", "ns", one)},
        **dict(_limits("throughput", "per_s", found.found.throughput_per_s)),
        "correlation": found.found.correlation,
        "throughput_drift": found.found.throughput_trend.change,
        "mean_drift": found.found.mean_trend.change,
    }


def _limits(name: str, unit: str, one: Estimate) -> Iterator[tuple[str, float | None]]:
    yield f"{name}_{unit}", one.value
    yield f"{name}_low_{unit}", one.low
    yield f"{name}_high_{unit}", one.high


def _windows(boundaries: Sequence[int], sent: Integers, done: Integers) -> Iterator[Row]:
    for number, (start, end) in enumerate(pairwise(boundaries), start=1):
        inside = (done >= start) & (done < end)
        each = done[inside] - sent[inside]
        yield {
            "window": number,
            "completed": len(each),
            "throughput_per_s": len(each) * 1e9 / (end - start) if end > start else None,
            "statistic": "mean",
            "service_ns": float(each.mean()) if len(each) else None,
            "service_std_ns": float(each.std(ddof=1)) if len(each) > 1 else None,
        }


def _table(requests: Requests, edges: Sequence[tuple[int, int]]) -> pl.LazyFrame:
    """Return the rows of all requests; columns that perf_analyzer does not export are null, and cost no memory."""
    whole = (0, len(requests.sent_ns))
    lengths = [end - start for start, end in edges]
    times = {
        name: pl.Series(name, _column(column, whole))
        for name, column in (
            ("sent_ns", requests.sent_ns),
            ("first_byte_ns", requests.first_ns),
            ("done_ns", requests.done_ns),
            ("sequence", requests.sequence),
        )
    }
    frame = pl.DataFrame(
        {
            "point": np.repeat(np.arange(1, len(edges) + 1, dtype=np.uint32), lengths),
            "responses": np.frombuffer(requests.responses, np.uint16),
            **times,
        }
    ).lazy()
    happened = [pl.when(pl.col(name) > 0).then(pl.col(name)) for name in times]
    known = frame.with_columns(happened).with_columns(
        seq=pl.int_range(pl.len(), dtype=pl.UInt64),
        outcome=pl.when(pl.col("done_ns").is_not_null()).then(pl.lit("ok")).otherwise(pl.lit("open_at_end")),
    )
    absent = {name: pl.lit(None) for name in REQUESTS_SCHEMA if name not in known.collect_schema()}
    return known.with_columns(**absent).select(pl.col(name).cast(kind) for name, kind in REQUESTS_SCHEMA.items())
