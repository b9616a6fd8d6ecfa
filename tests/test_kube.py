"""A service in a cluster: a kubectl that really forwards TCP to a stub and drops it; no cluster is at hand."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from test_cli import serving
from test_study import FAST

from loadgen import forwarding, rundir
from loadgen.rundir import EventLog
from loadgen.server.kube import Forwarded, Ready
from loadgen.server.simulated import RunningStub

HERE = Path(__file__).parent
SERVICE = "service/atlas-sonic"
AUTOSCALED = """
model = "traccc-gpu"
concurrency = [2]
stopping = { kind = "time", window_ms = 2500, warmup_ms = 100 }
servers = [{ kind = "kube", service = "service/atlas-sonic", namespace = "sonic", poll_s = 0.1 }]
inputs = [{ label = "small", inputs = { kind = "synthetic", mu = 0.05, events = 3 } }]
"""


def described(kind: str, name: str, **facts: Any) -> dict[str, Any]:
    """Return an object as kubectl shows it."""
    notes = {"meta.helm.sh/release-name": "atlas", "meta.helm.sh/release-namespace": "sonic"}
    return {"kind": kind, "metadata": {"name": name, "annotations": notes}, **facts}


def pod(name: str, *, ready: bool = True) -> dict[str, Any]:
    """Return a pod of one GPU."""
    container = {"image": "triton:24.11", "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "4"}}}
    status = {"containerStatuses": [{"ready": ready, "restartCount": 2}]}
    return described("Pod", name, spec={"nodeName": "node-1", "containers": [container]}, status=status)


class Fake:
    """Programs on PATH, and what they read and wrote."""

    def __init__(self, folder: Path, stub: RunningStub) -> None:
        self.folder = folder
        self.stub = stub
        programs = folder / "bin"
        programs.mkdir()
        lines = {
            "kubectl": f'exec "{sys.executable}" "{HERE / "fake_kubectl.py"}" "$@"',
            "helm": f'echo "helm $*" >> "{folder}/said"',
        }
        for name, line in lines.items():
            (programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (programs / name).chmod(0o755)
        self.describe(pod("triton-a"), pod("triton-b", ready=False))
        page = (stub.metrics_url or "").removeprefix("http://").partition("/")[0]
        (folder / "ports.json").write_text(json.dumps({"8001": stub.grpc, "8002": page}))
        # Nothing else on PATH: a machine may have programs of these names.
        self.environment = {**os.environ, "PATH": str(programs), "FAKE_KUBE": str(folder)}

    def describe(self, *pods: dict[str, Any]) -> None:
        """Say from now on that the service has these pods."""
        service = described("Service", "atlas-sonic", spec={"selector": {"app": "sonic"}})
        whole = self.folder / "objects.json.new"
        whole.write_text(json.dumps({SERVICE: service, "pods": {"items": pods}}))
        whole.replace(self.folder / "objects.json")

    def study(self, *more: str, service: str = SERVICE, bare: bool = False) -> "subprocess.Popen[str]":
        """Start a study of one point of 1.5 s."""
        options = ["--kube", service, "-n", "sonic", "--mu", "0.05", "--events", "3", "--concurrency-range", "2"]
        options += ["-p", "1500", "--warmup-ms", "100"]
        options = [] if bare else options
        command = [sys.executable, "-m", "loadgen", "study", str(self.folder / "scan"), *options, *more]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    @property
    def said(self) -> list[str]:
        """What the programs were called with."""
        return (self.folder / "said").read_text().splitlines()

    def sweep(self, *more: str) -> "subprocess.Popen[str]":
        """Start a sweep of one point of 1.5 s."""
        options = ["-m", "traccc-gpu", "--input-data", "synthetic", "--mu", "0.05", "--events", "3", "-p", "1500"]
        options += ["--warmup-ms", "100", "-o", str(self.folder / "scan" / "runs"), "--keepalive", "300"]
        command = [sys.executable, "-m", "loadgen", "sweep", "--kube", SERVICE, "-n", "sonic", *options, *more]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def log(self) -> list[dict[str, Any]]:
        """The events of the one run."""
        (path,) = self.folder.glob("scan/runs/*/log.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def fake(tmp_path: Path) -> Any:
    """Serve a stub, and return programs that lead to it."""
    with serving(FAST) as stub:
        yield Fake(tmp_path, stub)


def test_a_forward_that_breaks_is_made_again_and_the_gap_told(fake: Fake) -> None:
    """In mid-run: the run goes on over the same address, what was on its way is a row, and the gap is in the log."""
    process = fake.study()
    while process.poll() is None and not any(fake.folder.glob("scan/runs/*/journal/*")):
        time.sleep(0.02)
    time.sleep(0.5)
    (fake.folder / "drop").write_text(SERVICE)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "1 point in the grid, 1 measured" in out
    gaps = [event for event in fake.log() if event["event"] == "gap"]
    assert [gap["what"] for gap in gaps] == [SERVICE]
    assert gaps[0]["start_ns"] < gaps[0]["at_ns"]
    (records,) = fake.folder.glob("scan/runs/*/records")
    rows = pl.read_parquet(records)
    assert set(rows["outcome"]) > {"ok"}
    after = rows.filter(pl.col("sent_ns") > gaps[0]["at_ns"], pl.col("outcome") == "ok")
    assert after.height > 10
    left = [each for each in psutil.process_iter(["cmdline"]) if str(fake.folder) in str(each.info["cmdline"])]
    assert not left


def test_pods_and_release_are_recorded_and_the_uninstall_command_printed(fake: Fake) -> None:
    """Each ready pod's page is read, how many are ready is a series, and who pays for the GPUs is reminded."""
    process = fake.study()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "still installed; to free its GPUs: helm uninstall atlas -n sonic" in err
    (event,) = (event for event in fake.log() if event["event"] == "kube")
    assert [(each["name"], each["ready"], each["gpus"], each["node"]) for each in event["pods"]] == [
        ("triton-a", True, 1, "node-1"),
        ("triton-b", False, 1, "node-1"),
    ]
    forwards = [line for line in fake.said if line.startswith("port-forward")]
    assert [line.split()[1] for line in forwards] == [SERVICE, "pod/triton-a"]
    assert all("--namespace sonic" in line for line in fake.said if not line.startswith("helm"))
    (samples,) = fake.folder.glob("scan/runs/*/samples.parquet")
    table = pl.read_parquet(samples)
    assert set(table.filter(pl.col("metric") == "pods_ready")["value"]) == {1.0}
    assert table.filter(pl.col("metric") == "nv_inference_request_success").height


def test_pods_that_come_or_go_flag_the_point(tmp_path: Path) -> None:
    """An autoscaler makes a second pod ready in mid-window: the point is drifting, and says why."""
    with serving(FAST) as stub:
        fake = Fake(tmp_path, stub)
        plan = tmp_path / "study.toml"
        plan.write_text(AUTOSCALED)
        process = fake.study(str(plan), bare=True)
        while process.poll() is None and not any(tmp_path.glob("scan/runs/*/journal/*")):
            time.sleep(0.02)
        time.sleep(0.5)
        fake.describe(pod("triton-a"), pod("triton-b"))
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        (points,) = tmp_path.glob("scan/runs/*/points.parquet")
        (row,) = pl.read_parquet(points).to_dicts()
        assert (row["verdict"], row["reason"].partition(" in ")[0]) == (
            "drifting",
            "pods that are ready went 1 to 2",
        )
        assert [event["ready"] for event in fake.log() if event["event"] == "pods_ready"] == [1, 2]


def test_every_run_is_told_how_many_pods_are_ready(tmp_path: Path) -> None:
    """Also the second that goes through the same forwards, where nothing has changed: a change is seen against it."""
    found = Forwarded("localhost:1", (), (), None)
    found.hear(Ready(7, 2))
    for name in ("first", "second"):
        directory = rundir.create(tmp_path, name)
        log = EventLog(directory)
        forwarding._tell(found, log)
        log.close()
        events = [json.loads(line) for line in directory.log.read_text().splitlines()]
        assert [(each["at_ns"], each["ready"]) for each in events if each["event"] == "pods_ready"] == [(7, 2)]


def test_a_sweep_goes_through_forwards_too(fake: Fake) -> None:
    """The same as in a study: pages, pods and the reminder; the plan says what the local addresses led to."""
    process = fake.sweep()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "still installed; to free its GPUs: helm uninstall atlas -n sonic" in err
    assert [event["pods"][0]["name"] for event in fake.log() if event["event"] == "kube"] == ["triton-a"]
    (path,) = fake.folder.glob("scan/runs/*/plan.json")
    plan = json.loads(path.read_text())
    assert plan["labels"] == {"kube": "sonic/service/atlas-sonic"}
    assert plan["endpoint"]["keepalive_s"] == 300
    left = [each for each in psutil.process_iter(["cmdline"]) if str(fake.folder) in str(each.info["cmdline"])]
    assert not left
    process = fake.sweep("-u", "localhost:8001")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert "give one of the two" in err
    process = fake.sweep("-i", "http", "--keepalive", "0")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert "leave out -i http" in err


def test_the_release_is_removed_only_when_asked_and_complete(fake: Fake) -> None:
    """Helm is called once, after the last point."""
    process = fake.study("--helm-uninstall-after")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert fake.said[-1] == "helm uninstall atlas -n sonic"
    assert sum(line.startswith("helm") for line in fake.said) == 1


def test_the_release_is_removed_from_the_cluster_that_was_measured(fake: Fake) -> None:
    """The context that kubectl was given is helm's too, whatever its name has in it."""
    process = fake.study("--kube-context", "at work", "--helm-uninstall-after")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    helm = [line for line in fake.said if line.startswith("helm")]
    assert helm == ["helm uninstall atlas -n sonic --kube-context at work"]
    assert all("--context at work" in line for line in fake.said if line not in helm)
    assert "still installed" not in err


def test_a_service_that_is_not_there_is_one_line(fake: Fake) -> None:
    """Kubectl's own words, exit code 3, and nothing is removed."""
    process = fake.study("--helm-uninstall-after", service="service/none")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "not found" in out + err
    assert "Traceback" not in err
    assert not any(line.startswith("helm") for line in fake.said)


def test_without_kubectl_it_says_so(fake: Fake) -> None:
    """One line."""
    (fake.folder / "bin" / "kubectl").unlink()
    process = fake.study()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "kubectl is not found on PATH" in out + err
