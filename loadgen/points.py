"""Log and rows -> the points table: one row a measured point, with its verdict.

The same code serves while a run goes on, at its end, and after a crash.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import polars as pl

from loadgen import balance, checks, measure, slo
from loadgen.estimate import PERCENTS, Estimate
from loadgen.kserve import Statistics
from loadgen.measure import Durations, Measurement, Stages
from loadgen.plan import ClosedLoop, Load, OpenLoop
from loadgen.pointlog import PointLog, Target, is_closed, load_words
from loadgen.records import Outcome, Rows
from loadgen.verdict import Case, verdict

COUNT_COLUMNS = (
    "completed",
    "failed",
    "unsent",
    "server_success",
    "server_fail",
    "point_requests",
    "point_ok",
    "point_server_success",
)
STAGE_COLUMNS = ("request", "queue", "compute_input", "compute_infer", "compute_output")


def percent_name(percent: float) -> str:
    """Return a percentile's name in columns: `p99`, `p99_9`."""
    return f"p{percent:g}".replace(".", "_")


def duration_columns(kind: str, percents: Sequence[float] = PERCENTS) -> dict[str, pl.DataType]:
    """Return the columns of `service` or `response`: moments, percentiles, and limits of the 95 % intervals."""
    moments = ("mean", "std", "min", "max")
    names = [percent_name(percent) for percent in percents]
    limits = [f"{name}_{limit}" for name in ("mean", *names) for limit in ("low", "high")]
    return {f"{kind}_{name}_ns": pl.Float64() for name in (*moments, *names, *limits)}


SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "repeat": pl.UInt32(),
    "load": pl.String(),
    "load_words": pl.String(),
    "concurrency": pl.UInt32(),
    "rate_per_s": pl.Float64(),
    "model": pl.String(),
    "server": pl.String(),
    "inputs": pl.String(),
    "simulated": pl.Boolean(),
    "instances": pl.UInt32(),
    "begun_ns": pl.Int64(),
    "window_start_ns": pl.Int64(),
    "window_end_ns": pl.Int64(),
    "completed": pl.UInt64(),
    "failed": pl.UInt64(),
    "arrived": pl.UInt64(),
    "unsent": pl.UInt64(),
    "throughput_per_s": pl.Float64(),
    "throughput_low_per_s": pl.Float64(),
    "throughput_high_per_s": pl.Float64(),
    **duration_columns("service"),
    **duration_columns("response"),
    "slo": pl.String(),
    "goodput_per_s": pl.Float64(),
    "goodput_low_per_s": pl.Float64(),
    "goodput_high_per_s": pl.Float64(),
    "p99_effective": pl.Float64(),
    "correlation": pl.Float64(),
    "throughput_drift": pl.Float64(),
    "mean_drift": pl.Float64(),
    "send_lag_p50_ns": pl.Float64(),
    "send_lag_p99_ns": pl.Float64(),
    "loop_lag_p99_ns": pl.Float64(),
    "client_send_ns": pl.Float64(),
    "client_recv_ns": pl.Float64(),
    "client_cpu": pl.Float64(),
    "in_flight_mean": pl.Float64(),
    "in_flight_cut": pl.Float64(),
    "little_residual_ns": pl.Int64(),
    "server_success": pl.UInt64(),
    "server_fail": pl.UInt64(),
    **{f"server_{name}_ns": pl.Float64() for name in STAGE_COLUMNS},
    "network_ns": pl.Float64(),
    "server_busy": pl.Float64(),
    "server_mean_batch": pl.Float64(),
    "server_cache_hits": pl.UInt64(),
    "point_requests": pl.UInt64(),
    "point_ok": pl.UInt64(),
    "point_server_success": pl.UInt64(),
    "verdict": pl.String(),
    "reason": pl.String(),
    "checks": pl.String(),
}


Row = dict[str, Any]


def point_row(log: PointLog, rows: Rows, target: Target) -> Row:
    """Measure one point and judge it; the keys are those of `SCHEMA`, and of percentiles asked for besides."""
    log = balance.trusted(log)
    percents = (*PERCENTS, *(percent for percent in log.percents if percent not in PERCENTS))
    measurement = measure.measure(rows, log.window, percents)
    row: Row = dict.fromkeys(SCHEMA)
    row |= _load_columns(log.load) | {
        "point": log.point,
        "repeat": log.repeat,
        "model": target.model,
        "server": target.server,
        "inputs": target.inputs,
        "simulated": target.simulated,
        "instances": target.instances,
        "begun_ns": log.begun_ns,
        "window_start_ns": log.window.start_ns,
        "window_end_ns": log.window.end_ns,
        "completed": measurement.completed,
        "failed": measurement.failed,
        "arrived": measurement.arrived,
        "unsent": measurement.unsent,
        "throughput_per_s": measurement.throughput_per_s.value,
        "throughput_low_per_s": measurement.throughput_per_s.low,
        "throughput_high_per_s": measurement.throughput_per_s.high,
        "send_lag_p50_ns": measurement.send_lag_p50_ns,
        "send_lag_p99_ns": measurement.send_lag_p99_ns,
        "loop_lag_p99_ns": log.client.loop_lag_p99_ns,
        "client_send_ns": measurement.client_send_ns,
        "client_recv_ns": measurement.client_recv_ns,
        "client_cpu": log.client.cpu,
        "in_flight_mean": measurement.in_flight_mean,
        "in_flight_cut": measurement.in_flight_cut,
        "little_residual_ns": _little_residual_ns(log, rows),
        "point_requests": len(rows),
        "point_ok": int((rows["outcome"] == Outcome.OK).sum()),
        "point_server_success": _delta(log.started, log.drained, lambda reading: reading.success_count),
    }
    row |= _duration_figures("service", measurement.service) | _duration_figures("response", measurement.response)
    row |= _goodput(log, rows)
    row |= _certainty(measurement.service)
    row |= _stage_columns(_stages(log.opened, log.closed, target.instances), measurement)
    row["verdict"], row["reason"] = verdict(Case(log, row, rows, measurement, target.calibration))
    row["checks"] = checks.in_words(row, log.unavailable, len(log.drained.replicas) if log.drained else 0)
    return row


COMPOSING_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "model": pl.String(),
    "success": pl.UInt64(),
    "fail": pl.UInt64(),
    **{f"{name}_ns": pl.Float64() for name in STAGE_COLUMNS},
    "mean_batch": pl.Float64(),
    "cache_hits": pl.UInt64(),
}


def composing_rows(log: PointLog) -> list[Row]:
    """Return what each model that the served one calls did in a point's window; keys as `COMPOSING_SCHEMA`."""
    rows, log = [], balance.trusted(log)
    for model in log.closed.composing if log.opened and log.closed else ():
        assert log.opened is not None
        assert log.closed is not None
        before = log.opened.composing.get(model)
        found = measure.stages(before, log.closed.composing[model], None) if before else None
        if found is not None:
            figures = {name: getattr(found, name) for name in COMPOSING_SCHEMA if name not in {"point", "model"}}
            rows.append({"point": log.point, "model": model, **figures})
    return rows


def model_rows(log: PointLog, rows: Rows, target: Target, models: Sequence[str]) -> list[Row]:
    """Measure each model's part of a point that several share; `models` names the model of each body.

    The verdict is that of the whole point.
    """
    whole, of_body, found = point_row(log, rows, target), np.array(models), []
    for model in dict.fromkeys(models):
        part = replace(
            log,
            started=_part(log.started, model),
            opened=_part(log.opened, model),
            closed=_part(log.closed, model),
            drained=_part(log.drained, model),
            in_flight_ns=None,
            bodies=models.count(model),
        )
        alone = replace(target, model=model, instances=None, calibration=None)
        row = point_row(part, rows[of_body[rows["body"]] == model], alone)
        found.append(row | {name: whole[name] for name in ("verdict", "reason")})
    return found


def _part(reading: Statistics | None, model: str) -> Statistics | None:
    return reading.parts.get(model) if reading else None


def table(rows: Iterable[Row]) -> pl.DataFrame:
    """Return rows as the typed points table."""
    rows = list(rows)
    asked = {name: pl.Float64() for row in rows for name in row if name not in SCHEMA}
    return pl.DataFrame(rows, schema={**SCHEMA, **asked})


def _stages(opened: Statistics | None, closed: Statistics | None, instances: int | None) -> Stages | None:
    if opened is None or closed is None:
        return None
    # The configuration says how many instances one server has.
    return measure.stages(opened, closed, instances * max(1, len(closed.replicas)) if instances else None)


def _delta(before: Statistics | None, after: Statistics | None, figure: Callable[[Statistics], int]) -> int | None:
    return figure(after) - figure(before) if before and after else None


def _load_columns(load: Load) -> Row:
    return {
        "load": msgspec.to_builtins(load)["kind"],
        "load_words": load_words(load),
        "concurrency": load.concurrency if isinstance(load, ClosedLoop) else None,
        "rate_per_s": load.rate_per_s if isinstance(load, OpenLoop) else None,
    }


def _little_residual_ns(log: PointLog, rows: Rows) -> int | None:
    return None if log.in_flight_ns is None else measure.service_sum_ns(rows) - log.in_flight_ns


def _duration_figures(kind: str, durations: Durations | None) -> Row:
    if durations is None:
        return {}
    figures: Row = {
        f"{kind}_std_ns": durations.std_ns,
        f"{kind}_min_ns": durations.min_ns,
        f"{kind}_max_ns": durations.max_ns,
    }
    mean = durations.found.mean_ns
    assert mean is not None
    known = {"mean": mean} | {percent_name(percent): one for percent, one in durations.found.percentiles_ns.items()}
    for name, one in known.items():
        figures |= {
            f"{kind}_{name}_ns": one.value,
            f"{kind}_{name}_low_ns": one.low,
            f"{kind}_{name}_high_ns": one.high,
        }
    return figures


def _goodput(log: PointLog, rows: Rows) -> Row:
    if not log.slo:
        return {}
    objective = slo.parse(log.slo)
    found = measure.goodput(rows, log.window, objective.since(closed=is_closed(log.load)), objective.limit_ns)
    return {
        "slo": objective.text,
        "goodput_per_s": found.value,
        "goodput_low_per_s": found.low,
        "goodput_high_per_s": found.high,
    }


def _certainty(service: Durations | None) -> Row:
    if service is None:
        return {}
    found = service.found
    p99: Estimate = found.percentiles_ns[99.0]
    has_intervals = found.batches is not None
    return {
        "p99_effective": p99.effective,
        "correlation": found.correlation if has_intervals else None,
        "throughput_drift": found.throughput_trend.change if has_intervals else None,
        "mean_drift": found.mean_trend.change if has_intervals else None,
    }


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
        "server_mean_batch": stages.mean_batch,
        "server_cache_hits": stages.cache_hits,
        "network_ns": service.found.mean_ns.value - in_stages_ns if service and service.found.mean_ns else None,
    }
