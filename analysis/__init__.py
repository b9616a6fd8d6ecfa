"""Sealed runs and other tools' files to tables, charts, comparisons, reports and perf_analyzer's CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.sources import load
from analysis.tidy import Loaded, durations

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.charts import Chart

__all__ = ["Loaded", "chart", "durations", "load"]


def chart(name: str, *of: str | Path | Loaded) -> Chart:
    """Draw a named chart of paths, or of what `load` returned; Jupyter and marimo display it.

    Raises:
        PlanError: no such chart (`python -m analysis charts` lists them), nothing to draw, or errors as `load`.
    """
    from analysis import drawing  # noqa: PLC0415 - charts load only when one is drawn

    tables = [each for each in of if isinstance(each, Loaded)]
    paths = [each for each in of if not isinstance(each, Loaded)]
    if tables and (paths or len(tables) > 1):
        raise TypeError("chart: give paths, or one set of loaded tables")
    return drawing.drawn(name, tables[0] if tables else load(*paths))
