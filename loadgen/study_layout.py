"""A study as the folders and CSVs that the scripts of traccc-aaS-performance read, beside our own."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from analysis.hardware import gpu_figures
from analysis.perf_analyzer import csv_text
from analysis.runs import Run, open_run
from loadgen import atomic, study
from loadgen.study_plan import STUDY_LABELS

FOLDER = "traccc"

Part = tuple[int, str, str]
"""Take, server and inputs."""


def write(folder: Path) -> list[Path]:
    """Write `traccc/` into a study's folder; return its files.

    `<I>insts_<G>gpus/gpu_<I>instance_sync.csv` below `traccc-aaS_nominal_mu<mu>_<n>event/`; takes after the first end
    in `_take<k>.csv`, servers on the CPU are `cpu_`. What was cut off is left out, as perf_analyzer would.

    Raises:
        PlanError: a run cannot be read, or a file cannot be written.
    """
    parts: dict[Part, list[Run]] = {}
    for directory in study.runs_of(folder):
        if directory.manifest.exists():
            run = open_run(directory.path)
            labels = run.plan.get("labels", {})
            if {"take", "server", "inputs"} <= labels.keys():
                parts.setdefault((int(labels["take"]), labels["server"], labels["inputs"]), []).append(run)
    return list(_written(folder / FOLDER, parts))


def _written(root: Path, parts: dict[Part, list[Run]]) -> Iterator[Path]:
    for (take, _, _), runs in parts.items():
        points, gpus = _together(runs)
        if points.is_empty():
            continue
        path = root / _folder(runs[0]) / _file(runs[0].plan["labels"], take)
        atomic.make_folder(path.parent)
        yield atomic.write(path, csv_text(points, gpus).encode())


def _together(runs: list[Run]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the whole points of some runs, numbered through, and what their GPUs did."""
    points, gpus, before = [], [], 0
    for run in runs:
        whole = run.points().filter(~pl.col("point").is_in(list(cut_off(run))))
        shift = pl.col("point") + before
        points.append(whole.with_columns(shift))
        gpus.append(gpu_figures(whole, run.samples()).with_columns(shift))
        before += whole.height + len(cut_off(run))
    return pl.concat(points, how="diagonal_relaxed"), pl.concat(gpus)


def cut_off(run: Run) -> set[int]:
    """Return the points whose window did not close by itself."""
    return {event["point"] for event in run.events("window_closed") if event.get("interrupted")}


def _folder(run: Run) -> str:
    labels = run.plan["labels"]
    events = len(run.corpus.get("bodies", ()))
    top = f"traccc-aaS_nominal_mu{labels['mu']}_{events}event/" if "mu" in labels else f"{labels['inputs']}/"
    count, gpus = labels.get("instances", ""), labels.get("gpus", "")
    return top + (f"{count}insts_{gpus}gpus" if count and gpus else labels["server"])


def _file(labels: dict[str, str], take: int) -> str:
    assert set(labels) <= set(STUDY_LABELS)
    device = "gpu" if labels.get("gpus", "0") != "0" else "cpu"
    return f"{device}_{labels.get('instances', '')}instance_sync{f'_take{take}' if take > 1 else ''}.csv"
