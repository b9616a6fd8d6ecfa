"""The real perf_analyzer and loadgen in turns on the real Triton."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import perf_analyzer_binary
import polars as pl
import psutil
import pytest
from perf_analyzer_binary import PerfAnalyzer

from loadgen.errors import TargetError
from loadgen.server import embedded
from loadgen.server.launch import RunningServer, serve_standin

pytestmark = [pytest.mark.live]


@pytest.fixture(scope="module")
def theirs(triton: embedded.Installation) -> PerfAnalyzer:
    """Return the real perf_analyzer."""
    try:
        return perf_analyzer_binary.install(triton)
    except TargetError as error:
        pytest.skip(str(error))


def command(server: RunningServer, theirs: PerfAnalyzer, folder: Path, *more: str) -> list[str]:
    """Return the command line of a crosscheck at concurrency 1 and 2 with short windows."""
    options = ["-m", server.model, "-u", server.grpc, "--input-data", "synthetic", "--mu", "2", "--events", "3"]
    options += ["--concurrency-range", "1:2", "-p", "300", "-o", str(folder)]
    options += ["--perf-analyzer", str(theirs.binary), "--perf-analyzer-libraries", str(theirs.libraries)]
    return [sys.executable, "-m", "loadgen", "crosscheck", *options, *more]


def called(asked: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(asked, capture_output=True, text=True, timeout=110, check=False)


def begun(asked: list[str]) -> "subprocess.Popen[str]":
    """Start a command."""
    return subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def with_server(folder: Path, work: Callable[[RunningServer], Awaitable[None]]) -> None:
    """Do something while the stand-in is served."""

    async def main() -> None:
        async with serve_standin(directory=folder, log=folder / "triton.log", instances=2) as server:
            await work(server)

    asyncio.run(main())


def test_both_are_measured_in_turns_and_judged(theirs: PerfAnalyzer, tmp_path: Path) -> None:
    """Every take of both is there, on the same inputs; throughput, times and stages of both levels have a verdict."""

    async def work(server: RunningServer) -> None:
        asked = command(server, theirs, tmp_path / "out", "--blocks", "2", "--json")
        done = await asyncio.to_thread(
            subprocess.run, asked, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        (folder,) = (tmp_path / "out").iterdir()
        takes = pl.read_parquet(folder / "takes.parquet")
        assert set(takes["failure"]) == {""}
        sides = Counter(takes.select("level", "side").iter_rows())
        assert sides == {(level, side): 4 for level in (1.0, 2.0) for side in ("loadgen", "perf_analyzer")}
        judged = {(row["level"], row["quantity"]) for row in said["agreements"]}
        wanted = ("throughput_per_s", "mean_ns", "p50_ns", "p99_ns", "queue_ns", "compute_infer_ns")
        assert judged >= {(level, name) for level in (1.0, 2.0) for name in wanted}
        assert all(0.2 < row["ratio"] < 5 for row in said["agreements"] if row["quantity"] == "throughput_per_s")
        assert (folder / "crosscheck.html").stat().st_size > 100_000
        again = [sys.executable, "-m", "loadgen", "crosscheck", "-o", str(tmp_path / "files"), "--json"]
        again += [
            word for path in sorted((folder / "perf_analyzer").glob("*.csv")) for word in ("--theirs", str(path))
        ]
        again += [word for path in sorted((folder / "loadgen").iterdir()) for word in ("--ours", str(path))]
        from_files = await asyncio.to_thread(subprocess.run, again, capture_output=True, text=True, check=False)
        assert from_files.returncode == 0, from_files.stderr
        found = {(row["level"], row["quantity"]): row for row in json.loads(from_files.stdout)["agreements"]}
        for row in said["agreements"]:
            assert found[row["level"], row["quantity"]]["ratio"] == pytest.approx(row["ratio"], rel=1e-9)

    with_server(tmp_path, work)


def test_an_interrupted_crosscheck_keeps_its_takes(theirs: PerfAnalyzer, tmp_path: Path) -> None:
    """Ctrl-C: what was measured is judged, and no perf_analyzer goes on."""

    async def work(server: RunningServer) -> None:
        asked = command(server, theirs, tmp_path / "out", "--blocks", "50")
        process = begun(asked)
        kept = tmp_path / "out"
        while process.poll() is None and sum(path.stat().st_size for path in kept.glob("*/takes.jsonl")) < 1000:
            await asyncio.to_thread(time.sleep, 0.05)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.to_thread(process.communicate, timeout=60)
        assert "Traceback" not in err
        assert "crosscheck.md" in out
        (folder,) = kept.iterdir()
        rows = (folder / "takes.jsonl").read_text().splitlines()
        assert pl.read_parquet(folder / "takes.parquet").height == len(rows) >= 2
        names = [
            each.info["name"]
            for each in psutil.process_iter(["name", "cmdline"])
            if str(folder) in str(each.info["cmdline"])
        ]
        assert not names

    with_server(tmp_path, work)
