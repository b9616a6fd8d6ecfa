"""All tables and all charts of one run, and the charts as pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import vl_convert

from analysis import charts, physics, theme, timeline
from analysis.client import client_figures
from analysis.hardware import cpu_figures, gpu_figures
from analysis.runs import Run
from analysis.timechart import over_time
from loadgen import atomic

PNG_SCALE = 2
FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True, slots=True)
class Tables:
    """What the charts and the page of one run are made from."""

    points: pl.DataFrame
    gpus: pl.DataFrame
    cpu: pl.DataFrame
    samples: pl.DataFrame
    bins: pl.DataFrame
    started_at_ns: int
    physics: pl.DataFrame
    gpu_physics: pl.DataFrame
    client: pl.DataFrame


def tables(run: Run) -> Tables:
    """Read and reduce a run's tables.

    Raises:
        PlanError: a table is missing or damaged.
    """
    points, samples = run.points(), run.samples()
    started_at_ns = int(run.manifest["started_at_ns"])
    gpus = gpu_figures(points, samples)
    return Tables(
        points=points,
        gpus=gpus,
        cpu=cpu_figures(points, samples),
        samples=samples,
        bins=timeline.request_bins(run.records(), started_at_ns),
        started_at_ns=started_at_ns,
        physics=physics.physics(points, gpus, physics.completed_cells(points, run.records(), run.corpus), run.batch),
        gpu_physics=physics.gpu_physics(points, gpus, run.batch),
        client=client_figures(points, samples),
    )


def specifications(of: Tables) -> dict[str, dict[str, Any]]:
    """Return every chart that has something to draw, as Vega-Lite, by the name of its picture."""
    drawn = {
        "throughput": charts.throughput(of.points),
        "utilisation": charts.utilisation(of.points, of.gpus, of.cpu),
        "latency": charts.latency(of.points),
        "stages": charts.stages(of.points),
        "time": over_time(of.points, of.bins, of.samples, of.started_at_ns),
    }
    return {name: theme.specification(chart) for name, chart in drawn.items() if chart is not None}


def write_images(run: Run, directory: Path, formats: Iterable[str]) -> list[Path]:
    """Write every chart of a run in each format (`png`, `svg`, `pdf`); return the files.

    Raises:
        PlanError, FleetError: the run's tables cannot be read, or a file cannot be written.
    """
    wanted = tuple(formats)
    written = []
    atomic.make_folder(directory)
    for name, spec in specifications(tables(run)).items():
        for kind in wanted:
            path = directory / f"{name}.{kind}"
            written.append(atomic.write(path, picture(spec, kind)))
    return written


def picture(spec: dict[str, Any], kind: str) -> bytes:
    """Draw one chart without a browser; PNG at twice its size."""
    if kind == "png":
        return bytes(vl_convert.vegalite_to_png(spec, scale=PNG_SCALE))
    if kind == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(spec))
    return str(vl_convert.vegalite_to_svg(spec)).encode()
