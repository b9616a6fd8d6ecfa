"""The command line as a user meets it: one clear line and the documented exit code, never a traceback."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import polars as pl
import pytest

import loadgen
from loadgen.errors import PlanError
from loadgen.server.simulated import RunningStub, StubConfig
from loadgen.server.stub import stub_server

FAST = ["--warmup-ms", "50", "-p", "200"]
SMALL = ["--input-data", "synthetic", "--mu", "0.05", "--events", "3"]


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of `python -m loadgen`."""
    return [sys.executable, "-m", "loadgen", *map(str, arguments)]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def serving(config: StubConfig) -> Iterator[RunningStub]:
    """Serve a stub from a thread of its own, as another program would."""
    stubs: list[RunningStub] = []
    ready, done = Event(), Event()

    async def serve() -> None:
        async with stub_server(config) as stub:
            stubs.append(stub)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield stubs[0]
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def stub() -> Iterator[RunningStub]:
    """Return a stub that all tests of this module may load."""
    with serving(StubConfig(base_ns=5_000_000, per_cell_ns=0)) as running:
        yield running


def target(stub: RunningStub) -> list[str]:
    """Return the options that name the stub."""
    return ["-m", "traccc-gpu", "-u", stub.grpc, "--metrics-url", stub.metrics_url or ""]


def test_sweep_writes_everything_it_promises(stub: RunningStub, tmp_path: Path) -> None:
    """One command leaves tables, CSV and report; the terminal-less output is plain lines."""
    done = call("sweep", *target(stub), *SMALL, *FAST, "--concurrency-range", "1:3:2", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.iterdir()
    for name in ("points.csv", "points.parquet", "samples.parquet", "report.html", "manifest.json", "records"):
        assert (run / name).exists()
    assert str(run / "report.html") in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if line[:11].strip().isdigit()] == ["1", "3"]
    assert "\x1b" not in done.stdout
    assert "synthetic ODD, mu 0.05" in done.stdout
    assert (run / "points.csv").read_text().startswith("Concurrency,Inferences/Second,Client Send,")


def test_json_is_one_object_a_point_and_nothing_else(stub: RunningStub, tmp_path: Path) -> None:
    """With --json stdout can be piped into another program."""
    done = call("sweep", *target(stub), *SMALL, *FAST, "--json", "--concurrency-range", "2", "-o", tmp_path)
    (line,) = done.stdout.splitlines()
    point = json.loads(line)
    assert point["concurrency"] == 2
    assert point["throughput_per_s"] > 0
    assert point["verdict"] not in {"failing", "server_disagrees", "records_disagree"}


def test_quiet_is_quiet(stub: RunningStub, tmp_path: Path) -> None:
    """With --quiet nothing is printed when nothing is wrong."""
    done = call("sweep", *target(stub), *SMALL, *FAST, "--quiet", "-f", tmp_path / "x.csv", "-o", tmp_path / "runs")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-u", "127.0.0.1:9"], 3, "no server answers"),
        (["-u", "nosuch.invalid:8001"], 3, "no such host"),
        (["-m", "nosuch"], 3, "no model nosuch on this server"),
        (["--input-data", "nosuch.json"], 2, "nosuch.json: cannot read"),
        (["--input-data", "nosuch"], 2, "no such file or folder"),
        (["--input-data", "a.json", "--input-data", "b.csv"], 2, "not both"),
        (["--concurrency-range", "4:1"], 2, "START:END:STEP"),
        (["--concurrency-range", "0"], 2, "START:END:STEP"),
        (["-o", "/dev/null/runs"], 2, "--output"),
        (["-p", "0"], 2, "-p"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(
    stub: RunningStub, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    """The line says what, where and how to mend it; nothing is left in the output folder."""
    inputs = [] if "--input-data" in arguments else SMALL
    runs = tmp_path / "runs"
    waiting = ["--ready-timeout-s", "0.5"]
    done = call("sweep", *target(stub), *inputs, *FAST, *waiting, "-o", runs, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not runs.exists() or list(runs.iterdir()) == []


def test_the_metrics_port_is_not_the_grpc_port(stub: RunningStub, tmp_path: Path) -> None:
    """A port that speaks HTTP/1 is named for what it is."""
    assert stub.metrics_url is not None
    port = stub.metrics_url.removeprefix("http://").removesuffix("/metrics")
    done = call("sweep", "-m", "traccc-gpu", "-u", port, *SMALL, "-o", tmp_path)
    assert done.returncode == 3
    assert "does not speak gRPC" in done.stderr


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ('{"data": [', "truncated"),
        ('{"data": [{"NOSUCH": [1]}]}', "has no input NOSUCH"),
        ('{"data": [{"GEOMETRY_ID": [1.5], "FEATURES": [0, 0, 0, 0, 0]}]}', "expected a whole number, got 1.5"),
        ('{"data": [{"GEOMETRY_ID": [1], "FEATURES": {"content": [0], "shape": [1, 5]}}]}', "wants 5 elements"),
    ],
)
def test_a_bad_input_file_is_one_line(stub: RunningStub, tmp_path: Path, step: str, words: str) -> None:
    """The file is named with what is wrong in it, and no run directory stays."""
    bad = tmp_path / "bad.json"
    bad.write_text(step)
    done = call("sweep", *target(stub), "--input-data", bad, "-o", tmp_path / "runs")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {bad}")
    assert words in line
    assert list(tmp_path.glob("runs/*")) == []


def interrupted(stub: RunningStub, folder: Path, *signals: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Start a long sweep, wait until its window is open, send signals, and wait for its end."""
    arguments = ["sweep", *target(stub), *SMALL, "--warmup-ms", "50", "-p", "60000", "-o", str(folder)]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any("window_opened" in log.read_text() for log in folder.glob("*/log.jsonl")):
        assert process.poll() is None
    for number in signals:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_the_sweep_whole(stub: RunningStub, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, or a batch system's SIGTERM: in-flight requests end, all is sealed, the exit code says so."""
    done = interrupted(stub, tmp_path, number)
    assert done.returncode == 130, done.stderr
    (run,) = tmp_path.iterdir()
    assert json.loads((run / "manifest.json").read_text())["ended"] == "interrupted"
    assert (run / "report.html").exists()
    outcomes = pl.read_parquet(run / "records" / "*.parquet")["outcome"]
    assert set(outcomes) == {"ok"}


def test_two_signals_leave_at_once_with_the_journal_intact(tmp_path: Path) -> None:
    """Ctrl-C twice: nothing is awaited, and `seal` recovers every row; what hung is open at the end."""
    with serving(StubConfig(base_ns=5_000_000, per_cell_ns=0, hang_every=2)) as hanging:
        arguments = ["sweep", *target(hanging), *SMALL, "--warmup-ms", "0", "--concurrency-range", "2"]
        process = subprocess.Popen(
            command(*arguments, "-o", tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not any("point_started" in log.read_text() for log in tmp_path.glob("*/log.jsonl")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        while "stopping" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "journal" in err
    (run,) = tmp_path.iterdir()
    sealed = call("seal", run)
    assert sealed.returncode == 0, sealed.stderr
    outcomes = pl.read_parquet(run / "records" / "*.parquet")["outcome"].to_list()
    assert outcomes.count("open_at_end") >= 1


def test_seal_says_when_there_is_nothing_to_seal(stub: RunningStub, tmp_path: Path) -> None:
    """A folder that is no run is refused; a sealed one is left alone."""
    refused = call("seal", tmp_path)
    assert refused.returncode == 2
    assert "is not a run directory" in refused.stderr
    call("sweep", *target(stub), *SMALL, *FAST, "--quiet", "-o", tmp_path)
    (run,) = tmp_path.iterdir()
    assert "sealed already" in call("seal", run).stdout


FULL_DISK = """
set -u
mount -t tmpfs -o size=24m tmpfs "$1" || exit 99
cd "$1"; shift
"$@" -o runs 2>&1 &
sweep=$!
until grep -qs window_opened runs/*/log.jsonl; do kill -0 $sweep || break; done
cat /dev/zero > filler 2> /dev/null
wait $sweep; echo "exit $?"
rm filler
"""


def test_a_full_disk_is_one_line_and_loses_nothing(stub: RunningStub, tmp_path: Path) -> None:
    """When the disk fills in mid-run the sweep ends with exit code 4 and says how to seal what it recorded."""
    (tmp_path / "disk").mkdir()
    sweep = command("sweep", *target(stub), *SMALL, "--warmup-ms", "0", "-p", "60000")
    seal = f"{sys.executable} -m loadgen seal runs/* && cp -r runs {tmp_path}/kept"
    script = ["unshare", "--map-root-user", "--mount", "bash", "-c", FULL_DISK + seal, "bash", str(tmp_path / "disk")]
    done = subprocess.run([*script, *sweep], capture_output=True, text=True, timeout=90, check=False)
    if "exit" not in done.stdout:
        pytest.skip(f"no file system of our own here: {done.stderr.strip()}")
    assert "exit 4" in done.stdout, done
    assert "No space left" in done.stdout
    assert "python -m loadgen seal" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    (run,) = (tmp_path / "kept").iterdir()
    outcomes = pl.read_parquet(run / "records" / "*.parquet")["outcome"]
    assert (outcomes == "ok").sum() > 1
    assert (run / "report.html").exists()


def test_a_script_gets_the_tables(stub: RunningStub, tmp_path: Path) -> None:
    """`loadgen.sweep` returns the tables of the run directory; a wrong option is a PlanError."""
    options = {"model": "traccc-gpu", "url": stub.grpc, "metrics_url": stub.metrics_url, "output": tmp_path}
    events = loadgen.Synthetic(mu=0.05, events=2)
    run = loadgen.sweep(input_data=events, concurrency=[1, 2], warmup_ms=20, window_ms=100, **options)
    assert run.points()["concurrency"].to_list() == [1, 2]
    assert run.points().equals(pl.read_parquet(run.path / "points.parquet"))
    assert run.records().collect().height == pl.read_parquet(run.path / "records" / "*.parquet").height
    assert run.samples().height > 0
    with pytest.raises(PlanError, match="window_ms"):
        loadgen.sweep(input_data=events, window_ms=-1, **options)


def test_a_notebook_awaits(stub: RunningStub, tmp_path: Path) -> None:
    """Inside a running loop `sweep` says to await `sweep_async`, which works there."""
    options = {"model": "traccc-gpu", "url": stub.grpc, "metrics_url": None, "output": tmp_path}
    events = loadgen.Synthetic(mu=0.05, events=2)

    async def notebook() -> int:
        with pytest.raises(PlanError, match=r"await loadgen\.sweep_async"):
            loadgen.sweep(input_data=events, **options)
        run = await loadgen.sweep_async(input_data=events, warmup_ms=20, window_ms=100, **options)
        return run.points().height

    assert asyncio.run(notebook()) == 1


# --- plans, limits -------------------------------------------------------------------------------------------------


def test_a_dry_run_starts_nothing(tmp_path: Path) -> None:
    """It prints every point and how long they take, and neither asks a server nor writes a folder."""
    options = ["--concurrency-range", "1:2", "--request-rate-range", "5:10:5", "--repeats", "2", "-p", "1000"]
    place = ["-u", "localhost:1", "-o", str(tmp_path / "runs"), "--point-order", "interleave"]
    done = call("sweep", "-m", "m", *SMALL, *options, *place, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[-1] for line in done.stdout.splitlines() if line.startswith("   ")] == [
        *(f"{words}, repeat 1" for words in ("concurrency 1", "concurrency 2", "5/s constant", "10/s constant")),
        *(f"{words}, repeat 2" for words in ("10/s constant", "5/s constant", "concurrency 2", "concurrency 1")),
    ]
    assert "8 points, 24 s" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_runs_own_plan_runs_again(stub: RunningStub, tmp_path: Path) -> None:
    """plan.json of a run, and the same as TOML, ask for the same points; an open loop is one of them."""
    first = call("sweep", *target(stub), *SMALL, *FAST, "--request-rate-range", "60", "-o", tmp_path / "first")
    assert first.returncode == 0, first.stderr
    (run,) = (tmp_path / "first").iterdir()
    again = call("run", run / "plan.json", "-o", tmp_path / "again", "--json")
    assert again.returncode == 0, again.stderr
    (point,) = (json.loads(line) for line in again.stdout.splitlines())
    assert (point["load"], point["rate_per_s"]) == ("open_loop", 60.0)
    assert point["response_p50_ns"] >= point["service_p50_ns"]
    toml = tmp_path / "plan.toml"
    toml.write_text(
        f'[endpoint]\ngrpc = "{stub.grpc}"\nmodel = "traccc-gpu"\n'
        '[inputs]\nkind = "synthetic"\nmu = 0.05\nevents = 2\n'
        '[[loads]]\nkind = "closed_loop"\nconcurrency = 2\n[stopping]\nkind = "count"\nrequests = 30\n'
    )
    counted = call("run", toml, "-o", tmp_path / "toml", "--json")
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout)["completed"] == 30


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--fail-if", "p99 > 1us"], 6, "concurrency 1: p99 > 1us: p99 is"),
        (["--fail-if", "error_rate > 0.5"], 0, ""),
        (["--strict"], 5, "concurrency 1: "),
        (["--fail-if", "p98x > 1"], 2, "p98x is no known quantity"),
        (["--request-count", "5"], 2, "give one of them"),
        (["--request-rate-range", "0:5"], 2, "--request-rate-range 0:5: write START"),
        (["--request-rate-range", "1e9"], 2, "--request-rate-range 1e9"),
        (["--profile", "5"], 2, "--profile 5: write RATE:SECONDS"),
        (["--request-intervals", "/nowhere"], 2, "/nowhere: cannot read"),
    ],
)
def test_limits_and_loads_have_their_exit_codes(
    stub: RunningStub, tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    """A crossed limit is 6, an unsteady point under --strict 5, a load that cannot be 2: each with one line."""
    loads = [] if "range" in "".join(options) else ["--concurrency-range", "1"]
    done = call("sweep", *target(stub), *SMALL, *FAST, *loads, *options, "-o", tmp_path, "-q")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_search_answers_in_a_sentence_and_its_plan_runs_again(stub: RunningStub, tmp_path: Path) -> None:
    """The answer is on stdout and first in the report; plan.json asks for the same search."""
    short = ["--probe-s", "1", "--max-concurrency", "2"]
    asked = ["--slo", "service_p50 < 5s", "--over", "concurrency", *short, "-o", str(tmp_path)]
    done = call("search", *target(stub), *SMALL, *asked)
    assert done.returncode == 0, done.stderr
    assert "service_p50 < 5s: 2 in flight certified" in done.stdout
    (run,) = tmp_path.iterdir()
    assert "Up to 2 requests in flight keep service_p50 &lt; 5s" in (run / "report.html").read_text()
    planned = call("run", run / "plan.json", "--dry-run")
    assert "search: the highest concurrency that keeps service_p50 < 5s" in planned.stdout


def test_a_search_that_certifies_nothing_is_an_exit_code_with_strict(stub: RunningStub, tmp_path: Path) -> None:
    """--strict makes 5 of it."""
    asked = ["--slo", "service_p50 < 1us", "--over", "concurrency", "--probe-s", "1", "-o", str(tmp_path)]
    done = call("search", *target(stub), *SMALL, *asked, "--strict")
    assert (done.returncode, "not certified: concurrency 1 breaks it" in done.stderr) == (5, True)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--slo", "speed < 5ms"], "names no known quantity"),
        (["--slo", "response_p99 < 5ms", "--over", "concurrency"], "is a closed loop, which has no response time"),
        (["--slo", "p99 < 5ms", "--probe-s", "30", "--max-probe-s", "3"], "above max_probe_s"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(tmp_path: Path, asked: list[str], words: str) -> None:
    """Nothing is started."""
    done = call("search", "-m", "m", "-u", "127.0.0.1:9", *SMALL, *asked, "-o", tmp_path / "runs")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert words in done.stderr
    assert not (tmp_path / "runs").exists()
