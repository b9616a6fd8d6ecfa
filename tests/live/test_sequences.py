"""A model that keeps state gets whole sequences: the real Triton's sequence batcher accepts every step of ours."""

import asyncio
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from loadgen import sweep_async
from loadgen.server import embedded
from loadgen.server.launch import serve_triton

pytestmark = [pytest.mark.live]

MODEL = "stateful"
STREAM_STEPS = (3, 1, 5)
Control = model_config_pb2.ModelSequenceBatching.Control
FLAGS = {
    "START": Control.CONTROL_SEQUENCE_START,
    "END": Control.CONTROL_SEQUENCE_END,
    "READY": Control.CONTROL_SEQUENCE_READY,
}


def write_repository(folder: Path, log: Path) -> Path:
    """Write a repository with the stateful model."""
    version = folder / "models" / MODEL / "1"
    version.mkdir(parents=True)
    shutil.copyfile(Path(__file__).parent / "sequence_model.py", version / "model.py")
    config = model_config_pb2.ModelConfig(name=MODEL, backend="python", max_batch_size=8)
    config.input.add(name="X", data_type="TYPE_INT32", dims=[2])
    config.output.add(name="COUNT", data_type="TYPE_INT32", dims=[1])
    for name, kind in FLAGS.items():
        control = config.sequence_batching.control_input.add(name=name).control.add(kind=kind)
        control.int32_false_true.extend([0, 1])
    control = config.sequence_batching.control_input.add(name="CORRID").control.add()
    control.kind = Control.CONTROL_SEQUENCE_CORRID
    control.data_type = model_config_pb2.TYPE_UINT64
    config.sequence_batching.direct.SetInParent()
    config.parameters["log"].string_value = str(log)
    (version.parent / "config.pbtxt").write_text(text_format.MessageToString(config))
    return version.parents[1]


def test_triton_sees_whole_sequences(triton: embedded.Installation, tmp_path: Path) -> None:
    """Start first and once, every step of a stream in its order, end last: in the model, for each id; none fails."""
    log, file = tmp_path / "steps", tmp_path / "input.json"
    streams = [[{"X": [stream, step]} for step in range(steps)] for stream, steps in enumerate(STREAM_STEPS)]
    file.write_text(json.dumps({"data": streams}))

    async def main() -> pl.DataFrame:
        models = write_repository(tmp_path, log)
        async with serve_triton(triton, models, MODEL, log=tmp_path / "log") as server:
            run = await sweep_async(
                model=MODEL,
                url=server.grpc,
                metrics_url=None,
                input_data=file,
                concurrency=[1, 3],
                warmup_ms=0,
                window_ms=700,
                output=tmp_path / "runs",
            )
        return run.records().collect()

    rows = asyncio.run(main())
    assert set(rows["outcome"]) == {"ok"}
    sequences: dict[int, list[tuple[int, ...]]] = {}
    for line in log.read_text().splitlines():
        identifier, *step = json.loads(line)
        sequences.setdefault(identifier, []).append(tuple(step))
    assert sum(map(len, sequences.values())) == len(rows)
    assert len(sequences) > 20
    for steps in list(sequences.values())[1:]:  # the first is the one request that looks whether the model answers
        stream = steps[0][2]
        assert steps[0][0] == 1
        assert sum(start for start, *_ in steps) == 1
        assert steps[-1][1] == 1
        assert sum(end for _, end, *_ in steps) == 1
        assert [step[2:] for step in steps] == [(stream, number) for number in range(len(steps))]
        assert len(steps) <= STREAM_STEPS[stream]
    assert {steps[0][2] for steps in sequences.values()} == set(range(len(STREAM_STEPS)))
