"""What a point is worth, in one word with its reason: faults first, then how steady and how sure it is."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadgen import checks, measure, steady
from loadgen.calibration import Calibration
from loadgen.clock import NS_PER_MS
from loadgen.estimate import Cut
from loadgen.measure import Measurement
from loadgen.plan import ClosedLoop, OpenLoop
from loadgen.pointlog import PointLog, is_closed
from loadgen.records import Outcome, Rows
from loadgen.steady import Judgement, Look

FAILED_SHARE_LIMIT = 0.01
IN_FLIGHT_SHARE_LIMIT = 0.97
SEND_LAG_LIMIT_NS, SEND_LAG_SHARE = 5 * NS_PER_MS, 0.05
LOOP_LAG_SHARE = 0.10
CEILING_SHARE = 0.8
FLOORS_IN_MEDIAN = 20
"""A median shorter than so many of the client's own shows the client too."""

CLIENT_CPU_LIMIT = 0.8
"""Share of a core from which the client's own queueing shows in the latencies of a closed loop."""

USABLE = (*steady.STEADY, steady.VARYING.status)
"""Verdicts of points whose numbers may be used."""


Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """All that a verdict is found from."""

    log: PointLog
    row: Row
    rows: Rows
    measurement: Measurement
    calibration: Calibration | None = None

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
    for fault in (_failing, _records_disagree, _rescaled, _server_disagrees, _overloaded, _client_limited):
        found = fault(case)
        if found is not None:
            return found
    judged = _judged(case)
    return judged.status, "; ".join([judged.reason, *_remarks(case)])


def _failing(case: Case) -> tuple[str, str] | None:
    ended, failed, load = case.ended, case.measurement.failed, case.log.load
    # A slot whose request failed rests: few failures may leave most slots empty.
    rested = isinstance(load, ClosedLoop) and case.row["in_flight_mean"] < IN_FLIGHT_SHARE_LIMIT * load.concurrency
    if failed <= FAILED_SHARE_LIMIT * len(ended) and not (failed and rested):
        return None
    return "failing", f"{failed} of {len(ended)} requests failed: {failure_words(ended)}"


def _records_disagree(case: Case) -> tuple[str, str] | None:
    residual_ns = case.row["little_residual_ns"]
    if not residual_ns:
        fails = checks.little_fails(case.row)
        return ("records_disagree", fails) if fails else None
    off = f"{residual_ns / 1e6:.3g} ms off the worker's own count of requests in flight"
    return "records_disagree", f"the rows' service times are {off}: a row is lost or stamped twice"


def _rescaled(case: Case) -> tuple[str, str] | None:
    ready = case.log.pods_ready
    if len(set(ready)) < 2:  # noqa: PLR2004 - a change needs two
        return None
    return "drifting", f"pods that are ready went {' to '.join(map(str, ready))} in the window: no one system"


def _server_disagrees(case: Case) -> tuple[str, str] | None:
    counted, answered = case.row["point_server_success"], case.answered
    if counted is not None and counted != answered:
        foreign = f"{counted - answered} of other clients?"
        cause = foreign if counted > answered else f"{answered - counted} elsewhere, behind a load balancer?"
        return "server_disagrees", f"the server counts {counted} successes, the client {answered}: {cause}"
    exceeding = checks.stages_exceed(case.row)
    return ("server_disagrees", exceeding) if exceeding else None


def _overloaded(case: Case) -> tuple[str, str] | None:
    if is_closed(case.log.load):
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
    ceiling = case.calibration.ceiling_per_s if case.calibration else math.inf
    if row["throughput_per_s"] > CEILING_SHARE * ceiling:
        share = f"{row['throughput_per_s'] / ceiling:.0%} of the {ceiling:,.0f}/s"
        return f"throughput is {share} that this client reaches against a server that answers at once"
    # With one slot no reply can be waiting to be seen while the loop is busy sending.
    alone = isinstance(load, ClosedLoop) and load.concurrency == 1
    lag_ns = 0.0 if alone else row["loop_lag_p99_ns"] or 0.0
    if lag_ns > LOOP_LAG_SHARE * p50_ns > 0:
        return f"the client's event loop was late by {lag_ns / 1e6:.3g} ms (p99), p50 is {p50_ns / 1e6:.3g} ms"
    return None


def _judged(case: Case) -> Judgement:
    """Look at the record again as the run did: at its end, and one look before."""
    log = case.log
    if not isinstance(log.load, ClosedLoop | OpenLoop):
        return steady.VARYING
    good = case.rows[case.rows["outcome"] == Outcome.OK]
    headline = "sent_ns" if is_closed(log.load) else "due_ns"
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


def _remarks(case: Case) -> list[str]:
    said, row = [], case.row
    if case.log.interrupted:
        said.append("interrupted: the window was cut short")
    if case.measurement.service is not None:
        said += steady.remarks(case.measurement.service.found, case.log.bodies)
    p50_ns = row["service_p50_ns"]
    if case.calibration and p50_ns and p50_ns < FLOORS_IN_MEDIAN * case.calibration.floor_ns:
        floor_us = case.calibration.floor_ns / 1000
        said.append(f"about {floor_us:.0f} us of the {p50_ns / 1000:.0f} us (p50) are the client's own")
    said += [f"the forward to {what} was broken for a while" for what in sorted(set(case.log.gaps))]
    if row["failed"]:
        said.append(f"{row['failed']} requests failed: {failure_words(case.ended)}")
    if case.log.unavailable:
        said.append(f"server statistics are not available: {case.log.unavailable}")
    elif row["point_server_success"] is None:
        said.append("the server's own counts are not known")
    return said
