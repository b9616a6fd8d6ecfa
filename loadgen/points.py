"""Log and rows -> the points table: one row a measured point, with its verdict.

The same code serves while a run goes on, at its end, and after a crash.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import polars as pl

from loadgen import measure, steady
from loadgen.clock import NS_PER_MS
from loadgen.estimate import PERCENTS, Cut, Estimate
from loadgen.kserve import Statistics
from loadgen.measure import Durations, Measurement, Stages, Window
from loadgen.plan import ByPrecision, ClosedLoop, ConcurrencySteps, Load, OpenLoop, Profile
from loadgen.records import Outcome, Rows
from loadgen.steady import Judgement, Look

FAILED_SHARE_LIMIT = 0.01
IN_FLIGHT_SHARE_LIMIT = 0.97
SEND_LAG_LIMIT_NS, SEND_LAG_SHARE = 5 * NS_PER_MS, 0.05
LOOP_LAG_SHARE = 0.10
CLIENT_CPU_LIMIT = 0.8
"""Share of a core from which the client's own queueing shows in the latencies of a closed loop."""

USABLE = (*steady.STEADY, steady.VARYING.status)
"""Verdicts of points whose numbers may be used."""

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
    "p99_effective": pl.Float64(),
    "correlation": pl.Float64(),
    "throughput_drift": pl.Float64(),
    "mean_drift": pl.Float64(),
    "send_lag_p50_ns": pl.Float64(),
    "send_lag_p99_ns": pl.Float64(),
    "loop_lag_p99_ns": pl.Float64(),
    "client_cpu": pl.Float64(),
    "in_flight_mean": pl.Float64(),
    "little_residual_ns": pl.Int64(),
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


class Client(msgspec.Struct, frozen=True):
    """What the load cost the client in the window; None where it was not seen."""

    loop_lag_p99_ns: float | None = None
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class PointLog:
    """One point as the log tells it; a reading is None where the server keeps no statistics.

    `looks` are the times at which the record was looked at, the last the end of the window; `fixed` says that the
    window's start was asked for, not found. `in_flight_ns` is the worker's own book of the whole point.
    """

    point: int
    load: Load
    window: Window
    begun_ns: int
    opened: Statistics | None
    closed: Statistics | None
    started: Statistics | None
    drained: Statistics | None
    repeat: int = 1
    looks: tuple[int, ...] = ()
    fixed: bool = True
    interrupted: bool = False
    in_flight_ns: int | None = None
    client: Client = field(default_factory=Client)
    asked: ByPrecision = field(default_factory=ByPrecision)
    percents: tuple[float, ...] = ()
    bodies: int = 0


Row = dict[str, Any]


def point_row(log: PointLog, rows: Rows, target: Target) -> Row:
    """Measure one point and judge it; the keys are those of `SCHEMA`, and of percentiles asked for besides."""
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
        "client_cpu": log.client.cpu,
        "in_flight_mean": measurement.in_flight_mean,
        "little_residual_ns": _little_residual_ns(log, rows),
        "point_requests": len(rows),
        "point_ok": int((rows["outcome"] == Outcome.OK).sum()),
        "point_server_success": _delta(log.started, log.drained, lambda reading: reading.success_count),
    }
    row |= _duration_figures("service", measurement.service) | _duration_figures("response", measurement.response)
    row |= _certainty(measurement.service)
    row |= _stage_columns(_stages(log.opened, log.closed, target.instances), measurement)
    row["verdict"], row["reason"] = verdict(Case(log, row, rows, measurement))
    return row


def table(rows: Iterable[Row]) -> pl.DataFrame:
    """Return rows as the typed points table."""
    rows = list(rows)
    asked = {name: pl.Float64() for row in rows for name in row if name not in SCHEMA}
    return pl.DataFrame(rows, schema={**SCHEMA, **asked})


@dataclass(frozen=True, slots=True)
class Case:
    """All that a verdict is found from."""

    log: PointLog
    row: Row
    rows: Rows
    measurement: Measurement

    @property
    def ended(self) -> Rows:
        """What ended in the window."""
        return measure.ended_in(self.rows, self.log.window)

    @property
    def answered(self) -> int:
        """Answers of the whole point, right or wrong."""
        return int(np.isin(self.rows["outcome"], (Outcome.OK, Outcome.WRONG_ANSWER)).sum())


def verdict(case: Case) -> tuple[str, str]:
    """Judge a point and say why: the first fault names it; without one, how steady and how sure it is."""
    for fault in (_failing, _records_disagree, _server_disagrees, _overloaded, _client_limited):
        found = fault(case)
        if found is not None:
            return found
    judged = _judged(case)
    return judged.status, "; ".join([judged.reason, *_remarks(case)])


def _failing(case: Case) -> tuple[str, str] | None:
    ended, failed = case.ended, case.measurement.failed
    if failed <= FAILED_SHARE_LIMIT * len(ended):
        return None
    return "failing", f"{failed} of {len(ended)} requests failed: {failure_words(ended)}"


def _records_disagree(case: Case) -> tuple[str, str] | None:
    residual_ns = case.row["little_residual_ns"]
    if not residual_ns:
        return None
    off = f"{residual_ns / 1e6:.3g} ms off the worker's own count of requests in flight"
    return "records_disagree", f"the rows' service times are {off}: a row is lost or stamped twice"


def _server_disagrees(case: Case) -> tuple[str, str] | None:
    counted, answered = case.row["point_server_success"], case.answered
    if counted is None or counted == answered:
        return None
    cause = "other clients?" if counted > answered else "behind a load balancer?"
    return "server_disagrees", f"the server counts {counted} successes, the client {answered}: {cause}"


def _overloaded(case: Case) -> tuple[str, str] | None:
    if isinstance(case.log.load, ClosedLoop | ConcurrencySteps):
        return None
    measured = case.measurement
    if measured.unsent:
        return "overloaded", f"{measured.unsent} of {measured.arrived} requests were not sent: too many in flight"
    why = steady.overload(measured.arrived, measured.completed + measured.failed, measured.in_flight)
    return ("overloaded", why) if why else None


def _client_limited(case: Case) -> tuple[str, str] | None:
    why = _client_words(case)
    return ("client_limited", why) if why else None


def _client_words(case: Case) -> str | None:
    row, load = case.row, case.log.load
    p50_ns = row["service_p50_ns"] or 0.0
    if isinstance(load, ClosedLoop):
        if row["in_flight_mean"] < IN_FLIGHT_SHARE_LIMIT * load.concurrency:
            return f"{row['in_flight_mean']:.3g} requests in flight of {load.concurrency} asked"
        if (row["client_cpu"] or 0.0) > CLIENT_CPU_LIMIT:
            return f"the client used {row['client_cpu']:.0%} of its core"
    elif (row["send_lag_p99_ns"] or 0.0) > max(SEND_LAG_LIMIT_NS, SEND_LAG_SHARE * p50_ns):
        return f"requests left late: send lag p99 {row['send_lag_p99_ns'] / 1e6:.3g} ms"
    lag_ns = row["loop_lag_p99_ns"] or 0.0
    if lag_ns > LOOP_LAG_SHARE * p50_ns > 0:
        return f"the client's event loop was late by {lag_ns / 1e6:.3g} ms (p99), p50 is {p50_ns / 1e6:.3g} ms"
    return None


def _judged(case: Case) -> Judgement:
    """Look at the record again as the run did: at its end, and one look before."""
    log = case.log
    if not isinstance(log.load, ClosedLoop | OpenLoop):
        return steady.VARYING
    good = case.rows[case.rows["outcome"] == Outcome.OK]
    headline = "sent_ns" if isinstance(log.load, ClosedLoop | ConcurrencySteps) else "due_ns"
    done_ns, durations_ns = good["done_ns"], good["done_ns"] - good[headline]
    cut = Cut(log.window.start_ns, at_bound=False)
    if log.fixed:
        earlier_ns = log.window.start_ns + round(log.window.length_ns / steady.LOOK_GROWTH)
        looks = [
            steady.look(done_ns, durations_ns, log.begun_ns, at_ns, cut) for at_ns in (earlier_ns, log.window.end_ns)
        ]
        return steady.judge(looks[1], looks[0], log.asked)
    found = steady.look(done_ns, durations_ns, log.begun_ns, log.window.end_ns)
    last = steady.look(done_ns, durations_ns, log.begun_ns, log.window.end_ns, Cut(cut.at_ns, found.cut.at_bound))
    before: Look | None = None
    if len(log.looks) > 1:
        before = steady.look(done_ns, durations_ns, log.begun_ns, log.looks[-2])
    return steady.judge(last, before, log.asked)


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
    started, closed = events["point_started"], events["window_closed"]
    readings = {
        name: _reading(events.get(name))
        for name in ("point_started", "window_opened", "window_closed", "point_drained")
    }
    return PointLog(
        point=started["point"],
        load=msgspec.convert(started["load"], Load),
        repeat=started["repeat"],
        window=Window(events["window_opened"]["at_ns"], closed["at_ns"]),
        begun_ns=started["begun_ns"],
        started=readings["point_started"],
        opened=readings["window_opened"],
        closed=readings["window_closed"],
        drained=readings["point_drained"],
        looks=tuple(closed.get("looks", ())),
        fixed=closed.get("fixed", True),
        interrupted=closed.get("interrupted", False),
        in_flight_ns=events.get("point_drained", {}).get("in_flight_ns"),
        client=msgspec.convert(closed.get("client", {}), Client),
        asked=msgspec.convert(started["asked"], ByPrecision),
        percents=tuple(started["percents"]),
        bodies=started["bodies"],
    )


def _reading(event: dict[str, Any] | None) -> Statistics | None:
    facts = event.get("statistics") if event else None
    return msgspec.convert(facts, Statistics) if facts else None


def _stages(opened: Statistics | None, closed: Statistics | None, instances: int | None) -> Stages | None:
    return measure.stages(opened, closed, instances) if opened and closed else None


def _delta(before: Statistics | None, after: Statistics | None, figure: Callable[[Statistics], int]) -> int | None:
    return figure(after) - figure(before) if before and after else None


def load_words(load: Load) -> str:
    """Return a load in a few words, for tables and charts."""
    match load:
        case ClosedLoop(concurrency):
            return f"concurrency {concurrency}"
        case ConcurrencySteps(levels):
            return "concurrency " + ", ".join(f"{level} for {seconds:g} s" for level, seconds in levels)
        case OpenLoop(rate, arrivals, cv):
            return f"{rate:g}/s {arrivals}" + (f" cv {cv:g}" if arrivals == "gamma" else "")
        case Profile(segments):
            parts = [f"{each.from_per_s:g} to {each.to_per_s:g}/s in {each.duration_s:g} s" for each in segments[:3]]
            return f"profile {', '.join(parts)}{', ...' if len(segments) > len(parts) else ''}"
        case replay:
            return f"replay of {replay.path.rsplit('/', 1)[-1]} at {replay.speed:g} times its speed"


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
        "network_ns": service.found.mean_ns.value - in_stages_ns if service and service.found.mean_ns else None,
    }


def _remarks(case: Case) -> list[str]:
    said, row = [], case.row
    if case.log.interrupted:
        said.append("interrupted: the window was cut short")
    if case.measurement.service is not None:
        said += steady.remarks(case.measurement.service.found, case.log.bodies)
    if row["failed"]:
        said.append(f"{row['failed']} requests failed: {failure_words(case.ended)}")
    if row["point_server_success"] is None:
        said.append("the server's own counts are not known")
    return said
