"""perf_analyzer's command line, output and files, over our own measurement."""
