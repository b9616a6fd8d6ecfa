"""Tidy tables -> charts: those of a run's report, and the named charts of the studies and beyond (`NAMED`)."""

from analysis.charts import distribution, gpu, grids, laws, physics, pileup, pods, requests, service
from analysis.charts.registry import NAMED, Chart, ChartSpec, Frames
from analysis.charts.sweep import heading, latency, layered, stages, throughput, utilisation, utilisation_frame

_NUMBERED = sorted(NAMED.values(), key=lambda spec: int(spec.number.removeprefix("C") or 99))
NAMED.clear()
NAMED.update({spec.name: spec for spec in _NUMBERED})

__all__ = [
    "NAMED",
    "Chart",
    "ChartSpec",
    "Frames",
    "distribution",
    "gpu",
    "grids",
    "heading",
    "latency",
    "laws",
    "layered",
    "physics",
    "pileup",
    "pods",
    "requests",
    "service",
    "stages",
    "throughput",
    "utilisation",
    "utilisation_frame",
]
