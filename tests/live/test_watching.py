"""Watching a real Triton: the rate of a sweep as the server counts it; a server that is killed and comes back."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from loadgen import Synthetic, clock, sweep_async
from loadgen.endpoint import Endpoint
from loadgen.server import launch
from loadgen.server.launch import RunningServer, serve_standin
from loadgen.watch.loop import Pace, watch
from loadgen.watch.page import Round

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

TOLERANCE = 0.02
"""Of requests: what is counted by the server at a reading's edge is done for the client a little later."""


async def watched(server: RunningServer) -> list[dict[str, Any]]:
    """Watch for four seconds in a process of its own; return its JSON lines."""
    command = (sys.executable, "-m", "loadgen", "watch", "--json", "--for", "4")
    where = ("-u", server.grpc, "--metrics-url", server.metrics_url)
    process = await asyncio.create_subprocess_exec(*command, *where, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


def test_the_rate_is_that_of_the_sweep(tmp_path: Path) -> None:
    """Of the same four seconds: the sweep's own rows and the watch's rate are the same, within two in a hundred."""

    async def main() -> tuple[Path, list[dict[str, Any]]]:
        async with serve_standin(directory=tmp_path, log=tmp_path / "log") as server:
            options = {"input_data": Synthetic(mu=20.0, events=5), "concurrency": 2, "window_ms": 20_000}
            sweep = asyncio.create_task(
                sweep_async(
                    model=server.model, url=server.grpc, metrics_url=None, warmup_ms=500, output=tmp_path, **options
                )
            )
            await loading(tmp_path)
            lines = await watched(server)
            return (await sweep).path, lines

    path, lines = asyncio.run(main())
    last = lines[-1]
    (model,) = last["endpoints"][0]["models"]
    assert (model["state"], model["instances"], model["source"]) == ("READY", 2, "grpc")
    minute = model["last_minute"]
    assert minute["seconds"] >= 3
    each = [found["last_interval"] for line in lines for found in line["endpoints"][0]["models"]]
    assert any(found["requests_per_s"] for found in each)
    own = rate_of_rows(path, last["at"], minute["seconds"])
    assert minute["requests_per_s"] == pytest.approx(own, rel=TOLERANCE, abs=2 / minute["seconds"])
    assert minute["compute_infer_ns"] > 0
    assert 0 < minute["busy"] <= 2.05


def rate_of_rows(path: Path, until: str, seconds: float) -> float:
    """Return how many rows ended well a second, in the seconds before a moment of the calendar."""
    anchor = next(event for event in events(path) if event["event"] == "run_started")
    rows = pl.read_parquet(path / "records" / "*.parquet").filter(pl.col("outcome") == "ok")
    end_ns = pl.Series([until]).str.to_datetime(time_unit="ns", time_zone="UTC").dt.epoch("ns")[0]
    end_ns += anchor["at_ns"] - anchor["utc_ns"]
    return len(rows.filter(pl.col("done_ns").is_between(end_ns - seconds * clock.NS_PER_S, end_ns))) / seconds


def events(path: Path) -> list[dict[str, Any]]:
    """Return what a run's log says."""
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]


async def loading(folder: Path) -> None:
    """Wait until a sweep's window is open."""
    while not any("window_opened" in log.read_text() for log in await asyncio.to_thread(logs, folder)):
        await clock.sleep_ns(20 * clock.NS_PER_MS)


def logs(folder: Path) -> list[Path]:
    """Return the logs of the runs below a folder."""
    return list(folder.glob("*/log.jsonl"))


def kill_triton() -> None:
    """Kill our Triton, as a machine does that runs out of memory."""
    for process in psutil.Process().children(recursive=True):
        if process.name() == "tritonserver":
            process.kill()


@asynccontextmanager
async def same_ports(monkeypatch: pytest.MonkeyPatch, folder: Path) -> AsyncIterator[Callable[[], Any]]:
    """Yield what serves the stand-in on the same ports each time."""
    ports = launch._free_ports()
    monkeypatch.setattr(launch, "_free_ports", lambda: ports)
    yield lambda: serve_standin(directory=folder, log=folder / "log", instances=1)


def test_a_triton_that_is_killed_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unreachable for a reason while it is away, then back; its lower counters are a restart, never a rate."""

    async def main() -> list[Round]:
        rounds: list[Round] = []
        stopped, away = asyncio.Event(), asyncio.Event()

        def show(shown: Round) -> None:
            rounds.append(shown)
            (view,) = shown.views
            if not any(source.reachable for source in view.sources):
                away.set()
            if len(view.notes) >= 3 and view.models[0].now.seconds > 0:
                stopped.set()

        async with same_ports(monkeypatch, tmp_path) as serve, AsyncExitStack() as stack:
            server = await stack.enter_async_context(serve())
            await sweep_async(
                model=server.model,
                url=server.grpc,
                metrics_url=None,
                input_data=Synthetic(mu=5.0, events=3),
                concurrency=1,
                warmup_ms=0,
                window_ms=500,
                output=tmp_path / "runs",
            )
            target = Endpoint(server.grpc, "", metrics_urls=(server.metrics_url,))
            watching = asyncio.create_task(watch([target], [], Pace(500 * clock.NS_PER_MS), show, stopped))
            while not (rounds and rounds[-1].views[0].models):
                await clock.sleep_ns(20 * clock.NS_PER_MS)
            kill_triton()
            await away.wait()
            await stack.aclose()
            async with serve():
                await watching
        return rounds

    rounds = asyncio.run(main())
    views = [shown.views[0] for shown in rounds[1:]]
    away = next(view for view in views if not any(source.reachable for source in view.sources))
    assert "no server answers" in away.sources[0].reason
    assert away.models[0].now.requests_per_s is None
    notes = [note.words for note in rounds[-1].views[0].notes]
    assert any(words.startswith("gRPC is back after") for words in notes)
    assert "gRPC: counters of traccc-gpu 1 went back: started again" in notes
    rates = {view.models[0].now.requests_per_s for view in views}
    assert rates <= {None, 0.0}
