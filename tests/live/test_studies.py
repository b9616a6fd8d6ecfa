"""A study on Tritons that it starts itself: killed, it leaves none behind, and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from loadgen.errors import PlanError
from loadgen.server import configured, repository

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]


def command(folder: Path, *more: str) -> list[str]:
    """Return a study of eight points: 1 and 2 instances, concurrency 1 and 2, two takes."""
    options = ["--instances", "1,2", "--mu", "2", "--events", "3", "--concurrency-range", "1:2", "--takes", "2"]
    return [sys.executable, "-m", "loadgen", "study", str(folder), *options, "-p", "400", "--warmup-ms", "100", *more]


def ours(folder: Path) -> list[psutil.Process]:
    """Return the processes that have the study's folder in their command line."""
    every = psutil.process_iter(["cmdline"])
    return [each for each in every if any(str(folder) in word for word in each.info["cmdline"] or [])]


def running(folder: Path) -> Iterator[None]:
    """Wait until requests are recorded on a server of the study's."""
    while not any(folder.glob("runs/*/journal/*")):
        time.sleep(0.05)
        yield


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_server_is_left_however_it_ends(tmp_path: Path, how: signal.Signals) -> None:
    """Killed, told to end, or interrupted: no tritonserver and no worker stays, and the study can be finished."""
    folder = tmp_path / "scan"
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in running(folder):
        assert process.poll() is None
    assert any("tritonserver" in " ".join(each.cmdline()) for each in ours(folder))
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, how)
    process.wait(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert not ours(folder)
    done = subprocess.run(command(folder), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    points = pl.read_parquet(folder / "points.parquet").filter(pl.col("verdict") != "interrupted")
    counted = Counter(points.select("take", "instances", "concurrency").iter_rows())
    assert counted == Counter({(take, n, level): 1 for take in (1, 2) for n in (1, 2) for level in (1, 2)})
    assert not ours(folder)
    assert not list(folder.glob(".models-*"))


def test_the_server_has_as_many_instances_as_asked(tmp_path: Path) -> None:
    """What each Triton says of its model is what the study asked for; its log is kept."""
    folder = tmp_path / "scan"
    done = subprocess.run(command(folder), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    for path in folder.glob("runs/*/log.jsonl"):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        config = next(event["config"] for event in events if event["event"] == "server")
        asked = json.loads((path.parent / "plan.json").read_text())["labels"]["instances"]
        assert config["instance_group"][0]["count"] == int(asked)
    assert len(list(folder.glob("servers/*.log"))) == 4


def test_a_copy_of_a_repository_is_edited_as_protobuf(tmp_path: Path) -> None:
    """Count, kind and GPUs change, nothing else; the original stays byte for byte; several groups are refused."""
    original = repository.write_standin(tmp_path, "odd", 3)
    config = original / "traccc-gpu" / "config.pbtxt"
    before = config.read_bytes()
    copied = configured.copy_with_instances(original, tmp_path / "copy", "traccc-gpu", 2, (0, 3))
    made = configured.read_config(copied / "traccc-gpu" / "config.pbtxt")
    (group,) = made.instance_group
    kinds = model_config_pb2.ModelInstanceGroup
    assert (group.count, group.kind, list(group.gpus)) == (2, kinds.KIND_GPU, [0, 3])
    known = configured.read_config(config)
    del made.instance_group[:], known.instance_group[:]
    assert made == known
    assert config.read_bytes() == before
    assert (copied / "traccc-gpu" / "1" / "model.py").read_bytes() == repository.SOURCE.read_bytes()
    two = model_config_pb2.ModelConfig(name="m")
    two.instance_group.add(count=1)
    two.instance_group.add(count=1)
    config.write_text(text_format.MessageToString(two))
    with pytest.raises(PlanError, match="2 instance groups"):
        configured.copy_with_instances(original, tmp_path / "other", "traccc-gpu", 1, ())
    config.write_text("name: 3 {")
    with pytest.raises(PlanError, match="is not a model configuration"):
        configured.read_config(config)
