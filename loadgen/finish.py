"""Log, journal and samples -> a sealed run: how every run ends, and how a crashed one is rescued."""

import shutil

import msgspec
import numpy as np
import polars as pl

from loadgen import atomic, corpus, environment, journal, pointlog, points, replicas, seal, steady
from loadgen.errors import LoadgenError, PlanError
from loadgen.estimate import REQUESTS_MIN
from loadgen.pointlog import PointLog
from loadgen.records import Outcome, Rows
from loadgen.rundir import EventLog, Manifest, RunDirectory, is_alive, read_log


def finish(run: RunDirectory, log: EventLog, ended: str, reason: str) -> Manifest:
    """Close what is open, write every table and, last, the manifest; then drop what the tables replace.

    Raises:
        FleetError: the disk refuses it; nothing is removed, and it can be done again later.
    """
    _close_open_windows(run, log)
    log.event("run_ended", ended=ended, reason=reason)
    events = read_log(run.log)
    table = measured_points(run)
    seal.write_parquet(table, run.points)
    models = measured_models(run)
    if not models.is_empty():
        seal.write_parquet(models, run.models)
    composing = [row for log_of in pointlog.point_logs(events) for row in points.composing_rows(log_of)]
    if composing:
        seal.write_parquet(pl.DataFrame(composing, schema=points.COMPOSING_SCHEMA), run.composing)
    _write_replicas(run, pointlog.point_logs(events))
    seal.seal_answers(run)
    started = next(event for event in events if event["event"] == "run_started")
    manifest = Manifest(
        name=run.path.name,
        started_utc_ns=started["utc_ns"],
        started_at_ns=started["at_ns"],
        ended_at_ns=events[-1]["at_ns"],
        ended=ended,
        reason=reason,
        points=table.height,
        rows=seal.seal_rows(run),
        samples=seal.seal_samples(run),
        loadgen_version=environment.version(),
    )
    atomic.write(run.manifest, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    _drop_replaced(run)
    return manifest


def _write_replicas(run: RunDirectory, logs: list[PointLog]) -> None:
    table = replicas.rows(logs, pl.read_parquet(run.prometheus, glob=False) if run.prometheus.exists() else None)
    if not table.is_empty():
        seal.write_parquet(table, run.replicas)


def measured_points(run: RunDirectory) -> pl.DataFrame:
    """Measure every point of the log from its rows in the journal."""
    events = read_log(run.log)
    target = pointlog.target_of(events)
    logs = pointlog.point_logs(events)
    return points.table(points.point_row(log, journal.read_point(run.journal, log.point), target) for log in logs)


def measured_models(run: RunDirectory) -> pl.DataFrame:
    """Measure each model's part of every point; no rows where there is one model, or the corpus is not known."""
    models = [body.model for body in corpus.read_index(run.corpus_index).bodies] if run.corpus_index.exists() else []
    if len(set(models)) < 2:  # noqa: PLR2004 - a mix
        return points.table([])
    events = read_log(run.log)
    target, rows = pointlog.target_of(events), []
    for log in pointlog.point_logs(events):
        rows += points.model_rows(log, journal.read_point(run.journal, log.point), target, models)
    return points.table(rows)


def rescue(run: RunDirectory) -> Manifest:
    """Seal a run that ended without; its last, open window ends with the last reply seen in it.

    Raises:
        PlanError: no run directory, one that is still being written, or one that never started.
    """
    if not run.log.exists():
        raise PlanError(f"{run.path}: is not a run directory (it has no log.jsonl)")
    if is_alive(run):
        raise PlanError(f"{run.path}: is still running; stop it first (Ctrl-C seals it)")
    if not any(event["event"] == "run_started" for event in read_log(run.log)):
        raise PlanError(f"{run.path}: ended before its first request; there is nothing to seal")
    log = EventLog(run)
    try:
        return finish(run, log, "rescued", "the run ended without sealing")
    finally:
        log.close()


def unsealed_advice(run: RunDirectory, error: LoadgenError) -> str:
    """Say what to do when sealing failed."""
    return f"{error}; nothing is lost: when that is mended, `python -m loadgen seal {run.path}`"


def _close_open_windows(run: RunDirectory, log: EventLog) -> None:
    events = read_log(run.log)
    opened = {event["point"] for event in events if event["event"] == "window_opened"}
    closed = {event["point"] for event in events if event["event"] == "window_closed"}
    for point in sorted(opened - closed):
        rows = journal.read_point(run.journal, point)
        start_ns = next(e["at_ns"] for e in events if e["event"] == "window_opened" and e["point"] == point)
        end_ns = max(start_ns, _last_reply_ns(rows)) + 1
        log.event("window_closed", end_ns, point=point, interrupted=True)
    started = {event["point"]: event["begun_ns"] for event in events if event["event"] == "point_started"}
    for point in sorted(started.keys() - opened):
        _find_window(run, log, point, started[point])


def _find_window(run: RunDirectory, log: EventLog, point: int, begun_ns: int) -> None:
    """Give a point that was cut off before its window was chosen the window that its rows allow, if any."""
    rows = journal.read_point(run.journal, point)
    good = rows[rows["outcome"] == Outcome.OK]
    if len(good) < REQUESTS_MIN:
        return
    end_ns = _last_reply_ns(rows) + 1
    found = steady.look(good["done_ns"], good["done_ns"] - good["sent_ns"], begun_ns, end_ns)
    log.event("window_opened", found.cut.at_ns, point=point)
    log.event("window_closed", end_ns, point=point, interrupted=True, fixed=False, looks=[end_ns])


def _last_reply_ns(rows: Rows) -> int:
    return int(np.max(rows["done_ns"], initial=0))


def _drop_replaced(run: RunDirectory) -> None:
    shutil.rmtree(run.journal)
    run.samples_log.unlink()
    if not (run.plan.exists() and msgspec.json.decode(run.plan.read_bytes()).get("keep_corpus")):
        run.corpus.unlink(missing_ok=True)
    for errors in run.path.glob("worker*.stderr"):
        if errors.stat().st_size == 0:
            errors.unlink()
