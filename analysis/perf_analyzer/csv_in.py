"""perf_analyzer's CSV of every version -> levels: columns are known by their names, whatever stands between them.

Rows come by level, not by throughput as the file has them. Columns that are not perf_analyzer's (model, batch_size,
put there by those who joined several files) become `labels`.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from analysis.perf_analyzer.cells import count, duration_ns, figure, number
from analysis.perf_analyzer.export import GPUS
from analysis.perf_analyzer.tables import NS_PER_US, U32_MAX, Level, Parsed, Row, level_columns
from loadgen.errors import PlanError

LEVEL_NAMES = ("Concurrency", "Request Rate")
THROUGHPUT = "Inferences/Second"
DURATIONS = {
    "Client Send": "client_send_ns",
    "Network+Server Send/Recv": "network_ns",
    "Server Queue": "server_queue_ns",
    "Server Compute": "server_compute_ns",
    "Server Compute Input": "server_compute_input_ns",
    "Server Compute Infer": "server_compute_infer_ns",
    "Server Compute Output": "server_compute_output_ns",
    "Server Cache Hit": "server_cache_hit_ns",
    "Server Cache Miss": "server_cache_miss_ns",
    "Client Recv": "client_recv_ns",
    "Avg latency": "service_mean_ns",
    "request/response": "client_marshal_ns",
    "response wait": "response_wait_ns",
}
RATES = {THROUGHPUT: "throughput_per_s", "Response Throughput": "response_throughput_per_s"}
PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,4})?) latency")
COMPOSING_FILE = re.compile(r"(.+)_v(-?\d+)\..+")
COMPOSING_STAGES = ("queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns")
TINY_BYTES = 1 << 20
"""No GPU has so little memory; the metrics page wrote an exponent that perf_analyzer does not read."""


def is_header(cells: Sequence[str]) -> bool:
    """Say whether a row names perf_analyzer's columns."""
    names = {cell.strip() for cell in cells}
    return THROUGHPUT in names and not names.isdisjoint(LEVEL_NAMES)


def parse(text: str, path: Path) -> Parsed:
    """Read the levels of a CSV; a header further down begins another run.

    Raises:
        PlanError: it is no CSV, or has no row below its header.
    """
    notes: list[str] = []
    levels = [_level(run, header, cells) for run, header, cells in _rows(text, path, notes)]
    if not levels:
        raise PlanError(f"{path}: has perf_analyzer's header and no level below it: none was stable, or it was cut")
    if not text.endswith("\n"):
        notes.append("does not end with a line's end: its last figure may be cut")
    model = COMPOSING_FILE.fullmatch(path.name)
    percentiles = any(name.startswith("service_p") for level in levels for name in level.figures)
    if model and not percentiles:
        levels = [_of_model(level, model[1]) for level in levels]
    return Parsed("csv", list(_by_level(levels)), notes)


def composing_rows(text: str, path: Path) -> dict[str, Row]:
    """Return what the CSV of a composing model (`<model>_v<version>.<file>`) says, by the words of the level."""
    named = COMPOSING_FILE.fullmatch(path.name)
    assert named is not None
    rows = {}
    for level in parse(text, path).levels:
        stages = {name: level.figures.get(f"server_{name}") for name in COMPOSING_STAGES}
        parts = [level.figures.get("network_ns"), *stages.values()]
        request_ns = None if None in parts else sum(part for part in parts if part is not None)
        cache = {name: level.figures.get(f"server_{name}") for name in ("cache_hit_ns", "cache_miss_ns")}
        throughput = level.figures.get("throughput_per_s")
        facts = {"model": named[1], "version": named[2], "request_ns": request_ns, "throughput_per_s": throughput}
        rows[level.figures.get("load_words", "")] = facts | stages | cache
    return rows


def _rows(text: str, path: Path, notes: list[str]) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield (run, header, cells) of each row that holds figures; the last cell of a row that is too short is cut."""
    run, header, strange = 0, list[str](), 0
    try:
        for cells in csv.reader(io.StringIO(text, newline="")):
            if is_header(cells):
                run, header = run + 1, [cell.strip() for cell in cells]
            elif header and _holds_level(header, cells):
                yield run, header, cells
            else:
                strange += any(cell.strip() for cell in cells)
    except csv.Error as error:
        raise PlanError(f"{path}: is no CSV that can be read: {error}") from error
    if strange:
        notes.append(f"{strange} lines are neither perf_analyzer's header nor a row below one: left out")


def _holds_level(header: list[str], cells: list[str]) -> bool:
    whole = cells if len(cells) >= len(header) else cells[:-1]
    figures = dict(zip(header, whole, strict=False))
    return any(figure(figures.get(name, "").strip()) is not None for name in LEVEL_NAMES)


def _level(run: int, header: list[str], cells: list[str]) -> Level:
    notes: list[str] = []
    if len(cells) < len(header):
        notes.append(f"the row is cut off: {len(cells)} of {len(header)} cells, the last of them not believed")
        cells = cells[:-1]
    row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
    figures: Row = {"run": run, "resolution_ns": float(NS_PER_US), **_asked(row, notes)}
    for name, text in row.items():
        if (column := _duration_column(name)) is not None:
            figures[column] = duration_ns(name, text, notes)
        elif name in RATES:
            figures[RATES[name]] = number(name, text, notes)
    return Level(figures | _labels(row), gpus=_gpus(row, notes), notes=notes)


def _duration_column(name: str) -> str | None:
    percentile = PERCENTILE.fullmatch(name)
    return f"service_p{percentile[1]}_ns".replace(".", "_") if percentile else DURATIONS.get(name)


def _asked(row: dict[str, str], notes: list[str]) -> Row:
    """Return the columns of the load; a rate of 0 is what perf_analyzer writes of intervals longer than a second."""
    if (text := row.get("Concurrency")) is not None:
        slots = figure(text)
        if slots is None or not slots.is_integer() or not 0 <= slots <= U32_MAX:
            notes.append(f"Concurrency reads {text[:20]!r}, which is no such figure: taken as missing")
            return {}
        return level_columns(concurrency=int(slots))
    rate = number("Request Rate", row["Request Rate"], notes)
    if rate == 0:
        notes.append("Request Rate is 0: of custom intervals perf_analyzer writes the whole number below the rate")
        return {"load": "replay", "load_words": "custom intervals"}
    return level_columns(rate_per_s=rate)


def _labels(row: dict[str, str]) -> Row:
    """Return the columns that are not perf_analyzer's: as JSON, in words, and those that native points have."""
    known = {*LEVEL_NAMES, *RATES, *GPUS, ""}
    labels = {n: t for n, t in row.items() if n not in known and t and _duration_column(n) is None}
    if not labels:
        return {}
    batch = count(labels.get("batch_size", ""))
    return {
        "labels": json.dumps(labels, sort_keys=True, ensure_ascii=False),
        "label_words": " ".join(f"{name}={text}" for name, text in labels.items()),
        "model": labels.get("model"),
        "batch_size": batch if batch and batch <= U32_MAX else None,
    }


def _gpus(row: dict[str, str], notes: list[str]) -> list[Row]:
    """Return a row for each GPU of the `uuid:value;` cells, in the order of uuids; what a cell lacks is None."""
    found: dict[str, Row] = {}
    for name, column in GPUS.items():
        for entry in filter(None, row.get(name, "").split(";")):
            gpu, _, text = entry.rpartition(":")
            if gpu:
                found.setdefault(gpu, {"gpu": gpu})[column] = number(f"{name} of {gpu[:12]}", text, notes)
            else:
                notes.append(f"{name} holds {entry[:40]!r} without a GPU's name: left out")
    return [_believed(found[gpu], notes) for gpu in sorted(found)]


def _believed(gpu: Row, notes: list[str]) -> Row:
    for name in ("memory_used_max_bytes", "memory_total_bytes"):
        if (value := gpu.get(name)) is not None and 0 < value < TINY_BYTES:
            what = f"{name} of {gpu['gpu'][:12]}"
            notes.append(f"{what} reads {value:g}: an exponent that perf_analyzer cut off; missing")
            gpu = gpu | {name: None}
    return gpu


def _of_model(level: Level, model: str) -> Level:
    level.notes.append(f"a file of composing model {model}: its Client Send and Recv of 0 mean nothing, now missing")
    nothing = {"client_send_ns": None, "client_recv_ns": None, "model": model}
    return Level(level.figures | nothing, level.gpus, level.composing, level.windows, level.notes)


def _by_level(levels: list[Level]) -> Iterator[Level]:
    """Order by level within a run and set of labels; those stay in the order in which they stand."""
    places: dict[object, int] = {}
    of = {id(level): places.setdefault(_set(level), len(places)) for level in levels}
    for _, group in groupby(sorted(levels, key=lambda each: of[id(each)]), key=lambda each: of[id(each)]):
        yield from sorted(group, key=_size)


def _set(level: Level) -> object:
    return level.figures["run"], level.figures.get("labels")


def _size(level: Level) -> float:
    size = level.figures.get("concurrency", level.figures.get("rate_per_s"))
    return float("inf") if size is None else float(size)
