"""Logs of the standalone traccc programs -> one row a result: pile-up, device, threads, time an event, throughput."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import polars as pl

from analysis import facts
from analysis.standalone import doubts, log_file, sequence, throughput
from analysis.standalone.printed import name_device
from analysis.standalone.row import Row
from loadgen.errors import PlanError

SCHEMA: dict[str, pl.DataType] = {
    "file": pl.String(),
    "kind": pl.String(),
    "mu": pl.Float64(),
    "device": pl.String(),
    "device_name": pl.String(),
    "threads": pl.UInt32(),
    "traccc_version": pl.String(),
    "log_style": pl.String(),
    "input_directory": pl.String(),
    "events": pl.UInt64(),
    "warm": pl.UInt64(),
    "processed": pl.UInt64(),
    "deterministic": pl.Boolean(),
    "event_time_ns": pl.Float64(),
    "throughput_per_s": pl.Float64(),
    "warm_event_time_ns": pl.Float64(),
    "total_ns": pl.Float64(),
    "file_reading_ns": pl.Float64(),
    "track_parameters": pl.UInt64(),
}
"""One row a result; what a log does not say is null."""

STAGES: dict[str, pl.DataType] = {
    "file": pl.String(),
    "device": pl.String(),
    "mu": pl.Float64(),
    "stage": pl.String(),
    "event_time_ns": pl.Float64(),
}
"""One row a stage of a sequence log."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says of logs that do not say it: values by pattern of file name, the first that fits counts."""

    mu: Mapping[str, float] = field(default_factory=dict)
    device: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Logs:
    """Results, columns as `SCHEMA`; stages of sequence logs, as `STAGES`; and what is doubtful."""

    rows: pl.DataFrame
    stages: pl.DataFrame
    warnings: tuple[str, ...] = ()


NOTHING_GIVEN = Given()


def read(files: Iterable[Path], given: Given = NOTHING_GIVEN) -> Logs:
    """Read logs of any of the three kinds; of several files those that cannot be read are warned of.

    Raises:
        PlanError: the only file cannot be read, or none of them.
    """
    found: list[Row] = []
    warnings: list[str] = []
    failures: list[PlanError] = []
    for file in files:
        try:
            rows, said = read_file(file, given)
        except PlanError as error:
            failures.append(error)
        else:
            found += rows
            warnings += said
    if not found:
        raise failures[0] if failures else PlanError("no traccc log to read")
    placed = [(row, _device(row, given), _mu(row, given)) for row in found]
    warnings = [*(f"left out: {failure}" for failure in failures), *warnings, *doubts.of_all(placed)]
    warnings += [doubt for row, device, mu in placed for doubt in doubts.of_row(row, device, mu)]
    facts_of = [_facts(row, device, mu, given) for row, device, mu in placed]
    stages = [
        {"file": row.file, "device": device, "mu": mu, "stage": stage, "event_time_ns": time_ns}
        for row, device, mu in placed
        for stage, time_ns in row.stages_ns.items()
    ]
    table = pl.DataFrame(facts_of, schema=SCHEMA)
    table = table.sort("device", "mu", "threads", nulls_last=True, maintain_order=True)
    return Logs(table, pl.DataFrame(stages, schema=STAGES), tuple(dict.fromkeys(warnings)))


def read_file(file: Path, given: Given = NOTHING_GIVEN) -> tuple[list[Row], list[str]]:
    """Read one log; return its results, and what was left out of it.

    Raises:
        PlanError: it cannot be read, is of no known kind, or holds no result.
    """
    try:
        text = file.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise PlanError(f"{file}: cannot read: {error.strerror}") from error
    return read_text(text, str(file), given)


def read_text(text: str, name: str, given: Given = NOTHING_GIVEN) -> tuple[list[Row], list[str]]:
    """Read one log's text; errors as `read_file`."""
    if log_file.is_log_file(text):
        return log_file.read(text, name)
    if sequence.is_sequence(text):
        return sequence.read(text, name, given.events), []
    if throughput.is_throughput(text):
        return throughput.read(text, name), []
    raise PlanError(
        f"{name}: is no traccc log: it has neither `ms/event` (traccc_throughput_*), nor `==> Elapsed times` "
        f"(traccc_seq_*), nor rows {log_file.COLUMNS} (--log-file)"
    )


def as_points(rows: pl.DataFrame) -> pl.DataFrame:
    """Return results as points: load `standalone`, level the threads, service time the time an event takes."""
    return rows.select(
        point=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32),
        repeat=pl.lit(1, pl.UInt32),
        load=pl.lit("standalone"),
        load_words=pl.concat_str(pl.col("device").fill_null("unknown device"), pl.lit(", "), "kind"),
        level=pl.col("threads").cast(pl.Float64),
        mu=pl.col("mu"),
        inputs=pl.col("input_directory"),
        server=pl.concat_str(pl.lit("traccc "), pl.coalesce("traccc_version", "log_style", pl.lit("standalone"))),
        server_version=pl.col("traccc_version"),
        throughput_per_s=pl.col("throughput_per_s"),
        service_mean_ns=pl.col("event_time_ns"),
        completed=pl.col("processed"),
    )


def _facts(row: Row, device: str | None, mu: float | None, given: Given) -> dict[str, Any]:
    said = row.printed
    return {
        "file": row.file,
        "kind": row.kind,
        "mu": mu,
        "device": device,
        "device_name": said.device_name,
        "threads": said.threads,
        "traccc_version": said.version or given.version,
        "log_style": said.style or None,
        "input_directory": said.directory,
        "events": said.events,
        "warm": said.warm,
        "processed": row.processed,
        "deterministic": said.deterministic,
        "event_time_ns": row.event_time_ns,
        "throughput_per_s": row.throughput_per_s,
        "warm_event_time_ns": row.warm_event_time_ns,
        "total_ns": row.total_ns,
        "file_reading_ns": row.file_reading_ns,
        "track_parameters": row.track_parameters,
    }


def _device(row: Row, given: Given) -> str | None:
    name = Path(row.file).name
    return _fitting(given.device, name) or row.device or row.printed.device or name_device(name)


def _mu(row: Row, given: Given) -> float | None:
    name = Path(row.file).name
    told = _fitting(given.mu, name)
    if told is None:
        told = facts.named_pile_up(name)
    return told if told is not None else row.printed.mu


def _fitting(values: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - a value of whichever mapping
    return next((value for pattern, value in values.items() if fnmatch(name, pattern)), None)
