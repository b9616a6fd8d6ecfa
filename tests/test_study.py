"""A study goes on where it ended, however that was; a stub stands for the servers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import psutil
import pytest
from test_cli import serving
from test_standalone import throughput_log

from analysis.perf_analyzer import load
from loadgen import clock, study_layout, study_plan
from loadgen import study as studying
from loadgen.errors import PlanError
from loadgen.plan import ByTime, Synthetic
from loadgen.progress import Quiet
from loadgen.server.simulated import RunningStub, StubConfig
from loadgen.study_plan import InputSet, Remote, Study, cells

WINDOW_MS = 400
FAST = StubConfig(base_ns=5_000_000, per_cell_ns=0)


@pytest.fixture(scope="module")
def stub() -> Iterator[RunningStub]:
    """Return a stub that all tests of this module may load."""
    with serving(FAST) as running:
        yield running


def command(folder: Path, stub: RunningStub, *more: str) -> list[str]:
    """Return the command line of a study of eight points: one server, two pile-ups, two levels, two takes."""
    options = [
        "-u",
        f"stub={stub.grpc}",
        "--metrics-url",
        stub.metrics_url or "",
        "--mu",
        "0.05,0.1",
        "--events",
        "3",
    ]
    options += ["--concurrency-range", "1:2", "--takes", "2", "-p", str(WINDOW_MS), "--warmup-ms", "100"]
    return [sys.executable, "-m", "loadgen", "study", str(folder), *options, *more]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=False)


def measured(folder: Path) -> Counter[tuple[str, str, int]]:
    """Count the points of a study that were not cut off, by take, inputs and concurrency."""
    points = pl.read_parquet(folder / "points.parquet").filter(~pl.col("verdict").is_in(["interrupted"]))
    return Counter(points.select("take", "inputs", "concurrency").iter_rows())


def sealed(folder: Path) -> int:
    """Return how many runs of a study are sealed."""
    return len(list(folder.glob("runs/*/manifest.json")))


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    """Wait until something is so, or the process has ended."""
    while not condition() and process.poll() is None:
        time.sleep(0.02)


def test_a_study_killed_twice_is_finished_with_every_point_once(stub: RunningStub, tmp_path: Path) -> None:
    """Kill -9 in the midst of a run, twice; the same command finishes: the whole grid, no point twice, no row lost.

    What had been recorded of a point that was cut off stays, marked, beside the one measured in its place.
    """
    folder = tmp_path / "scan"
    before = stub.served
    for runs in (1, 2):
        process = subprocess.Popen(command(folder, stub), stdout=subprocess.DEVNULL)
        wait_for(lambda runs=runs: sealed(folder) >= runs and list(folder.glob("runs/*/journal/*")), process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
    done = call(*command(folder, stub))
    assert done.returncode == 0, done.stderr
    assert "8 points in the grid, 8 measured" in done.stdout
    assert set(measured(folder).values()) == {1}
    assert len(measured(folder)) == 8
    rows = sum(json.loads(path.read_bytes())["rows"] for path in folder.glob("runs/*/manifest.json"))
    assert rows == stub.served - before + _never_answered(folder)


def _never_answered(folder: Path) -> int:
    rows = pl.concat([pl.read_parquet(path) for path in folder.glob("runs/*/records/*.parquet")])
    return rows.filter(pl.col("done_ns").is_null()).height


def test_a_finished_study_measures_nothing_again(stub: RunningStub, tmp_path: Path) -> None:
    """The folder alone is enough to go on, and there is nothing left to do; further takes are."""
    folder = tmp_path / "scan"
    assert call(*command(folder, stub, "--time-budget", "60s")).returncode == 0
    served = stub.served
    page = folder / "report.html"
    first = page.read_text()
    again = call(sys.executable, "-m", "loadgen", "study", str(folder))
    assert again.returncode == 0
    assert f"report: {page}" in again.stdout
    assert "The grid is complete: 8 points asked, all measured." in first
    assert "8 points in the grid, 8 measured" in again.stdout
    assert stub.served == served
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "traccc_throughput_cuda_odd_mu20.log").write_text(throughput_log(new=True, event_ms=50.0, mu=20))
    beside = call(sys.executable, "-m", "loadgen", "study", str(folder), "--standalone", str(logs))
    assert beside.returncode == 0, beside.stderr
    assert "Standalone programs" in page.read_text()
    assert stub.served == served
    more = call(sys.executable, "-m", "loadgen", "study", str(folder), "--takes", "3")
    assert "12 points in the grid, 12 measured" in more.stdout
    assert len(measured(folder)) == 12


class EndsTime(Quiet):
    """Sees to it that the time is over once a point has been measured."""

    going: studying.Going

    def point_measured(self, row: dict[str, Any]) -> None:
        """Let no further point begin."""
        self.going.last_start_ns = clock.now_ns()


def test_a_time_budget_ends_between_points(stub: RunningStub, tmp_path: Path) -> None:
    """No point begins after it, and the one that was begun is whole: of a run of two points one is done."""
    observer = EndsTime()
    study = Study(
        "traccc-gpu",
        (Remote(stub.grpc, "stub", (stub.metrics_url or "",)),),
        (InputSet("mu0.05", Synthetic(0.05, 3), 0.05),),
        concurrency=(1, 2),
        stopping=ByTime(WINDOW_MS, 100),
    )
    observer.going = studying.Going(study, tmp_path, observer, asyncio.Event(), clock.now_ns() + 60 * clock.NS_PER_S)
    studying.keep(study, tmp_path)
    asyncio.run(studying._measure(observer.going))
    assert len(studying.done(tmp_path)) == 1
    assert "interrupted" not in set(studying.write_points(tmp_path)["verdict"])


def test_a_budget_that_is_over_says_how_to_finish(stub: RunningStub, tmp_path: Path) -> None:
    """Exit code 7, what is missing, and the command that goes on."""
    folder = tmp_path / "scan"
    done = call(*command(folder, stub, "--time-budget", "0.01s"))
    assert done.returncode == 7
    assert f"to finish it: python -m loadgen study {folder}" in done.stdout
    assert "8 points in the grid, 0 measured" in done.stdout
    assert not (folder / "report.html").exists()
    assert "missing: stub, mu0.1: 4 points" in done.stdout


def test_sigterm_drains_and_seals(stub: RunningStub, tmp_path: Path) -> None:
    """The batch system's signal: what is in flight is awaited, the run sealed; no process of ours is left.

    The window that it cut short counts as not measured: going on measures that point whole.
    """
    folder = tmp_path / "scan"
    process = subprocess.Popen(command(folder, stub), stdout=subprocess.PIPE)
    wait_for(lambda: _in_a_window(folder), process)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"to finish it" in said
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert all((path / "manifest.json").exists() for path in folder.glob("runs/*/"))
    assert _never_answered(folder) == 0
    assert sum(event.get("interrupted", False) for event in _events(folder, "window_closed")) == 1
    assert call(*command(folder, stub)).returncode == 0
    points = pl.read_parquet(folder / "points.parquet")
    whole = points.filter(pl.col("window_end_ns") - pl.col("window_start_ns") >= WINDOW_MS * 1_000_000)
    assert (points.height, whole.select("take", "inputs", "concurrency").n_unique()) == (9, 8)
    assert sum(pl.read_csv(path).height for path in study_layout.write(folder)) == 8


def _events(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = [line for path in folder.glob("runs/*/log.jsonl") for line in path.read_text().splitlines()]
    whole = (json.loads(line) for line in lines if line.endswith("}"))  # the last may be half written
    return [event for event in whole if event["event"] == name]


def _in_a_window(folder: Path) -> bool:
    """Say whether a run after the first has just opened a window."""
    return sealed(folder) >= 1 and len(_events(folder, "window_opened")) > len(_events(folder, "window_closed"))


def test_a_failed_configuration_does_not_cost_the_rest(stub: RunningStub, tmp_path: Path) -> None:
    """One server cannot be reached: it is told and kept, the other is measured, exit code 3."""
    folder = tmp_path / "scan"
    done = call(*command(folder, stub, "-u", "away=127.0.0.1:9"))
    assert done.returncode == 3
    assert len(measured(folder)) == 8
    assert "missing: away, mu0.05: 4 points" in done.stdout
    failures = [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]
    assert {failure["server"] for failure in failures} == {"away"}


def test_another_study_in_the_same_folder_is_refused(stub: RunningStub, tmp_path: Path) -> None:
    """A grid that differs is another study: one line, exit code 2, nothing touched."""
    folder = tmp_path / "scan"
    assert call(*command(folder, stub, "--time-budget", "0.01s")).returncode == 7
    other = call(*command(folder, stub, "--seed", "5"))
    assert other.returncode == 2
    assert "holds another study" in other.stderr
    assert "Traceback" not in other.stderr
    nothing = call(sys.executable, "-m", "loadgen", "study", str(tmp_path / "none"), "--preset", "triple")
    assert nothing.returncode == 2


def test_a_secret_in_the_command_is_in_no_file(stub: RunningStub, tmp_path: Path) -> None:
    """A token that the shell put in, not we, is masked everywhere; without it the study cannot go on, and says so."""
    folder, header = tmp_path / "scan", ("-H", "authorization: Bearer s3cret")
    assert call(*command(folder, stub, *header, "--time-budget", "0.01s")).returncode == 7
    alone = [sys.executable, "-m", "loadgen", "study", str(folder)]
    refused = call(*alone)
    assert refused.returncode == 2
    assert "headers: authorization: was not written down; give it again" in refused.stderr
    assert call(*alone, *header).returncode == 0
    assert call(*command(folder, stub, *header)).returncode == 0
    assert len(measured(folder)) == 8
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if b"s3cret" in path.read_bytes()]


def test_a_folder_that_kept_a_secret_goes_on_and_keeps_it_no_longer(tmp_path: Path) -> None:
    """As versions before wrote it: it is the same study, and its file is masked when it is next written."""
    study = Study(
        "m", (Remote("h:1", "h"),), (InputSet("i", Synthetic(1.0, 2)),), (1,), headers={"x-token": "s3cret"}
    )
    path = tmp_path / "study.json"
    path.write_bytes(study_plan.to_json(study))
    studying.keep(studying.kept(tmp_path), tmp_path)
    assert b"s3cret" not in path.read_bytes()
    with pytest.raises(PlanError, match="holds another study"):
        studying.keep(msgspec.structs.replace(study, seed=5), tmp_path)


def test_what_a_study_asks_reaches_each_plan(stub: RunningStub, tmp_path: Path) -> None:
    """Options that are not of the grid: every run has them, and the folder's study keeps them."""
    folder = tmp_path / "scan"
    options = ["--percentile", "93", "--compression", "gzip", "--nvml", "off", "--metrics-interval", "500"]
    options += ["--prometheus-url", "http://127.0.0.1:9", "--prometheus-header", "authorization: s3cret", "--poisson"]
    options += ["--request-rate-range", "20", "--request-distribution", "constant", "--takes", "1", "--mu", "0.1"]
    done = call(*command(folder, stub, *options))
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("runs/*/plan.json")
    plan = json.loads(path.read_bytes())
    assert (plan["percents"], plan["compression"], plan["nvml"]) == ([93.0], "gzip", "off")
    assert plan["metrics_interval_ms"] == 500
    assert plan["endpoint"]["prometheus"]["headers"] == {"authorization": "***"}
    assert plan["inputs"]["poisson"]
    assert [load["arrivals"] for load in plan["loads"] if load["kind"] == "open_loop"] == ["constant"]
    assert studying.kept(folder).percents == (93.0,)


def test_dry_run_says_grid_time_and_what_is_done(stub: RunningStub, tmp_path: Path) -> None:
    """Nothing is sent or written; the seconds are those of the points that are left."""
    folder = tmp_path / "scan"
    served = stub.served
    planned = call(*command(folder, stub, "--dry-run"))
    assert "stub, mu0.05: concurrency 1, concurrency 2" in planned.stdout
    assert "8 points, 0 done, 8 left" in planned.stdout
    assert "0 min 04 s" in planned.stdout
    assert not folder.exists()
    assert stub.served == served


def test_two_at_once_in_a_folder_are_refused(stub: RunningStub, tmp_path: Path) -> None:
    """While one is at work, another says so and leaves it alone."""
    study = Study(
        "traccc-gpu",
        (Remote(stub.grpc, "stub"),),
        (InputSet("mu0.05", Synthetic(0.05, 3), 0.05),),
        concurrency=(1,),
        stopping=ByTime(100, 0),
    )
    with studying._alone(tmp_path), pytest.raises(PlanError, match="at work"), studying._alone(tmp_path):
        pass
    studying.keep(study, tmp_path)
    assert studying.kept(tmp_path) == study
    assert studying.done(tmp_path) == set()
    assert len(cells(study)) == 1


def test_plans_of_a_study_say_what_they_are_a_part_of(stub: RunningStub, tmp_path: Path) -> None:
    """Each run's plan has its labels, and so has each row of the study's table."""
    folder = tmp_path / "scan"
    call(*command(folder, stub))
    plans = [json.loads(path.read_bytes())["labels"] for path in folder.glob("runs/*/plan.json")]
    assert {plan["inputs"] for plan in plans} == {"mu0.05", "mu0.1"}
    points = pl.read_parquet(folder / "points.parquet")
    assert set(points["mu"]) == {0.05, 0.1}
    assert set(points["server"]) == {"stub"}
    assert points["run"].n_unique() == 4


def test_the_layout_of_the_scripts_is_read_as_such(stub: RunningStub, tmp_path: Path) -> None:
    """Their folder and file names, a CSV a take of a configuration; the import finds device and take in the names."""
    folder = tmp_path / "scan"
    done = call(*command(folder, stub, "--layout", "traccc", "--instances", "2"))
    assert done.returncode == 0, done.stderr
    found = sorted(str(path.relative_to(folder / "traccc")) for path in folder.glob("traccc/**/*.csv"))
    tops = [f"traccc-aaS_nominal_mu{mu}_3event/stub" for mu in ("0.05", "0.1")]
    files = ("cpu_2instance_sync.csv", "cpu_2instance_sync_take2.csv")
    assert found == [f"{top}/{file}" for top in tops for file in files]
    points = load.read(folder / "traccc" / found[1]).points
    assert sorted(points["concurrency"].to_list()) == [1, 2]
    assert set(points["take"]) == {2}
    assert set(points["device"]) == {"cpu"}
