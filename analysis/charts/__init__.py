"""Tidy tables -> charts: those of a run's report, and the named charts of the studies and beyond (`NAMED`)."""

from analysis.charts import distribution, gpu, grids, laws, physics, pileup, pods, service
from analysis.charts.registry import NAMED, Chart, ChartSpec, Frames
from analysis.charts.sweep import heading, latency, layered, stages, throughput, utilisation, utilisation_frame

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
    "service",
    "stages",
    "throughput",
    "utilisation",
    "utilisation_frame",
]
