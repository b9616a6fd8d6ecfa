"""Models that answer a request any number of times, and compressed messages, against the real Triton."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from loadgen import sweep_async
from loadgen.errors import PlanError
from loadgen.server import embedded
from loadgen.server.launch import serve_triton

pytestmark = [pytest.mark.live]

MODEL = "repeating"
COUNTS = (3, 0, 1, 7)


def write_repository(folder: Path) -> Path:
    """Write a repository with the decoupled model."""
    version = folder / "models" / MODEL / "1"
    version.mkdir(parents=True)
    shutil.copyfile(Path(__file__).parent / "repeating_model.py", version / "model.py")
    config = model_config_pb2.ModelConfig(name=MODEL, backend="python", max_batch_size=0)
    config.input.add(name="N", data_type="TYPE_INT32", dims=[1])
    config.output.add(name="OUT", data_type="TYPE_INT32", dims=[1])
    config.model_transaction_policy.decoupled = True
    (version.parent / "config.pbtxt").write_text(text_format.MessageToString(config))
    return version.parents[1]


def swept(triton: embedded.Installation, folder: Path, counts: tuple[int, ...], **options: Any) -> tuple[Any, Any]:
    """Sweep the decoupled model with requests for so many answers; return the run and its rows."""
    file = folder / "input.json"
    file.write_text(json.dumps({"data": [{"N": [count]} for count in counts]}))

    async def main() -> Any:
        models = write_repository(folder)
        async with serve_triton(triton, models, MODEL, log=folder / "log") as server:
            return await sweep_async(
                model=MODEL,
                url=server.grpc,
                metrics_url=None,
                input_data=file,
                concurrency=3,
                warmup_ms=0,
                window_ms=1000,
                output=folder / "runs",
                **options,
            )

    run = asyncio.run(main())
    return run, run.records().collect()


def test_every_answer_of_a_decoupled_model_is_counted(triton: embedded.Installation, tmp_path: Path) -> None:
    """As many as each request asked for, none included; a request is done after its first answer, if it has one."""
    run, rows = swept(triton, tmp_path, COUNTS)
    assert run.plan["transport"] == "grpcio"
    assert set(rows["outcome"]) == {"ok"}
    for body, count in enumerate(COUNTS):
        assert set(rows.filter(pl.col("body") == body)["responses"]) == {count}
    answered = rows.filter(pl.col("responses") > 0)
    assert (answered["first_byte_ns"] <= answered["done_ns"]).all()
    assert run.points()["point_server_success"].to_list() == run.points()["point_ok"].to_list()


def test_an_error_in_a_stream_is_a_row(triton: embedded.Installation, tmp_path: Path) -> None:
    """With the model's own words in the log."""
    run, rows = swept(triton, tmp_path, (1, -1), order="sequential")
    assert set(rows.filter(pl.col("body") == 1)["outcome"]) == {"grpc_unknown"}
    assert "asked to fail" in run.events("failure")[0]["details"]


def test_the_direct_transport_refuses_a_decoupled_model(triton: embedded.Installation, tmp_path: Path) -> None:
    """One line; nothing is sent, nothing left behind."""
    with pytest.raises(PlanError, match="transport direct: cannot be used where the model answers in streams"):
        swept(triton, tmp_path, COUNTS, transport="direct")
    assert not list((tmp_path / "runs").iterdir())
