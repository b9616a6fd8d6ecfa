"""Does the client's memory stay flat under large requests?

Drives 500 requests of a mu = 200 event (about 20 MB each) at concurrency 4 against the stub server, and prints the
worker's resident memory when 100 and when 500 requests were done. Figures come from the run's own samples.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import polars as pl

from analysis.runs import Run
from loadgen import Synthetic, sweep_async
from loadgen.server.launch import serve_stub

REQUESTS = 500
EARLY = 100
CONCURRENCY = 4
WINDOW_MS = 1000
FLAT_RATIO = 1.10


async def measure(folder: Path) -> Run:
    """Sweep one concurrency over and over, until enough requests are done."""
    async with serve_stub(signature="odd", instances=CONCURRENCY, log=folder / "stub.log") as server:
        return await sweep_async(
            model=server.model,
            url=server.grpc,
            metrics_url=None,
            input_data=Synthetic(mu=200.0, events=4),
            concurrency=CONCURRENCY,
            warmup_ms=WINDOW_MS,
            window_ms=int(sys.argv[1]) * 1000 if len(sys.argv) > 1 else 60_000,
            output=folder,
        )


def resident_mb(run: Run, requests: int) -> float:
    """Return the worker's resident memory just after so many requests were done."""
    done = run.records().filter(pl.col("outcome") == "ok").select("done_ns").collect()["done_ns"].sort()
    after = run.samples().filter(
        (pl.col("metric") == "process_resident_memory_bytes") & (pl.col("at_ns") >= done[requests - 1])
    )
    return float(after.sort("at_ns")["value"][0]) / 1e6


def main() -> None:
    """Print the two figures and their ratio; exit 1 if memory grew."""
    with tempfile.TemporaryDirectory() as folder:
        run = asyncio.run(measure(Path(folder)))
        done = run.records().filter(pl.col("outcome") == "ok").select(pl.len()).collect().item()
        size_mb = run.records().select(pl.col("request_bytes").mean()).collect().item() / 1e6
        if done < REQUESTS:
            sys.exit(f"only {done} requests done: give a longer window, in seconds, as argument")
        early, late = resident_mb(run, EARLY), resident_mb(run, REQUESTS)
    print(f"{done} requests of {size_mb:.1f} MB at concurrency {CONCURRENCY}")
    print(f"resident memory after {EARLY}: {early:.0f} MB; after {REQUESTS}: {late:.0f} MB; ratio {late / early:.3f}")
    sys.exit(late > FLAT_RATIO * early)


if __name__ == "__main__":
    main()
