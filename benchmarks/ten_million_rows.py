"""How long does it take to summarise ten million requests from a sealed run's Parquet?

`python benchmarks/ten_million_rows.py [FOLDER]` makes a run directory of 10 million rows in 64 points (about 190 MB,
kept in FOLDER if it is named), loads it with `analysis.load` and prints the seconds that count, mean, p50, p90, p95
and p99 of the service time of every point take, best and median of five, with the processor time. Each goes from the
files to the table: nothing is kept in between but what the system caches of the disk.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

import analysis
from analysis.runs import RECORDS_SCHEMA
from analysis.tidy import SAMPLES
from loadgen import points

ROWS, POINTS = 10_000_000, 64
EVENTS_PER_S = 10_000.0
TIMES = 5
LIMIT_S = 2.0
FAILED = 0.001
S = 1_000_000_000


def records() -> pl.DataFrame:
    """Return the requests: open loop at one rate, lognormal service times of 50 ms."""
    rng = np.random.default_rng(0)
    due_ns = np.cumsum(rng.exponential(S / EVENTS_PER_S, ROWS)).astype(np.int64)
    sent_ns = due_ns + rng.integers(10_000, 50_000, ROWS)
    done_ns = sent_ns + (rng.lognormal(0, 0.3, ROWS) * 0.05 * S).astype(np.int64)
    columns = {
        "point": np.repeat(np.arange(1, POINTS + 1, dtype=np.uint32), ROWS // POINTS),
        "seq": np.arange(ROWS, dtype=np.uint64),
        "body": rng.integers(0, 10, ROWS).astype(np.uint32),
        "outcome": np.where(rng.random(ROWS) < FAILED, "timeout", "ok"),
        "responses": np.ones(ROWS, np.uint16),
        "due_ns": due_ns,
        "sent_ns": sent_ns,
        "flushed_ns": sent_ns + 100,
        "first_byte_ns": done_ns - 30_000,
        "done_ns": done_ns,
    }
    sizes = {"request_bytes": pl.lit(2_000_000), "response_bytes": pl.lit(120_000)}
    frame = pl.DataFrame(columns).with_columns(worker=pl.lit(0), connection=pl.lit(0), **sizes)
    return frame.select(pl.col(name).cast(kind) for name, kind in RECORDS_SCHEMA.items())


def write(run: Path) -> None:
    """Write a run directory with those records; its windows leave out a second at each end of a point."""
    (run / "records").mkdir(parents=True)
    rows = records()
    rows.write_parquet(run / "records" / "worker-0.parquet")
    windows = rows.group_by("point").agg(
        window_start_ns=pl.col("sent_ns").min() + S, window_end_ns=pl.col("sent_ns").max() - S
    )
    facts = [
        dict.fromkeys(points.SCHEMA) | window | {"load": "open_loop", "rate_per_s": EVENTS_PER_S, "repeat": 1}
        for window in windows.sort("point").to_dicts()
    ]
    points.table(facts).write_parquet(run / "points.parquet")
    pl.DataFrame(schema={name: kind for name, kind in SAMPLES.items() if name != "run"}).write_parquet(
        run / "samples.parquet"
    )
    for name in ("plan.json", "environment.json", "manifest.json"):
        (run / name).write_text(json.dumps({"format": 1}))
    (run / "log.jsonl").write_text("")


def seconds(run: Path) -> tuple[float, float, pl.DataFrame]:
    """Load and summarise; return wall and processor seconds, and the summary."""
    began, began_cpu = time.perf_counter(), time.process_time()
    summary = analysis.durations(analysis.load(run).requests).collect()
    return time.perf_counter() - began, time.process_time() - began_cpu, summary


def main() -> None:
    """Make the run if it is not there, time the summary, check its count, print."""
    with tempfile.TemporaryDirectory() as made:
        run = Path(sys.argv[1] if len(sys.argv) > 1 else made) / "ten-million"
        if not run.exists():
            write(run)
        size_mb = (run / "records" / "worker-0.parquet").stat().st_size / 1e6
        timed = [seconds(run) for _ in range(TIMES)]
    wall, cpu = [each[0] for each in timed], [each[1] for each in timed]
    summary = timed[-1][2]
    cores = os.cpu_count()
    print(f"{ROWS:,} rows, {POINTS} points, {size_mb:.0f} MB of Parquet, {cores} cores, polars {pl.__version__}")
    print(f"summarised {summary['count'].sum():,} requests in {summary.height} points")
    print(f"wall: best {min(wall):.2f} s, median {statistics.median(wall):.2f} s; processor {min(cpu):.2f} s")
    sys.exit(min(wall) > LIMIT_S)


if __name__ == "__main__":
    main()
