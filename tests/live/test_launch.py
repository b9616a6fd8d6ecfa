"""The real Triton in the box: it answers rightly, and it is gone afterwards, however we end."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2

from loadgen.endpoint import Endpoint
from loadgen.errors import TargetError
from loadgen.kserve import DTYPES, SERVICE, Tensor, TensorMetadata, infer_request
from loadgen.server import embedded, launch, repository
from loadgen.server.launch import RunningServer, serve_standin, serve_triton
from loadgen.server.standin import traccc_gpu
from loadgen.server.triton import Triton

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

WAIT_S = 20
PARENT = """
import asyncio, sys
from pathlib import Path
from loadgen.server.launch import serve_standin

async def main():
    folder = Path(sys.argv[1])
    async with serve_standin(directory=folder, log=folder / "log"):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def event(signature: str, cells: int) -> tuple[Tensor, ...]:
    """Make random cells of few modules as the signature's tensors."""
    rng = np.random.default_rng(1)
    module = 1152922329240578050 + rng.integers(0, 20, cells)
    channels, value = rng.integers(0, 60, (cells, 2)), rng.random(cells)
    if signature == "odd":
        features = np.column_stack((np.zeros(cells), channels, np.zeros(cells), value))
        return Tensor("GEOMETRY_ID", "UINT64", module.astype(np.uint64)), Tensor("FEATURES", "FP64", features)
    positions = np.column_stack((module, np.zeros(cells, dtype=np.int64), channels))
    properties = np.column_stack((np.zeros(cells), value)).astype(np.float32)
    return Tensor("CELL_POSITIONS", "INT64", positions), Tensor("CELL_PROPERTIES", "FP32", properties)


def infer(server: RunningServer, tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    body = infer_request(server.model, "", tensors)
    with grpc.insecure_channel(server.grpc) as channel:
        response = channel.unary_unary(SERVICE + "ModelInfer")(body, timeout=WAIT_S)
    message = service_pb2.ModelInferResponse.FromString(response)
    return {
        output.name: np.frombuffer(raw, DTYPES[output.datatype]).reshape(output.shape)
        for output, raw in zip(message.outputs, message.raw_output_contents, strict=True)
    }


def running(processes: Sequence[psutil.Process]) -> list[str]:
    names = []
    for process in processes:
        try:
            names += [process.name()] if process.status() != psutil.STATUS_ZOMBIE else []
        except psutil.NoSuchProcess:
            continue
    return names


def wait_gone(processes: Sequence[psutil.Process]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while left := running(processes):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.05)


def shared_memory(pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"loadgen-{pid}-*"))


@pytest.mark.parametrize("signature", ["odd", "itk"])
def test_serves_the_signature_and_leaves_nothing(tmp_path: Path, signature: str) -> None:
    """Answers over gRPC are those of the code called directly; bad input is an error; nothing is left behind."""

    async def serve() -> list[psutil.Process]:
        async with serve_standin(signature=signature, directory=tmp_path, log=tmp_path / "log") as server:
            async with Triton(Endpoint(grpc=server.grpc, model=server.model)) as triton:
                metadata = await triton.metadata()
            assert (metadata.inputs, metadata.outputs) == repository.SIGNATURES[signature]
            check_answers(server, signature, metadata.inputs)
            started = psutil.Process().children(recursive=True)
            assert running(started).count("triton_python_backend_stub") == 2
            assert len(shared_memory(os.getpid())) == 2
        return started

    assert running(asyncio.run(serve())) == []
    assert shared_memory(os.getpid()) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def check_answers(server: RunningServer, signature: str, inputs: tuple[TensorMetadata, ...]) -> None:
    answer = traccc_gpu.ANSWERS[frozenset(tensor.name for tensor in inputs)]
    for cells in (0, 1, 5000):
        tensors = event(signature, cells)
        expected = answer({tensor.name: tensor.data for tensor in tensors})
        got = infer(server, tensors)
        assert got.keys() == expected.keys()
        for name, data in expected.items():
            np.testing.assert_array_equal(got[name], data)
    first, second = event(signature, 5)
    with pytest.raises(grpc.RpcError, match=r"stand-in: \w+ has 5 cells, but"):
        infer(server, (first, Tensor(second.name, second.datatype, second.data[:3])))
    assert infer(server, (first, second))


def test_two_servers_at_a_time_have_ports_of_their_own(tmp_path: Path) -> None:
    """A second server starts beside the first, and both are ready."""

    async def serve() -> tuple[RunningServer, RunningServer]:
        log = tmp_path / "1.log", tmp_path / "2.log"
        async with (
            serve_standin(directory=tmp_path, log=log[0], instances=1) as one,
            serve_standin(directory=tmp_path, log=log[1], instances=1) as two,
        ):
            for server in (one, two):
                assert infer(server, event("odd", 10))
            return one, two

    one, two = asyncio.run(serve())
    assert len({one.grpc, two.grpc, one.http, two.http, one.metrics_url, two.metrics_url}) == 6


def test_lost_race_for_a_port_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process took a port in between, the server starts on others."""
    free = launch._free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        attempts = [free, launch._Ports(free.grpc, free.http, taken.getsockname()[1])]
        monkeypatch.setattr(launch, "_free_ports", attempts.pop)

        async def serve() -> str:
            async with serve_standin(directory=tmp_path, log=tmp_path / "log", instances=1) as server:
                return server.metrics_url

        assert asyncio.run(serve()) == f"http://127.0.0.1:{free.metrics}/metrics"
    assert attempts == []


@pytest.mark.parametrize("victim", ["parent", "guard"])
def test_kill_9_leaves_no_server(tmp_path: Path, victim: str) -> None:
    """SIGKILL of our process, or of the guard, ends Triton and its stubs within seconds."""
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "ready\n"
            guard, *servers = psutil.Process(parent.pid).children(recursive=True)
            assert sorted(running(servers)) == ["triton_python_backend_stub"] * 2 + ["tritonserver"]
            psutil.Process(parent.pid if victim == "parent" else guard.pid).kill()
            wait_gone([guard, *servers])
            assert shared_memory(parent.pid) == []
        finally:
            parent.kill()


def test_cancelled_task_stops_the_server(tmp_path: Path) -> None:
    """A task cancelled while it serves, as by Ctrl-C, leaves no process when it has ended."""

    async def serve() -> list[psutil.Process]:
        ready = asyncio.Event()

        async def stand() -> None:
            async with serve_standin(directory=tmp_path, log=tmp_path / "log", instances=1):
                ready.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(stand())
        await ready.wait()
        started = psutil.Process().children(recursive=True)
        assert "tritonserver" in running(started)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        return started

    assert running(asyncio.run(serve())) == []


def broken_code(model: Path) -> None:
    (model / "1" / "model.py").write_text("raise RuntimeError('no such detector')\n")


def broken_config(model: Path) -> None:
    (model / "config.pbtxt").write_text("input {")


def complaint_that_names_numpy(model: Path) -> None:
    (model / "1" / "model.py").write_text("import numpy; raise RuntimeError(numpy.__file__)\n")


@pytest.mark.parametrize(
    ("breakage", "telling"),
    [
        (broken_code, "RuntimeError: no such detector"),
        (broken_config, "failed to read text proto"),
        pytest.param(complaint_that_names_numpy, str(np.__file__), id="model_sees_our_numpy"),
    ],
)
def test_broken_repository_shows_the_log(
    triton: embedded.Installation, tmp_path: Path, breakage: Callable[[Path], None], telling: str
) -> None:
    """A model that cannot load fails at once, with the log's name first and its errors after."""
    models = repository.write_standin(tmp_path, "odd", 1)
    breakage(models / "traccc-gpu")

    async def serve() -> None:
        async with serve_triton(triton, models, "traccc-gpu", log=tmp_path / "log"):
            pytest.fail("a broken model got ready")

    with pytest.raises(TargetError) as failure:
        asyncio.run(serve())
    first, *shown = str(failure.value).splitlines()
    assert first == f"Triton ended with status 1 before it was ready; its log is {tmp_path / 'log'} and says:"
    assert any(telling in line for line in shown)
    assert max(map(len, shown)) < 250
    assert psutil.Process().children() == []


def test_a_stretched_stand_in_takes_its_time(tmp_path: Path) -> None:
    """The same answers, so many times later: what is beyond the work is waited for, without the processor."""
    tensors = event("odd", 20_000)

    async def served(stretch: float) -> tuple[dict[str, np.ndarray], float]:
        folder = tmp_path / str(stretch)
        folder.mkdir()
        async with serve_standin(directory=folder, log=folder / "log", instances=1, stretch=stretch) as server:
            found = await asyncio.to_thread(infer, server, tensors)
            took_s = []
            for _ in range(7):
                begun_s = time.perf_counter()
                await asyncio.to_thread(infer, server, tensors)
                took_s.append(time.perf_counter() - begun_s)
        return found, sorted(took_s)[3]

    (plain, plain_s), (late, late_s) = asyncio.run(served(1.0)), asyncio.run(served(10.0))
    assert late_s > 3 * plain_s
    assert all(np.array_equal(plain[name], late[name]) for name in plain)
