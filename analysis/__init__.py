"""Sealed runs to tables, charts, reports and perf_analyzer's CSV."""

from analysis.sources import load
from analysis.tidy import Loaded, durations

__all__ = ["Loaded", "durations", "load"]
