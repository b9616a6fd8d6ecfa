"""Sides of comparisons made of plain numbers: closed loops of a model, a take a dict of throughput by concurrency."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from analysis import quantities, tidy
from analysis.compare import Comparison, Pair, side_of
from analysis.compare.sides import Side
from analysis.tidy import Loaded

DIFFERENT = {"different", "probably different"}


def side(label: str, takes: Sequence[Mapping[Any, float]], *, half: float | None = None, **facts: object) -> Side:
    """Return a side of closed loops: takes are throughputs by concurrency, p99 their inverse; intervals of +-half."""
    rows = []
    for repeat, take in enumerate(takes, 1):
        for level, value in take.items():
            row: dict[str, Any] = {"run": label, "repeat": repeat, "load": "closed_loop", "headline": "service"}
            row |= {"level": level, "throughput_per_s": value, "service_p99_ns": 1e9 / value, "verdict": "converged"}
            row |= {"model": "m", "inputs": "i", "label": label, "completed": 100, "failed": 0, "simulated": True}
            if half is not None:
                row |= {"throughput_low_per_s": value * (1 - half), "throughput_high_per_s": value * (1 + half)}
                row |= {
                    "service_p99_low_ns": 1e9 / value * (1 - half),
                    "service_p99_high_ns": 1e9 / value * (1 + half),
                }
            rows.append(row | facts)
    points = tidy.conform(pl.DataFrame(rows, infer_schema_length=None).with_row_index("point", 1), tidy.POINTS)
    gpus = pl.DataFrame(schema=tidy.GPUS)
    runs = tidy.conform(pl.DataFrame([{"run": label, "label": label, "simulated": True}]), tidy.RUNS)
    lazy = pl.LazyFrame()
    return side_of(label, Loaded(runs, points, quantities.long(points, gpus), gpus, gpus, gpus, gpus, lazy, lazy))


def scattered(
    rng: np.random.Generator, factor: float, takes: int, scatter: float, levels: Sequence[float] = (1, 2, 4, 8)
) -> list[dict[float, float]]:
    """Return takes whose every point scatters by itself."""
    return [
        {level: factor * 10 * level * math.exp(scatter * rng.standard_normal()) for level in levels}
        for _ in range(takes)
    ]


def only(found: Comparison, quantity: str = "throughput_per_s") -> list[Pair]:
    """Return the points of a quantity."""
    return [pair for pair in found.points if pair.quantity == quantity]
