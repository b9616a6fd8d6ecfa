"""Journal and samples -> typed Parquet; the same code ends a run and rescues a crashed one."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from loadgen import atomic, journal, kept, tracks
from loadgen.errors import FleetError
from loadgen.records import TIMES, Outcome, Rows
from loadgen.rundir import RunDirectory, read_samples

ANSWER_FACTS = ("point", "worker", "seq", "body", "done_ns")
KEPT_SCHEMA = {"body": pl.UInt32(), "digest": pl.UInt64(), "tracks": pl.UInt32()}

SAMPLES_SCHEMA = {
    "at_ns": pl.Int64(),
    "source": pl.String(),
    "metric": pl.String(),
    "labels": pl.String(),
    "value": pl.Float64(),
}


def seal_rows(run: RunDirectory) -> int:
    """Write the journal as Parquet, a file a segment; return how many rows there are.

    Raises:
        FleetError: the disk refuses it; the journal is untouched.
    """
    run.records.mkdir(exist_ok=True)
    total = 0
    for segment in journal.segments(run.journal):
        rows = journal.read_segment(segment)
        write_parquet(frame(rows), run.records / f"{segment.stem}.parquet")
        total += len(rows)
    return total


def seal_answers(run: RunDirectory) -> None:
    """Write the digests of answers as Parquet, a file a segment, with the tracks of those that were kept whole.

    Raises:
        FleetError: the disk refuses it; the journal is untouched.
    """
    segments = [each for each in journal.segments(run.journal) if journal.digests_of(each).exists()]
    if segments:
        atomic.make_folder(run.answers)
    known = _kept_tracks(run)
    for segment in segments:
        table = answers_frame(journal.read_segment(segment), journal.read_digests(segment))
        table = table.join(known, on=["body", "digest"], how="left", maintain_order="left")
        write_parquet(table, run.answers / f"{segment.stem}.parquet")


def answers_frame(rows: Rows, digests: npt.NDArray[np.uint64]) -> pl.DataFrame:
    """Return one row an answer: those of `rows` that were answered, with their digests; null where it was lost."""
    answered = np.isin(rows["outcome"], (Outcome.OK, Outcome.WRONG_ANSWER))
    table = pl.DataFrame({name: np.ascontiguousarray(rows[name][answered]) for name in ANSWER_FACTS})
    missing = np.zeros(max(0, len(rows) - len(digests)), "<u8")
    column = pl.Series("digest", np.concatenate((digests[: len(rows)], missing))[answered], pl.UInt64)
    return table.with_columns(column.replace(0, None))


def _kept_tracks(run: RunDirectory) -> pl.DataFrame:
    found = []
    for path in kept.files(run.answers):
        body, number = kept.parsed(path)
        found.append((body, number, tracks.decode(path.read_bytes()).tracks))
    return pl.DataFrame(found, schema=KEPT_SCHEMA, orient="row")


def seal_samples(run: RunDirectory) -> int:
    """Write the samples as Parquet; return how many there are.

    Raises:
        FleetError: the disk refuses it.
    """
    samples = read_samples(run.samples_log)
    columns = {name: [getattr(sample, name) for sample in samples] for name in SAMPLES_SCHEMA}
    write_parquet(pl.DataFrame(columns, schema=SAMPLES_SCHEMA), run.samples)
    return len(samples)


def frame(rows: Rows) -> pl.DataFrame:
    """Return journal rows as the typed table of requests: names for outcomes, null for what never happened."""
    names = [name for name in rows.dtype.names or () if name != "reserved"]
    table = pl.DataFrame({name: np.ascontiguousarray(rows[name]) for name in names})
    labels = {int(outcome): outcome.label for outcome in Outcome}
    return table.with_columns(
        pl.col("outcome").replace_strict(labels, return_dtype=pl.String()),
        *(pl.when(pl.col(name) != 0).then(pl.col(name)).alias(name) for name in TIMES),
    )


def write_parquet(table: pl.DataFrame, path: Path) -> None:
    """Write a table whole, and read it back to be sure that it has all its rows.

    Raises:
        FleetError: the disk refuses it.
    """
    content = io.BytesIO()
    table.write_parquet(content)
    atomic.write(path, content.getvalue())
    written = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    if written != table.height:
        raise FleetError(f"{path}: holds {written} rows of {table.height}; the journal is kept")
