"""What does it cost to keep a digest of every answer?

Real workers, journal and all, hold 64 requests in flight against a server that answers at once with one
ModelInferResponse of the size asked: in turns (none, digest, digest, none, ...) on one server, so that a drift of the
machine is shared. Processor time of the worker a request, from its own reports.

    python benchmarks/answers_cost.py --size 200 --turns 6 --seconds 2
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2

from loadgen import clock, corpus
from loadgen.atomic import make_folder, write
from loadgen.commands import Failed, Open, Progress, Start
from loadgen.endpoint import Endpoint
from loadgen.fleet import fleet
from loadgen.plan import ClosedLoop
from loadgen.prepare import index_json
from loadgen.server.noop import DATA, END_HEADERS, END_STREAM, HEAD, HEADERS, HOST, TRAILERS, Noop, frame

CONCURRENCY, REQUEST_BYTES = 64, 1000
SETTLING_S = 0.5
FRAME_BYTES = 16_384


def response(size: int) -> bytes:
    """Return an answer as `traccc-gpu` gives it, about as long as asked."""
    message = service_pb2.ModelInferResponse(model_name="traccc-gpu", model_version="1")
    content = np.random.default_rng(0).bytes(size)
    message.outputs.add(name="TRK_PARAMS", datatype="UINT8", shape=(size,))
    message.raw_output_contents.append(content)
    return bytes(message.SerializeToString())


class InFrames(Noop):
    """Sends its answer in frames of the size that every client takes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(b"")
        body = b"\0" + len(answer).to_bytes(4) + answer
        self._pieces = [body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)]

    def _answer(self, out: list[bytes]) -> None:
        stream, self._ends = self._ends, 0
        out.append(frame(HEADERS, END_HEADERS, stream, HEAD))
        out += (frame(DATA, 0, stream, piece) for piece in self._pieces)
        out.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS))


async def serve(size: int) -> None:
    """Serve until killed; print the address."""
    answer, loop = response(size), asyncio.get_running_loop()
    server = await loop.create_server(lambda: InFrames(answer), HOST, 0)
    print(f"{HOST}:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@asynccontextmanager
async def served(size: int) -> AsyncIterator[str]:
    """Serve in another process; yields the address."""
    command = (sys.executable, __file__, "--serve", "--size", str(size))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def turn(address: str, folder: Path, seconds: float, *, digests: bool) -> tuple[float, int]:
    """Return microseconds of processor time a request, and how many were completed."""
    reports: list[Progress] = []

    def hear(news: Progress | Failed) -> None:
        if isinstance(news, Failed):
            print(news.details, flush=True)
        else:
            reports.append(news)

    make_folder(folder)
    binary, index = folder / "corpus.bin", folder / "corpus.json"
    requests = [corpus.Request("random", np.random.default_rng(1).bytes(REQUEST_BYTES))]
    write(index, index_json(corpus.write(binary, requests, "random", {}, synthetic=True)))
    async with fleet(1, hear, lambda _: folder / "stderr") as workers:
        await workers.open(
            Open(0, 1, str(folder), str(binary), str(index), Endpoint(address, "noop"), 10**11, 0, digests=digests)
        )
        workers.start(Start(1, ClosedLoop(CONCURRENCY)))
        begun_ns = clock.now_ns() + round(SETTLING_S * clock.NS_PER_S)
        await clock.sleep_ns(round((SETTLING_S + seconds) * clock.NS_PER_S))
        own = [each for each in reports if each.point == 1 and each.at_ns >= begun_ns]
        await workers.stop()
    completed = own[-1].completed - own[0].completed
    return 1e6 * (own[-1].cpu_s - own[0].cpu_s) / completed, completed


async def compare(size: int, turns: int, seconds: float) -> None:
    """Take turns and print each, then both medians."""
    costs: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as made:
        async with served(size) as address:
            for number in range(2 * turns):
                digests = number % 4 in {1, 2}
                cost, completed = await turn(address, Path(made) / str(number), seconds, digests=digests)
                costs[digests].append(cost)
                print(f"{'digest' if digests else 'none':>6}: {cost:9.2f} us, {completed} requests", flush=True)
    for digests, each in costs.items():
        spread = f"{min(each):.2f} to {max(each):.2f}"
        print(
            f"answers of {size} bytes, {'digest' if digests else 'none'}: median {np.median(each):.2f} us ({spread})"
        )


def main() -> None:
    """Measure, or serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    asyncio.run(serve(given.size) if given.serve else compare(given.size, given.turns, given.seconds))


if __name__ == "__main__":
    main()
