"""Sealed runs to tables, charts, reports and perf_analyzer's CSV."""
