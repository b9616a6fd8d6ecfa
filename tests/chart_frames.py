"""Tidy frames made up for the tests of charts: plain numbers whose figures can be worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.charts import Frames
from loadgen import points as measured

RUNGS = {"mean": 1.0, "p50": 0.98, "p90": 1.1, "p95": 1.2, "p99": 1.4, "p99_9": 1.6}
MS = 1_000_000
S = 1_000_000_000
FIXTURES = Path(__file__).parent / "fixtures"


def points(*rows: dict[str, Any], **facts: Any) -> pl.DataFrame:
    """Return points of one run; every row gets `facts` and plain facts of a closed loop."""
    plain = dict.fromkeys(measured.SCHEMA) | {
        "load": "closed_loop",
        "repeat": 1,
        "model": "traccc-gpu",
        "server": "triton 2.51.0",
        "inputs": "real cells",
        "simulated": False,
        "verdict": "converged",
        "reason": "",
        "completed": 100,
        "instances": 2,
    }
    own = {"run": "a", "label": "a", "source": "runs/a", "kind": "loadgen", "mu": 200.0, "gpus": 2}
    whole = [plain | own | facts | {"point": number} | row for number, row in enumerate(rows, start=1)]
    schema = {**measured.SCHEMA, **{name: kind for name, kind in OWN.items() if name not in measured.SCHEMA}}
    return pl.DataFrame(whole, schema=schema)


OWN: dict[str, Any] = {
    "run": pl.String,
    "label": pl.String,
    "source": pl.String,
    "kind": pl.String,
    "mu": pl.Float64,
    "gpus": pl.UInt32,
}


def gpus(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return GPU figures of one run; what a row does not say is null."""
    names = ("utilisation", "power_w", "power_limit_w", "memory_used_max_bytes", "memory_total_bytes", "energy_j")
    schema: dict[str, Any] = {
        "run": pl.String,
        "point": pl.UInt32,
        "gpu": pl.String,
        **dict.fromkeys(names, pl.Float64),
    }
    return pl.DataFrame([{"run": "a"} | row for row in rows], schema=schema)


def grid(*, simulated: bool = False) -> Frames:
    """Return frames of everything: instances 1 to 3, concurrency 1 to 6, three takes, two GPUs, an open loop."""
    rows = [_row(i, c, take) for i in (1, 2, 3) for c in range(1, 7) for take in (1, 2, 3)]
    closed = points(*rows, simulated=simulated)
    figures = [
        {
            "point": row["point"], "gpu": name, "utilisation": min(1.0, row["concurrency"] / 6) * share,
            "power_w": 300.0 * share, "power_limit_w": 400.0, "memory_used_max_bytes": 4e9 * row["instances"],
            "memory_total_bytes": 40e9, "energy_j": 900.0,
        }
        for row in closed.iter_rows(named=True)
        for name, share in (("GPU-aaaa", 0.9), ("GPU-bbbb", 0.7))
    ]  # fmt: skip
    pods = [
        {
            "run": "a",
            "point": row["point"],
            "pod": pod,
            "throughput_per_s": row["throughput_per_s"] / 2,
            "queue_ns": 2.0 * MS,
        }
        for row in closed.iter_rows(named=True)
        for pod in ("10.0.0.1:8002", "10.0.0.2:8002")
    ]
    rates = [_open_row(rate) for rate in (10.0, 20.0, 30.0)]
    one = points(*({**row, "throughput_per_s": 0.6 * row["throughput_per_s"]} for row in rows), run="one", gpus=1)
    both = pl.concat(
        [
            closed,
            one.with_columns(simulated=pl.lit(simulated)),
            points(*rates, run="open", label="open", simulated=simulated),
        ]
    )
    answers = [
        {"label": label, "quantity": quantity, "value": value}
        for label, shift in (("service", 0.0), ("standalone", 1.0))
        for quantity, values in (("chi2_ndf", np.arange(0, 150, 0.5)), ("tracks", np.arange(0, 3000, 7.0)))
        for value in values + shift
    ]
    return Frames(
        points=both,
        gpus=gpus(*figures),
        pods=pl.DataFrame(pods),
        requests=requests(closed),
        standalone=pl.read_csv(FIXTURES / "studies_standalone.csv"),
        answers=pl.DataFrame(answers),
    )


def requests(of: pl.DataFrame, each: int = 100) -> pl.DataFrame:
    """Return requests of every point: 5 sizes, 10 ms and 4 ms a MB, a little more at higher concurrency."""
    rows = []
    for row in of.iter_rows(named=True):
        for k in range(each):
            size = 1_000_000 * (1 + k % 5)
            sent_ns = row["point"] * 10 * S + k * 50 * MS
            service_ns = 10 * MS + 4 * (size // 1_000_000) * MS + (k * 7919 % 13) * MS // 10 + row["concurrency"] * MS
            rows.append(
                {"run": "a", "point": row["point"], "outcome": "ok", "due_ns": sent_ns, "sent_ns": sent_ns,
                 "done_ns": sent_ns + service_ns, "request_bytes": size}
            )  # fmt: skip
    return pl.DataFrame(rows).with_columns(pl.col("point").cast(pl.UInt32))


def _row(instances: int, concurrency: int, take: int) -> dict[str, Any]:
    busy = min(instances, concurrency)
    throughput = 10.0 * busy * (1 + 0.02 * (take - 2))
    service_ns = concurrency / throughput * S
    times = {f"service_{name}_ns": service_ns * k for name, k in RUNGS.items()}
    times |= {key.replace("_ns", "_low_ns"): 0.97 * value for key, value in times.items()} | {
        key.replace("_ns", "_high_ns"): 1.03 * value for key, value in times.items()
    }
    queue_ns = max(0.0, service_ns - 95 * MS)
    return {
        "concurrency": concurrency, "instances": instances, "repeat": take, "throughput_per_s": throughput,
        "throughput_low_per_s": 0.98 * throughput, "throughput_high_per_s": 1.02 * throughput, **times,
        "server_queue_ns": queue_ns, "server_compute_input_ns": 0.01 * MS, "server_compute_infer_ns": 85.0 * MS,
        "server_compute_output_ns": 1.0 * MS, "network_ns": service_ns - queue_ns - 86.01 * MS,
    }  # fmt: skip


def _open_row(rate: float) -> dict[str, Any]:
    times = {
        f"service_{name}_ns": k * MS
        for name, k in (("mean", 90), ("p50", 88), ("p90", 99), ("p95", 110), ("p99", 130))
    }
    response = {key.replace("service", "response"): value * (1 + rate / 100) for key, value in times.items()}
    return {"load": "open_loop", "rate_per_s": rate, "throughput_per_s": rate, **times, **response}
