"""The drop-in from command line to files, against a loopback server: what perf_analyzer loses is kept."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kserve_http_server import Model, in_a_thread

from analysis import perf_export
from analysis.runs import Run, open_run

TIMEOUT_S = 60
QUICK = ("-p", "100", "-s", "900", "-r", "6")


def command(address: str, folder: Path, *arguments: str) -> dict[str, Any]:
    line = [sys.executable, "-m", "loadgen", "perf-analyzer", "-m", "made", "-u", address, *arguments]
    return {"args": line, "cwd": folder, "env": {**os.environ, "LOADGEN_RUNS": str(folder / "runs")}, "text": True}


def run(address: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the drop-in to its end."""
    line = command(address, folder, *arguments)
    return subprocess.run(**line, capture_output=True, timeout=TIMEOUT_S, check=False)


def only_run(folder: Path) -> Run:
    """Return the one run that was made."""
    [path] = (folder / "runs").iterdir()
    return open_run(path)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_failed_request_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    """One refusal in five: levels are measured and in the CSV, refusals are rows of the run and a warning."""
    with in_a_thread(Model(refuses=lambda number: number > 2 and number % 5 == 0)) as address:
        done = run(address, tmp_path, *QUICK, "--concurrency-range", "1:2", "-f", "out.csv")
    assert done.returncode == 0, done.stderr
    assert [row["Concurrency"] for row in sorted(rows(tmp_path / "out.csv"), key=lambda row: row["Concurrency"])] == [
        "1",
        "2",
    ]
    assert "requests failed" in done.stderr
    outcomes = set(only_run(tmp_path).records().collect()["outcome"])
    assert outcomes == {"ok", "http_server_error"}


def test_a_server_that_only_refuses_is_code_99(tmp_path: Path) -> None:
    """As perf_analyzer, and what was tried is in the run directory."""
    with in_a_thread(Model(refuses=lambda number: number > 1)) as address:
        done = run(address, tmp_path, *QUICK, "-r", "3", "-f", "out.csv")
    assert done.returncode == 99, done.stderr
    assert not (tmp_path / "out.csv").exists()
    assert only_run(tmp_path).records().collect().height > 1


def test_unstable_levels_are_kept_in_the_run_and_on_request_in_the_csv(tmp_path: Path) -> None:
    """No agreement: code 2 and no CSV, but every level measured; --keep-unstable writes them."""
    options = ("-p", "250", "-s", "0", "-r", "3", "--concurrency-range", "1:2", "-f", "out.csv")
    (tmp_path / "kept").mkdir()
    with in_a_thread(Model()) as address:
        done, kept = run(address, tmp_path, *options), run(address, tmp_path / "kept", *options, "--keep-unstable")
    assert (done.returncode, kept.returncode) == (2, 2)
    assert "Failed to obtain stable measurement within 3 measurement windows for concurrency 1." in done.stderr
    assert not (tmp_path / "out.csv").exists()
    assert len(rows(tmp_path / "kept" / "out.csv")) == 2
    sealed = only_run(tmp_path)
    assert sealed.points()["concurrency"].to_list() == [1, 2]
    assert [event["status"] for event in sealed.events("level_ended")] == ["unstable", "unstable"]
    assert perf_export.levels_of(sealed) == []
    assert len(perf_export.levels_of(sealed, unstable=True)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_every_level_that_was_measured(tmp_path: Path, number: signal.Signals) -> None:
    """The CSV is there before the end; afterwards the summary is printed and the run sealed, code 0."""
    with in_a_thread(Model()) as address:
        line = command(address, tmp_path, *QUICK, "--concurrency-range", "1:500", "-f", "out.csv")
        process = subprocess.Popen(**line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        for text in process.stdout:
            if text.startswith("Request concurrency: 3"):
                break
        assert len(rows(tmp_path / "out.csv")) >= 2
        process.send_signal(number)
        rest, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert "Inferences/Second vs. Client Average Batch Latency" in rest
    sealed = only_run(tmp_path)
    assert sealed.manifest["ended"] == "interrupted"
    assert {"1", "2"} <= {row["Concurrency"] for row in rows(tmp_path / "out.csv")}


def test_counted_requests_are_sent_and_no_more(tmp_path: Path) -> None:
    """--request-count: exactly so many reach the server, all in one window from the first sent to the last answer."""
    model = Model()
    with in_a_thread(model) as address:
        options = ("--request-count", "25", "--concurrency-range", "4", "--profile-export-file", "out.json")
        done = run(address, tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "    Request count: 25\n" in done.stdout
    assert model.asked == 25 + 1  # and the one that looks whether the model answers
    [level] = json.loads((tmp_path / "out.json").read_text())["experiments"]
    assert len(level["requests"]) == 25
    first, last = level["window_boundaries"]
    assert first == min(request["timestamp"] for request in level["requests"])
    assert last == max(request["response_timestamps"][-1] for request in level["requests"]) + 1


def test_warm_up_requests_go_before_the_first_window(tmp_path: Path) -> None:
    """--warmup-request-count: so many have ended before the first boundary."""
    with in_a_thread(Model()) as address:
        done = run(address, tmp_path, *QUICK, "--warmup-request-count", "40", "--profile-export-file", "out.json")
    assert done.returncode == 0, done.stderr
    first, *_ = json.loads((tmp_path / "out.json").read_text())["experiments"][0]["window_boundaries"]
    manifest, records = only_run(tmp_path).manifest, only_run(tmp_path).records().collect()
    start_ns = first - manifest["started_utc_ns"] + manifest["started_at_ns"]
    assert records.filter((records["point"] == 1) & (records["done_ns"] < start_ns)).height >= 40


def test_what_is_no_number_is_null_in_the_export(tmp_path: Path) -> None:
    """NaN and infinities, of which perf_analyzer makes an empty file; scalars, strings, halves have their forms."""
    kinds = (("X", "FP32", (4,)), ("H", "FP16", (2,)), ("S", "BYTES", (2,)), ("ONE", "INT64", (1,)))
    step = {"X": [math.nan, math.inf, 1.5, 0], "H": [0.5, -2], "S": ["a", "bc"], "ONE": [7]}
    (tmp_path / "in.json").write_text(json.dumps({"data": [step]}))
    model = Model(inputs=kinds, keep=True)
    with in_a_thread(model) as address:
        done = run(address, tmp_path, "--input-data", "in.json", "--request-count", "3", "--profile-export-file", "o")
    assert done.returncode == 0, done.stderr
    [level] = json.loads((tmp_path / "o").read_text())["experiments"]
    wanted = {"X": [None, None, 1.5, 0.0], "H": [0.5, -2.0], "S": ["a", "bc"], "ONE": 7}
    assert [request["request_inputs"] for request in level["requests"]] == [wanted] * 3
    assert all(body.endswith(b"\x01\x00\x00\x00a\x02\x00\x00\x00bc\x07" + bytes(7)) for body in model.bodies)


def test_export_of_large_requests_takes_flat_memory(tmp_path: Path) -> None:
    """A hundred requests of a megabyte take no more memory to export than three: contents pass through a file."""
    values = [index / 7 for index in range(1 << 17)]
    (tmp_path / "in.json").write_text(json.dumps({"data": [{"X": values}, {"X": values[::-1]}]}))
    peaks = {}
    with in_a_thread(Model(inputs=(("X", "FP64", (1 << 17,)),))) as address:
        for count in (3, 100):
            folder = tmp_path / str(count)
            folder.mkdir()
            options = ("--input-data", "../in.json", "--profile-export-file", "first.json")
            done = run(address, folder, *options, "--request-count", str(count))
            assert done.returncode == 0, done.stderr
            code = (
                "import resource, sys; from pathlib import Path; from analysis import perf_profile, runs;"
                "perf_profile.write(runs.open_run(Path(sys.argv[1])), Path(sys.argv[2]));"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
            )
            line = [sys.executable, "-c", code, str(only_run(folder).path), str(folder / "again.json")]
            peaks[count] = int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
            assert (folder / "again.json").stat().st_size == (folder / "first.json").stat().st_size
    assert (tmp_path / "100" / "again.json").stat().st_size > 100 * (1 << 20)
    assert peaks[100] < peaks[3] + 20_000


def test_export_of_an_ordinary_run(tmp_path: Path) -> None:
    """Any run directory: plain, verbose, with metrics; figures as in the run's own CSV, one window a level."""
    with in_a_thread(Model()) as address:
        line = [sys.executable, "-m", "loadgen", "sweep", "-i", "http", "-u", address, "-m", "made"]
        line += ["--input-data", "random", "-p", "300", "--warmup-ms", "50", "--concurrency-range", "1:2"]
        subprocess.run([*line, "-q", "--no-collect-metrics"], cwd=tmp_path, check=True, timeout=TIMEOUT_S)
    path = only_run(tmp_path).path
    for name, options in {"plain": [], "verbose": ["--verbose"], "metrics": ["--metrics"]}.items():
        line = [sys.executable, "-m", "analysis", "export", str(path), "--perf-csv", str(tmp_path / name), *options]
        subprocess.run([*line, "--profile", str(tmp_path / f"{name}.json")], check=True, capture_output=True)
    plain, verbose, metrics = (rows(tmp_path / name) for name in ("plain", "verbose", "metrics"))
    assert list(plain[0])[-1] == "p99 latency"
    assert list(verbose[0])[-3:] == ["Avg latency", "request/response", "response wait"]
    assert list(metrics[0]) == list(rows(path / "points.csv")[0])
    own = rows(path / "points.csv")
    for name in ("Concurrency", "Inferences/Second", "Server Queue", "p50 latency", "p99 latency", "Avg latency"):
        assert [row[name] for row in metrics] == [row[name] for row in own], name
    experiments = json.loads((tmp_path / "plain.json").read_text())["experiments"]
    assert [len(each["window_boundaries"]) for each in experiments] == [2, 2]
    assert all(request["request_inputs"] == {} for each in experiments for request in each["requests"])


def test_export_without_a_target_says_what_to_write(tmp_path: Path) -> None:
    """One line and code 2."""
    with in_a_thread(Model()) as address:
        run(address, tmp_path, "--request-count", "3")
    line = [sys.executable, "-m", "analysis", "export", str(only_run(tmp_path).path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "--perf-csv" in done.stderr


def test_request_parameters_and_headers_reach_the_server(tmp_path: Path) -> None:
    """Names keep their case; what only gRPC has is refused over HTTP before anything is sent."""
    model = Model(keep=True)
    with in_a_thread(model) as address:
        done = run(address, tmp_path, "--request-count", "3", "--request-parameter", "A:1:int")
    assert done.returncode == 99
    assert model.asked == 0
