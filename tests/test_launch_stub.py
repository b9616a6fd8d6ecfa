"""The simulating stub under the same guard: ready when handed out, gone afterwards, told when it cannot start."""

import asyncio
from pathlib import Path

import psutil
import pytest

from loadgen.endpoint import Endpoint
from loadgen.errors import TargetError
from loadgen.server import repository
from loadgen.server.launch import serve_stub
from loadgen.server.triton import Triton


def test_stub_is_ready_when_handed_out_and_gone_afterwards(tmp_path: Path) -> None:
    """The addresses it printed are those it serves on, with the signature asked for; leaving ends its process."""

    async def serve() -> list[psutil.Process]:
        async with serve_stub(signature="itk", instances=1, log=tmp_path / "log") as server:
            assert server.kind == "stub"
            async with Triton(Endpoint(grpc=server.grpc, model=server.model)) as triton:
                await triton.wait_ready(1)
                metadata = await triton.metadata()
            assert metadata.inputs == repository.SIGNATURES["itk"][0]
            return psutil.Process().children(recursive=True)

    started = asyncio.run(serve())
    assert len(started) == 2
    assert not any(process.is_running() for process in started)


def test_stub_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    """A stub that ends before it is ready is an error that names the log and shows what it said."""

    async def serve() -> None:
        async with serve_stub(signature="tml", log=tmp_path / "log"):
            pytest.fail("a stub of no signature got ready")

    with pytest.raises(
        TargetError, match=r"the stub ended before it was ready; its log is .*\n  stub.py: error: .*tml"
    ):
        asyncio.run(serve())
