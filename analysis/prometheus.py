"""What a Prometheus server says of each window, as rows of text."""

import json

import polars as pl

from analysis.levels import level_text, levelled
from analysis.readable import MISSING, number


def headings(points: pl.DataFrame) -> list[str]:
    """Return the level of each point, in the order measured: a column each."""
    return [level_text(level) for level in levelled(points)["level"]]


def rows(points: pl.DataFrame, prometheus: pl.DataFrame) -> list[list[str]]:
    """Return a row for each query and series: name, labels, its figure at every point, why any is missing.

    A query without an answer at a point has that in the row of no labels.
    """
    table: dict[tuple[str, str], dict[int, tuple[float | None, str | None]]] = {}
    for row in prometheus.iter_rows(named=True):
        table.setdefault((row["query"], row["labels"]), {})[row["point"]] = row["value"], row["reason"]
    in_order = prometheus.sort(pl.col("point") == 0, maintain_order=True)["query"].unique(maintain_order=True)
    order = {name: place for place, name in enumerate(in_order)}
    numbers = points["point"].to_list()
    return [
        [name, _labels(labels), *(_figure(found, point) for point in numbers), _reasons(found)]
        for (name, labels), found in sorted(table.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    ]


def _figure(found: dict[int, tuple[float | None, str | None]], point: int) -> str:
    return number(found[point][0]) if point in found else MISSING


def _reasons(found: dict[int, tuple[float | None, str | None]]) -> str:
    return "; ".join(dict.fromkeys(reason for _, reason in found.values() if reason))


def _labels(text: str) -> str:
    return ", ".join(f"{name}={value}" for name, value in json.loads(text).items())
