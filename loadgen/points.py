"""Log and rows -> the points table: one row a measured point, with its verdict.

The same code serves while a run goes on, at its end, and after a crash.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from loadgen import measure
from loadgen.kserve import Statistics
from loadgen.measure import Measurement, Spread, Stages, Window
from loadgen.records import Outcome, Rows

FAILED_SHARE_LIMIT = 0.01
IN_FLIGHT_SHARE_LIMIT = 0.97
FEW_REQUESTS = 20

COUNT_COLUMNS = (
    "completed",
    "failed",
    "server_success",
    "server_fail",
    "point_requests",
    "point_ok",
    "point_server_success",
)
SERVICE_COLUMNS = ("mean", "std", "p50", "p90", "p95", "p99", "min", "max")
RESPONSE_COLUMNS = ("mean", "p50", "p90", "p95", "p99")
STAGE_COLUMNS = ("request", "queue", "compute_input", "compute_infer", "compute_output")

SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "load": pl.String(),
    "concurrency": pl.UInt32(),
    "model": pl.String(),
    "server": pl.String(),
    "inputs": pl.String(),
    "simulated": pl.Boolean(),
    "instances": pl.UInt32(),
    "window_start_ns": pl.Int64(),
    "window_end_ns": pl.Int64(),
    "completed": pl.UInt64(),
    "failed": pl.UInt64(),
    "throughput_per_s": pl.Float64(),
    **{f"service_{name}_ns": pl.Float64() for name in SERVICE_COLUMNS},
    **{f"response_{name}_ns": pl.Float64() for name in RESPONSE_COLUMNS},
    "send_lag_p99_ns": pl.Float64(),
    "in_flight_mean": pl.Float64(),
    "server_success": pl.UInt64(),
    "server_fail": pl.UInt64(),
    **{f"server_{name}_ns": pl.Float64() for name in STAGE_COLUMNS},
    "network_ns": pl.Float64(),
    "server_busy": pl.Float64(),
    "point_requests": pl.UInt64(),
    "point_ok": pl.UInt64(),
    "point_server_success": pl.UInt64(),
    "verdict": pl.String(),
    "reason": pl.String(),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What every point of a run has in common, in the words of the tables."""

    model: str
    server: str
    inputs: str
    simulated: bool
    instances: int | None


@dataclass(frozen=True, slots=True)
class PointLog:
    """One point as the log tells it; a reading is None where the server keeps no statistics."""

    point: int
    concurrency: int
    window: Window
    opened: Statistics | None
    closed: Statistics | None
    started: Statistics | None
    drained: Statistics | None
    interrupted: bool = False


Row = dict[str, Any]


def point_row(log: PointLog, rows: Rows, target: Target) -> Row:
    """Measure one point and judge it; the keys are those of `SCHEMA`."""
    measurement = measure.measure(rows, log.window)
    stages = _stages(log.opened, log.closed, target.instances)
    row: Row = dict.fromkeys(SCHEMA)
    row |= {
        "point": log.point,
        "load": "closed_loop",
        "concurrency": log.concurrency,
        "model": target.model,
        "server": target.server,
        "inputs": target.inputs,
        "simulated": target.simulated,
        "instances": target.instances,
        "window_start_ns": log.window.start_ns,
        "window_end_ns": log.window.end_ns,
        "completed": measurement.completed,
        "failed": measurement.failed,
        "throughput_per_s": measurement.throughput_per_s,
        "send_lag_p99_ns": measurement.send_lag_p99_ns,
        "in_flight_mean": measurement.in_flight_mean,
        "point_requests": len(rows),
        "point_ok": int((rows["outcome"] == Outcome.OK).sum()),
        "point_server_success": _delta(log.started, log.drained, lambda reading: reading.success_count),
    }
    row |= _spread_columns("service", SERVICE_COLUMNS, measurement.service)
    row |= _spread_columns("response", RESPONSE_COLUMNS, measurement.response)
    row |= _stage_columns(stages, measurement)
    ended = measure.ended_in(rows, log.window)
    answered = int(np.isin(rows["outcome"], (Outcome.OK, Outcome.WRONG_ANSWER)).sum())
    row["verdict"], row["reason"] = verdict(row, ended, answered, interrupted=log.interrupted)
    return row


def table(rows: Iterable[Row]) -> pl.DataFrame:
    """Return rows as the typed points table."""
    return pl.DataFrame(list(rows), schema=SCHEMA)


def verdict(row: Row, ended: Rows, answered: int, *, interrupted: bool) -> tuple[str, str]:
    """Judge a point from its row, what ended in its window and the answers of the whole point, and say why.

    The first thing that is wrong names the verdict; `measured` means that nothing was.
    """
    if row["failed"] > FAILED_SHARE_LIMIT * len(ended):
        return "failing", f"{row['failed']} of {len(ended)} requests failed: {failure_words(ended)}"
    counted = row["point_server_success"]
    if counted is not None and counted != answered:
        cause = "other clients?" if counted > answered else "behind a load balancer?"
        return "server_disagrees", f"the server counts {counted} successes, the client {answered}: {cause}"
    if row["in_flight_mean"] < IN_FLIGHT_SHARE_LIMIT * row["concurrency"]:
        return "client_limited", f"{row['in_flight_mean']:.3g} requests in flight of {row['concurrency']} asked"
    return "measured", _remarks(row, ended, interrupted=interrupted)


def failure_words(rows: Rows) -> str:
    """Count failures by outcome: `grpc_unavailable 3, timeout 1`."""
    counts = Counter(int(code) for code in rows["outcome"] if code not in {Outcome.OK, Outcome.OPEN_AT_END})
    return ", ".join(f"{Outcome(code).label} {count}" for code, count in counts.most_common())


def point_logs(events: Iterable[dict[str, Any]]) -> list[PointLog]:
    """Gather the points that have a whole window from a run's log."""
    return [log for events_of_point in _by_point(events).values() if (log := _point_log(events_of_point))]


def target_of(events: Iterable[dict[str, Any]]) -> Target:
    """Read the target back from a run's log."""
    facts = next((event["target"] for event in events if event["event"] == "target"), None)
    return msgspec.convert(facts, Target) if facts else Target("", "", "", simulated=False, instances=None)


def _by_point(events: Iterable[dict[str, Any]]) -> dict[int, dict[str, dict[str, Any]]]:
    points: dict[int, dict[str, dict[str, Any]]] = {}
    for event in events:
        if event.get("point"):
            points.setdefault(event["point"], {})[event["event"]] = event
    return points


def _point_log(events: dict[str, dict[str, Any]]) -> PointLog | None:
    if "window_closed" not in events:
        return None
    readings = {
        name: _reading(events.get(name))
        for name in ("point_started", "window_opened", "window_closed", "point_drained")
    }
    return PointLog(
        point=events["point_started"]["point"],
        concurrency=events["point_started"]["concurrency"],
        window=Window(events["window_opened"]["at_ns"], events["window_closed"]["at_ns"]),
        started=readings["point_started"],
        opened=readings["window_opened"],
        closed=readings["window_closed"],
        drained=readings["point_drained"],
        interrupted=events["window_closed"].get("interrupted", False),
    )


def _reading(event: dict[str, Any] | None) -> Statistics | None:
    facts = event.get("statistics") if event else None
    return msgspec.convert(facts, Statistics) if facts else None


def _stages(opened: Statistics | None, closed: Statistics | None, instances: int | None) -> Stages | None:
    return measure.stages(opened, closed, instances) if opened and closed else None


def _delta(before: Statistics | None, after: Statistics | None, figure: Callable[[Statistics], int]) -> int | None:
    return figure(after) - figure(before) if before and after else None


def _spread_columns(prefix: str, names: Iterable[str], spread: Spread | None) -> Row:
    return {f"{prefix}_{name}_ns": getattr(spread, f"{name}_ns", None) for name in names}


def _stage_columns(stages: Stages | None, measurement: Measurement) -> Row:
    if stages is None:
        return {}
    columns: Row = {f"server_{name}_ns": getattr(stages, f"{name}_ns") for name in STAGE_COLUMNS}
    in_stages_ns = sum(columns[f"server_{name}_ns"] for name in STAGE_COLUMNS if name != "request")
    service = measurement.service
    return columns | {
        "server_success": stages.success,
        "server_fail": stages.fail,
        "server_busy": stages.busy,
        "network_ns": service.mean_ns - in_stages_ns if service else None,
    }


def _remarks(row: Row, ended: Rows, *, interrupted: bool) -> str:
    remarks = []
    if interrupted:
        remarks.append("interrupted: the window was cut short")
    if row["completed"] < FEW_REQUESTS:
        remarks.append(f"only {row['completed']} requests completed in the window: lengthen it with -p")
    if row["failed"]:
        remarks.append(f"{row['failed']} requests failed: {failure_words(ended)}")
    if row["point_server_success"] is None:
        remarks.append("the server's own counts are not known")
    return "; ".join(remarks) or "every answer accounted for; steadiness is not judged"
