"""The checks of a point: what they compare, what they allow, and that a fault marks the verdict."""

from dataclasses import replace

import numpy as np
import pytest
from test_points import TARGET, ZERO, constant_rows, point

from loadgen import checks, points

SERVICE_NS = 10_000


def test_every_check_is_there_with_its_figures() -> None:
    """A point that is well: counts equal, books equal, Little within its bound."""
    row = points.point_row(point(), constant_rows(2, 500), TARGET)
    assert row["checks"].startswith("server 1000 = 1000; ")
    assert "Little +0.0" in row["checks"]
    assert "send lag p99 0 ms" in row["checks"]
    found = checks.little(row)
    assert found is not None
    assert abs(found[0]) <= found[1]


@pytest.mark.parametrize(("success", "words"), [(1002, "2 of other clients?"), (999, "1 elsewhere")])
def test_foreign_and_missing_requests_are_counted(success: int, words: str) -> None:
    """How many the server knows of that are not ours, or that it does not know of."""
    row = points.point_row(point(success=success), constant_rows(2, 500), TARGET)
    assert row["verdict"] == "server_disagrees"
    assert words in row["reason"]
    assert f"server {success} ≠ 1000" in row["checks"]


@pytest.mark.parametrize(("queue_ns", "disagrees"), [(SERVICE_NS // 2, False), (SERVICE_NS + 300_000, True)])
def test_a_server_that_claims_more_time_than_passed_disagrees(queue_ns: int, disagrees: bool) -> None:
    """Queue and compute cannot take longer than we waited."""
    log = point()
    closed = replace(log.closed or ZERO, queue_ns=1000 * queue_ns)
    row = points.point_row(replace(log, closed=closed), constant_rows(2, 500), TARGET)
    assert (row["verdict"] == "server_disagrees") == disagrees
    assert ("queue and compute add up" in row["reason"]) == disagrees


def test_few_requests_may_differ_by_those_at_the_edges() -> None:
    """Of 8 requests with 2 in flight, the server may count two more long ones at either edge; of 1,000 it may not."""
    row = points.point_row(point(), constant_rows(2, 500), TARGET)
    longer = {"service_mean_ns": 10e6, "network_ns": -3e6, "in_flight_mean": 2.0}
    assert checks.stages_exceed(row | longer | {"completed": 8}) is None
    assert checks.stages_exceed(row | longer | {"completed": 1000}) is not None


def test_what_cannot_be_checked_is_said() -> None:
    """Without the server's statistics."""
    log = replace(point(), opened=None, closed=None, started=None, drained=None)
    row = points.point_row(log, constant_rows(2, 500), TARGET)
    assert "server's counts not known" in row["checks"]
    assert "stages not known" in row["checks"]


def test_a_request_that_an_edge_cuts_is_allowed_for() -> None:
    """One that is held up beyond the window's end is in flight and not in the mean: by as much the law may differ."""
    rows = constant_rows(2, 500)
    late = rows[-1:].copy()
    window = point().window
    late["due_ns"] = late["sent_ns"] = window.start_ns + window.length_ns // 2
    late["done_ns"] = window.end_ns + window.length_ns
    log = replace(point(), in_flight_ns=None)
    row = points.point_row(log, np.concatenate([rows, late]), TARGET)
    found = checks.little(row)
    assert found is not None
    assert -0.26 < found[0] < -0.15
    assert abs(found[0]) <= found[1]
    assert row["verdict"] != "records_disagree"


def test_little_that_fails_marks_the_point() -> None:
    """Times that do not fit the requests in flight: the point is marked, with both figures."""
    row = points.point_row(point(), constant_rows(2, 500), TARGET)
    assert checks.little_fails(row) is None
    assert checks.little_fails(row | {"in_flight_mean": 3.0}) is not None
    assert "3 were in flight" in str(checks.little_fails(row | {"in_flight_mean": 3.0}))
