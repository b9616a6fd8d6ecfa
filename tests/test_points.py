"""From log and rows to the points table: verdicts with their reasons, and the same table after a crash."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from loadgen import pointlog, points, steady
from loadgen.kserve import Statistics
from loadgen.measure import Window
from loadgen.plan import ClosedLoop, OpenLoop
from loadgen.pointlog import Client, PointLog, Target
from loadgen.records import ROW, Outcome, Rows

TARGET = Target("traccc-gpu", "triton 2.51.0", "replay of 3 cells files", simulated=False, instances=2)
SERVICE_NS = 10_000
ZERO = Statistics(0, 0, "1", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def constant_rows(concurrency: int, rounds: int, outcome: Outcome = Outcome.OK) -> Rows:
    """Return a closed loop of constant service time from 1 on."""
    rows = np.zeros(concurrency * rounds, dtype=ROW)
    starts = np.repeat(np.arange(rounds) * SERVICE_NS + 1, concurrency)
    rows["due_ns"] = rows["sent_ns"] = starts
    rows["done_ns"] = starts + SERVICE_NS
    rows["outcome"] = outcome
    return rows


def point(concurrency: int = 2, rounds: int = 500, success: int | None = None, **changes: Any) -> PointLog:
    """Return the log of a point whose server counted `success` requests (None: what was sent)."""
    window = Window(1, rounds * SERVICE_NS + 2)
    sent = concurrency * rounds
    counted = replace(ZERO, read_ns=window.end_ns, success_count=sent if success is None else success)
    facts = {"opened": ZERO, "closed": counted, "started": ZERO, "drained": counted} | changes
    return PointLog(1, ClosedLoop(concurrency), window, 1, **facts)


def judged(log: PointLog, rows: Rows) -> tuple[str, str]:
    """Return verdict and reason."""
    row = points.point_row(log, rows, TARGET)
    return row["verdict"], row["reason"]


def test_a_point_in_order_is_converged() -> None:
    """Counts agree, every slot was busy, nothing failed, all is steady and precise: the verdict says so."""
    verdict, reason = judged(point(), constant_rows(2, 500))
    assert verdict == "converged"
    assert reason.startswith("steady; throughput +-")


def test_a_point_that_slows_down_is_drifting() -> None:
    """Service times that grow by a fifth over the window are no steady state, and the figures are kept."""
    rows = constant_rows(1, 1000)
    grown = (SERVICE_NS * np.linspace(1, 1.2, 1000)).astype(np.int64)
    rows["done_ns"] = np.cumsum(grown) + 1
    rows["due_ns"] = rows["sent_ns"] = rows["done_ns"] - grown
    window = Window(1, int(rows["done_ns"][-1]) + 1)
    log = replace(point(1, success=1000), window=window)
    row = points.point_row(log, rows, TARGET)
    assert row["verdict"] == "drifting"
    assert "mean latency +1" in row["reason"]
    assert row["service_p50_ns"] == pytest.approx(1.1 * SERVICE_NS, rel=0.01)


def test_a_lost_row_is_found_by_littles_identity() -> None:
    """The worker's integral of requests in flight must equal the service times of the rows, to the nanosecond."""
    rows = constant_rows(2, 500)
    held = 1000 * SERVICE_NS
    assert judged(point(in_flight_ns=held), rows)[0] == "converged"
    assert judged(point(in_flight_ns=held, success=999), rows[1:])[0] == "records_disagree"


def open_rows(rate: int, capacity: int, seconds: int) -> Rows:
    """Return an open loop of `rate` requests a second on a server that ends `capacity` a second, in milliseconds."""
    rows = np.zeros(rate * seconds, dtype=ROW)
    rows["due_ns"] = rows["sent_ns"] = 1 + np.arange(len(rows)) * 10**9 // rate
    ends = np.maximum(rows["sent_ns"] + 10**6, 1 + (np.arange(len(rows)) + 1) * 10**9 // capacity)
    rows["done_ns"], rows["outcome"] = ends, Outcome.OK
    return rows


def test_more_than_the_server_can_do_is_overloaded() -> None:
    """An open loop above capacity has no steady latency: it is called overloaded, and unsent requests too."""
    rows = open_rows(100, 80, 20)
    log = PointLog(1, OpenLoop(100.0), Window(1, 20 * 10**9), 1, None, None, None, None)
    assert points.point_row(log, rows, TARGET)["verdict"] == "overloaded"
    fine = points.point_row(log, open_rows(100, 200, 20), TARGET)
    assert fine["verdict"] in steady.STEADY
    rows = open_rows(100, 200, 20)
    rows["sent_ns"][5] = rows["done_ns"][5] = 0
    rows["outcome"][5] = Outcome.UNSENT
    row = points.point_row(log, rows, TARGET)
    assert (row["verdict"], row["unsent"]) == ("overloaded", 1)


def test_a_point_over_which_an_autoscaler_changed_the_pods_is_no_steady_state() -> None:
    """However even its numbers; the same number of pods all along is none of its business."""
    rows = constant_rows(2, 500)
    assert judged(point(pods_ready=(2,)), rows)[0] == "converged"
    verdict, reason = judged(point(pods_ready=(1, 3)), rows)
    assert (verdict, reason) == ("drifting", "pods that are ready went 1 to 3 in the window: no one system")


def test_what_befell_the_forwards_is_told_of_the_window_that_it_befell() -> None:
    """Pods: the count when the window opened, and changes within; gaps that reach into it."""
    counts = {10: 1, 50: 2, 150: 3, 250: 4}
    ready = [{"event": "pods_ready", "at_ns": at_ns, "ready": pods} for at_ns, pods in counts.items()]
    gaps = [{"event": "gap", "at_ns": end, "start_ns": end - 20, "what": f"to-{end}"} for end in (90, 110, 210, 300)]
    started = {"load": {"kind": "closed_loop", "concurrency": 1}, "repeat": 1, "begun_ns": 60}
    started |= {"asked": {}, "percents": [], "bodies": 1}
    point_events = [
        {"event": "point_started", "at_ns": 60, "point": 1, **started},
        {"event": "window_opened", "at_ns": 100, "point": 1},
        {"event": "window_closed", "at_ns": 200, "point": 1},
    ]
    (log,) = pointlog.point_logs([*ready, *gaps, *point_events])
    assert (log.pods_ready, log.gaps) == ((2, 3), ("to-110", "to-210"))


def test_late_sends_are_the_clients_fault() -> None:
    """An open loop whose requests leave late measures the client."""
    rows = open_rows(100, 200, 20)
    rows["due_ns"] -= 6_000_000
    log = PointLog(1, OpenLoop(100.0), Window(1, 20 * 10**9), 1, None, None, None, None)
    verdict, reason = points.point_row(log, rows, TARGET)["verdict"], points.point_row(log, rows, TARGET)["reason"]
    assert verdict == "client_limited"
    assert "send lag p99 6 ms" in reason


def test_a_busy_client_is_seen() -> None:
    """A loop that wakes late against the latencies, or a core that is used up, limits the load."""
    late = Client(loop_lag_p99_ns=0.2 * SERVICE_NS, cpu=0.1)
    assert judged(point(client=late), constant_rows(2, 500))[0] == "client_limited"
    busy = Client(loop_lag_p99_ns=0.0, cpu=0.95)
    assert judged(point(client=busy), constant_rows(2, 500))[0] == "client_limited"


def test_failures_are_named_and_counted() -> None:
    """More than one request in a hundred failed: the point fails, with the outcomes in words."""
    rows = constant_rows(2, 500)
    rows["outcome"][:13] = Outcome.GRPC_UNAVAILABLE
    rows["outcome"][13] = Outcome.TIMEOUT
    assert judged(point(success=996), rows) == (
        "failing",
        "14 of 1000 requests failed: grpc_unavailable 13, timeout 1",
    )


@pytest.mark.parametrize(("success", "cause"), [(1001, "other clients?"), (999, "load balancer?")])
def test_one_request_more_or_less_on_the_server_is_seen(success: int, cause: str) -> None:
    """The server's own counter must equal our count of the drained point exactly."""
    verdict, reason = judged(point(success=success), constant_rows(2, 500))
    assert verdict == "server_disagrees"
    assert str(success) in reason
    assert cause in reason


def test_idle_slots_are_the_clients_fault() -> None:
    """Fewer requests in flight than asked: the client limited the load."""
    verdict, reason = judged(point(concurrency=3, success=1000), constant_rows(2, 500))
    assert verdict == "client_limited"
    assert "2 requests in flight of 3 asked" in reason


def test_without_statistics_the_stages_are_missing_not_zero() -> None:
    """A server that keeps no statistics gives nulls, and the reason says so."""
    bare = point(opened=None, closed=None, started=None, drained=None)
    row = points.point_row(bare, constant_rows(2, 500), TARGET)
    assert row["verdict"] == "converged"
    assert "own counts are not known" in row["reason"]
    assert all(row[name] is None for name in ("server_queue_ns", "network_ns", "server_busy", "server_success"))


def test_few_requests_and_a_cut_window_are_said() -> None:
    """What weakens a figure stands in its reason."""
    _, reason = judged(point(rounds=3, interrupted=True), constant_rows(2, 3))
    assert "6 requests completed: intervals need 80" in reason
    assert "cut short" in reason


def test_the_network_is_what_the_stages_leave() -> None:
    """Mean service time = the four stages + network, exactly."""
    after = replace(
        ZERO,
        read_ns=10,
        success_count=100,
        queue_ns=100_000,
        compute_input_ns=1000,
        compute_infer_ns=500_000,
        compute_output_ns=2000,
    )
    row = points.point_row(point(closed=after, drained=after), constant_rows(2, 500), TARGET)
    stages = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(row[f"server_{stage}_ns"] for stage in stages) + row["network_ns"] == row["service_mean_ns"]


def test_the_log_gives_the_same_points() -> None:
    """Points read back from the log's events are the points that were measured."""
    log = point(percents=(99.5,), bodies=7, looks=(5, 9), repeat=3, in_flight_ns=12, client=Client(1.0, 0.5))
    started = {
        "begun_ns": 1,
        "load": {"kind": "closed_loop", "concurrency": 2},
        "repeat": 3,
        "percents": [99.5],
        "bodies": 7,
        "asked": {"kind": "precision"},
    }
    closed = {"looks": [5, 9], "client": {"loop_lag_p99_ns": 1.0, "cpu": 0.5}, "fixed": True}
    events: list[dict[str, Any]] = [
        {"event": "run_started", "at_ns": 1, "utc_ns": 2},
        {"event": "target", "at_ns": 1, "target": asdict(TARGET)},
        {"event": "point_started", "at_ns": 1, "point": 1, "statistics": asdict(ZERO), **started},
        {"event": "window_opened", "at_ns": log.window.start_ns, "point": 1, "statistics": asdict(ZERO)},
        {"event": "failure", "at_ns": 2, "point": 1, "outcome": "timeout", "details": ""},
        {"event": "window_closed", "at_ns": log.window.end_ns, "point": 1, "statistics": asdict(log.closed or ZERO)}
        | closed,
        {"event": "point_drained", "at_ns": 9**9, "point": 1, "statistics": asdict(log.drained or ZERO)}
        | {"in_flight_ns": 12},
        {"event": "point_started", "at_ns": 1, "point": 2, "statistics": None, **started},
    ]
    assert pointlog.point_logs(events) == [log]
    assert pointlog.target_of(events) == TARGET


def test_the_table_is_typed_even_when_all_is_missing() -> None:
    """A row of nothing but nulls has the columns and types of any other."""
    table = points.table([dict.fromkeys(points.SCHEMA)])
    assert dict(table.schema) == points.SCHEMA
