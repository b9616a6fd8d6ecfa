"""Events in, encoded requests out: traccc cells, perf_analyzer JSON, synthetic events."""
