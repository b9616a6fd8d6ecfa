"""What the client can do at best: measured against what takes no time, kept, and held against later runs."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from test_points import TARGET, constant_rows, point
from typer.testing import CliRunner

from loadgen import calibrate, calibration, points
from loadgen.calibration import Calibration, Client
from loadgen.cli import app
from loadgen.errors import PlanError

ME = Client("here")
FOUND = Calibration("here", "direct", 1, 1, 1000, 100_000.0, 50_000.0, 32, 30.0, 10.0, 7.0, "0.1.0", 1)


def test_a_run_is_held_against_the_nearest_size_of_the_same_client() -> None:
    """Another host, another transport, or requests more than four times as large say nothing."""
    large = msgspec.structs.replace(FOUND, request_bytes=3000)
    assert calibration.nearest([FOUND, large], ME, 2500) is large
    assert calibration.nearest([FOUND, large], ME, 900) is FOUND
    assert calibration.nearest([FOUND, large], ME, 12_001) is None
    assert calibration.nearest([FOUND], Client("there"), 1000) is None
    assert calibration.nearest([FOUND], ME._replace(transport="grpcio"), 1000) is None
    assert calibration.nearest([FOUND], ME._replace(workers=2), 1000) is None


def test_a_newer_calibration_takes_the_place_of_its_elder(tmp_path: Path) -> None:
    """One of each client and size is kept; a damaged file is as none."""
    path = tmp_path / "cache" / "calibration.json"
    newer = msgspec.structs.replace(FOUND, ceiling_per_s=60_000.0)
    other = msgspec.structs.replace(FOUND, request_bytes=9)
    for each in (FOUND, other, newer):
        calibration.keep(path, each)
    assert calibration.read(path) == [other, newer]
    path.write_text("[")
    assert calibration.read(path) == []


def test_a_point_near_the_ceiling_is_the_clients() -> None:
    """At more than 80 % of what the client can do the verdict is not the server's; below, it is."""
    log, rows = point(), constant_rows(2, 500)
    throughput = points.point_row(log, rows, TARGET)["throughput_per_s"]
    for share, limited in ((0.75, False), (0.85, True)):
        known = msgspec.structs.replace(FOUND, ceiling_per_s=throughput / share, floor_ns=1.0)
        row = points.point_row(log, rows, replace(TARGET, calibration=known))
        assert (row["verdict"] == "client_limited") == limited
        assert ("reaches against a server that answers at once" in row["reason"]) == limited


def test_a_short_median_is_said_to_hold_the_client_too() -> None:
    """Below 20 times the client's own floor; nothing is said of longer ones."""
    log, rows = point(), constant_rows(2, 500)
    for floor_ns, said in ((1000.0, True), (400.0, False)):
        known = msgspec.structs.replace(FOUND, ceiling_per_s=1e9, floor_ns=floor_ns)
        reason = points.point_row(log, rows, replace(TARGET, calibration=known))["reason"]
        assert ("are the client's own" in reason) == said


def test_two_workers_are_measured_against_a_server_that_answers_at_once(tmp_path: Path) -> None:
    """Every figure is there and plausible: more at once than one at a time, and the transport costs something."""
    payload = calibrate.made_payload(tmp_path, 1000)
    found = asyncio.run(calibrate.calibrate(ME._replace(workers=2), payload, 0.5))
    assert found.ceiling_per_s > 1e9 / found.floor_ns
    assert 0 < found.null_cpu_us < found.cpu_alone_us
    assert (found.workers, found.request_bytes) == (2, 1000)


def test_the_command_keeps_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON on request; a later read finds it."""
    monkeypatch.setattr(calibration, "default_path", lambda: tmp_path / "kept.json")
    done = CliRunner().invoke(app, ["calibrate", "--request-bytes", "500", "--seconds", "0.5", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["request_bytes"] == 500
    assert [each.request_bytes for each in calibration.read(tmp_path / "kept.json")] == [500]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """One line names it."""
    with pytest.raises(PlanError, match="is not a run directory"):
        calibrate.mean_request_bytes(tmp_path)
