"""The server's own account against the real Triton: stages, the models that an ensemble calls, requests of others."""

import asyncio
import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from inputs.source import open_source
from loadgen import Synthetic, clock, kserve, sweep_async
from loadgen.doctor import examined
from loadgen.endpoint import Endpoint
from loadgen.plan import Generated
from loadgen.server import embedded
from loadgen.server.launch import RunningServer, serve_standin, serve_triton
from loadgen.server.triton import Triton

pytestmark = [pytest.mark.live]

STEPS = ("first", "second")
EVENTS = Synthetic(mu=10.0, events=3)


def write_ensemble(folder: Path) -> Path:
    """Write a repository with two models and an ensemble of them."""
    models = folder / "models"
    for name in STEPS:
        (models / name / "1").mkdir(parents=True)
        shutil.copyfile(Path(__file__).parent / "slow_echo_model.py", models / name / "1" / "model.py")
        _write(models / name, model_config_pb2.ModelConfig(name=name, backend="python"))
    whole = model_config_pb2.ModelConfig(name="whole", platform="ensemble")
    for name, given, made in zip(STEPS, ("X", "between"), ("between", "Y"), strict=True):
        step = whole.ensemble_scheduling.step.add(model_name=name, model_version=-1)
        step.input_map["X"], step.output_map["Y"] = given, made
    (models / "whole" / "1").mkdir(parents=True)
    _write(models / "whole", whole)
    return models


def _write(folder: Path, config: Any) -> None:
    config.input.add(name="X", data_type="TYPE_FP32", dims=[4])
    config.output.add(name="Y", data_type="TYPE_FP32", dims=[4])
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))


def http_statistics(server: RunningServer, model: str) -> dict[str, Any]:
    """Return what Triton's HTTP statistics say of a model."""
    with urllib.request.urlopen(f"http://{server.http}/v2/models/{model}/stats") as answer:
        found: dict[str, Any] = json.load(answer)["model_stats"][0]
    return found


def test_the_stages_of_an_ensemble_are_those_of_its_models(triton: embedded.Installation, tmp_path: Path) -> None:
    """Each model is there with as many requests as ours, and its own times; sums are those of Triton's HTTP side."""

    async def main() -> tuple[Any, dict[str, Any]]:
        models = write_ensemble(tmp_path)
        async with serve_triton(triton, models, "whole", log=tmp_path / "log") as server:
            run = await sweep_async(
                model="whole",
                url=server.grpc,
                metrics_url=None,
                input_data=Generated("random", 4),
                concurrency=2,
                warmup_ms=200,
                window_ms=1500,
                output=tmp_path / "runs",
            )
            return run, {model: http_statistics(server, model) for model in ("whole", *STEPS)}

    run, http = asyncio.run(main())
    composing = run.composing()
    assert composing["model"].to_list() == list(STEPS)
    (point,) = run.points().to_dicts()
    assert point["verdict"] != "server_disagrees", point["reason"]
    for row in composing.iter_rows(named=True):
        assert abs(row["success"] - point["completed"]) <= 2
        assert row["compute_infer_ns"] > 2e6
    (drained,) = (event["statistics"] for event in run.events("point_drained"))
    for model, ours in {"whole": drained, **drained["composing"]}.items():
        theirs = http[model]["inference_stats"]
        for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            assert ours[f"{name}_ns"] == int(theirs[name]["ns"]), (model, name)
        assert ours["execution_count"] == int(http[model]["execution_count"])


@pytest.mark.usefixtures("triton")
def test_requests_of_another_client_are_counted(tmp_path: Path) -> None:
    """Two that are not ours, in a window, are reported as exactly two."""

    async def foreign(server: RunningServer) -> None:
        async with Triton(Endpoint(server.grpc, server.model)) as triton:
            metadata = await triton.metadata()
        event = next(iter(open_source(EVENTS).events(metadata)))
        message = kserve.infer_request(server.model, "", event.tensors)
        await clock.sleep_ns(2 * clock.NS_PER_S)
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for _ in range(2):
                await stub.ModelInfer(service_pb2.ModelInferRequest.FromString(message))

    async def main() -> dict[str, Any]:
        async with serve_standin(directory=tmp_path, log=tmp_path / "log") as server:
            other = asyncio.create_task(foreign(server))
            options = {"input_data": EVENTS, "concurrency": 2, "warmup_ms": 300, "window_ms": 4000}
            run = await sweep_async(
                model=server.model, url=server.grpc, metrics_url=None, output=tmp_path / "runs", **options
            )
            await other
            row: dict[str, Any] = run.points().row(0, named=True)
            return row

    row = asyncio.run(main())
    assert row["verdict"] == "server_disagrees"
    assert "2 of other clients?" in row["reason"]


@pytest.mark.usefixtures("triton")
def test_the_doctor_finds_a_real_triton_well(tmp_path: Path) -> None:
    """Network, server, its models, the model's signature, statistics and page."""

    async def main() -> dict[str, str]:
        async with serve_standin(directory=tmp_path, log=tmp_path / "log") as server:
            target = Endpoint(server.grpc, server.model, metrics_urls=(server.metrics_url,))
            return {found.what: f"{found.state} {found.words}" for found in await examined(target)}

    found = asyncio.run(main())
    well = ("network", "server", "models", "model", "statistics", "metrics")
    assert all(found[what].startswith("ok ") for what in well), found
    assert "2 instances" in found["model"]
