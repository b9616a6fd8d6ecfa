"""Sealed run directories made up for the tests of `analysis`, written to the letter of docs/run_directory.md."""

import heapq
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis import runs
from loadgen import points, seal

S = 1_000_000_000
MS = 1_000_000
ORIGIN_NS = 500 * S
UTC_NS = 1_790_000_000 * S

RECORDS, SAMPLES, POINTS = runs.RECORDS_SCHEMA, seal.SAMPLES_SCHEMA, points.SCHEMA


@dataclass(frozen=True)
class Story:
    """What the made-up run was like."""

    concurrency: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    instances: int = 2
    gpus: int = 2
    cpu: bool = True
    samples: bool = True
    statistics: bool = True
    failing: tuple[int, ...] = ()
    all_failed: bool = False
    service_ms: float = 80.0
    window_s: float = 5.0
    model: str = "traccc-gpu"
    server: str = "triton 2.51.0 (stand-in model)"
    inputs: str = "synthetic ODD, mu 20, 10 events, seed 0"
    simulated: bool = True
    ended: str = "complete"
    warnings: tuple[str, ...] = ()
    seed: int = 0
    stages_ms: dict[str, float] = field(
        default_factory=lambda: {"compute_input": 0.05, "compute_infer": 0.9, "compute_output": 0.05}
    )


def write_run(path: Path, story: Story | None = None) -> Path:
    """Write a whole sealed run directory at `path`; return it."""
    story = story or Story()
    (path / "records").mkdir(parents=True)
    rows, points, log, at_ns = _sweep(story)
    samples = _samples(story, points, at_ns) if story.samples else []
    log.append({"at_ns": at_ns, "event": "run_ended", "ended": story.ended, "reason": ""})
    pl.DataFrame(rows, schema=RECORDS, orient="row").write_parquet(path / "records" / "worker-0.parquet")
    pl.DataFrame(points, schema=POINTS).write_parquet(path / "points.parquet")
    pl.DataFrame(samples, schema=SAMPLES, orient="row").write_parquet(path / "samples.parquet")
    (path / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    for name, facts in _facts(story).items():
        (path / name).write_text(json.dumps(facts, indent=2))
    manifest = {
        "format": 1,
        "name": path.name,
        "started_utc_ns": UTC_NS,
        "started_at_ns": ORIGIN_NS,
        "ended_at_ns": at_ns,
        "ended": story.ended,
        "reason": "",
        "points": len(points),
        "rows": len(rows),
        "samples": len(samples),
        "loadgen_version": "0.1.0",
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def _sweep(story: Story) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]], list[dict[str, Any]], int]:
    rng = np.random.default_rng(story.seed)
    log: list[dict[str, Any]] = [
        {"at_ns": ORIGIN_NS, "event": "run_started", "utc_ns": UTC_NS},
        {"at_ns": ORIGIN_NS, "event": "server", "name": "triton", "version": "2.51.0", "model": story.model},
    ]
    rows: list[tuple[Any, ...]] = [_row(0, 0, "ok", ORIGIN_NS + S, ORIGIN_NS + S + 300 * MS)]
    points = []
    at_ns = ORIGIN_NS + 2 * S
    for number, level in enumerate(story.concurrency, start=1):
        fails = story.all_failed or level in story.failing
        start_ns = at_ns + 1 * S
        end_ns = start_ns + int(story.window_s * S)
        mine = _point_rows(story, number, level, at_ns, end_ns, rng, fails=fails)
        points.append(_point(story, number, level, (start_ns, end_ns), mine))
        rows += mine
        if fails:
            log.append(
                {
                    "at_ns": start_ns,
                    "event": "failure",
                    "point": number,
                    "outcome": "grpc_unavailable",
                    "details": "failed to connect to all addresses",
                }
            )
        at_ns = max(row[10] for row in mine) + S // 2
    log += [{"at_ns": at_ns, "event": "warning", "text": text} for text in story.warnings]
    return rows, points, log, at_ns


def _point_rows(  # noqa: PLR0913, PLR0917 - the facts of one point
    story: Story, point: int, level: int, start_ns: int, end_ns: int, rng: np.random.Generator, *, fails: bool
) -> list[tuple[Any, ...]]:
    """Closed loop: `level` slots on a FIFO of `instances` servers."""
    free = [start_ns] * story.instances
    slots = [start_ns + slot * 1000 for slot in range(level)]
    heapq.heapify(slots)
    rows: list[tuple[Any, ...]] = []
    while slots:
        sent_ns = heapq.heappop(slots)
        if sent_ns >= end_ns:
            continue
        service_ns = int(story.service_ms * MS * rng.lognormal(0.0, 0.12))
        begin_ns = max(sent_ns, heapq.heappop(free))
        done_ns = begin_ns + service_ns
        heapq.heappush(free, done_ns)
        failed = fails and (story.all_failed or rng.random() < 0.2)
        rows.append(_row(point, len(rows), "grpc_unavailable" if failed else "ok", sent_ns, done_ns + MS))
        heapq.heappush(slots, done_ns + MS)
    return rows


def _row(point: int, seq: int, outcome: str, sent_ns: int, done_ns: int) -> tuple[Any, ...]:
    head = (point, 0, 0, seq, seq % 10, outcome, int(outcome == "ok"))
    return (*head, sent_ns - 20_000, sent_ns, None, done_ns - 30_000, done_ns, 1_900_000, 120_000)


def _point(
    story: Story, number: int, level: int, window: tuple[int, int], rows: list[tuple[Any, ...]]
) -> dict[str, Any]:
    start_ns, end_ns = window
    ended = [row for row in rows if start_ns <= row[10] < end_ns]
    good = [row for row in ended if row[5] == "ok"]
    failed = len(ended) - len(good)
    overlap_ns = sum(max(0, min(row[10], end_ns) - max(row[7], start_ns)) for row in rows)
    ok = sum(row[5] == "ok" for row in rows)
    point: dict[str, Any] = dict.fromkeys(POINTS)
    point |= {
        "point": number,
        "repeat": 1,
        "load": "closed_loop",
        "load_words": f"concurrency {level}",
        "begun_ns": start_ns - S,
        "arrived": len(ended),
        "unsent": 0,
        "concurrency": level,
        "model": story.model,
        "server": story.server,
        "inputs": story.inputs,
        "simulated": story.simulated,
        "instances": story.instances,
        "window_start_ns": start_ns,
        "window_end_ns": end_ns,
        "completed": len(good),
        "failed": failed,
        "throughput_per_s": len(good) / ((end_ns - start_ns) / S),
        "throughput_low_per_s": 0.97 * len(good) / ((end_ns - start_ns) / S),
        "throughput_high_per_s": 1.03 * len(good) / ((end_ns - start_ns) / S),
        "send_lag_p99_ns": 20_000.0,
        "in_flight_mean": overlap_ns / (end_ns - start_ns),
        "point_requests": len(rows),
        "point_ok": ok,
        "verdict": "failing" if failed else "converged",
        "reason": f"{failed} of {len(ended)} requests failed: grpc_unavailable {failed}"
        if failed
        else "steady; throughput +-1.0%, p99 +-3.0%",
    }
    point |= _spread("service", [row[10] - row[7] for row in good])
    point |= _spread("response", [row[10] - row[6] for row in good])
    if story.statistics:
        point |= _stages(story, level, point, end_ns - start_ns)
        point |= {"point_server_success": ok, "server_success": len(good), "server_fail": failed}
    return point


def _spread(prefix: str, durations_ns: list[int]) -> dict[str, float]:
    if not durations_ns:
        return {}
    ordered = sorted(durations_ns)
    names = {50: "p50", 90: "p90", 95: "p95", 99: "p99"}
    figures = {name: float(ordered[int(q / 100 * (len(ordered) - 1) + 0.5)]) for q, name in names.items()}
    figures |= {"mean": float(np.mean(ordered)), "std": float(np.std(ordered, ddof=1))}
    figures |= {f"{name}_low": 0.95 * value for name, value in figures.items()} | {
        f"{name}_high": 1.08 * value for name, value in figures.items()
    }
    figures |= {"min": float(ordered[0]), "max": float(ordered[-1])}
    return {key: value for name, value in figures.items() if (key := f"{prefix}_{name}_ns") in POINTS}


def _stages(story: Story, level: int, point: dict[str, Any], window_ns: int) -> dict[str, float]:
    mean_ns = point.get("service_mean_ns")
    if mean_ns is None:
        return {}
    compute_ns = min(story.service_ms * MS * 1.007, mean_ns - MS)
    queue_ns = max(0.0, mean_ns - MS - compute_ns)
    stages = {f"server_{name}_ns": share * compute_ns for name, share in story.stages_ms.items()}
    busy = point["completed"] * compute_ns / (story.instances * window_ns)
    return {
        **stages,
        "server_queue_ns": queue_ns,
        "server_request_ns": compute_ns + queue_ns,
        "network_ns": 1.0 * MS,
        "server_busy": min(1.0, busy),
    }


def _samples(story: Story, points: list[dict[str, Any]], ended_at_ns: int) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(story.seed + 1)
    samples: list[tuple[Any, ...]] = []
    energy_j = [5000.0] * story.gpus
    for at_ns in range(ORIGIN_NS, ended_at_ns + S, S):
        level = next((p["concurrency"] for p in points if p["window_start_ns"] - S <= at_ns < p["window_end_ns"]), 0)
        load = min(1.0, level / max(1, story.instances))
        samples.append((at_ns, "loadgen", "in_flight", "{}", float(level)))
        if story.cpu:
            samples.append((at_ns, "metrics", "nv_cpu_utilization", "{}", 0.1 + 0.35 * load + 0.02 * rng.random()))
        for gpu in range(story.gpus):
            use = load * (0.92 - 0.06 * gpu) * (1 - 0.03 * rng.random())
            power_w = 60 + 300 * use
            energy_j[gpu] += power_w
            figures = {
                "nv_gpu_utilization": use,
                "nv_gpu_power_usage": power_w,
                "nv_gpu_power_limit": 400.0,
                "nv_gpu_memory_used_bytes": 4_044_357_632.0,
                "nv_gpu_memory_total_bytes": 42_949_672_960.0,
                "nv_energy_consumption": energy_j[gpu],
            }
            labels = json.dumps({"gpu_uuid": uuid(gpu)}, separators=(",", ":"))
            samples += [(at_ns, "metrics", metric, labels, value) for metric, value in figures.items()]
    return samples


def uuid(gpu: int) -> str:
    """Return the uuid of a made-up GPU."""
    return f"GPU-{gpu}a1b2c3d-1111-2222-3333-44445555666{gpu}"


def _facts(story: Story) -> dict[str, dict[str, Any]]:
    loads = [{"kind": "closed_loop", "concurrency": level} for level in story.concurrency]
    return {
        "plan.json": {
            "endpoint": {"grpc": "localhost:8001", "model": story.model, "version": "", "metrics_urls": []},
            "inputs": {"kind": "synthetic", "mu": 20.0, "events": 10, "seed": 0},
            "loads": loads,
            "format": 1,
        },
        "environment.json": {
            "host": "node7",
            "system": "Linux-6.8-x86_64",
            "processor": "AMD EPYC 7763",
            "cores": 16,
            "cores_usable": 8,
            "memory_bytes": 67_000_000_000,
            "python": "3.12.3",
            "packages": {"loadgen": "0.1.0", "grpcio": "1.70"},
            "git_commit": "abc123",
            "command": ["loadgen"],
        },
        "corpus.json": {
            "source": story.inputs,
            "provenance": {"generator": "synthetic"},
            "sha256": "00" * 32,
            "bodies": [{"label": f"event {n}", "cells": 39_600, "size_bytes": 1_900_000} for n in range(10)],
        },
    }
