"""From log and rows to the points table: verdicts with their reasons, and the same table after a crash."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from loadgen import points
from loadgen.kserve import Statistics
from loadgen.measure import Window
from loadgen.points import PointLog, Target
from loadgen.records import ROW, Outcome, Rows

TARGET = Target("traccc-gpu", "triton 2.51.0", "replay of 3 cells files", simulated=False, instances=2)
SERVICE_NS = 10_000
ZERO = Statistics(0, 0, "1", *([0] * 10))


def constant_rows(concurrency: int, rounds: int, outcome: Outcome = Outcome.OK) -> Rows:
    """Return a closed loop of constant service time from 1 on."""
    rows = np.zeros(concurrency * rounds, dtype=ROW)
    starts = np.repeat(np.arange(rounds) * SERVICE_NS + 1, concurrency)
    rows["due_ns"] = rows["sent_ns"] = starts
    rows["done_ns"] = starts + SERVICE_NS
    rows["outcome"] = outcome
    return rows


def point(concurrency: int = 2, rounds: int = 50, success: int | None = None, **changes: Any) -> PointLog:
    """Return the log of a point whose server counted `success` requests (None: what was sent)."""
    window = Window(1, rounds * SERVICE_NS + 2)
    sent = concurrency * rounds
    counted = replace(ZERO, read_ns=window.end_ns, success_count=sent if success is None else success)
    facts = {"opened": ZERO, "closed": counted, "started": ZERO, "drained": counted} | changes
    return PointLog(1, concurrency, window, **facts)


def judged(log: PointLog, rows: Rows) -> tuple[str, str]:
    """Return verdict and reason."""
    row = points.point_row(log, rows, TARGET)
    return row["verdict"], row["reason"]


def test_a_point_in_order_is_measured() -> None:
    """Counts agree, every slot was busy, nothing failed: the verdict finds nothing wrong and claims no more."""
    verdict, reason = judged(point(), constant_rows(2, 50))
    assert verdict == "measured"
    assert "steadiness is not judged" in reason


def test_failures_are_named_and_counted() -> None:
    """More than one request in a hundred failed: the point fails, with the outcomes in words."""
    rows = constant_rows(2, 50)
    rows["outcome"][:3] = Outcome.GRPC_UNAVAILABLE
    rows["outcome"][3] = Outcome.TIMEOUT
    assert judged(point(success=96), rows) == (
        "failing",
        "4 of 100 requests failed: grpc_unavailable 3, timeout 1",
    )


@pytest.mark.parametrize(("success", "cause"), [(101, "other clients?"), (99, "load balancer?")])
def test_one_request_more_or_less_on_the_server_is_seen(success: int, cause: str) -> None:
    """The server's own counter must equal our count of the drained point exactly."""
    verdict, reason = judged(point(success=success), constant_rows(2, 50))
    assert verdict == "server_disagrees"
    assert str(success) in reason
    assert cause in reason


def test_idle_slots_are_the_clients_fault() -> None:
    """Fewer requests in flight than asked: the client limited the load."""
    verdict, reason = judged(point(concurrency=3, success=100), constant_rows(2, 50))
    assert verdict == "client_limited"
    assert "2 requests in flight of 3 asked" in reason


def test_without_statistics_the_stages_are_missing_not_zero() -> None:
    """A server that keeps no statistics gives nulls, and the reason says so."""
    bare = point(opened=None, closed=None, started=None, drained=None)
    row = points.point_row(bare, constant_rows(2, 50), TARGET)
    assert row["verdict"] == "measured"
    assert "own counts are not known" in row["reason"]
    assert all(row[name] is None for name in ("server_queue_ns", "network_ns", "server_busy", "server_success"))


def test_few_requests_and_a_cut_window_are_said() -> None:
    """What weakens a figure stands in its reason."""
    _, reason = judged(point(rounds=3, interrupted=True), constant_rows(2, 3))
    assert "only 6 requests" in reason
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
    row = points.point_row(point(closed=after, drained=after), constant_rows(2, 50), TARGET)
    stages = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(row[f"server_{stage}_ns"] for stage in stages) + row["network_ns"] == row["service_mean_ns"]


def test_the_log_gives_the_same_points() -> None:
    """Points read back from the log's events are the points that were measured."""
    log = point()
    events: list[dict[str, Any]] = [
        {"event": "run_started", "at_ns": 1, "utc_ns": 2},
        {"event": "target", "at_ns": 1, "target": asdict(TARGET)},
        {"event": "point_started", "at_ns": 1, "point": 1, "concurrency": 2, "statistics": asdict(ZERO)},
        {"event": "window_opened", "at_ns": log.window.start_ns, "point": 1, "statistics": asdict(ZERO)},
        {"event": "failure", "at_ns": 2, "point": 1, "outcome": "timeout", "details": ""},
        {"event": "window_closed", "at_ns": log.window.end_ns, "point": 1, "statistics": asdict(log.closed or ZERO)},
        {"event": "point_drained", "at_ns": 9**9, "point": 1, "statistics": asdict(log.drained or ZERO)},
        {"event": "point_started", "at_ns": 1, "point": 2, "concurrency": 4, "statistics": None},
    ]
    assert points.point_logs(events) == [log]
    assert points.target_of(events) == TARGET


def test_the_table_is_typed_even_when_all_is_missing() -> None:
    """A row of nothing but nulls has the columns and types of any other."""
    table = points.table([dict.fromkeys(points.SCHEMA)])
    assert dict(table.schema) == points.SCHEMA
